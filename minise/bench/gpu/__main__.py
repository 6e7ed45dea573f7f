"""Commands of `.ci/gpu` on a machine with a GPU, in addition to tests and commands of minise.

    python -m minise.bench.gpu probes FILE           check for typical failures on a new GPU
    python -m minise.bench.gpu baselines FILE        measure the speed of the GPU and of PyTorch
    python -m minise.bench.gpu host                  measure Python's part of a step, without a GPU
    python -m minise.bench.gpu step                  run one training step under a profiler
    python -m minise.bench.gpu kernels               print a regular expression of kernel names
    python -m minise.bench.gpu traffic LOG FILE      sum ncu's log of the step by kernel
    python -m minise.bench.gpu losses A B FILE       compare losses of two runs (metrics.jsonl)

Results are written to FILE as JSON.
"""

import csv
import json
import sys
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from minise.bench.gpu.host import host_time
from minise.bench.gpu.probes import Probes
from minise.bench.peers import training_step
from minise.bench.result import Result, Task, failed_tasks, run_tasks
from minise.ops import cuda
from minise.ops.cuda.sources import parameters, source

SECONDS = {"probes": 120, "baselines": 540}  # tasks that would start later are skipped
# metric of Nsight Compute -> key in the results; values are in base units
METRICS = {
    "gpu__time_duration.sum": "time_ns",
    "dram__bytes_read.sum": "read_bytes",
    "dram__bytes_write.sum": "written_bytes",
}


def record(
    tasks: Iterable[Task], file: Path, seconds: float, **summary: Any
) -> list[dict[str, Any]]:
    """Run tasks within a time limit, and return their rows.

    The file, with the rows so far and the summary, is written after every task, so that no result
    is lost if a later task ends the process.
    """
    result = Result({"seconds": seconds}, summary=summary)
    for row in run_tasks(tasks, seconds):
        result.rows.append(row)
        result.write(file)
        print(row["name"], str(row.get("problem", row.get("result")))[:160], sep=": ", flush=True)
    return result.rows


def probes(file: str) -> int:
    """Run all probes, and write their results; the status is 1 if one failed."""
    rows = record(Probes(cuda.using()).tasks(), Path(file), SECONDS["probes"], gpu=_gpu())
    return 1 if failed_tasks(rows) else 0


def baselines(file: str) -> int:
    """Run all baselines, and write their results; the status is 1 if one failed."""
    from minise.bench.gpu.baselines import Baselines
    from minise.bench.gpu_clock import Clock

    clock = Clock(cuda.using().launcher.xp, rounds=11)
    tasks = Baselines(cuda.using(), clock).tasks()
    rows = record(tasks, Path(file), SECONDS["baselines"], gpu=_gpu())
    return 1 if failed_tasks(rows) else 0


def host() -> int:
    """Print the number of launches in a training step, and Python's time in it."""
    for name, value in host_time().items():
        print(f"{name}: {value:.4g}")
    return 0


def step() -> int:
    """Take two training steps, the second between cudaProfilerStart and cudaProfilerStop."""
    ops = cuda.using()
    runtime, call = ops.launcher.xp.cuda.runtime, training_step(ops, 128)
    float(call())  # compiles all kernels, and waits for them
    runtime.profilerStart()
    float(call())
    runtime.profilerStop()
    return 0


def kernels() -> int:
    """Print a regular expression that matches the names of all kernels."""
    sources = [path.name for path in files("minise.ops.cuda").iterdir() if path.suffix == ".cu"]  # type: ignore[attr-defined]
    texts = [source(name, np.dtype(np.float32)).text for name in sorted(sources)]
    print("|".join(sorted({name for text in texts for name in parameters(text)})))
    return 0


def traffic(log: str, file: str) -> int:
    """Write time and traffic of each kernel; the status is 1 if the log has no kernel."""
    with Path(log).open() as lines:
        rows = traffic_of(lines)
    _write(file, rows)
    return 0 if rows else 1


def losses(first: str, second: str, file: str) -> int:
    """Write the losses of two runs side by side."""
    _write(file, compare_losses(Path(first), Path(second)))
    return 0


def traffic_of(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return time and DRAM traffic of each kernel, summed over launches, the slowest first.

    Parameters
    ----------
    lines : iterable of str
        Log of ``ncu --csv --print-units base --metrics …``: a line for each launch and metric.

    Examples
    --------
    >>> traffic_of([
    ...     "==PROF== Connected",
    ...     '"ID","Kernel Name","Metric Name","Metric Value"',
    ...     '"0","scale(float *)","gpu__time_duration.sum","2,000"',
    ...     '"0","scale(float *)","dram__bytes_read.sum","8,000,000"',
    ... ])
    [{'kernel': 'scale', 'launches': 1, 'time_ns': 2000.0, 'read_bytes': 8000000.0, \
'written_bytes': 0.0, 'gb_per_s': 4000.0}]
    """
    kernels: dict[str, dict[str, Any]] = {}
    for row in csv.DictReader(line for line in lines if line.startswith('"')):
        name, metric = row["Kernel Name"].partition("(")[0], METRICS.get(row["Metric Name"])
        empty = {"kernel": name, "launches": 0, **dict.fromkeys(METRICS.values(), 0.0)}
        kernel = kernels.setdefault(name, empty)
        if metric is not None:
            kernel[metric] += float(row["Metric Value"].replace(",", ""))
            kernel["launches"] += metric == "time_ns"
    for kernel in kernels.values():
        bytes_moved = kernel["read_bytes"] + kernel["written_bytes"]
        kernel["gb_per_s"] = bytes_moved / kernel["time_ns"] if kernel["time_ns"] else None
    return sorted(kernels.values(), key=lambda kernel: -kernel["time_ns"])


def compare_losses(first: Path, second: Path) -> dict[str, Any]:
    """Return the losses of two runs by step, from their metrics.jsonl, and their difference.

    Raises
    ------
    ValueError
        If the runs did not log the same steps, or none.
    """
    losses, other_losses = _losses(first), _losses(second)
    if losses.keys() != other_losses.keys() or not losses:
        raise ValueError(
            f"losses: {first} logs {len(losses)} steps and {second} {len(other_losses)}, expected "
            "the same steps: train both runs with the same --limit, --epochs and --log-every"
        )
    pairs = [(losses[step], other_losses[step]) for step in losses]
    differences = [abs(a - b) / abs(b) for a, b in pairs]
    return {
        "steps": list(losses),
        "losses": [list(pair) for pair in pairs],
        "largest_relative_difference": max(differences),
    }


def _losses(file: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "step"}


def _gpu() -> str:
    return cuda.describe()


def _write(file: str, content: Any) -> None:
    Path(file).write_text(json.dumps(content, indent=1) + "\n")


COMMANDS = {f.__name__: f for f in (probes, baselines, host, step, kernels, traffic, losses)}


def main(arguments: list[str]) -> int:
    """Run one command; the status is 2 if the command is unknown."""
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 2
    name, *rest = arguments
    return COMMANDS[name](*rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
