"""Commands whose standard output is a pipe without a reader, or is closed at the start."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import minise
from minise.cli import CLOSED_PIPE
from minise.cli.verbs import VERBS
from tests.cli.commands import call

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and closed streams of POSIX")

TRAIN = "train --data shapes10 --limit 64 --val 32 --epochs 1 --model se_resnet8 --batch-size 32"
COMMANDS = {
    "quickstart": "quickstart --help",
    "train": TRAIN,
    "predict": "predict runs/a photo.png",
    "check": "check --op relu --cases 5",
    "walk": "walk se",
    "summary": "summary se_resnet8",
    "data": "data shapes10",
    "eval": "eval runs/a",
    "resume": "resume runs/a",
    "verify": "verify runs/a",
    "profile": "profile --net se_resnet8 --batch 8 --ops reference",
    "bench": "bench --help",
    "guard": "guard --help",
    "site": "site --help",
    "doctor": "doctor",
}
QUICK = ["", "--version", "train --help", "summary all"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the run folder runs/a and photo.png."""
    folder = tmp_path_factory.mktemp("streams")
    Image.new("RGB", (32, 32)).save(folder / "photo.png")
    before = Path.cwd()
    os.chdir(folder)
    try:
        minise.cli.main(f"{TRAIN} --name a".split())
    finally:
        os.chdir(before)
    return folder


def run(command, folder, streams):
    """Return exit status and standard error of a command; streams are redirections of bash."""
    source = str(Path(minise.__file__).parents[1])
    done = subprocess.run(
        [shutil.which("bash"), "-c", f"exec {sys.executable} -m minise {command} {streams}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": source},
        stdin=subprocess.DEVNULL,
        stdout=(pipe := broken_pipe()),
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
    )
    os.close(pipe)
    return done.returncode, done.stderr


def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("command", QUICK)
def test_a_closed_pipe_ends_a_command_silently(command, tmp_path):
    assert run(command, tmp_path, "") == (CLOSED_PIPE, "")


@pytest.mark.parametrize(
    ("streams", "status"),
    [
        (">&-", 0),
        (">&- 2>&-", 0),
        ("<&- >&- 2>&-", 0),
        ("2>&-", CLOSED_PIPE),
        ("2>&1", CLOSED_PIPE),
    ],
)
def test_closed_streams(streams, status, tmp_path):
    assert run("--version", tmp_path, streams) == (status, "")


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(
            verb, marks=pytest.mark.slow if verb in ("data", "train", "walk") else pytest.mark.long
        )
        for verb in VERBS
    ],
)
def test_every_verb_without_a_reader_and_without_output(verb, folder):
    assert run(COMMANDS[verb], folder, "") == (CLOSED_PIPE, "")
    assert run(COMMANDS[verb], folder, ">&-") == (0, "")


def test_misuse_and_failures_keep_their_status(tmp_path, capsys):
    status, err = run("walk nosuch", tmp_path, "")
    assert status == 2
    assert err.startswith("minise: ")
    assert err.count("\n") == 1
    assert run("walk nosuch", tmp_path, "2>&-") == (2, "")
    assert call("walk nosuch", capsys)[0] == 2
