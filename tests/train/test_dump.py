"""Files of dumps: their content, failures to write them, and damaged or foreign ones."""

import errno
import os
import shutil

import numpy as np
import pytest

from minise import files, nn
from minise.ops import reference
from minise.train import checkpoint, dump, replay
from tests.train.test_replay import Fault, Subject, small_net


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the file of a dump."""
    out = tmp_path_factory.mktemp("dump")
    Subject(Fault("velocity", "fc.bias"), reference).run(out)
    return out / "a" / dump.NAME


def failing(monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(os, "fsync", fail)


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")],
)
def test_a_full_disk_does_not_hide_the_nan(number, reason, tmp_path, monkeypatch):
    subject = Subject(Fault("image", "first"), reference)
    plant = subject.plant
    subject.plant = lambda: (plant(), failing(monkeypatch, OSError(number, os.strerror(number))))
    error = subject.run(tmp_path)
    path = tmp_path / "a" / dump.NAME
    assert str(error).startswith("layer conv, conv2d_forward: its input x has 1 of 128 ")
    assert f"; {path} is not written: {path} cannot be written ({reason}" in str(error)
    assert "\n" not in str(error)
    names = {file.name for file in path.parent.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "last.safetensors"}


def test_memory_runs_out(tmp_path, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(files, "write", fail)
    error = Subject(Fault("image", "first"), reference).run(tmp_path)
    assert str(error).endswith("guard.safetensors is not written: out of memory")


def test_a_dump_is_bit_identical_after_reading_and_writing(written, tmp_path):
    dump.write(tmp_path / "b", dump.load(written))
    before, after = (files.read(path, files.GUARD) for path in (written, tmp_path / "b"))
    assert after.texts == before.texts
    assert after.arrays.keys() == before.arrays.keys()
    for name, array in before.arrays.items():
        assert (array.dtype, array.shape) == (after.arrays[name].dtype, after.arrays[name].shape)
        assert array.tobytes() == after.arrays[name].tobytes()


def test_only_what_is_needed_is_written(written):
    """A dump has the optimiser's arrays only if an update failed."""
    arrays = files.read(written, files.GUARD).arrays
    assert {name.partition("/")[0] for name in arrays} == {"net", "optimiser", "batch"}
    size = sum(array.nbytes for array in arrays.values())
    assert size <= written.stat().st_size < size + 8000


def test_every_truncation_and_flipped_bit_is_told(written, tmp_path):
    content, path = written.read_bytes(), tmp_path / "b"
    for size in np.linspace(0, len(content) - 1, 40, dtype=int):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=f"^{path} is "):
            dump.load(path)
    for position in np.linspace(0, len(content) - 1, 100, dtype=int):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=f"^{path} (is|has) "):
            dump.load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("phase", "rest"),
        ("phase", None),
        ("step", "1"),
        ("lr", "fast"),
        ("threads", [1]),
        ("config", []),
        ("config", {"model": "se_resnet8", "lrr": 1}),
        ("data", None),
        ("objective", 1),
        ("nonfinite", {}),
        ("nonfinite", None),
        ("nonfinite", {"index": 3}),
        ("nonfinite", {"index": [None]}),
        ("nonfinite", {"layer": 3}),
    ],
)
def test_headers_that_minise_does_not_write(name, value, written, tmp_path):
    file = files.read(written, files.GUARD)
    if name == "nonfinite" and value:
        value = file.texts[name] | value
    files.write(tmp_path / "b", files.GUARD, file.arrays, file.texts | {name: value})
    with pytest.raises(ValueError, match=f"^{tmp_path / 'b'} is not a dump that "):
        dump.load(tmp_path / "b")


@pytest.mark.parametrize("missing", ["batch/0/inputs", "batch/0/targets", "batch/", "nonfinite"])
def test_missing_parts(missing, written, tmp_path):
    file = files.read(written, files.GUARD)
    arrays = {name: a for name, a in file.arrays.items() if not name.startswith(missing)}
    texts = {name: text for name, text in file.texts.items() if name != missing}
    files.write(tmp_path / "b", files.GUARD, arrays, texts)
    with pytest.raises(ValueError, match=f"^{tmp_path / 'b'} is not a dump that "):
        dump.load(tmp_path / "b")


def test_files_that_are_no_dump(written, tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(FileNotFoundError, match=f"^{path} does not exist, expected a dump "):
        dump.load(path)
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}/guard.safetensors does not exist, e"):
        dump.load(tmp_path)
    checkpoint.save(path, checkpoint.Checkpoint({}, {}, {}, {}, {}))
    with pytest.raises(ValueError, match="expected 'minise-guard-1': it is a checkpoint, which"):
        dump.load(path)
    nn.save(small_net(), path)
    with pytest.raises(ValueError, match="expected 'minise-guard-1': minise.nn.load reads it"):
        dump.load(path)
    shutil.copy(written, path)
    with pytest.raises(ValueError, match="expected 'minise-checkpoint-1': it is a dump, which"):
        checkpoint.load(path)
    files.write(path, "minise-guard-2", {}, {})
    with pytest.raises(ValueError, match="expected 'minise-guard-1': .*, upgrade minise$"):
        dump.load(path)


def test_an_optimiser_of_another_net(written):
    loaded = dump.load(written)
    loaded.optimiser_arrays.pop("velocity/fc.bias")
    with pytest.raises(ValueError, match="the optimiser's arrays in the dump do not fit the net"):
        replay(loaded, small_net())
