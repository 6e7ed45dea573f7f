"""A damaged last checkpoint is named, the previous one is used; the run ends bit-identically."""

import os
import re
from unittest import mock

import pytest

from minise import files
from minise.files import Damaged
from minise.train import loop
from minise.train.verify import verify
from tests.torture.own_run import EPOCHS, own_run
from tests.torture.runs import FILES, names_in, outcome
from tests.torture.test_resume import ANOTHER_SEED, interrupted_at

STEP = 13
REGIONS = 12  # of a file in which one byte is flipped; long: every 16 bytes
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return the folder of a run that was stopped in the middle, with two checkpoints."""
    out = tmp_path_factory.mktemp("stopped")
    interrupted_at(STEP, out, save_every=0.0)
    return out / "run"


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return outcome(own_run(tmp_path_factory.mktemp("alone")).folder)


def copied(stopped, folder, **damages):
    """Copy a run; apply damages, functions from bytes to bytes or None, to its checkpoints."""
    run = folder / "run"
    run.mkdir(parents=True)
    for name, content in names_in(stopped).items():
        damage = damages.get(name.partition(".")[0], lambda content: content)
        damaged = damage(content)
        if damaged is not None:
            (run / name).write_bytes(damaged)
    return run


def flipped(position):
    """Return a damage: one bit of the byte at a position, or from the end, is another one."""

    def damage(content):
        content = bytearray(content)
        content[position] ^= 1 << position % 8
        return bytes(content)

    return damage


def resumed(run):
    return own_run(run.parent, seed=ANOTHER_SEED, resume=run)


DAMAGES = {
    "truncated by a byte": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "header only": lambda content: content[: 8 + int.from_bytes(content[:8], "little")],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "ends in zeros": lambda content: content[:-512] + bytes(512),
    "longer": lambda content: content + b"\0",
    "text": lambda content: b"not a checkpoint\n" * 99,
    "missing": lambda content: None,
}


@slow
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_last_checkpoint(stopped, expected, tmp_path, name):
    run = copied(stopped, tmp_path, last=DAMAGES[name])
    resumed(run)
    assert outcome(run) == expected
    assert names_in(run).keys() == FILES


def check_every(stopped, expected, tmp_path, positions):
    """Flip a bit at each position of the last checkpoint, and resume."""
    content = (stopped / "last.safetensors").read_bytes()
    for position in positions:
        run = copied(stopped, tmp_path / str(position), last=flipped(position))
        report = verify(run)
        resumed(run)
        try:
            assert outcome(run) == expected
            is_noticed = any("last.safetensors" in problem for problem in report.problems)
            # a bit of the header may change a space to a tab, or the like
            assert is_noticed or position < 8 + int.from_bytes(content[:8], "little")
        except BaseException as failure:
            failure.add_note(f"byte {position} of {len(content)}: {report.problems}")
            raise


@slow
def test_flipped_bits(stopped, expected, tmp_path):
    size = (stopped / "last.safetensors").stat().st_size
    check_every(stopped, expected, tmp_path, range(0, size, size // REGIONS + 1))


@pytest.mark.long
@pytest.mark.parametrize("start", range(4))
def test_flipped_bits_everywhere(stopped, expected, tmp_path, start):
    size = (stopped / "last.safetensors").stat().st_size
    check_every(stopped, expected, tmp_path, range(16 * start, size, 64))


@slow
def test_two_damaged_checkpoints(stopped, expected, tmp_path):
    """The best one has a state of its own; without it nothing is changed."""
    damage = flipped(-1)
    run = copied(stopped, tmp_path / "a", last=damage, previous=damage)
    resumed(run)
    assert outcome(run) == expected
    run = copied(stopped, tmp_path / "b", last=damage, previous=damage, best=damage)
    before = names_in(run)
    with pytest.raises(Damaged) as raised:
        resumed(run)
    assert re.fullmatch(r"[^\n]*last.safetensors[^\n]*checksum[^\n]*", str(raised.value))
    assert names_in(run) == before


@slow
def test_a_damaged_best_checkpoint(stopped, expected, tmp_path):
    """Another epoch may be the best of those that remain, but the last checkpoint is the same."""
    run = copied(stopped, tmp_path, best=flipped(-1))
    resumed(run)
    assert outcome(run)["last.safetensors"] == expected["last.safetensors"]
    assert verify(run).problems == []
    os.remove(run / "best.safetensors")
    assert verify(run).problems == []


@slow
@pytest.mark.parametrize("damage", [flipped(-1), lambda content: None])
def test_a_damaged_best_checkpoint_after_the_last_epoch(tmp_path, damage):
    """No epoch follows that could be the best: the run ends, or one line says which file it is."""
    calls = [0]

    def evaluate(*arguments):
        calls[0] += 1
        if calls[0] > EPOCHS:
            raise KeyError("in the test")
        return real(*arguments)

    real = loop.evaluate
    with mock.patch.object(loop, "evaluate", evaluate), pytest.raises(KeyError):
        own_run(tmp_path / "a")
    run = copied(tmp_path / "a" / "run", tmp_path / "b", best=damage)
    text = ""
    try:
        resumed(run)
    except (OSError, ValueError, FloatingPointError) as error:
        text = str(error)
    assert re.fullmatch(r"([^\n]*best.safetensors[^\n]*)?", text)
    assert "finite" not in text


@slow
def test_a_checkpoint_of_a_newer_version(stopped, tmp_path):
    """It is intact: continuing from the previous one would lose steps without need."""
    run = copied(stopped, tmp_path)
    last = files.read(run / "last.safetensors", files.CHECKPOINT)
    newer = files.CHECKPOINT.replace("1", "2")
    files.write(run / "last.safetensors", newer, last.arrays, last.texts)
    before = names_in(run)
    with pytest.raises(ValueError, match="upgrade minise"):
        resumed(run)
    assert names_in(run) == before
