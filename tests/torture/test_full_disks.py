"""Runs on full, small or read-only disks fail with one line, lose nothing, and can be resumed."""

import errno
import os
import re

import pytest

from tests.torture.calls import names_in
from tests.torture.disks import fill, immutable, limited_files, read_only, small_disk
from tests.torture.kill import Growth, run
from tests.torture.runs import (
    CHECKPOINTS,
    FILES,
    check_end,
    check_log,
    check_readable,
    go_on,
    python,
    resume_arguments,
    train_arguments,
)

slow, long = pytest.mark.slow, pytest.mark.long
SIZE = 640_000  # more than a checkpoint of these runs has; two fit on a disk of SPACE bytes
SPACE = 1_600_000


def check_told(life, *texts):
    """Check that a command failed with one line that has these texts."""
    lines = life.err.splitlines()
    assert life.status in (1, 2), life  # 2 before the first step
    assert len(lines) == 1, life.err
    for text in texts:
        assert re.search(text, lines[0]), lines[0]


@pytest.fixture
def out(tmp_path):
    """Return a folder for runs."""
    path = tmp_path / "runs"
    path.mkdir()
    return path


@slow
def test_a_disk_that_is_full_at_a_later_checkpoint(data, out, alone):
    path = out / "run"
    first = train_arguments(data, path)
    with small_disk(SPACE, out) as disk:
        life = run(disk.command(python(first)))
        check_told(life, f"{path}/.*safetensors", "No space left", "needed", "free", "last")
        check_readable(disk.outside / "run")
        check_log(disk.outside / "run")
        assert names_in(disk.outside / "run").keys() <= FILES
        full = run(disk.command(python(resume_arguments(path))))
        check_told(full, "No space left", "last.safetensors")
        check_readable(disk.outside / "run")
        disk.resize(10 * SPACE)
        life = run(disk.command(python(resume_arguments(path))))
        check_end(disk.outside / "run", alone(), life)


@pytest.mark.parametrize("leave", [pytest.param(0, marks=long), pytest.param(300_000, marks=slow)])
def test_a_disk_that_is_full_at_the_start(data, out, alone, leave):
    path = out / "run"
    first = train_arguments(data, path)
    with small_disk(SPACE, out) as disk:
        ballast = fill(disk.outside, leave)
        life = run(disk.command(python(first)))
        check_told(life, "No space left")
        for name in (*CHECKPOINTS, "config.json"):
            assert not (disk.outside / "run" / name).exists() or leave
        ballast.unlink()
        disk.resize(10 * SPACE)
        life = run(disk.command(python(go_on(disk.outside / "run", first))))
        check_end(disk.outside / "run", alone(), life)


@slow
def test_a_disk_that_fills_up_and_gets_space_during_a_run(data, out, alone):
    """A log line for which there is no space ends the run; the last checkpoint remains."""
    path = out / "run"
    with small_disk(10 * SPACE, out) as disk:
        ballast, is_due = [], Growth(disk.outside / "run" / "metrics.jsonl", 6, 0.0)

        def fills_up():
            if not ballast and is_due():
                ballast.append(fill(disk.outside))
            return False

        life = run(disk.command(python(train_arguments(data, path))), fills_up)
        check_told(life, "No space left", "last.safetensors")
        ballast[0].unlink()
        check_readable(disk.outside / "run")
        check_end(disk.outside / "run", alone(), run(disk.command(python(resume_arguments(path)))))


@slow
def test_a_read_only_run_is_unchanged(data, out, alone):
    path = out / "run"
    first = train_arguments(data, path)
    run(python(first), Growth(path / "metrics.jsonl", 9, 0.0))
    before = names_in(path)
    with read_only(path) as disk:
        check_told(run(disk.command(python(resume_arguments(path)))), "Read-only", str(path))
        assert run(disk.command(python(["-m", "minise", "verify", path]))).status == 0
    assert names_in(path) == before
    with immutable(path):  # files in it can be written, but none can be made
        check_told(run(python(resume_arguments(path))), "not permitted", str(path))
    check_end(path, alone(), run(python(resume_arguments(path))))


@slow
def test_a_limit_on_the_size_of_files(data, out, alone):
    """SIGXFSZ must not end the process: Python ignores it, so the write fails with EFBIG."""
    path = out / "run"
    first = train_arguments(data, path)
    life = run(python(first), preexec_fn=limited_files(SIZE // 2))
    check_told(life, os.strerror(errno.EFBIG), "needed")
    assert not set(CHECKPOINTS) & names_in(path).keys()
    assert names_in(path).keys() <= FILES
    life = run(python(go_on(path, first)), Growth(path / "metrics.jsonl", 9, 0.0))
    check_told(
        run(python(resume_arguments(path)), preexec_fn=limited_files(SIZE // 2)), "File too large"
    )
    check_end(path, alone(), run(python(resume_arguments(path))))
