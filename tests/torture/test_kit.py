"""The kit notices planted mistakes, and passes code that makes none."""

import mmap
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

from tests.torture.calls import FileCalls, names_in
from tests.torture.clocks import clock, with_clock
from tests.torture.crash import for_every_crash, record
from tests.torture.disks import fill, immutable, limited_files, read_only, small_disk
from tests.torture.failing_files import SHORT, for_every_call
from tests.torture.kill import at_call, file_calls, in_function, run, run_until_done

OLD, NEW = b"old " * 3, b"newer " * 9
PYTHON = [sys.executable, "-c"]
WRITE = "import sys\nwith open(sys.argv[1], 'wb') as file: file.write(bytes(9000))"


def save(path, content, skip=""):
    """Write a file atomically, without one of the steps."""
    if skip == "temporary":
        path.write_bytes(content)
        return
    temporary = path.with_suffix(".tmp")
    try:
        fd = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        try:
            written = os.write(fd, content)
            while written < len(content) and skip != "rest":
                written += os.write(fd, content[written:])
            if skip != "fsync":
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    finally:
        if skip != "cleanup" and os.path.exists(temporary):
            os.unlink(temporary)
    folder = os.open(path.parent, os.O_RDONLY)
    if skip == "close":
        os.fsync(folder)
    try:
        if skip not in ("folder", "close"):
            os.fsync(folder)
    finally:
        os.close(folder)


def prepare(folder):
    save(folder / "a", OLD)


def check_case(case):
    content = (case.folder / "a").read_bytes()
    assert content in ([NEW] if case.error is None else [OLD, NEW])
    assert os.listdir(case.folder) == ["a"] or "unlink" in case.fault.lasting


def check_crash(folder, done):
    assert (folder / "a").read_bytes() in ([NEW] if done else [OLD, NEW])


def test_a_save_with_every_step_passes(tmp_path):
    cases = for_every_call(tmp_path, lambda folder: save(folder / "a", NEW), check_case, prepare)
    calls = {case.number: case.call.name for case in cases}
    # between replace and fsync the folder is opened; a folder's close changes nothing
    assert list(calls.values()) == ["create", "write", "fsync", "close", "replace", "open", "fsync"]
    assert [case.call.name for case in cases if case.fault is SHORT] == ["write"]
    shutil.rmtree(tmp_path / "run")
    assert for_every_crash(tmp_path, lambda f: save(f / "a", NEW), check_crash, prepare) > 10


@pytest.mark.parametrize(
    ("skip", "message"),
    [
        ("temporary", "create a: EIO after"),
        ("rest", "write a.tmp 54 bytes: short; error None"),
        ("cleanup", "create a.tmp: EIO after"),
        ("close", "fsync run: ENOSPC before"),
    ],
)
def test_a_missing_step_is_noticed_by_a_failing_call(tmp_path, skip, message):
    with pytest.raises(AssertionError) as noticed:
        for_every_call(tmp_path, lambda f: save(f / "a", NEW, skip), check_case, prepare)
    (note,) = noticed.value.__notes__
    assert re.search(message, note)


@pytest.mark.parametrize("skip", ["temporary", "fsync", "folder"])
def test_a_missing_step_is_noticed_by_a_power_failure(tmp_path, skip):
    with pytest.raises((AssertionError, FileNotFoundError)) as noticed:
        for_every_crash(tmp_path, lambda f: save(f / "a", NEW, skip), check_crash, prepare)
    assert "power failure after call" in noticed.value.__notes__[0]


def test_an_error_that_is_not_the_planted_one_is_raised(tmp_path):
    def action(folder):
        try:
            (folder / "a").write_bytes(NEW)
        except OSError:
            raise KeyError("a fault of its own") from None

    def hides(folder):
        try:
            (folder / "a").write_bytes(NEW)
        except OSError:
            (folder / "b").mkdir()

    with pytest.raises(KeyError, match="a fault"):
        for_every_call(tmp_path, lambda folder: [][1:] or {}["a fault"], print)
    for_every_call(tmp_path, action, lambda case: None)  # its context is the planted one
    with pytest.raises(AssertionError):
        for_every_call(tmp_path, hides, check_case, prepare)


def test_every_way_to_write_a_file_is_seen(tmp_path):
    def action(folder):
        (folder / "b").mkdir()
        (folder / "b" / "text").write_text("text\n")
        with open(folder / "line", "w", buffering=1) as file:
            file.write("1\n")
            file.write("2\n")
        with (folder / "line").open("a") as file:
            file.write("3\n")
        with open(folder / "line", "r+b") as file:
            file.seek(2)
            file.write(b"9")
            file.truncate(5)
        handle, name = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "wb", buffering=0) as file:
            file.write(b"raw")
        shutil.copyfile(name, folder / "copy")
        os.link(name, folder / "link")
        os.rename(name, folder / "moved")
        os.truncate(folder / "copy", 2)
        (folder / "empty").touch()
        (folder / "link").unlink()
        shutil.rmtree(folder / "b")

    (tmp_path / "old").write_bytes(b"old")
    calls = record(tmp_path, action)
    assert names_in(tmp_path).keys() == {"old", "line", "copy", "moved", "empty"}
    assert (tmp_path / "line").read_bytes() == b"1\n9\n3"
    line = [str(call) for call in calls if call.path.endswith("line")]
    assert line[:4] == ["create line", "write line 2 bytes", "write line 2 bytes", "close line"]


def test_what_is_written_unseen_is_noticed(tmp_path):
    def by_memory_map(folder):
        with open(folder / "a", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            memory[:3] = b"new"

    def by_another_process(folder):
        subprocess.run(["touch", str(folder / "b")], check=True)

    def by_c_code(folder):
        np.save(folder / "array.npy", np.arange(3))

    (tmp_path / "a").write_bytes(b"old")
    for action in (by_memory_map, by_another_process, by_c_code):
        with pytest.raises(AssertionError, match="not all was seen"):
            record(tmp_path, action)


def test_functions_are_restored(tmp_path):
    before = open, os.open, os.write, os.replace
    with FileCalls(tmp_path, lambda call, perform: perform()):
        assert open is not before[0]
    assert before == (open, os.open, os.write, os.replace)


def test_a_command_is_killed_until_it_ends(tmp_path):
    program = (
        "import pathlib, sys, time; p = pathlib.Path(sys.argv[1]); "
        "n = len(p.read_text()) if p.exists() else 0\n"
        "for _ in range(n, 6): time.sleep(0.05); p.open('a').write('x')"
    )
    command = [*PYTHON, program, tmp_path / "log"]
    rng = random.Random(1)
    lives = run_until_done(
        command, lambda life: command, lambda ended: rng.uniform(0, 0.3) if len(ended) < 4 else None
    )
    assert [life.status for life in lives[:-1]] == [-signal.SIGKILL] * (len(lives) - 1)
    assert len(lives) > 2
    assert (tmp_path / "log").read_text() == "x" * 6
    with pytest.raises(AssertionError, match="failed by itself"):
        run_until_done([*PYTHON, "raise SystemExit(3)"], lambda life: [], lambda ended: None)
    with pytest.raises(AssertionError, match="more than 0.2 s"):
        run([*PYTHON, "import time; time.sleep(9)"], seconds=0.2)


def test_signals_arrive_in_order_and_on_a_condition(tmp_path):
    program = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: print('first', flush=True))\n"
        "pathlib.Path(sys.argv[1]).touch(); time.sleep(0.3); time.sleep(9)"
    )
    path = tmp_path / "ready"
    life = run(
        [*PYTHON, program, path], [path.exists, 0.2], [signal.SIGINT, signal.SIGTERM], seconds=5
    )
    assert (life.status, life.out) == (-signal.SIGTERM, "first\n")
    assert life.killed_at >= 0.2
    assert run([*PYTHON, "pass"], 60).killed_at is None


def test_a_command_kills_itself_at_every_file_call(tmp_path):
    (tmp_path / "in").write_text("[1, 2]")
    out = tmp_path / "out"
    command = ["-m", "json.tool", "--compact", tmp_path / "in", out]
    calls = file_calls(tmp_path, command)
    write = calls.index("write out 6 bytes")
    for number, when in ((write, "before"), (write, "torn"), (write, "after"), (99, "after")):
        out.unlink()
        life = run(at_call(tmp_path, number, when, command))
        assert life.status == (0 if number == 99 else -signal.SIGKILL)
        assert out.read_text() == {"before": "", "torn": "[1,", "after": "[1,2]\n"}[when]


def test_a_command_kills_itself_in_a_function(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[]")
    command = ["-m", "json.tool", path]
    numbers = [signal.SIGURG, signal.SIGTERM]  # the first one is ignored by default
    assert run(in_function("json.load", 1, command)).status == -signal.SIGKILL
    assert run(in_function("json.load", 1, command, numbers)).status == -signal.SIGTERM
    assert run(in_function("json.load", 2, command)).status == 0


def test_small_disks_are_full_and_get_space_again(tmp_path):
    write = [*PYTHON, WRITE, tmp_path / "a"]
    with small_disk(2**13, tmp_path) as disk:
        life = run(disk.command(write))
        assert (life.status, "No space left" in life.err) == (1, True)
        disk.resize(2**20)
        assert run(disk.command(write)).status == 0
        assert names_in(disk.outside) == {"a": bytes(9000)}
        fill(disk.outside, leave=4096)
        assert disk.free() <= 4096
        disk.remount("ro")
        assert "Read-only" in run(disk.command(write)).err
    assert os.listdir(tmp_path) == []


def test_read_only_folders_refuse_root_too(tmp_path):
    write = [*PYTHON, WRITE, tmp_path / "a"]
    with read_only(tmp_path) as disk:
        assert "Read-only" in run(disk.command(write)).err
    assert run(write, preexec_fn=limited_files(9000)).status == 0
    assert "File too large" in run(write, preexec_fn=limited_files(8999)).err
    (tmp_path / "a").unlink()
    with immutable(tmp_path):
        assert "not permitted" in run(write).err
    assert run(write).status == 0


def test_clocks_jump_and_stop():
    before = time.time()
    with clock(wall=[(0, 7200)], monotonic=[(0, 0), (0.02, -50)]):
        assert 7200 <= time.time() - before < 7260
        assert time.time_ns() / 1e9 - before >= 7200
        assert time.strftime("%H") == time.strftime("%H", time.localtime(before + 7200))
        start = time.perf_counter()
        time.sleep(0.03)
        assert time.perf_counter() - start < -40
    with clock(tick=1000.0):
        assert time.perf_counter() == time.perf_counter() == time.perf_counter() // 1000 * 1000
    assert abs(time.time() - before) < 60
    command = with_clock(dict(wall=[(0, 1e9)]), ["-m", "tests.torture.test_kit"])
    assert float(run(command).out) > time.time() + 9e8


if __name__ == "__main__":
    print(time.time())
