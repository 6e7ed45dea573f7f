"""The lock of a run folder: one writer; stale locks; temporary files of dead runs."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from minise.atomic import TEMPORARY, write_whole
from minise.train import lock
from minise.train.lock import LOCK, Locked, locked, remove_stale_files, state
from minise.train.owner import this_process

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and kills processes")


def in_child(folder, then="sys.stdin.read()"):
    """Start a process that locks a folder, prints a line, and continues with `then`."""
    code = f"""
import os, signal, sys
from minise.train.lock import locked
with locked({str(folder)!r}):
    print("locked", flush=True)
    {then}
"""
    streams = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process = subprocess.Popen([sys.executable, "-c", code], **streams)
    assert process.stdout.readline() == "locked\n"
    return process


def owner_of(folder, **changes):
    """Write a lock file that names this process, with changes."""
    content = {**this_process()._asdict(), **changes}
    (folder / LOCK).write_text(json.dumps(content))


def refused(folder):
    """Return the message of a lock that is refused."""
    with pytest.raises(Locked) as error, locked(folder):
        pass
    return str(error.value)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(lock, "PAUSE_SECONDS", 0.001)


def test_the_lock_is_held_within_the_block_only(tmp_path):
    assert state(tmp_path) == ("free", None)
    for _ in range(2):
        with locked(tmp_path):
            condition, owner = state(tmp_path)
            assert (condition, owner.pid) == ("held", os.getpid())
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_in_the_same_process_is_refused(tmp_path):
    link = tmp_path / "link"
    (tmp_path / "run").mkdir()
    link.symlink_to("run")
    with locked(tmp_path / "run"):
        message = f"{link} is being written by this process {os.getpid()} of host "
        assert refused(link).startswith(message)
        assert state(link)[0] == "held"
    with locked(link):
        pass


def test_of_many_threads_one_gets_the_lock(tmp_path):
    barrier, end, results = threading.Barrier(8), threading.Event(), []

    def run():
        barrier.wait()
        try:
            with locked(tmp_path):
                results.append("locked")
                end.wait()
        except Locked:
            results.append("refused")
        if results.count("refused") == 7:
            end.set()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == ["locked"] + ["refused"] * 7


def test_another_process_is_named_and_refused_until_it_ends(tmp_path):
    process = in_child(tmp_path)
    message = refused(tmp_path)
    assert message.startswith(f"{tmp_path} is being written by the process {process.pid} of host ")
    assert message.endswith(": wait for its end, or stop it")
    assert state(tmp_path)[0] == "held"
    process.communicate("")
    assert state(tmp_path) == ("free", None)


def test_a_killed_owner_leaves_a_stale_lock(tmp_path):
    process = in_child(tmp_path)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it remains a zombie
    condition, owner = state(tmp_path)
    assert (condition, owner.pid) == ("stale", process.pid)
    with locked(tmp_path):
        assert state(tmp_path)[1].pid == os.getpid()
    process.communicate()


def test_an_orphan_of_a_killed_owner_does_not_hold_the_lock(tmp_path):
    then = """
    forked = os.fork()
    if forked == 0:
        signal.pause()
    print(forked, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)"""
    process = in_child(tmp_path, then)
    orphan = int(process.stdout.readline())
    process.wait()
    try:
        os.kill(orphan, 0)
        assert state(tmp_path)[0] == "stale"
        with locked(tmp_path):
            assert state(tmp_path)[1].pid == os.getpid()
    finally:
        os.kill(orphan, signal.SIGKILL)
        process.communicate()


def test_a_forked_child_is_refused(tmp_path):
    with locked(tmp_path):
        forked = os.fork()
        if forked == 0:
            status = 1
            try:
                with locked(tmp_path):
                    pass
            except Locked as error:
                status = 0 if f"the process {os.getppid()} " in str(error) else 2
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0


def test_a_forked_child_that_leaves_the_block_does_not_release_the_lock(tmp_path):
    then = """
    forked = os.fork()
    if forked == 0:
        sys.exit()
    os.waitpid(forked, 0)
    print("waited", flush=True)
    sys.stdin.read()"""
    process = in_child(tmp_path, then)
    assert process.stdout.readline() == "waited\n"
    assert state(tmp_path)[0] == "held"
    refused(tmp_path)
    process.communicate("")
    assert state(tmp_path) == ("free", None)


@pytest.mark.parametrize("content", ["", "\0" * 40, "[1]", '{"pid": 1}', "[" * 5000])
def test_an_unreadable_lock_file_that_nobody_locks_is_stale(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    assert state(tmp_path)[0] == "stale"
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_another_host_is_refused_with_the_file_to_remove(tmp_path):
    owner_of(tmp_path, host="other\x1b", kernel="other")
    message = refused(tmp_path)
    assert "of host other\\x1b since" in message
    assert message.endswith(
        f"which this host cannot check: if that run has ended, remove {tmp_path / LOCK}"
    )
    assert state(tmp_path)[0] == "held"
    assert (tmp_path / LOCK).exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": "before the restart"},
        {"pid": os.getppid(), "start": "1"},
        {"pid": os.getppid(), "start": "1", "host": "other"},
    ],
)
def test_a_restarted_host_and_a_reused_process_id_make_the_lock_stale(tmp_path, changes):
    owner_of(tmp_path, **changes)
    assert state(tmp_path)[0] == "stale"
    with locked(tmp_path):
        pass


def test_a_lock_file_of_this_process_that_could_not_be_removed_is_stale(tmp_path):
    owner_of(tmp_path)
    assert state(tmp_path)[0] == "stale"
    with locked(tmp_path):
        refused(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, None])
def test_without_locks_of_files_the_process_id_decides(tmp_path, monkeypatch, code):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    if code is None:
        monkeypatch.setattr(lock, "fcntl", None)
    else:
        monkeypatch.setattr(lock.fcntl, "lockf", fail)
    with locked(tmp_path):
        pass
    process = in_child(tmp_path)
    assert f"the process {process.pid} " in refused(tmp_path)
    assert state(tmp_path)[0] == "held"
    process.kill()
    process.communicate()
    assert state(tmp_path)[0] == "stale"
    owner_of(tmp_path, namespace="pid:[1]")
    assert state(tmp_path)[0] == "held"
    owner_of(tmp_path, pid=process.pid, start="")
    with locked(tmp_path):
        assert "this process" in refused(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_removed_between_open_and_lock_is_opened_again(tmp_path, monkeypatch):
    first, real = [], lock._lock

    def removing(handle, shared=False):
        if not first:
            first.append(handle)
            (tmp_path / LOCK).unlink()  # by its owner, at the end
        return real(handle, shared)

    monkeypatch.setattr(lock, "_lock", removing)
    with locked(tmp_path):
        assert state(tmp_path)[0] == "held"
        assert (tmp_path / LOCK).exists()


def test_a_lock_that_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"run.lock cannot be written \(No space left.*: free"):
        lock._acquire(tmp_path / LOCK, tmp_path)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        pass


CALLS = ("open", "read", "fstat", "ftruncate", "lseek", "write", "unlink", "close")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("after", [False, True])
def test_a_failing_call_leaves_a_folder_that_can_be_locked(tmp_path, name, after):
    failed, real = [], getattr(os, name)

    def call(*arguments, **settings):
        failed.append(real(*arguments, **settings) if after and name != "open" else None)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    message = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, call)
        try:
            with locked(tmp_path):
                pass
        except OSError as error:
            message = str(error)
    assert failed
    text = f"{tmp_path / LOCK} cannot be written (Input/output error): choose another path"
    assert message == ("" if name in ("unlink", "close") else text)
    assert state(tmp_path)[0] != "held"
    with locked(tmp_path):
        refused(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_dead_runs_are_removed_and_those_of_live_runs_stay(tmp_path):
    live, dead, foreign = (tmp_path / name for name in ("live", "dead", "foreign"))
    name = TEMPORARY.replace("*", "0123")
    for folder in (live, dead, foreign):
        folder.mkdir()
    process = in_child(dead)
    process.kill()
    process.communicate()
    for folder in (live, dead, foreign):
        write_whole(folder / name, b"part")
        write_whole(folder / "last.safetensors", b"whole")
    for folder in (live, dead):
        (folder / "metrics.jsonl").touch()
    process = in_child(live)
    write_whole(live / name, b"part")
    remove_stale_files(tmp_path)
    assert (live / name).exists()
    assert (foreign / name).exists()  # no run
    assert sorted(path.name for path in dead.iterdir()) == ["last.safetensors", "metrics.jsonl"]
    process.kill()
    process.communicate()
    with locked(live):
        assert not (live / name).exists()


@pytest.mark.slow
def test_of_many_processes_one_writes_at_a_time(tmp_path):
    code = f"""
import os, random, sys, time
from minise.train.lock import locked, Locked
for _ in range(60):
    try:
        with locked({str(tmp_path)!r}):
            handle = os.open({str(tmp_path / "used")!r}, os.O_CREAT | os.O_EXCL)
            time.sleep(random.random() / 500)
            os.close(handle)
            if random.random() < 0.1:
                os.unlink({str(tmp_path / "used")!r})
                os.kill(os.getpid(), 9)
            os.unlink({str(tmp_path / "used")!r})
    except Locked:
        time.sleep(random.random() / 100)
"""
    (tmp_path / LOCK).touch()
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(10)]
    assert {process.wait() for process in processes} <= {0, -9}
    assert not (tmp_path / "used").exists()
