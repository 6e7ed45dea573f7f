"""The machine of a measurement: processor, versions, load by other processes, resident memory.

Everything is read from /proc, where it exists. /proc/stat counts the busy time of all processors
together, /proc/PID/stat the CPU time of each process, both in clock ticks (usually a hundredth of a
second). Busy time minus the CPU time of the benchmark's own processes was used by other processes,
or by the host of a virtual machine.
"""

import os
import platform
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from minise.train.run_folder import cores, versions

PACKAGES = ("minise", "numpy", "numba", "llvmlite", "threadpoolctl", "torch")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
TICK_ERROR_SECONDS = 2 / TICKS_PER_SECOND  # of a difference of two tick counts
MIB = 1024 * 1024
PEAK_VMHWM = "peak resident memory, reset after the first run (VmHWM)"
PEAK_MAXRSS = "growth of the highest resident memory, the first run included (ru_maxrss)"


def describe() -> dict[str, Any]:
    """Return the processor, the number of usable cores, the memory in GB, and the system."""
    return {
        "processor": processor(_text("/proc/cpuinfo")) or platform.processor() or "unknown",
        "cores": cores(),
        "memory_gb": memory_gb(_text("/proc/meminfo")),
        "system": platform.platform(),
    }


def circumstances() -> dict[str, Any]:
    """Return date, command, machine and versions, which every result file stores."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": ["minise", *sys.argv[1:]],
        "machine": describe(),
        "versions": versions(PACKAGES),
    }


def processor(cpuinfo: str) -> str | None:
    r"""Return the processor's name, family and model from the text of /proc/cpuinfo.

    The name alone can be as vague as "AMD EPYC", in particular on virtual machines.

    Examples
    --------
    >>> processor("model name : AMD EPYC\ncpu family : 25\nmodel : 17\n")
    'AMD EPYC, family 25, model 17'
    """
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    if "model name" not in fields:
        return None
    numbers = {"family": fields.get("cpu family"), "model": fields.get("model")}
    details = (f"{name} {value}" for name, value in numbers.items() if value)
    return ", ".join([fields["model name"], *details])


def memory_gb(meminfo: str) -> float | None:
    r"""Return the memory of the machine in GB from the text of /proc/meminfo.

    Examples
    --------
    >>> memory_gb("MemTotal:       16000000 kB\nMemFree: 1 kB\n")
    16.4
    """
    size = bytes_of(meminfo, "MemTotal")
    return None if size is None else round(size / 1e9, 1)


class Reading(NamedTuple):
    """Readings of three clocks, in seconds."""

    wall: float
    busy: float  # of all processors together, since the machine started
    own: float  # CPU time of the benchmark's own processes


def read_clocks(groups: Collection[int]) -> Reading | None:
    """Read the clocks.

    Parameters
    ----------
    groups : collection of int
        Process groups whose processes count as own, besides this process.

    Returns
    -------
    Reading or None
        None if there is no /proc.
    """
    try:
        busy = busy_ticks(Path("/proc/stat").read_text())
    except OSError:
        return None
    own = sum(os.times()[:2]) + sum(_ticks_of(group) for group in set(groups)) / TICKS_PER_SECOND
    return Reading(time.perf_counter(), busy / TICKS_PER_SECOND, own)


def cores_used_by_others(before: Reading | None, after: Reading | None) -> float | None:
    """Return the number of cores used by other processes between two readings, minus tick error.

    Examples
    --------
    >>> after = Reading(2, 14 + TICK_ERROR_SECONDS, 7)  # 2 s later: 4 s busy, 3 s of them own
    >>> cores_used_by_others(Reading(0, 10, 4), after)
    0.5
    """
    if before is None or after is None:
        return None
    seconds = (after.busy - before.busy) - (after.own - before.own)
    return round(max(0.0, seconds - TICK_ERROR_SECONDS) / max(after.wall - before.wall, 1e-9), 3)


def busy_ticks(stat: str) -> int:
    r"""Return the busy ticks of all processors from the text of /proc/stat.

    Its first line counts user, nice, system, idle, iowait, irq, softirq and steal. Guest ticks, if
    listed, are already included in user.

    Examples
    --------
    >>> busy_ticks("cpu  100 1 20 5000 300 2 3 4 0 0\ncpu0 ...")
    130
    """
    user, nice, system, _, _, *rest = (int(word) for word in stat.split("\n", 1)[0].split()[1:])
    return user + nice + system + sum(rest[:3])


def process_ticks(stat: str) -> tuple[int, int]:
    """Return the process group and the ticks of a process from the text of /proc/PID/stat.

    Examples
    --------
    >>> process_ticks("7 (a) b) S 1 6 6 0 -1 0 0 0 0 0 40 2 0 0 20 0 1 0 5")
    (6, 42)
    """
    fields = stat.rpartition(")")[2].split()  # the name may contain spaces and parentheses
    return int(fields[2]), int(fields[11]) + int(fields[12])


class PeakMemory:
    """Measures the peak of resident memory, relative to its size at construction.

    `restart` resets the peak. If the system does not allow a reset (/proc/self/clear_refs), the
    peak since the start of the process is used. `method` describes which of both was measured.
    """

    def __init__(self) -> None:
        self.start = _status("VmRSS")
        self.highest = _maxrss()
        self.method = PEAK_MAXRSS

    def restart(self) -> None:
        """Reset the peak, if the system allows it."""
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return
        if self.start is not None:
            self.method = PEAK_VMHWM

    def mib(self) -> float:
        """Return the peak minus the size at construction, in MiB."""
        if self.method == PEAK_VMHWM and self.start is not None:
            rise = (_status("VmHWM") or self.start) - self.start
        else:
            rise = _maxrss() - self.highest
        return round(max(0, rise) / MIB, 1)


def bytes_of(status: str, name: str) -> int | None:
    r"""Return in bytes a field of the text of /proc/meminfo or /proc/self/status; None if missing.

    Examples
    --------
    >>> bytes_of("VmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n", "VmRSS")
    1048576
    """
    for line in status.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _ticks_of(group: int) -> int:
    """Return the ticks of all processes of a process group."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            process_group, ticks = process_ticks(path.read_text())
        except (OSError, IndexError):  # the process has ended
            continue
        if process_group == group:
            total += ticks
    return total


def _status(name: str) -> int | None:
    return bytes_of(_text("/proc/self/status"), name)


def _maxrss() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # not Linux
        return ""
