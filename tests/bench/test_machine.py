"""What is read from /proc, from texts and from this machine."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from minise.bench import load, machine, memory, threads
from minise.train.run_folder import versions

LINUX = os.path.exists("/proc/self/status")
needs_proc = pytest.mark.skipif(not LINUX, reason="there is no /proc")


def test_describe_and_versions():
    described = machine.describe()
    assert described["cores"] >= 1
    assert described["processor"]
    assert versions(machine.PACKAGES)["numpy"] == np.__version__


def test_fields_that_are_not_there():
    assert machine.processor("") is None
    assert machine.memory_gb("") is None
    assert memory.bytes_of("VmRSS: 1 kB", "VmHWM") is None


def test_taken_by_hand():
    before = load.Reading(wall=0.0, busy=100.0, own=10.0)
    after = load.Reading(wall=4.0, busy=106.0 + load.SLACK, own=14.0)
    assert load.taken(before, after) == 0.5  # 6 s busy, 4 of them ours, in 4 s
    assert load.taken(before, load.Reading(4.0, 104.0, 14.0)) == 0.0
    assert load.taken(before, load.Reading(4.0, 101.0, 14.0)) == 0.0  # ticks may run behind
    assert load.taken(None, after) is None


def test_ticks_of_an_old_and_a_short_line():
    assert load.busy_ticks("cpu  1 2 3 4 5 6 7\ncpu0 1 2 3 4 5 6 7") == 1 + 2 + 3 + 6 + 7
    assert load.process_ticks("9 (minise) R 1 9 9 0 -1 0 0 0 0 0 5 6 0 0 20") == (9, 11)


@needs_proc
def test_own_time_is_counted():
    before = load.read([])
    start = time.process_time()
    while time.process_time() < start + 0.1:
        sum(range(10_000))
    after = load.read([])
    assert after.own > before.own
    assert after.busy >= before.busy
    assert load.taken(before, after) >= 0


PEAK = """
import numpy as np
from minise.bench.memory import Peak
peak = Peak()
peak.restart()
np.ones(8_000_000)  # 61 MiB
print(peak.mib(), peak.how)
"""


@needs_proc
def test_peak_sees_what_is_gone_again():
    """In a process of its own, where no memory of other tests is freed meanwhile."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    mib, how = done.stdout.strip().split(" ", 1)
    assert 55 < float(mib) < 120
    assert how in (memory.HWM, memory.MAXRSS)


@needs_proc
def test_peak_forgets_what_was_before_a_restart():
    peak = memory.Peak()
    np.ones(8_000_000)
    peak.restart()
    if peak.how == memory.HWM:
        assert peak.mib() < 30


def test_threads():
    assert threads.environment(3)["OMP_NUM_THREADS"] == "3"
    assert 1 <= threads.default_threads() <= 2
    with pytest.raises(ValueError, match="bench: threads is 100000, expected at most"):
        threads.check_threads("bench", 100_000)
    with pytest.raises(ValueError, match="threads is 0"):
        threads.check_threads("bench", 0)


def test_a_back_end_is_told_its_threads_where_it_can_be(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def using(*, threads):\n    return f'mine with {threads}'\n")
    assert threads.ops_with(str(mine), 1) == "mine with 1"
    assert threads.ops_with("reference", 1).__name__ == "minise.ops.reference"
