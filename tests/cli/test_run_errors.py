"""Failures of resume, verify, guard, summary and --save-every: one line, and nothing is changed.

Each entry of the table is a command, its exit status, a regular expression for the line on standard
error, and what is set up before. The folder s has a run that a signal stopped after step 1 of 2, a
the same run finished, and g the dump of a guarded run. The fix is part of each expression.
"""

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from minise.cli import main
from minise.train import checkpoint as checkpoints
from minise.train import owner
from minise.train.available import Available
from minise.train.config import to_dict
from minise.train.lock import LOCK
from tests.cli.commands import call
from tests.cli.setups import calls, denied, file, folder, oserror, removed, signals, truncated

TRAIN = (
    "train --data shapes10 --limit 8 --val 4 --batch-size 4 --model resnet8 --lr 0.01 --epochs 2"
)
LAST, PREVIOUS, DUMP = (f"{name}.safetensors" for name in ("s/last", "s/previous", "g/guard"))
STEP = "minise.train.loop.train_step"
ANYWAY = "would not be bit-identical; to continue .* use --anyway"
NEWER = r"-2', expected 'minise-\w+-1'.*: a newer version of minise wrote it, upgrade minise$"
LOCKED = r"^minise: s is being written by (the|this) process \d+ .*: "


def content(old, new, *names):
    """Return a setup that replaces bytes of files."""

    def prepare(patch):
        for path in map(Path, names):
            assert old in path.read_bytes()
            path.write_bytes(path.read_bytes().replace(old, new))

    return prepare


def settings(**changes):
    """Return a setup that changes the settings in the checkpoint of s."""

    def prepare(patch):
        saved = checkpoints.load(Path(LAST))
        checkpoints.save(Path(LAST), saved._replace(config={**to_dict(saved.config), **changes}))

    return prepare


def state(**changes):
    """Return a setup that changes the state in the checkpoint of s."""

    def prepare(patch):
        saved = checkpoints.load(Path(LAST))
        checkpoints.save(Path(LAST), saved._replace(state={**saved.state, **changes}))

    return prepare


def custom(patch):
    """Let the checkpoint of s be of a net of train.run."""
    saved = checkpoints.load(Path(LAST))
    checkpoints.save(Path(LAST), saved._replace(config={"net": "Chain()"}))


def held(patch):
    """Lock s by a process that is running, the parent of this one."""
    parent = dict(pid=os.getppid(), start=owner._start(os.getppid()))
    Path("s", LOCK).write_text(json.dumps(owner.this_process()._asdict() | parent))


def of_another_host(patch):
    """Lock s by a process of another host."""
    other = dict(host="node7", kernel="other")
    Path("s", LOCK).write_text(json.dumps(owner.this_process()._asdict() | other))


def available(count):
    """Return a setup: so many bytes of memory are available."""
    left = Available(count, "on this machine")
    return lambda patch: patch.setattr("minise.train.memory.available", lambda: left)


RESUME = [
    ("resume", 2, "resume: PATH is missing, expected the run folder: minise resume --help"),
    ("resume nowhere", 2, "nowhere does not exist, expected the folder of a run: pass a run such"),
    ("resume ss", 2, r"ss does not exist, expected the folder of a run: did you mean s\?"),
    ("resume s/config.json", 2, "config.json is a file, expected the folder of a run: pass s$"),
    ("resume .", 2, r"\. has no config.json, expected the folder of a run: pass a run such as s$"),
    ("resume s a", 2, "resume: 'a' is one value too many, .*: minise resume --help"),
    ("resume s --epochs 3", 2, "--epochs is unknown, .*: minise resume --help lists them"),
    ("resume s --anyways", 2, "--anyways is unknown, .*: did you mean --anyway"),
    ("resume s --save-every -1", 2, "save_every is -1.0, expected a number of seconds from 0 to"),
    ("resume s --threads 4000", 2, r"threads is 4000, expected at most \d+, the cores"),
    ("resume s --ops jitt", 2, r"ops 'jitt' is unknown, .*: did you mean jit\?"),
    ("resume s --root here", 2, "resume: root is here, but the data, shapes10, .*: pass a folder"),
    ("resume s --data gone", 2, "source is 'gone', expected one of .*, or a folder that has train"),
    ("resume s", 2, "s has no config.json, .*: copy the file again$", removed("s/config.json")),
    (
        "resume s",
        2,
        "s has no .*: repeat it with minise train --config s$",
        removed(LAST, PREVIOUS),
    ),
    (
        "resume s",
        2,
        "no checkpoint of s can be used: s/last.* is truncated .*; s/prev.* is truncated .*: copy",
        truncated(LAST, 9000),
        truncated(PREVIOUS, 0),
    ),
    ("resume s", 2, f"{LAST} is a folder, expected a file .*: pass", removed(LAST), folder(LAST)),
    (
        "resume s",
        2,
        f"{LAST} has format .*{NEWER}",
        content(b"checkpoint-1", b"checkpoint-2", LAST),
    ),
    ("resume s", 2, "state in .* has future, .*: resume with the version", state(future=1)),
    ("resume s", 2, "step is 'two', expected an integer: resume with", state(step="two")),
    (
        "resume s --anyway",
        2,
        "has step 9, in epoch 1, but an epoch has 1 steps now: use as many batches",
        state(step=9),
    ),
    ("resume s", 2, "does not fit the net: it lacks .*: build the net", settings(model="resnet20")),
    ("resume s", 2, "s is a run of train.run, .*: call train.run.*, resume='s'", custom),
    ("resume s", 2, "has lrr, which this version .*: did you mean lr", settings(lrr=1)),
    ("resume s", 2, "has moved, pass its folder with --data$", settings(data="/gone")),
    ("resume s", 2, "ops is .*gone.py, .*: pass its path with --ops$", settings(ops="gone.py")),
    (
        "resume s",
        2,
        "where an epoch has 1 steps, but an epoch has 2 steps now: use as many batches",
        settings(batch_size=2),
    ),
    (
        "resume s",
        2,
        f"training data: .* seed=0 when saved, seed=1 now; .*{ANYWAY}",
        settings(seed=1),
    ),
    ("resume s", 2, rf"{LAST} cannot .*\(Permission .*: check", denied("builtins.open", LAST)),
    ("resume s", 2, rf"s/{LOCK} cannot .*\(Permission .*: check", denied("os.open", LOCK)),
    ("resume s", 2, f"{LOCKED}wait for its end, or stop it$", held),
    ("resume s", 2, f"node7 .* cannot check: if .* ended, remove s/{LOCK}$", of_another_host),
    ("resume s", 1, "needs .* MB, but 1.0 MB are available on this .*: use a", available(10**6)),
    (
        "resume s",
        1,
        r"metrics.jsonl cannot .*\(No space .*: free .*; to continue: minise resume s$",
        calls("os.fsync", oserror(errno.ENOSPC)),
    ),
    (
        "resume s",
        130,
        "before the first step; the run is unchanged$",
        signals("minise.models.build"),
    ),
]

OTHERS = [
    (f"{TRAIN} --save-every -1", 2, "save_every is -1.0, expected a number of seconds from 0 to"),
    (f"{TRAIN} --save-every soon", 2, "--save-every is 'soon', expected a number: minise train -"),
    (f"{TRAIN} --save-evry 9", 2, "--save-evry is unknown, .*: did you mean --save-every"),
    (
        TRAIN,
        1,
        "needs .* MB, but 5.0 MB are available .*: use .*--batch-size",
        available(5 * 10**6),
    ),
    (TRAIN, 1, "a batch of 1 does not fit either: use a smaller net", available(10**6)),
    ("summary resnet8 --batch-size 0", 2, "batch_size is 0, expected at least 1"),
    ("summary resnet8 --batch-size few", 2, "--batch-size is 'few', expected an integer: minise"),
    ("summary resnet8 --batch-size 2 --ops jitt", 2, "ops is 'jitt', .*: did you mean jit"),
    ("summary resnet8 --batch-size 2 --ops my.py", 2, "other back ends cannot be predicted$"),
    ("summary resnet8 --ops jit", 2, "batch_size is not set, .*: pass --batch-size, for example"),
    ("guard", 2, "guard: PATH is missing, expected the dump .*: minise guard --help"),
    ("guard nowhere", 2, "nowhere does not exist, expected a dump .*: pass a folder such as"),
    ("guard a", 2, "a/guard.safetensors does not exist, expected the dump .*: pass the folder of"),
    (
        f"guard {LAST}",
        2,
        "expected 'minise-guard-1': it is a checkpoint, which `minise eval` reads",
    ),
    ("guard g", 2, "guard.* is truncated .*: copy it again, or train with", truncated(DUMP, 9000)),
    ("guard g", 2, "guard.* is truncated .*: copy it again, or train with", truncated(DUMP, 0)),
    ("guard g", 2, "nonfinite.* fails .*: copy it again, or train", content(b"fc", b"fd", DUMP)),
    ("guard g", 2, f"{DUMP} has format .*{NEWER}", content(b"guard-1", b"guard-2", DUMP)),
    ("guard g", 2, rf"{DUMP} cannot .*\(Permission .*: check", denied("builtins.open", DUMP)),
    ("guard g --ops jitt", 2, r"ops 'jitt' is unknown, .*: did you mean jit\?"),
    ("guard g --opt jit", 2, r"--opt is unknown, .*: did you mean --ops\?"),
    (f"verify {DUMP}", 2, "'minise-guard-1', expected .*: it is a dump, which `minise guard`"),
    ("verify s/metrics.jsonl", 2, "is a file, expected the folder of a run or a file .*: pass s$"),
    ("verify s --jason", 2, "--jason is unknown, .*: did you mean --json"),
    (
        "verify s",
        1,
        f"{LAST} is truncated .*: copy it again, or use {PREVIOUS}$",
        truncated(LAST, 9),
    ),
    ("verify s", 1, rf"{LAST} cannot .*\(Perm.*: check the file", denied("builtins.open", LAST)),
    ("verify s", 2, f"{LAST} has format .*{NEWER}", content(b"point-1", b"point-2", LAST)),
    ("verify s", 1, "line 1 is no JSON .*: copy it again$", file("s/metrics.jsonl", "text\n")),
    ("verify s", 1, "has 0 lines, expected at least 3: copy it again$", state(lines=3)),
    ("verify s", 1, "s/config.json does not exist, .*: copy it again$", removed("s/config.json")),
    (
        "verify s",
        1,
        "is not a run's config.json: .*: copy it again$",
        file("s/config.json", "text"),
    ),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a folder with the runs s, a and g, which no test changes."""
    out = tmp_path_factory.mktemp("runs")
    for name, guard, setup, status in (
        ("s", "", signals(STEP), 130),
        ("g", "--guard", calls(STEP, spoil), 1),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("minise.train.setup.SHAPES10_TEST", 20)
            setup(patch)
            assert main(f"{TRAIN} --out {out} --name {name} {guard}".split()) == status
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minise.train.setup.SHAPES10_TEST", 20)
        shutil.copytree(out / "s", out / "a")
        assert main(["resume", str(out / "a")]) == 0
    return out


def spoil(net, *others):
    """Write NaN into the last layer of a net."""
    net.named_parameters()["fc.weight"][0] = float("nan")


@pytest.fixture(autouse=True)
def _in_a_folder_with_the_runs(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 20)
    for name in "sag":
        shutil.copytree(runs / name, name)


def files():
    """Return all paths below the working folder, with the content of files."""
    return {
        str(Path(path, name)): Path(path, name).read_bytes()
        for path, _, names in os.walk(".")
        for name in names
    }


@pytest.mark.parametrize(
    ("line", "status", "words", "prepare"),
    [(line, status, words, setups) for line, status, words, *setups in [*RESUME, *OTHERS]],
)
def test_a_failure_is_one_line_and_changes_nothing(line, status, words, prepare, capsys):
    with pytest.MonkeyPatch.context() as patch:
        for setup in prepare:
            setup(patch)
        before = files()
        actual, _, err = call(line, capsys)
    assert re.fullmatch("minise: .*\n", err)  # one line
    assert re.search(words, err.rstrip("\n"))
    assert actual == status
    assert files() == before


def test_a_finished_run_says_so_and_is_unchanged(capsys):
    before = files()
    status, out, err = call("resume a", capsys)
    assert (status, err) == (0, "")
    assert re.fullmatch(r"a is finished: test loss \d\.\d{4}, accuracy \d\.\d{4}\n", out)
    assert files() == before
