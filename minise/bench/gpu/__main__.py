"""What `.ci/gpu` runs on a machine with a GPU, beside tests and commands of minise.

    python -m minise.bench.gpu probes FILE           what may go wrong on a first day, one by one
    python -m minise.bench.gpu baselines FILE        what the GPU and PyTorch reach
    python -m minise.bench.gpu step                  one training step for a profiler to watch
    python -m minise.bench.gpu kernels               names of the kernels, as a regular expression
    python -m minise.bench.gpu traffic LOG FILE      what ncu logged of the step, by kernel
    python -m minise.bench.gpu losses A B FILE       losses of two runs, from their metrics.jsonl

FILE is written as JSON.
"""

import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from minise.bench.gpu.ours import training_step
from minise.bench.gpu.probes import Probes
from minise.bench.gpu.summaries import losses_beside, traffic_of
from minise.bench.gpu.tasks import problems, run_tasks
from minise.ops import cuda
from minise.ops.cuda.launcher import parameters, source

SECONDS = {"probes": 120, "baselines": 540}  # a task that would start later is left out


def probes(file: str) -> int:
    """Run all probes; the status is 1 if one failed."""
    rows = run_tasks(Probes(cuda.using()).tasks(), Path(file), SECONDS["probes"], gpu=_gpu())
    return 1 if problems(rows) else 0


def baselines(file: str) -> int:
    """Measure what there is to measure; the status is 1 if something failed."""
    from minise.bench.gpu.baselines import Baselines
    from minise.bench.gpu.clock import Clock

    clock = Clock(cuda.using().launcher.xp, rounds=11)
    tasks = Baselines(cuda.using(), clock).tasks()
    rows = run_tasks(tasks, Path(file), SECONDS["baselines"], gpu=_gpu())
    return 1 if problems(rows) else 0


def step() -> int:
    """Take two training steps, the second between CUDA's start and stop of profiling."""
    ops = cuda.using()
    runtime, call = ops.launcher.xp.cuda.runtime, training_step(ops, 128)
    float(call())  # waits until all kernels are compiled and done
    runtime.profilerStart()
    float(call())
    runtime.profilerStop()
    return 0


def kernels() -> int:
    """Print a regular expression of the kernels' names."""
    sources = [path.name for path in files("minise.ops.cuda").iterdir() if path.suffix == ".cu"]  # type: ignore[attr-defined]
    texts = [source(name, np.dtype(np.float32)).text for name in sorted(sources)]
    print("|".join(sorted({name for text in texts for name in parameters(text)})))
    return 0


def traffic(log: str, file: str) -> int:
    """Write what each kernel took and moved; the status is 1 if no kernel was logged."""
    with Path(log).open() as lines:
        rows = traffic_of(lines)
    _write(file, rows)
    return 0 if rows else 1


def losses(first: str, second: str, file: str) -> int:
    """Write the losses of two runs side by side."""
    _write(file, losses_beside(Path(first), Path(second)))
    return 0


def _gpu() -> str:
    return cuda.describe()


def _write(file: str, content: Any) -> None:
    Path(file).write_text(json.dumps(content, indent=1) + "\n")


COMMANDS = {f.__name__: f for f in (probes, baselines, step, kernels, traffic, losses)}


def main(arguments: list[str]) -> int:
    """Run one command; the status is 2 if there is no such command."""
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 2
    name, *rest = arguments
    return COMMANDS[name](*rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
