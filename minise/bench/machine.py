"""What a measurement was made on: processor, memory; and the packages that did it."""

import platform
import sys
import time
from pathlib import Path
from typing import Any

from minise.train.run_folder import cores, versions

PACKAGES = ("minise", "numpy", "numba", "llvmlite", "threadpoolctl", "torch")


def describe() -> dict[str, Any]:
    """Return processor, usable cores, memory in GB, and system."""
    return {
        "processor": processor(_text("/proc/cpuinfo")) or platform.processor() or "unknown",
        "cores": cores(),
        "memory_gb": memory_gb(_text("/proc/meminfo")),
        "system": platform.platform(),
    }


def circumstances() -> dict[str, Any]:
    """Return when, by which command, where and with which versions something is measured."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": ["minise", *sys.argv[1:]],
        "machine": describe(),
        "versions": versions(PACKAGES),
    }


def processor(cpuinfo: str) -> str | None:
    r"""Return the processor's name, family and model from the text of /proc/cpuinfo.

    Names alone can be as vague as "AMD EPYC", on virtual machines above all.

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
    rest = [("family", fields.get("cpu family")), ("model", fields.get("model"))]
    return ", ".join([fields["model name"], *(f"{name} {value}" for name, value in rest if value)])


def memory_gb(meminfo: str) -> float | None:
    r"""Return the memory of the machine from the text of /proc/meminfo.

    Examples
    --------
    >>> memory_gb("MemTotal:       16000000 kB\nMemFree: 1 kB\n")
    16.4
    """
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) * 1024 / 1e9, 1)
    return None


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # not Linux
        return ""
