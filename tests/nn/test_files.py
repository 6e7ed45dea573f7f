"""Saved and loaded nets: round trips; a file that does not fit is refused before any write."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save as to_bytes

from minise import files as array_files
from minise import models, nn
from minise.nn import files
from minise.train import SGD, TrainConfig, checkpoint
from tests.nn.adapter import perturbed


def net(seed=0, dtype=np.float32, **settings):
    built = models.build("se_resnet8", rng=seed, dtype=dtype, **settings)
    return perturbed(built, np.random.default_rng(seed))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


def equal(layer, arrays):
    assert files.arrays_of(layer).keys() == arrays.keys()
    for name, array in files.arrays_of(layer).items():
        np.testing.assert_array_equal(array, arrays[name], strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip(path, dtype):
    saved, other = net(dtype=dtype), net(1, dtype)
    identities = {**other.named_parameters(), **other.named_state()}
    nn.save(saved, path)
    nn.load(other, str(path))
    equal(other, files.arrays_of(saved))
    for name, array in {**other.named_parameters(), **other.named_state()}.items():
        assert array is identities[name]
        assert array.dtype == dtype


def test_a_layer_alone_and_other_back_ends(path):
    nn.save(nn.Linear(3, 2, rng=0), path)
    other = nn.Linear(3, 2, rng=1, ops="jit")
    nn.load(other, path)
    equal(other, files.arrays_of(nn.Linear(3, 2, rng=0)))


def test_another_dtype_is_rounded_once(path):
    exact, rounded = net(dtype=np.float64), net(1)
    nn.save(exact, path)
    nn.load(rounded, path)
    equal(rounded, {k: a.astype(np.float32) for k, a in files.arrays_of(exact).items()})


def test_names_are_those_that_others_read(path):
    nn.save(net(), path)
    with safe_open(path, "np") as opened:
        names = set(opened.keys())
        assert opened.metadata()["format"] == "minise-net-1"
    assert {"layer1.0.se.fc.0.weight", "bn1.running_mean"} <= names
    assert not any(name.startswith("optimiser/") for name in names)


def test_a_checkpoint_of_a_training_run(path):
    trained, other = net(), net(1)
    velocity = SGD(trained).state()
    written = checkpoint.Checkpoint(files.arrays_of(trained), velocity, TrainConfig(), {}, {})
    checkpoint.save(path, written)
    nn.load(other, path)
    equal(other, files.arrays_of(trained))


def test_flipped_bits_and_cut_files_are_noticed(path):
    """Flip one bit in each byte of a small file's arrays; cut the file at every seventh length."""
    layer, before = nn.Linear(3, 2, rng=0), files.arrays_of(nn.Linear(3, 2, rng=0))
    nn.save(nn.Linear(3, 2, rng=1), path)
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for offset in range(start, len(content)):
        altered = bytearray(content)
        altered[offset] ^= 1 << offset % 8
        path.write_bytes(altered)
        with pytest.raises(ValueError, match="is altered: (weight|bias) fails its checksum: copy"):
            nn.load(layer, path)
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="truncated or not a safetensors file"):
            nn.load(layer, path)
    equal(layer, before)


def wrong(arrays, **changes):
    return {name: array for name, array in {**arrays, **changes}.items() if array is not None}


FOREIGN = {
    "missing": (dict(bias=None), "it lacks bias: build the net with the"),
    "unknown": (dict(gamma=np.ones(2)), "the net has no gamma: build the net"),
    "both": (dict(bias=None, gamma=np.ones(2)), "it lacks bias, and the net has no gamma: build"),
    "of another shape": (
        dict(bias=np.ones(3, np.float32)),
        r"bias has shape \(3,\), expected \(2,\)",
    ),
    "of integers": (dict(bias=np.ones(2, int)), "bias is int64, expected float32"),
    "of complex numbers": (dict(bias=np.ones(2, complex)), "bias is complex128, expected float32"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_does_not_fit_is_refused_and_nothing_written(name, path):
    changes, message = FOREIGN[name]
    layer = nn.Linear(3, 2, rng=0)
    before = files.arrays_of(layer)
    arrays = wrong(files.arrays_of(nn.Linear(3, 2, rng=1)), **changes)
    with pytest.raises(ValueError, match=f"^the checkpoint does not fit the net: {message}"):
        files.restore(layer, arrays)
    equal(layer, before)
    if "complex" not in name:  # which safetensors does not write
        array_files.write(path, array_files.NET, arrays, {})
        with pytest.raises(ValueError, match=f"net.safetensors does not fit the net: {message}"):
            nn.load(layer, path)
        equal(layer, before)


def test_files_of_others(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.safetensors does not exist, expected"):
        nn.load(nn.ReLU(), tmp_path / "none.safetensors")
    with pytest.raises(
        FileNotFoundError, match=f"^{tmp_path} is a folder, expected .*: pass a file"
    ):
        nn.load(nn.ReLU(), tmp_path)
    (tmp_path / "last.safetensors").touch()
    with pytest.raises(
        FileNotFoundError, match=f"is a folder, .*: pass {tmp_path}/last.safetensors"
    ):
        nn.load(nn.ReLU(), tmp_path)
    array_files.write(path, "minise-other-1", {}, {})
    with pytest.raises(ValueError, match="format 'minise-other-1', expected 'minise-net-1' or 'mi"):
        nn.load(nn.ReLU(), path)
    nn.save(nn.ReLU(), path)
    with pytest.raises(ValueError, match="format 'minise-net-1', expected 'minise-check.*nn.load"):
        models.load(path)


@pytest.mark.parametrize("kind", ["3", "[]", "null", '"text"'])
def test_checksums_of_another_kind(path, kind):
    path.write_bytes(to_bytes({"a": np.ones(2)}, {"format": array_files.NET, "crc32": kind}))
    with pytest.raises(ValueError, match="is altered: its header is not readable"):
        nn.load(nn.ReLU(), path)


def test_numbers_beyond_the_nets_dtype(path):
    exact, layer = nn.Linear(3, 2, dtype=np.float64, rng=1), nn.Linear(3, 2, rng=0)
    exact.params["bias"][0] = 1e300
    before = files.arrays_of(layer)
    nn.save(exact, path)
    with pytest.raises(ValueError, match=r"bias has values that float32 cannot hold, .*np.float64"):
        nn.load(layer, path)
    equal(layer, before)
    exact.params["bias"][:] = np.inf, np.nan  # which float32 has too
    nn.save(exact, path)
    nn.load(layer, path)
    equal(layer, {k: a.astype(np.float32) for k, a in files.arrays_of(exact).items()})


def test_a_layer_named_as_the_optimisers_arrays(path):
    def built(rng):
        return nn.Chain(("optimiser/x", nn.Linear(2, 2, rng=rng)))

    layer, other = built(0), built(1)
    nn.save(layer, path)
    nn.load(other, path)
    equal(other, files.arrays_of(layer))
    written = checkpoint.Checkpoint(files.arrays_of(layer), {}, TrainConfig(), {}, {})
    with pytest.raises(ValueError, match=r"'optimiser/x.weight', expected .*: rename the layer"):
        checkpoint.save(path, written)


# Where a file cannot be


def test_paths_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    before = sorted(tmp_path.iterdir())
    for path, message in (
        (tmp_path, f"^{tmp_path} is a folder or a device, expected a file: pass for example"),
        (
            "none/net",
            f"^none/net cannot be written, its folder does not exist: create {tmp_path}/none",
        ),
        ("file/net", "^file/net cannot be written, its folder does not exist"),
        ("a" * 300, "^a* cannot be written .*too long.*: choose another path"),
        ("/dev/null", "^/dev/null is a folder or a device, expected a file"),
    ):
        with pytest.raises(OSError, match=message):
            nn.save(nn.ReLU(), path)
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(FileNotFoundError, match="^a* does not exist, expected a checkpoint"):
        nn.load(nn.ReLU(), "a" * 300)
    longest = "a" * 255
    nn.save(nn.ReLU(), longest)
    nn.load(nn.ReLU(), longest)


@pytest.mark.parametrize("call", [nn.save, nn.load])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("net", nn.ReLU()), "net is a str, expected a layer: pass nn"),
        ((nn.ReLU(), None), "path is a NoneType, expected a path: pass nn"),
        ((nn.ReLU(), ""), "path is '', expected the path of a file: pass nn"),
        ((nn.ReLU(), "a\0b"), r"path is 'a\\x00b', expected the path of a file"),
    ],
)
def test_arguments_of_another_kind(call, arguments, message):
    with pytest.raises((TypeError, ValueError), match=f"^{call.__name__}: {message}"):
        call(*arguments)


def test_complex_numbers_are_refused_with_the_remedy(path):
    with pytest.raises(TypeError, match="weight is complex128, expected a real dtype, .*float64"):
        nn.save(nn.Linear(2, 2, dtype=complex), path)
    assert not path.exists()


def test_a_link_keeps_its_place(path, tmp_path):
    link, layer = tmp_path / "link", nn.Linear(3, 2, rng=0)
    link.symlink_to(path.name)
    for _ in range(2):  # to nothing, and to a file
        nn.save(layer, link)
        assert link.is_symlink()
        nn.load(nn.Linear(3, 2, rng=1), path)


def test_threads_that_save_to_one_path(path):
    layers = [nn.Linear(64, 64, rng=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: nn.save(layers[k % 4], path), range(40)))
    nn.load(nn.Linear(64, 64), path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_numbers_without_axes_and_arrays_in_any_order(path):
    arrays = {
        "scalar": np.array(3),
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "one": np.ones(1),
    }
    array_files.write(path, array_files.NET, arrays, {"note": "text"})
    read = array_files.read(path, array_files.NET)
    assert read.texts == {"note": "text"}
    assert read.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read.arrays[name], array, strict=True)
