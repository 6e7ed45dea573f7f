"""Atomic writing with a previous file, at every failure of a system call."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minise.atomic import TEMPORARY, write_whole

CALLS = ("open", "close", "fsync", "link", "replace", "unlink")  # of os, in write_whole


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def failing(patch, number, code, after, watched):
    """Let the system call of this number fail, before its effect or after it; return their names.

    The file `watched` must exist at each call.
    """
    called = []

    def wrapped(name, function):
        def call(*arguments, **settings):
            called.append(name)
            assert watched.exists()
            if len(called) != number:
                return function(*arguments, **settings)
            if after and name not in ("open", "io.open"):  # nobody could close the file
                function(*arguments, **settings)
            raise OSError(code, os.strerror(code))

        return call

    class Opened:
        def __init__(self, file):
            self.file, self.fileno = file, file.fileno
            self.write, self.flush = wrapped("write", file.write), wrapped("flush", file.flush)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            try:
                wrapped("close", self.file.close)()
            finally:
                self.file.close()

    for name in CALLS:  # pathlib calls them, too
        patch.setattr(os, name, wrapped(name, getattr(os, name)))
    opened = wrapped("io.open", lambda *a, _open=Path.open: Opened(_open(*a)))
    patch.setattr(Path, "open", lambda *arguments: opened(*arguments))
    return called


NUMBER_OF_CALLS = 13


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_each_failing_call_leaves_the_old_or_the_new_state(tmp_path, code, after):
    path, previous = tmp_path / "last", tmp_path / "previous"
    for number in range(NUMBER_OF_CALLS + 1):  # 0 lets none fail
        write_whole(path, b"2")
        write_whole(previous, b"1")
        message = ""
        with pytest.MonkeyPatch.context() as patch:
            called = failing(patch, number, code, after, path)
            try:
                write_whole(path, b"three", previous)
            except OSError as error:
                message = str(error)
        if not number:
            assert len(called) == NUMBER_OF_CALLS, called
        states = [file.read_bytes() for file in (path, previous)]
        assert states in ([b"2", b"1"], [b"2", b"2"], [b"three", b"2"])
        assert names(tmp_path) == ["last", "previous"]
        unlinks = number and called[number - 1] == "unlink"
        assert bool(message) == bool(number) - bool(unlinks), called
        assert message == "" or message.startswith(f"{path} "), called
        assert message == "" or os.strerror(code) in message
        if message and called[number - 1] != "replace":  # which may fail after its effect
            is_told = "is written, but its folder could not be flushed to disk" in message
            assert is_told == (states[0] == b"three"), message


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV])
def test_a_disk_without_hard_links(tmp_path, monkeypatch, code):
    def link(*arguments, **settings):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    path, previous = tmp_path / "last", tmp_path / "previous"
    for content in (b"1", b"2", b"3"):
        write_whole(path, content, previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"2")
    assert names(tmp_path) == ["last", "previous"]


def test_previous_is_the_file_before_also_after_a_kill_between_the_renames(tmp_path):
    path, previous = tmp_path / "last", tmp_path / "previous"
    write_whole(path, b"1", previous)
    assert names(tmp_path) == ["last"]
    write_whole(path, b"2", previous)
    previous.unlink()
    os.link(path, previous)  # killed after previous was written
    write_whole(path, b"3", previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"2")
    assert names(tmp_path) == ["last", "previous"]


def test_a_link_is_followed_and_its_target_gets_a_previous_file(tmp_path):
    disk, run = tmp_path / "disk", tmp_path / "run"
    disk.mkdir()
    run.mkdir()
    (run / "last").symlink_to(disk / "file")
    for content in (b"1", b"2"):
        write_whole(run / "last", content, run / "previous")
    assert (disk / "file").read_bytes() == b"2"
    assert (run / "last").is_symlink()
    assert (run / "previous").read_bytes() == b"1"


@pytest.mark.skipif(os.name != "posix", reason="needs RLIMIT_FSIZE")
def test_a_limit_on_the_size_of_files_is_one_line(tmp_path):
    code = f"""
import resource
from pathlib import Path
from minise.atomic import write_whole
path = Path({str(tmp_path / "last")!r})
write_whole(path, b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    write_whole(path, bytes(10000), path.with_name("previous"))
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == (
        f"{tmp_path / 'last'} cannot be written (File too large; 10,000 bytes are needed, 4,096 "
        "are allowed): raise the limit on the size of a file (ulimit -f), or choose another disk\n"
    )
    assert (tmp_path / "last").read_bytes() == b"old"
    assert names(tmp_path) == ["last"]


def test_a_killed_writer_leaves_only_files_that_the_pattern_names(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from minise import atomic
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
atomic.write_whole(Path({str(tmp_path / "last")!r}), b"new")
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == list(tmp_path.glob(TEMPORARY)) != []
