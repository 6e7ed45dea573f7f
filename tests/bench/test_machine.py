"""Readings of /proc, from texts and from this machine."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from minise.bench import machine
from minise.train.run_folder import versions

LINUX = os.path.exists("/proc/self/status")
requires_proc = pytest.mark.skipif(not LINUX, reason="there is no /proc")


def test_describe_and_versions():
    described = machine.describe()
    assert described["cores"] >= 1
    assert described["processor"]
    assert versions(machine.PACKAGES)["numpy"] == np.__version__


def test_missing_fields_are_none():
    assert machine.processor("") is None
    assert machine.memory_gb("") is None
    assert machine.bytes_of("VmRSS: 1 kB", "VmHWM") is None


def test_cores_used_by_others_by_hand():
    before = machine.Reading(wall=0.0, busy=100.0, own=10.0)
    after = machine.Reading(wall=4.0, busy=106.0 + machine.TICK_ERROR_SECONDS, own=14.0)
    assert machine.cores_used_by_others(before, after) == 0.5  # 6 s busy, 4 of them ours, in 4 s
    assert machine.cores_used_by_others(before, machine.Reading(4.0, 104.0, 14.0)) == 0.0
    behind = machine.Reading(4.0, 101.0, 14.0)  # ticks may lag behind the CPU time
    assert machine.cores_used_by_others(before, behind) == 0.0
    assert machine.cores_used_by_others(None, after) is None


def test_ticks_of_an_old_and_a_short_line():
    assert machine.busy_ticks("cpu  1 2 3 4 5 6 7\ncpu0 1 2 3 4 5 6 7") == 1 + 2 + 3 + 6 + 7
    assert machine.process_ticks("9 (minise) R 1 9 9 0 -1 0 0 0 0 0 5 6 0 0 20") == (9, 11)


@requires_proc
def test_own_time_is_counted():
    before = machine.read_clocks([])
    start = time.process_time()
    while time.process_time() < start + 0.1:
        sum(range(10_000))
    after = machine.read_clocks([])
    assert after.own > before.own
    assert after.busy >= before.busy
    assert machine.cores_used_by_others(before, after) >= 0


PEAK = """
import numpy as np
from minise.bench.machine import PeakMemory
peak = PeakMemory()
peak.restart()
np.ones(8_000_000)  # 61 MiB
print(peak.mib(), peak.method)
"""


@requires_proc
def test_the_peak_includes_freed_memory():
    """In a separate process, where other tests do not free memory at the same time."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    mib, method = done.stdout.strip().split(" ", 1)
    assert 55 < float(mib) < 120
    assert method in (machine.PEAK_VMHWM, machine.PEAK_MAXRSS)


@requires_proc
def test_a_restart_resets_the_peak():
    peak = machine.PeakMemory()
    np.ones(8_000_000)
    peak.restart()
    if peak.method == machine.PEAK_VMHWM:
        assert peak.mib() < 30
