"""Every file call of minise's writes fails once, and the power fails once after every call.

At any failing call the old or the new content loads, an error is told as OSError (or as the signal
that it was), and no temporary file stays where it can be removed.
"""

import errno
import json
import os
import re
import shutil

import numpy as np
import pytest

from minise import nn
from minise.atomic import write_whole
from minise.ops.jit.compiler import cache_folder
from minise.train import checkpoint as checkpoints
from minise.train.checkpoint import Checkpoint
from minise.train.lock import locked
from minise.train.run_folder import RunFolder, create
from tests.torture.calls import names_in
from tests.torture.crash import for_every_crash, record
from tests.torture.failing_files import FAULTS, Fault, for_every_call

pytestmark = pytest.mark.slow
OLD, NEW = 1.0, 2.0
FILES = {"a", "previous", "config.json"}
LINES = 3
LOST = "replace", "after"  # a call that changes the name and says that it failed


def net(number):
    layer = nn.Linear(3, 2, rng=0)
    layer.params["weight"][...] = number
    return layer


def checkpoint(number):
    arrays = {"weight": np.full((2, 3), number, np.float32)}
    velocity = {"velocity/weight": arrays["weight"]}
    return Checkpoint(arrays, velocity, dict(net="Linear"), dict(step=int(number)), {})


def read_whole(folder):
    return float((folder / "a").read_bytes())


def read_checkpoint(folder):
    saved = checkpoints.load(folder / "a")
    (number,) = {*saved.arrays["weight"].flat, *saved.velocity["weight"].flat}
    assert saved.progress["step"] == number
    return number


def read_net(folder):
    target = net(0)
    nn.load(target, folder / "a")
    (number,) = set(target.params["weight"].flat)
    return number


def read_config(folder):
    return json.loads((folder / "config.json").read_text())["config"]["number"]


def write_with_previous(folder, number):
    write_whole(folder / "a", str(number).encode(), folder / "previous")


def read_with_previous(folder):
    """Return the number in the file; the one in the previous file, if it exists, is the old."""
    previous = folder / "previous"
    assert not previous.exists() or float(previous.read_bytes()) == OLD
    return read_whole(folder)


WRITERS = {  # name: how to write a number, and how to read it
    "write_whole": (lambda f, n: write_whole(f / "a", str(n).encode()), read_whole),
    "with previous": (write_with_previous, read_with_previous),
    "checkpoint.save": (lambda f, n: checkpoints.save(f / "a", checkpoint(n)), read_checkpoint),
    "nn.save": (lambda f, n: nn.save(net(n), f / "a"), read_net),
    "write_config": (lambda f, n: RunFolder(f).write_config(dict(number=n)), read_config),
}
writers = pytest.mark.parametrize("name", WRITERS)


def check_error(case):
    """Check that an error is one line with a path, unless a signal raised it."""
    if isinstance(case.error, OSError):
        assert re.search(r"^[^\n]*/[^\n]*$", str(case.error))


def check_told(case, number):
    """Check that an error is about the state that remains: written, or not."""
    is_new = number == NEW
    if case.error is None:
        assert is_new
    elif isinstance(case.error, OSError) and (case.call.name, case.fault.when) != LOST:
        text = "is written, but its folder could not be flushed" if is_new else "cannot be written"
        assert re.match(rf"^/.* {text}.*\(", str(case.error)), case.error


def check_leftovers(case, names):
    """Check that only these files stay, unless files cannot be removed or removal was the call."""
    if "unlink" not in case.fault.lasting and case.call.name != "unlink":
        assert set(names_in(case.folder)) <= names


@writers
def test_old_or_new_loads_whatever_call_fails(tmp_path, name):
    write, read = WRITERS[name]

    def check(case):
        number = read(case.folder)
        assert number in (OLD, NEW)
        check_told(case, number)
        check_leftovers(case, FILES)

    cases = for_every_call(tmp_path, lambda f: write(f, NEW), check, lambda f: write(f, OLD))
    assert {case.call.name for case in cases} >= {"create", "write", "fsync", "close", "replace"}


@writers
def test_a_first_file_is_complete_or_absent(tmp_path, name):
    write, read = WRITERS[name]

    def check(case):
        check_leftovers(case, FILES)
        exists = FILES & names_in(case.folder).keys()
        check_told(case, read(case.folder) if exists else OLD)

    assert for_every_call(tmp_path, lambda folder: write(folder, NEW), check)


@writers
def test_old_or_new_loads_after_every_power_failure(tmp_path, name):
    write, read = WRITERS[name]

    def check(folder, done):
        assert read(folder) in ([NEW] if done else [OLD, NEW])

    assert for_every_crash(tmp_path, lambda f: write(f, NEW), check, lambda f: write(f, OLD)) > 10


def test_without_hard_links_one_of_two_files_loads(tmp_path, monkeypatch):
    """On such a disk the file becomes `previous` before the new one has its name."""

    def check(case):
        texts = [text for name, text in names_in(case.folder).items() if name in FILES]
        assert set(texts) <= {b"1.0", b"2.0"}
        assert texts

    def crashed(folder, done):
        texts = {name: text for name, text in names_in(folder).items() if name in FILES}
        assert texts == {"a": b"2.0", "previous": b"1.0"} if done else {*texts.values()}
        assert {*texts.values()} <= {b"1.0", b"2.0"}

    def no_links(source, target):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    steps = (lambda f: write_with_previous(f, NEW)), (lambda f: write_with_previous(f, OLD))
    cases = for_every_call(tmp_path, steps[0], check, steps[1])
    assert {case.call.name for case in cases if case.error is None} >= {"link", "write"}
    shutil.rmtree(tmp_path / "run")
    assert for_every_crash(tmp_path, steps[0], crashed, steps[1])


def test_every_byte_of_a_checkpoint_is_written_by_python(tmp_path):
    """None of these tests would notice a library that writes files by itself."""
    calls = record(tmp_path, lambda folder: WRITERS["checkpoint.save"][0](folder, NEW))
    size = (tmp_path / "a").stat().st_size
    assert sum(len(call.data) for call in calls if call.name == "write") == size


def log(folder):
    """Log lines; a file counts the lines whose call has returned."""
    for number in range(LINES):
        RunFolder(folder).log("step", step=number)
        (folder.parent / "returned").write_text(str(number + 1))


def test_every_line_that_was_logged_stays_whatever_call_fails(tmp_path):
    """resume cuts off the lines after the failing line: the checkpoint has their number."""
    returned = tmp_path / "returned"

    def prepare(folder):
        returned.write_text("0")

    def check(case):
        check_error(case)
        count = int(returned.read_text())
        assert count == LINES if case.error is None else count < LINES
        path = case.folder / "metrics.jsonl"
        *lines, rest = path.read_text().split("\n") if path.exists() else [""]
        assert [json.loads(line)["step"] for line in lines[:count]] == list(range(count))
        assert case.error is not None or (len(lines), rest) == (LINES, "")

    assert for_every_call(tmp_path, log, check, prepare)


def test_a_run_folder_is_new_or_an_error(tmp_path):
    def check(case):
        check_error(case)
        if case.error is None:
            assert (case.folder / "runs" / "a-1" / "metrics.jsonl").exists()
        shutil.rmtree(case.folder / "runs", ignore_errors=True)
        assert create(case.folder / "runs", None, "a").path.name == "a-1"

    assert for_every_call(tmp_path, lambda folder: create(folder / "runs", None, "a"), check)


def test_a_new_run_is_on_the_disk_when_its_first_checkpoint_is(tmp_path):
    def action(folder):
        run = create(folder / "runs", "a", "")
        run.write_config({})
        run.log("step", step=1)
        run.sync_log()
        checkpoints.save(run.last, checkpoint(NEW))

    def check(folder, done):
        if done:
            assert checkpoints.load(folder / "runs" / "a" / "last.safetensors")
            assert RunFolder(folder / "runs" / "a").lines == 1

    assert for_every_crash(tmp_path, action, check)


def test_a_log_is_cut_to_its_first_lines_whatever_fails(tmp_path):
    def prepare(folder):
        log(folder)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "st')

    def steps(folder):
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["step"] for line in lines[:2]], lines[2:]

    def check(case):
        check_error(case)
        first, rest = steps(case.folder)
        assert (first, rest[1:] == [] or case.error is not None) == ([0, 1], True)
        assert case.error is not None or not rest

    def crashed(folder, done):
        first, rest = steps(folder)
        assert first == [0, 1]
        assert not done or not rest

    assert for_every_call(tmp_path, lambda f: RunFolder(f).cut_log(2), check, prepare)
    shutil.rmtree(tmp_path / "run")
    assert for_every_crash(tmp_path, lambda f: RunFolder(f).cut_log(2), crashed, prepare)


def test_a_lock_can_be_taken_after_every_failing_call(tmp_path):
    def action(folder):
        with locked(folder):
            (folder / "written").touch()

    def check(case):
        if case.call.path.endswith("run.lock"):
            check_error(case)
        assert case.error is not None or (case.folder / "written").exists()
        action(case.folder)
        assert names_in(case.folder).keys() == {"written"}

    faults = [*FAULTS, Fault(errno.ENOLCK), Fault(errno.ENOSYS), Fault(errno.EINTR)]
    cases = for_every_call(tmp_path, action, check, faults=faults)
    assert {"create", "write", "flock", "unlink"} <= {case.call.name for case in cases}


def test_a_kernel_is_read_complete_or_not_at_all(tmp_path):
    """Kernels are not flushed to disk: after a power failure they are compiled again."""

    def write(folder, payload):
        cache_folder.write_checked(folder / "kernels" / "a", payload)

    def read(folder):
        return cache_folder.read_checked(folder / "kernels" / "a")

    def check(case):
        assert read(case.folder) in ([b"new"] if case.error is None else [b"old", b"new"])
        is_unknown = case.call.name == "create" and case.fault.when == "after"  # to mkstemp
        if not (is_unknown or "unlink" in case.fault.lasting or case.call.name == "unlink"):
            assert len(names_in(case.folder)) == 1

    steps = (lambda folder: write(folder, b"new")), (lambda folder: write(folder, b"old"))
    assert for_every_call(tmp_path, steps[0], check, steps[1])
    shutil.rmtree(tmp_path / "run")
    states = set()
    assert for_every_crash(
        tmp_path, steps[0], lambda folder, done: states.add(read(folder)), steps[1]
    )
    assert states == {None, b"old", b"new"}
