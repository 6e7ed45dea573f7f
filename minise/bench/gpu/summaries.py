"""What other programs wrote about a run on a GPU, as figures to look at."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# metrics of Nsight Compute, in base units, by what they are called here
METRICS = {
    "gpu__time_duration.sum": "time_ns",
    "dram__bytes_read.sum": "read_bytes",
    "dram__bytes_write.sum": "written_bytes",
}


def traffic_of(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return what each kernel took in all its launches, the slowest first.

    Parameters
    ----------
    lines : iterable of str
        What ``ncu --csv --print-units base --metrics …`` logs: a line for each launch and metric.

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
        moved = kernel["read_bytes"] + kernel["written_bytes"]
        kernel["gb_per_s"] = moved / kernel["time_ns"] if kernel["time_ns"] else None
    return sorted(kernels.values(), key=lambda kernel: -kernel["time_ns"])


def losses_beside(first: Path, second: Path) -> dict[str, Any]:
    """Return the losses of two runs step by step, from their metrics.jsonl, and how they differ.

    Raises
    ------
    ValueError
        If the runs did not log the same steps.
    """
    losses, others = _losses(first), _losses(second)
    if losses.keys() != others.keys() or not losses:
        raise ValueError(f"{first} and {second} do not log the same steps, or none")
    pairs = [(losses[step], others[step]) for step in losses]
    differences = [abs(a - b) / abs(b) for a, b in pairs]
    return {
        "steps": list(losses),
        "losses": [list(pair) for pair in pairs],
        "largest_relative_difference": max(differences),
    }


def _losses(file: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "step"}
