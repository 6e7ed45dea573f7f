"""Files of arrays: damage, versions, and the copy of the format."""

import json

import numpy as np
import pytest

from minise import files
from minise.files import CHECKPOINT, Damaged, read, write

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2)}


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.safetensors"
    write(path, CHECKPOINT, ARRAYS, {"config": {"lr": 0.1}, "progress": {"step": 3}})
    return path.read_bytes()


def check_damage(path, altered):
    """Check that altered content is Damaged, or has the same meaning: a space became a tab."""
    path.write_bytes(altered)
    try:
        file = read(path, CHECKPOINT)
    except Damaged:
        return
    assert file.texts == {"config": {"lr": 0.1}, "progress": {"step": 3}}
    assert file.arrays.keys() == ARRAYS.keys()
    assert all(np.array_equal(array, ARRAYS[name]) for name, array in file.arrays.items())


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.long)])
def test_every_flipped_byte_and_bit_is_damage(content, tmp_path, step):
    for position in range(0, len(content), step):
        for mask in (*(1 << bit for bit in range(8)), 0xFF) if step == 1 else (1, 0xFF):
            altered = bytearray(content)
            altered[position] ^= mask
            check_damage(tmp_path / "last.safetensors", bytes(altered))


def test_truncated_empty_zero_filled_and_longer_files_are_damaged(content, tmp_path):
    path = tmp_path / "last.safetensors"
    for altered in (*(content[:n] for n in range(len(content))), bytes(len(content)), content * 2):
        path.write_bytes(altered)
        with pytest.raises(Damaged, match="is truncated or not a safetensors file"):
            read(path, CHECKPOINT)
    tensor = bytearray(content)
    tensor[-1] ^= 1
    path.write_bytes(tensor)
    with pytest.raises(Damaged, match="is altered: [ab] fails its checksum"):
        read(path, CHECKPOINT)


def test_a_newer_format_is_not_damage_but_an_altered_one_is(tmp_path):
    path = tmp_path / "last.safetensors"
    write(path, "minise-checkpoint-2", ARRAYS, {})
    with pytest.raises(
        ValueError, match="a newer version of minise wrote it, upgrade minise$"
    ) as e:
        read(path, CHECKPOINT)
    assert not isinstance(e.value, Damaged)
    for old, new in ((b"checkpoint-2", b"checkpoint-3"), (b'"format"', b'"fprmat"')):
        altered = path.read_bytes().replace(old, new, 1)
        path.with_name("altered").write_bytes(altered)
        with pytest.raises(Damaged, match="is altered: its format is"):
            read(path.with_name("altered"), CHECKPOINT)


def test_the_copy_of_the_format_is_no_text_and_may_be_missing(content, tmp_path):
    from safetensors.numpy import load, save

    path = tmp_path / "last.safetensors"
    path.write_bytes(content)
    assert read(path, CHECKPOINT).texts.keys() == {"config", "progress"}
    header = {"format": CHECKPOINT, "config": json.dumps({"lr": 0.1})}
    header["crc32"] = json.dumps(files._checksums(header, ARRAYS))
    path.write_bytes(save(load(content), header))  # as written by an earlier version
    assert read(path, CHECKPOINT).texts == {"config": {"lr": 0.1}}
