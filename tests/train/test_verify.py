"""Verify a run: what is damaged, temporary files after a kill, and the hash of its arrays."""

import hashlib
import json
import os
import re
import threading

import numpy as np
import pytest

from minise.atomic import TEMPORARY
from minise.files import CHECKPOINT, NET, write
from minise.train.lock import LOCK, locked
from minise.train.run_folder import create
from minise.train.verify import digest, verify
from tests.cli.commands import call
from tests.train.test_lock import owner_of

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "optimiser/velocity/a.weight": np.ones((2, 3), np.float32),
    "dropout.draws": np.array(3),
}


@pytest.fixture
def folder(tmp_path):
    folder = create(tmp_path, "a", "run")
    folder.write_config({"model": "se_resnet8"})
    folder.log("step", step=1, loss=2.0)
    folder.log("step", step=2, loss=float("nan"))
    folder.log("epoch", step=2, epoch=1)
    folder.log("resume", step=2)
    folder.log("resume", step=2)
    folder.log("step", step=3)
    folder.log("test", loss=1.0)
    for step, path in enumerate((folder.best, folder.previous, folder.last), 1):
        save(path, step=step)
    return folder


def save(path, arrays=ARRAYS, step=3, lines=7):
    texts = {"config": {}, "progress": {"step": step, "epoch": 1}, "state": {"lines": lines}}
    write(path, CHECKPOINT, arrays, texts)


def content_of(folder):
    return {path.name: (path.read_bytes(), path.stat()[:-3]) for path in folder.path.iterdir()}


def test_a_run_that_is_well(folder):
    before = content_of(folder)
    report = verify(folder.path)
    assert (report.problems, report.remarks) == ([], [])
    assert (report.lines, report.lock, report.path) == (7, "free", str(folder.path))
    names = [(os.path.basename(file.path), file.step, file.epoch) for file in report.files]
    assert names == [
        ("last.safetensors", 3, 1),
        ("previous.safetensors", 2, 1),
        ("best.safetensors", 1, 1),
    ]
    assert {file.sha256 for file in report.files} == {digest(ARRAYS)}
    assert content_of(folder) == before


def test_the_digest_is_that_of_its_definition():
    weight = np.array([[1, 2]], np.float32)
    text = b'["b", "int64", []]\n' + (3).to_bytes(8, "little")
    text += b'["fc", "float32", [1, 2]]\n' + weight.tobytes()
    expected = hashlib.sha256(text).hexdigest()
    assert digest({"fc": weight, "b": np.array(3)}) == expected
    assert digest({"b": np.array(3, ">i8"), "fc": np.asfortranarray(weight)}) == expected
    others = [
        {"fc": weight, "b": np.array([3])},
        {"fc": weight.T, "b": np.array(3)},
        {"fd": weight, "b": np.array(3)},
        {"fc": weight.view(np.int32), "b": np.array(3)},
        {"fc": -weight, "b": np.array(3)},
        {"fc": weight},
    ]
    assert len({digest(arrays) for arrays in others} | {expected}) == 7


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # of the last array
    path.write_bytes(content)


def edit(name, old, new):
    def change(folder):
        path = folder.path / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def append(text):
    return lambda folder: folder.metrics.write_text(folder.metrics.read_text() + text)


NAN = {**ARRAYS, "a.weight": np.array([1, np.nan])}
DAMAGE = [
    (
        lambda f: flip(f.last),
        "last.safetensors is altered: optimiser/velocity/a.weight fails its checksum",
    ),
    (
        lambda f: flip(f.previous),
        "previous.safetensors is altered: optimiser/velocity/a.weight fails its checksum",
    ),
    (lambda f: f.best.write_bytes(b""), "best.safetensors is truncated or not a safetensors"),
    (lambda f: save(f.last, NAN), "last.safetensors is not finite: a.weight"),
    (lambda f: save(f.last, lines=8), "metrics.jsonl has 7 lines, expected at least 8"),
    (lambda f: f.metrics.unlink(), r"metrics.jsonl cannot be read \(No such file or directory\)"),
    (lambda f: (f.path / "config.json").unlink(), "config.json does not exist, expected"),
    (edit("config.json", "{", "["), "config.json is not a run's config.json"),
    (edit("config.json", "se_resnet8", "\x00"), "config.json is not a run's config.json"),
    (edit("config.json", '"minise": "', '"minise": "9'), "config.json: .*upgrade minise"),
    (edit("metrics.jsonl", "null", "NaN"), "line 2 is no JSON object"),
    (edit("metrics.jsonl", "{", "("), "line 1 is no JSON object with a kind"),
    (edit("metrics.jsonl", '"step": 2', '"step": 1'), "line 2 .step. has step 1, expected more"),
    (edit("metrics.jsonl", '"step": 2', '"step": "2"'), "line 2 has step '2', expected an integer"),
    (append('{"kind": "epoch", "step": 2}\n'), r"line 8 \(epoch\) has step 2, .* line 3: 2"),
    (append('{"kind": "resume", "step": 1}\n'), r"line 8 \(resume\) has step 1, .* line 5: 2"),
    (append('{"kind": "test"}\n'), "line 8 is of the kind test, as line 7"),
    (append("\n" * 9), "^6 more problems$"),
]


@pytest.mark.parametrize(("change", "problem"), DAMAGE)
def test_damage_is_named(folder, change, problem):
    change(folder)
    before = content_of(folder)
    report = verify(folder.path)
    assert re.search(problem, report.problems[-1])
    assert len(report.problems) == (4 if "more problems" in problem else 1)
    assert content_of(folder) == before


def temporary_file(folder):
    (folder.path / TEMPORARY.replace("*", "0")).write_bytes(b"part")


LEFT = [
    (lambda f: f.last.unlink(), "last.safetensors does not exist$"),
    (temporary_file, r"\.minise-0\.tmp is a temporary file of a killed run$"),
    (append('{"kind": "st'), "metrics.jsonl ends within a line, as after a kill$"),
]


@pytest.mark.parametrize(("change", "remark"), LEFT)
def test_what_a_kill_leaves_is_no_damage(folder, change, remark):
    change(folder)
    report = verify(folder.path)
    assert report.problems == []
    assert re.search(remark, report.remarks[0])


def test_a_run_that_was_killed_before_its_first_checkpoint(tmp_path):
    folder = create(tmp_path, "a", "run")
    report = verify(folder.path)
    assert (report.problems, report.files, report.lines) == ([], [], 0)
    assert [text.partition(" ")[2][:14] for text in report.remarks] == ["does not exist"] * 2


def test_the_lock_is_shown(folder):
    owner_of(folder.path, start="1")
    assert verify(folder.path).lock.startswith(f"stale, of process {os.getpid()} of ")
    (folder.path / LOCK).unlink()
    with locked(folder):
        assert verify(folder.path).lock.startswith(f"held by process {os.getpid()} of ")


def test_a_custom_net_is_no_damage(folder):
    edit("config.json", '"model"', '"net"')(folder)
    assert verify(folder.path).problems == []


def test_one_file_of_a_checkpoint_or_net(folder, tmp_path):
    report = verify(folder.best)
    assert (report.files[0].sha256, report.problems, report.lock) == (digest(ARRAYS), [], "")
    write(tmp_path / "net.safetensors", NET, ARRAYS, {})
    assert verify(tmp_path / "net.safetensors").files[0].sha256 == digest(ARRAYS)
    flip(folder.best)
    assert "optimiser/velocity/a.weight fails" in verify(folder.best).problems[0]


@pytest.mark.parametrize("format", ["minise-checkpoint-2", "minise-other-1"])
def test_a_file_of_a_newer_version_or_another_format_is_misuse(folder, format):
    write(folder.best, format, {}, {})
    for path in (folder.path, folder.best):
        with pytest.raises(
            ValueError, match="upgrade minise" if "2" in format else "did not write"
        ):
            verify(path)


def test_what_is_no_run_is_refused(folder, tmp_path):
    wanted = r"expected the folder of a run or a file \(.safetensors\)"
    for path, message in (
        (tmp_path / "aa", f"/aa does not exist, {wanted}: did you mean a"),
        (tmp_path, f"has no file of a run, {wanted}: pass a run such as .*/a$"),
        (folder.metrics, f"metrics.jsonl is a file, {wanted}: pass .*/a$"),
    ):
        with pytest.raises(OSError, match=message):
            verify(path)


@pytest.mark.parametrize("seconds", [0.5, pytest.param(10, marks=pytest.mark.long)])
def test_a_run_that_writes_meanwhile_is_well(folder, seconds):
    arrays = {"a": np.zeros(100_000, np.float32)}
    end, counts, step = threading.Event(), [], 3

    def check():
        while not end.is_set():
            report = verify(folder.path)
            assert report.problems == []
            counts.append(len(report.files))

    with locked(folder):
        thread = threading.Thread(target=check)
        thread.start()
        timer = threading.Timer(seconds, end.set)
        timer.start()
        while not end.is_set():
            step += 1
            folder.log("step", step=step)
            texts = {"config": {}, "progress": {}, "state": {"lines": folder.lines}}
            write(folder.last, CHECKPOINT, arrays, texts, folder.previous)
        thread.join()
    assert set(counts) == {3}


def test_a_folder_without_write_permission_is_read(folder, monkeypatch):
    (folder.path / LOCK).write_text("{}")

    def read_only(path, flags, *arguments, _open=os.open, **settings):  # root may write
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return _open(path, flags, *arguments, **settings)

    monkeypatch.setattr(os, "open", read_only)
    paths = [*folder.path.iterdir(), folder.path]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert verify(folder.path).lock == "stale"
        assert verify(folder.path).problems == []
    finally:
        for path in paths:
            path.chmod(0o755)


def test_the_verb_prints_reports_and_exits_by_damage(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.path.parent)
    sha = digest(ARRAYS)
    assert call("verify a", capsys) == (
        0,
        "a: ok\n"
        f"  last.safetensors: ok, after step 3, epochs finished: 1\n    SHA-256 {sha}\n"
        f"  previous.safetensors: ok, after step 2, epochs finished: 1\n    SHA-256 {sha}\n"
        f"  best.safetensors: ok, after step 1, epochs finished: 1\n    SHA-256 {sha}\n"
        "  metrics.jsonl: 7 lines; lock: free\n",
        "",
    )
    status, out, err = call("verify a a/best.safetensors --json", capsys)
    reports = json.loads(out)
    assert (status, err, len(reports)) == (0, "", 2)
    assert reports[0]["files"][1] == dict(
        path="a/previous.safetensors", problem="", step=2, epoch=1, sha256=sha
    )
    flip(folder.last)
    temporary_file(folder)
    status, out, err = call("verify a/best.safetensors a", capsys)
    problem = "a/last.safetensors is altered: optimiser/velocity/a.weight fails its checksum"
    remedy = "copy it again, or use a/previous.safetensors or a/best.safetensors"
    assert (status, err) == (1, f"minise: verify: 1 of 2 are damaged: {problem}: {remedy}\n")
    assert "a: damaged\n  last.safetensors: damaged\n  previous.safetensors: ok" in out
    assert f"  damaged: {problem}\n  remark: a/.minise-0.tmp is a temporary" in out
    status, out, err = call("verify a nix", capsys)
    assert (status, out) == (2, "")
    assert err.startswith("minise: nix does not exist, expected the folder of a run or a file")
    assert call("verify", capsys)[0] == 2


def test_a_best_checkpoint_of_a_later_epoch_is_no_damage(folder):
    """After a resume from an earlier checkpoint, whose lines the log is cut back to."""
    save(folder.best, step=9, lines=99)
    assert verify(folder.path).problems == []
    save(folder.last, step=3, lines=8)
    assert verify(folder.path).problems == [
        f"{folder.metrics} has 7 lines, expected at least 8",
    ]
