"""Bytes of memory that this process can still allocate, from the limits that the system reports.

Linux reports the machine's free memory in /proc/meminfo, and the limits of control groups below
/sys/fs/cgroup; POSIX systems limit the address space of a process. Other systems report none.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

KIB = 1024
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
GROUP_FILES = {  # by version: limit, usage, name of the page cache in memory.stat
    2: ("memory.max", "memory.current", "file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
}


class Available(NamedTuple):
    """Memory that can still be allocated, and where."""

    bytes: int
    where: str  # such as "on this machine"


def available(proc: Path = PROC, groups: Path = CGROUPS) -> Available | None:
    """Return the smallest limit, or None if the system reports none.

    Memory that the system would free on demand, such as its page cache, and free swap space count
    as available.
    """
    swap = _kib(proc / "meminfo", "SwapFree:") or 0
    free = _kib(proc / "meminfo", "MemAvailable:")
    limits = [] if free is None else [Available(free + swap, "on this machine")]
    for left in _control_groups(proc, groups):
        limits.append(Available(left + swap, "in this control group (container)"))
    if (left_of_space := _address_space(proc)) is not None:
        limits.append(Available(left_of_space, "under the limit of address space (ulimit -v)"))
    return min(limits, default=None)


def _kib(path: Path, name: str) -> int | None:
    """Return the bytes of a line such as "MemAvailable:  1024 kB", or None without it."""
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdigit():
            return int(words[1]) * KIB
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _control_groups(proc: Path, groups: Path) -> Iterator[int]:
    """Yield the bytes left in each control group of this process and those above it."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            version, root = 2, groups
        elif "memory" in controllers.split(","):
            version, root = 1, groups / "memory"
        else:
            continue
        folder = root / path.lstrip("/")
        for group in (folder, *folder.parents):
            if (left := _left(group, version)) is not None:
                yield left
            if group == root:
                break


def _left(group: Path, version: int) -> int | None:
    """Return the bytes left in a control group, or None without a limit."""
    maximum, usage, cache = GROUP_FILES[version]
    most, used = _text(group / maximum).strip(), _text(group / usage).strip()
    if not (most.isdigit() and used.isdigit()):  # the limit may be the word "max"
        return None
    pairs = (line.split() for line in _text(group / "memory.stat").splitlines())
    cached = next((int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == cache), 0)
    return max(0, int(most) - max(0, int(used) - cached))


def _address_space(proc: Path) -> int | None:
    """Return the bytes of address space left, or None without a limit."""
    if sys.platform == "win32":
        return None
    import resource

    maximum, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _kib(proc / "self" / "status", "VmSize:")
    if maximum == resource.RLIM_INFINITY or used is None:
        return None
    return max(0, maximum - used)
