"""What others take of the processors while something is measured here.

/proc/stat counts how long all processors together were busy, and /proc/PID/stat how long each
process ran, both in clock ticks (a hundredth of a second, usually). What is busy beyond the
processes that ought to run was taken by others, or by the host of a virtual machine.
"""

import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100  # in a second
SLACK = 2 / TICKS  # seconds: what counting in ticks can be wrong by


class Reading(NamedTuple):
    """Three clocks, in seconds."""

    wall: float
    busy: float  # all processors together, since the machine started
    own: float  # those processes that ought to run


def read(groups: Collection[int]) -> Reading | None:
    """Read the clocks; own is this process and every process of the groups.

    Returns
    -------
    Reading or None
        None where there is no /proc.
    """
    try:
        busy = busy_ticks(Path("/proc/stat").read_text())
    except OSError:
        return None
    own = sum(os.times()[:2]) + sum(_ticks_of(group) for group in set(groups)) / TICKS
    return Reading(time.perf_counter(), busy / TICKS, own)


def taken(before: Reading | None, after: Reading | None) -> float | None:
    """Return how many cores others took between two readings, beyond what ticks can tell.

    Examples
    --------
    >>> taken(Reading(0, 10, 4), Reading(2, 14 + SLACK, 7))  # 4 s busy, 3 of them ours, in 2 s
    0.5
    """
    if before is None or after is None:
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    return round(max(0.0, others - SLACK) / max(after.wall - before.wall, 1e-9), 3)


def busy_ticks(stat: str) -> int:
    r"""Return all ticks but the idle ones from the text of /proc/stat.

    Its first line counts user, nice, system, idle, iowait, irq, softirq and steal; guests, which
    may follow, are in user already.

    Examples
    --------
    >>> busy_ticks("cpu  100 1 20 5000 300 2 3 4 0 0\ncpu0 ...")
    130
    """
    user, nice, system, _, _, *rest = (int(word) for word in stat.split("\n", 1)[0].split()[1:])
    return user + nice + system + sum(rest[:3])


def process_ticks(stat: str) -> tuple[int, int]:
    """Return process group and ticks of the text of /proc/PID/stat.

    Examples
    --------
    >>> process_ticks("7 (a) b) S 1 6 6 0 -1 0 0 0 0 0 40 2 0 0 20 0 1 0 5")
    (6, 42)
    """
    fields = stat.rpartition(")")[2].split()  # the name may hold spaces and brackets
    return int(fields[2]), int(fields[11]) + int(fields[12])


def _ticks_of(group: int) -> int:
    """Return the ticks of all processes of a group, which its first process is named after."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found, ticks = process_ticks(path.read_text())
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        if found == group:
            total += ticks
    return total
