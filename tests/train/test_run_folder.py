"""The run folder: its log, its previous checkpoint, opening an existing one."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minise.atomic import TEMPORARY
from minise.train import run_folder
from minise.train.run_folder import RunFolder, create


@pytest.fixture
def folder(tmp_path):
    folder = create(tmp_path, "a", "run")
    folder.write_config({})
    for step in range(1, 5):
        folder.log("step", step=step)
    return folder


def test_the_log_counts_its_lines(folder):
    assert (folder.lines, RunFolder(folder.path).lines) == (4, 4)
    folder.sync_log()
    with folder.metrics.open("a") as file:
        file.write('{"kind": "st')
    assert RunFolder(folder.path).lines == 4


def test_a_log_that_fails_within_a_line_has_its_complete_lines(folder):
    """A limit on the size of files lets a write end within the line."""
    code = f"""
import os, resource
from pathlib import Path
from minise.train.run_folder import RunFolder
folder = RunFolder(Path({str(folder.path)!r}))
size = folder.metrics.stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9, resource.RLIM_INFINITY))
try:
    folder.log("step", step=5)
except OSError as error:
    print(error)
"""
    before = folder.metrics.read_text()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "metrics.jsonl cannot be written (File too large; 28 bytes are needed, " in done.stdout
    assert folder.metrics.read_text() == before + '{"kind": '


@pytest.mark.parametrize("ending", ["", '{"kind": "st', "\0\0\0"])
def test_the_log_is_cut_back_to_complete_lines(folder, ending):
    content = folder.metrics.read_text()
    folder.metrics.write_text(content + ending)
    assert folder.cut_log(4) == ""
    assert folder.metrics.read_text() == content
    assert folder.cut_log(2) == ""
    assert folder.metrics.read_text() == "".join(content.splitlines(keepends=True)[:2])
    assert folder.lines == 2
    folder.log("step", step=3)
    assert folder.metrics.read_text() == "".join(content.splitlines(keepends=True)[:3])
    warning = folder.cut_log(7)
    assert warning == (
        f"{folder.metrics} has 3 complete lines, expected at least 7: the others are lost"
    )
    assert folder.lines == 3
    folder.metrics.unlink()
    assert "has 0 complete lines, expected at least 1" in folder.cut_log(1)
    assert folder.cut_log(0) == ""


def test_a_log_that_cannot_be_cut_is_one_line(folder, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    for call in (folder.sync_log, lambda: folder.cut_log(4)):
        with pytest.raises(OSError, match=r"metrics.jsonl cannot be written \(Input/output error"):
            call()
    assert RunFolder(folder.path).lines == 4


def test_records_are_those_of_the_complete_lines(folder):
    folder.log("epoch", loss=float("nan"))
    with folder.metrics.open("a") as file:
        file.write('{"kind": "st')
    records = folder.records()
    assert records[0] == {"kind": "step", "step": 1}
    assert records[4] == {"kind": "epoch", "loss": None, "not_finite": {"loss": "nan"}}
    assert len(records) == 5


@pytest.mark.parametrize("line", ["", "[1]", "{}", '{"kind": 1}', '{"kind": "a", "b": NaN}', "\0"])
def test_a_line_that_is_no_record_is_named(folder, line):
    with folder.metrics.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(
        ValueError, match=r"metrics.jsonl is altered: line 5 is no JSON object with"
    ):
        folder.records()


def test_open_reads_an_existing_run_and_refuses_others(folder, tmp_path):
    def refusal(path, kind=FileNotFoundError):
        with pytest.raises(kind) as error:
            run_folder.open(path)
        return str(error.value)

    wanted = "expected the folder of a run"
    message = f"{folder.path} has no checkpoint, {wanted}: repeat it with minise train --config "
    assert refusal(folder.path) == f"{message}{folder.path}"
    folder.previous.write_bytes(b"")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run_folder.open(folder.path).lines == 4
    assert run_folder.open(str(folder.path)).path == folder.path
    assert (
        refusal(tmp_path / "aa") == f"{tmp_path / 'aa'} does not exist, {wanted}: did you mean a?"
    )
    config = folder.path / "config.json"
    message = f"{config} is a file, {wanted}: pass {folder.path}"
    assert refusal(config, NotADirectoryError) == message
    message = f"{tmp_path} has no config.json, {wanted}: pass a run such as {folder.path}"
    assert refusal(tmp_path) == message
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_folder_made_by_another_process_meanwhile_gets_another_number(tmp_path, monkeypatch):
    (tmp_path / "run-1").mkdir()
    monkeypatch.setattr(Path, "exists", lambda path: path.name == "none")
    assert create(tmp_path, None, "run").path == tmp_path / "run-2"
    with pytest.raises(FileExistsError, match="run-1 exists already: choose another name"):
        create(tmp_path, "run-1", "run")


def test_what_cannot_be_created_leaves_nothing_and_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "none")
    with pytest.raises(
        OSError, match=r"link/run-1 cannot be written \(File exists\): choose another"
    ):
        create(tmp_path / "link", None, "run")

    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "touch", full)
    with pytest.raises(OSError, match=r"out/run-1 cannot be written \(No space left on device\)"):
        create(tmp_path / "out", None, "run")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_new_run_removes_temporary_files_of_dead_runs_beside_it(folder, tmp_path):
    temporary = folder.path / TEMPORARY.replace("*", "0")
    temporary.write_bytes(b"part")
    create(tmp_path, None, "run")
    assert not temporary.exists()


def test_a_relative_folder_stays_the_same_after_chdir(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    folder = create(Path("runs"), "a", "run")
    assert folder.path == Path("runs/a")
    monkeypatch.chdir(elsewhere)
    folder.log("step", step=1)
    assert folder.last == tmp_path / "runs" / "a" / "last.safetensors"
    assert len((tmp_path / "runs" / "a" / "metrics.jsonl").read_text().splitlines()) == 1
    if os.name == "posix":
        elsewhere.rmdir()
        assert folder.path == tmp_path / "runs" / "a"
