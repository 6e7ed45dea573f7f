"""Resident memory of this process, and its peak since a moment of one's choice."""

import sys
from pathlib import Path

MIB = 1024 * 1024
HWM = "peak resident memory, reset after the first run (VmHWM)"
MAXRSS = "growth of the highest resident memory, the first run included (ru_maxrss)"


class Peak:
    """Measures how far resident memory rises above what it is when this is made.

    `restart` forgets what was the peak until then; where the system does not allow that
    (/proc/self/clear_refs), all since the beginning counts, and `how` says so.
    """

    def __init__(self) -> None:
        self.start = resident()
        self.highest = _maxrss()
        self.how = MAXRSS

    def restart(self) -> None:
        """Forget the peak so far, if that is allowed."""
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return
        if self.start is not None:
            self.how = HWM

    def mib(self) -> float:
        """Return the rise in MiB."""
        if self.how == HWM and self.start is not None:
            rise = (_field("VmHWM") or self.start) - self.start
        else:
            rise = _maxrss() - self.highest
        return round(max(0, rise) / MIB, 1)


def resident() -> int | None:
    """Return the resident memory in bytes, or None where there is no /proc."""
    return _field("VmRSS")


def bytes_of(status: str, name: str) -> int | None:
    r"""Return a field of the text of /proc/self/status, in bytes.

    Examples
    --------
    >>> bytes_of("VmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n", "VmRSS")
    1048576
    """
    for line in status.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _field(name: str) -> int | None:
    try:
        return bytes_of(Path("/proc/self/status").read_text(), name)
    except OSError:
        return None


def _maxrss() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
