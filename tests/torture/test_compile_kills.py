"""Runs that are killed during their first compilation can be resumed, and leave no process."""

import json
import os
import random
import time
from pathlib import Path

import pytest

from tests.torture.kill import run, run_until_done
from tests.torture.own_run import own_run
from tests.torture.runs import check_end, check_log, check_readable, outcome, python

pytestmark = pytest.mark.long
SECONDS = 20  # within which a process whose parent was killed must end


def processes_of(cache):
    """Return the command lines of all processes that use a folder of kernels."""
    lines = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"MINISE_CACHE={cache}".encode() in (path / "environ").read_bytes().split(b"\0"):
                lines.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended
            pass
    return lines


def check_no_process(cache):
    deadline = time.monotonic() + SECONDS
    while processes_of(cache) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(cache) == []


@pytest.mark.parametrize("ahead", ["0", "1"])
def test_kills_while_kernels_are_compiled(tmp_path, ahead):
    rng, cache, path = random.Random(3), tmp_path / "cache", tmp_path / "run"
    settings = dict(out=str(tmp_path), ops="jit", save_every=0.0)
    program = ["-m", "tests.torture.own_run"]
    first = [*program, json.dumps(settings)]

    def again(life):
        if not any(path.glob("*.safetensors")):
            for file in path.glob("*"):
                file.unlink()
            if path.exists():
                path.rmdir()
            return python(first)
        return python([*program, json.dumps({**settings, "resume": str(path), "seed": 4})])

    def check(life):
        assert "Traceback" not in life.err
        check_readable(path)
        check_log(path)
        check_no_process(cache)

    lives = run_until_done(
        python(first),
        again,
        lambda lives: rng.uniform(1, 12) if len(lives) < 8 else None,
        check=check,
        env={"MINISE_CACHE": str(cache), "MINISE_AHEAD": ahead},
        seconds=1500,
    )
    assert len(lives) > 2
    check_end(path, outcome(own_run(tmp_path / "alone", ops="jit").folder), lives[-1])
    names = [file for folder in (cache / "kernels").iterdir() for file in os.listdir(folder)]
    assert names
    check_no_process(cache)


def test_a_kernel_that_is_half_written_is_compiled_again(tmp_path):
    """A file of the cache that was cut, as by a full disk, is never loaded."""
    cache = tmp_path / "cache"
    settings = dict(out=str(tmp_path / "a"), ops="jit")
    program = ["-m", "tests.torture.own_run"]
    env = {"MINISE_CACHE": str(cache), "MINISE_AHEAD": "0"}
    life = run(python([*program, json.dumps(settings)]), env=env, seconds=1500)
    assert life.status == 0, life
    files = sorted(file for file in cache.rglob("*") if file.is_file() and file.stat().st_size)
    for number, file in enumerate(files):
        os.truncate(file, file.stat().st_size * (number % 4) // 4)
    settings["out"] = str(tmp_path / "b")
    life = run(python([*program, json.dumps(settings)]), env=env, seconds=1500)
    assert (life.status, life.err) == (0, "")
    assert outcome(tmp_path / "a" / "run") == outcome(tmp_path / "b" / "run")
