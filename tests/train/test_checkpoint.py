"""Checkpoints: round trips, damaged files, messages, and failed writes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minise import models
from minise.nn import SE
from minise.train import SGD, TrainConfig, checkpoint
from minise.train.checkpoint import Checkpoint, arrays_of, restore, write_whole


def net(seed=0, name="se_resnet8"):
    return models.build(name, rng=np.random.default_rng(seed))


def of(layer):
    velocity = {k: v + 1 for k, v in SGD(layer).state().items()}
    config = TrainConfig(se=SE(reduction=4), lr=0.3)
    data = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2], "classes": ["a", "b"]}
    return Checkpoint(arrays_of(layer), velocity, config, {"epoch": 3, "step": 7}, data)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.safetensors"
    checkpoint.save(path, of(net()))
    return path


def assert_same(saved, expected):
    for part in ("config", "progress", "data"):
        assert getattr(saved, part) == getattr(expected, part)
    for part in ("arrays", "velocity"):
        actual, wanted = getattr(saved, part), getattr(expected, part)
        assert actual.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_array_equal(actual[name], array)
            assert actual[name].dtype == array.dtype


def test_round_trip(file):
    saved = checkpoint.load(file)
    assert_same(saved, of(net()))
    other = net(seed=1)
    identities = other.named_parameters()
    restore(other, saved.arrays)
    for name, array in net().named_parameters().items():
        np.testing.assert_array_equal(other.named_parameters()[name], array)
        assert other.named_parameters()[name] is identities[name]


def test_pytorch_style_names(file):
    from safetensors import safe_open

    with safe_open(file, "np") as opened:
        names = set(opened.keys())
    assert {"layer1.0.se.fc.0.weight", "bn1.running_mean", "optimiser/velocity/fc.bias"} <= names


@pytest.mark.parametrize("part", ["header", "arrays"])
@settings(max_examples=60)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(file, tmp_path_factory, part, position, bit):
    content = bytearray(file.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    start, end = (0, header) if part == "header" else (header, len(content))
    content[start + int(position * (end - start))] ^= 1 << bit
    altered = tmp_path_factory.mktemp("altered") / "last.safetensors"
    altered.write_bytes(content)
    try:
        saved = checkpoint.load(altered)
    except ValueError:
        return
    assert part == "header"  # for example, a space became a tab
    assert_same(saved, of(net()))


@settings(max_examples=30)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_noticed(file, tmp_path_factory, share):
    content = file.read_bytes()
    part = tmp_path_factory.mktemp("part") / "last.safetensors"
    part.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="truncated or not a safetensors file"):
        checkpoint.load(part)


def test_messages(file, tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(FileNotFoundError, match="does not exist, expected a checkpoint"):
        checkpoint.load(tmp_path / "none.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": np.ones(3)}, foreign)
    with pytest.raises(ValueError, match="has format None, expected 'minise-checkpoint-1'"):
        checkpoint.load(foreign)
    arrays = checkpoint.load(file).arrays
    with pytest.raises(ValueError, match=r"the net has no layer1.0.se.fc.0.bias, .* and 9 more"):
        restore(net(name="resnet8"), arrays)
    with pytest.raises(ValueError, match=r"lacks layer1.1.bn1.bias"):
        restore(net(name="se_resnet20"), arrays)
    five = models.build("se_resnet8", num_classes=5)
    before = arrays_of(five)
    with pytest.raises(ValueError, match=r"fc.weight has shape \(10, 64\), expected \(5, 64\)"):
        restore(five, arrays)
    for name, array in arrays_of(five).items():  # nothing was written before the mistake was seen
        np.testing.assert_array_equal(array, before[name])


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    write_whole(path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minise.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.safetensors"]
