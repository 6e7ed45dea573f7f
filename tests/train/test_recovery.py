"""The newest intact checkpoint of a run, whatever is damaged."""

import numpy as np
import pytest

from minise.files import CHECKPOINT, Damaged, write
from minise.train.checkpoint import Checkpoint
from minise.train.recovery import newest
from minise.train.run_folder import create

STEPS = {"last": 3, "previous": 2, "best": 1}


@pytest.fixture
def folder(tmp_path):
    """Return a run folder whose checkpoints have a weight that is the step."""
    folder = create(tmp_path, "a", "run")
    for name, step in STEPS.items():
        save(folder, name, step)
    return folder


def save(folder, name, step, **texts):
    arrays = {"fc.weight": np.full(4, step, np.float32), "fc.bias": np.zeros(2, np.float32)}
    texts = {"config": {}, "progress": {"step": step}, "data": {}, "state": {"step": step}, **texts}
    write(getattr(folder, name), CHECKPOINT, arrays, texts)


def damage(folder, *names, position=-1, mask=0x10):
    for name in names:
        path = getattr(folder, name)
        content = bytearray(path.read_bytes())
        content[position] ^= mask
        path.write_bytes(content)


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.path.iterdir()}


def test_intact_is_last(folder):
    saved = newest(folder)
    assert isinstance(saved.checkpoint, Checkpoint)
    assert (saved.path, saved.warnings) == (folder.last, [])
    assert saved.checkpoint.arrays["fc.weight"][0] == 3


@pytest.mark.parametrize("alter", [damage, lambda folder, name: getattr(folder, name).unlink()])
def test_previous_is_used_with_a_warning_that_names_the_array(folder, alter):
    alter(folder, "last")
    before = content_of(folder)
    checkpoint, path, warnings = newest(folder)
    assert (path, checkpoint.arrays["fc.weight"][0]) == (folder.previous, 2)
    problem = "is altered: fc.weight fails its checksum" if alter is damage else "does not exist"
    assert warnings == [f"{folder.last} {problem}; {folder.previous}, of step 2, is used"]
    assert content_of(folder) == before


def test_best_is_the_third_choice_and_needs_a_state(folder):
    damage(folder, "last", "previous")
    checkpoint, path, warnings = newest(folder)
    assert (path, checkpoint.arrays["fc.weight"][0]) == (folder.best, 1)
    assert warnings == [
        f"{folder.last} is altered: fc.weight fails its checksum",
        f"{folder.previous} is altered: fc.weight fails its checksum; {folder.best}, of step 1, "
        "is used",
    ]
    save(folder, "best", 1, state={})
    with pytest.raises(Damaged, match="best.safetensors has no state from which the run could"):
        newest(folder)


def test_none_is_one_line_and_changes_nothing(folder):
    damage(folder, *STEPS)
    before = content_of(folder)
    with pytest.raises(Damaged) as error:
        newest(folder)
    problems = "; ".join(
        f"{getattr(folder, name)} is altered: fc.weight fails its checksum" for name in STEPS
    )
    assert str(error.value) == (
        f"no checkpoint of {folder.path} can be used: {problems}: copy it again, or start a new "
        f"run with --config {folder.path}"
    )
    assert content_of(folder) == before
    for name in STEPS:
        getattr(folder, name).unlink()
    with pytest.raises(FileNotFoundError, match=r"can be used: .*last.safetensors does not exist:"):
        newest(folder)


def test_a_newer_version_is_not_passed_over(folder):
    content = folder.last.read_bytes()
    folder.last.write_bytes(content.replace(b"minise-checkpoint-1", b"minise-checkpoint-2"))
    with pytest.raises(ValueError, match="upgrade minise$") as error:
        newest(folder)
    assert not isinstance(error.value, Damaged)


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.long)])
def test_every_flipped_byte_falls_back(folder, step):
    content = folder.last.read_bytes()
    for position in range(0, len(content), step):
        folder.last.write_bytes(content)
        damage(folder, "last", position=position, mask=0xFF)
        assert newest(folder).path == folder.previous
    for length in range(0, len(content), step):
        folder.last.write_bytes(content[:length])
        assert newest(folder).path == folder.previous


def test_the_error_of_a_damaged_file_names_the_other_checkpoints(folder):
    from minise import models

    damage(folder, "best")
    with pytest.raises(
        ValueError, match=r"altered: .*, or pass \S*last.safetensors or \S*previous"
    ):
        models.load(folder.path)
