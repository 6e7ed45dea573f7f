"""Measurements one by one, each for itself: one that fails hides no other.

A task is a name and a function; what the function returns is written as JSON at once, so that
nothing is lost where a later task ends the process.
"""

import json
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from minise.bench import machine

LAST_CHARACTERS = 700  # of a traceback that are kept


LEFT_OUT = "left out: no time was left"


class Task(NamedTuple):
    """One measurement or check."""

    name: str
    run: Callable[[], Any]  # returns what JSON takes


def run_tasks(
    tasks: Iterable[Task], file: Path, seconds: float, **header: Any
) -> list[dict[str, Any]]:
    """Run tasks until their time is up, and return one row for each.

    Parameters
    ----------
    tasks : iterable of Task
        In order.
    file : Path
        Where all rows are written after each task, as JSON.
    seconds : float
        A task that would start later is left out.
    **header
        What the file says beside the rows, the machine and the versions.

    Returns
    -------
    list of dict
        "name" and "seconds", and "result" or, where an exception came, "problem" and "trace".
    """
    end = time.monotonic() + seconds
    content: dict[str, Any] = {**machine.circumstances(), **header, "rows": []}
    rows: list[dict[str, Any]] = content["rows"]
    for task in tasks:
        start = time.monotonic()
        row: dict[str, Any] = {"name": task.name}
        if start > end:
            row["problem"] = LEFT_OUT
        else:
            try:
                row["result"] = task.run()
            except Exception as error:  # of CuPy, PyTorch or CUDA, which have classes of their own
                row["problem"] = f"{type(error).__name__}: {str(error)[:300]}"
                row["trace"] = traceback.format_exc()[-LAST_CHARACTERS:]
        row["seconds"] = round(time.monotonic() - start, 3)
        rows.append(row)
        file.write_text(json.dumps(content, indent=1, default=str) + "\n")
        print(task.name, str(row.get("problem", row.get("result")))[:160], sep=": ", flush=True)
    return rows


def problems(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the names of the tasks that failed; what was left out does not count."""
    return [row["name"] for row in rows if row.get("problem", LEFT_OUT) != LEFT_OUT]
