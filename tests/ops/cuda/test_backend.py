"""The public behaviour of the back end: choice of kernels, errors, packaging."""

import copy
import inspect
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minise.contract.conform import conform
from minise.ops import cuda, reference, wrap
from minise.ops.cuda.backend import IMPLEMENTED, Backend
from minise.ops.cuda.gating import fits_a_block
from minise.ops.cuda.norm import statistics
from minise.ops.cuda.sources import parameters, source
from minise.ops.cuda.squeeze_excite import select_kernels, tile_bytes, tile_threads
from minise.ops.wrap import NonFiniteError
from minise.train import SoftmaxCrossEntropy
from tests.ops.cuda.device import NAMES, DeviceArray, device
from tests.ops.cuda.emulator import Emulator

ROOT = Path(__file__).parents[3]
FLOAT = np.dtype(np.float32)


def ops(**settings):
    return Backend(Emulator(device, **settings))


def arrays(*shapes, dtype=np.float32):
    rng = np.random.default_rng(0)
    return [device.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


# Which kernel runs


@pytest.mark.parametrize(
    ("shape", "R", "shared", "expected"),
    [
        ((128, 16, 32, 32), 1, 227, "tile"),  # SE-ResNet-20's three stages, on a Hopper
        ((128, 32, 16, 16), 2, 227, "tile"),
        ((128, 64, 8, 8), 4, 227, "tile"),
        ((128, 64, 8, 8), 4, 64, "tile"),  # on a Turing
        ((128, 16, 32, 32), 1, 64, "simple"),
        ((64, 512, 28, 28), 32, 227, "simple"),  # SE-ResNet-50's largest
        ((64, 2048, 7, 7), 128, 227, "simple"),
    ],
)
def test_kernels_are_selected_by_shape(shape, R, shared, expected):
    x = np.broadcast_to(np.float32(0), shape)
    assert select_kernels(Emulator(shared=shared << 10), x, R) == expected


def test_a_tile_of_a_stage_of_se_resnet_20():
    x = np.broadcast_to(np.float32(0), (128, 16, 32, 32))
    assert tile_bytes(x, 1) == 4 * (16 * 1024 + 16 + 16 + 1 + 16)
    assert 3 * tile_bytes(x, 1) < 227 << 10  # three blocks share a multiprocessor
    assert (tile_threads(32 << 10), tile_threads(64 << 10)) == (256, 512)


@pytest.mark.parametrize(
    ("settings", "kernels", "forward", "backward"),
    [
        ({}, "auto", ["tile_forward"], ["tile_backward", "weight_gradients"]),
        (
            {},
            "simple",
            ["squeeze", "excite", "scale"],
            ["gate_gradient", "excite_backward", "weight_gradients", "input_gradient"],
        ),
        (dict(squeeze="max"), "auto", [], []),
        (dict(squeeze="none"), "auto", [], []),
    ],
)
def test_what_is_launched(settings, kernels, forward, backward):
    back_end = ops().using(squeeze_excite=kernels)
    back_end.launcher.launches = []
    x, w1, w2 = arrays((2, 4, 5, 6), (2, 4), (4, 2))
    out, cache = back_end.squeeze_excite_forward(x, w1, None, w2, None, **settings)
    assert back_end.launcher.launches == forward
    back_end.squeeze_excite_backward(out, cache)
    assert back_end.launcher.launches == forward + backward


@pytest.mark.parametrize(
    ("C", "R", "shared", "fits"),
    [
        (64, 4, 227, True),  # SE-ResNet-20's last stage
        (256, 16, 227, True),  # SE-ResNet-50's stages
        (512, 32, 227, False),
        (2048, 128, 227, False),
        (256, 16, 2, False),  # z, s and h take 2,112 bytes
        (1, 8192, 227, False),
    ],
)
def test_layers_of_few_weights_are_one_launch(C, R, shared, fits):
    assert fits_a_block(Emulator(shared=shared << 10), C, R, FLOAT) == fits


def test_what_a_block_tail_launches():
    back_end = ops()
    x, gamma, beta, w1, w2 = arrays((2, 4, 5, 6), 4, 4, (2, 4), (4, 2))
    running = dict(running_mean=beta, running_var=gamma * gamma)
    for training in (True, False):
        back_end.launcher.launches = []
        out, cache = back_end.se_block_tail_forward(
            x, gamma, beta, w1, None, w2, None, x, **running, training=training
        )
        forward = ["row_moments", "channel_moments", "excite", "normalise"]
        assert back_end.launcher.launches == forward
        back_end.se_block_tail_backward(out, cache)
        assert back_end.launcher.launches[4:] == [
            "gradient_sums",
            "excite_backward",
            "weight_gradients",
            "channel_gradients",
            "norm_input_gradient",
        ]


def test_evaluation_returns_the_running_statistics_themselves():
    x, gamma, beta, mean, var = arrays((2, 4, 5, 6), *4 * [4])
    running = dict(running_mean=mean, running_var=var * var)
    _, cache = ops().batch_norm2d_forward(x, gamma, beta, **running, training=False)
    assert cache.mean is cache.running_mean is mean
    assert cache.running_var is running["running_var"]


@pytest.mark.parametrize("seed", range(4))
def test_running_statistics_are_updated_in_place(seed):
    """With the bits of an update in arrays of their own."""
    launcher = Emulator(device, seed=seed)
    x, *vectors = arrays((5, 40, 3, 2), *4 * [40])
    settings = True, 0.1, 1e-5
    strided = statistics(launcher, (x, *vectors), settings)
    before = [vector.get() for vector in vectors]
    assert all((a.get() == b).all() for a, b in zip(vectors, before, strict=True))
    launcher.in_place = True
    cache = statistics(launcher, (x, *vectors), settings)
    assert cache.running_mean is vectors[2]
    assert cache.running_var is vectors[3]
    for name in ("mean", "rstd", "running_mean", "running_var"):
        np.testing.assert_array_equal(getattr(cache, name).get(), getattr(strided, name).get())
    assert not np.array_equal(vectors[2].get(), before[2])


def test_a_convolution_in_batches(monkeypatch):
    """Batches of images give the same bits, except dweight, whose order of summation differs."""
    x, weight, dout = arrays((5, 3, 6, 7), (4, 3, 3, 3), (5, 4, 6, 7), dtype=np.float64)
    unbatched = ops()
    out, cache = unbatched.conv2d_forward(x, weight, padding=(1, 1))
    gradients = unbatched.conv2d_backward(dout, cache)
    monkeypatch.setattr("minise.ops.cuda.conv.MAX_COLUMN_BYTES", 2 * 3 * 9 * 42 * 8)
    batched = ops()
    out2, _ = batched.conv2d_forward(x, weight, padding=(1, 1))
    dx, dweight, _ = batched.conv2d_backward(dout, cache)
    assert batched.launcher.launches.count("im2col") == 3 * 3  # of x twice, and of dout
    np.testing.assert_array_equal(out.get(), out2.get())
    np.testing.assert_array_equal(dx.get(), gradients[0].get())
    np.testing.assert_allclose(dweight.get(), gradients[1].get(), rtol=1e-12, atol=1e-13)


def test_a_requested_tile_must_fit():
    x, w1, w2 = arrays((2, 4, 5, 6), (2, 4), (4, 2))
    with pytest.raises(ValueError, match=r"^squeeze_excite: a tile of x .* takes 648 bytes"):
        ops(shared=500).using(squeeze_excite="tile").squeeze_excite_forward(x, w1, None, w2, None)
    with pytest.raises(ValueError, match="^using: squeeze_excite is 'fast', expected one of auto"):
        cuda.using(squeeze_excite="fast")


# The contract, in addition to the tests of all ops


@pytest.mark.slow
def test_it_conforms_with_device_arrays():
    results = conform(ops(), cases=4)
    assert [result.op for result in results if result.problem] == []
    assert len(results) == len([name for name in reference.__all__ if name.endswith("_forward")])


def test_the_module_has_the_references_names_and_signatures_also_without_a_gpu():
    assert cuda.__all__ == reference.__all__
    for name in reference.__all__:
        function, expected = getattr(cuda, name), getattr(reference, name)
        assert inspect.signature(function) == inspect.signature(expected)
        assert function.__doc__
    assert {*reference.__all__, "require", "using", "on_compile", "describe"} < set(dir(cuda))
    assert set(IMPLEMENTED) < set(reference.__all__)
    assert cuda.folds is True


def test_there_is_one_algorithm():
    assert ops().using(threads=3, algorithm="auto").relu_forward
    message = "^ops 'cuda' has one algorithm only, but algorithm is 'direct': leave it out, or cho"
    for back_end in (ops(), cuda):
        with pytest.raises(ValueError, match=message):
            back_end.using(algorithm="direct")


def test_what_a_step_of_inference_launches():
    """ReLU and sum run as the reference's code; folded normalisations launch no kernel."""
    back_end = ops()
    x, weight, w1, w2, shortcut = arrays((2, 4, 5, 6), (3, 4, 1, 1), (2, 3), (3, 2), (2, 3, 5, 6))
    prepared = back_end.prepare_conv2d(weight, None, w1, None, w2, None, relu=True)
    assert back_end.launcher.launches == []
    back_end.run_conv2d(prepared, x, shortcut)
    assert back_end.launcher.launches == ["multiply", "tile_forward"]  # 1x1: no im2col
    gamma, beta, mean, var = (abs(array) for array in arrays(*4 * [4]))
    running = dict(running_mean=mean, running_var=var)
    norm = back_end.prepare_batch_norm2d(gamma, beta, **running)
    back_end.run_batch_norm2d(norm, x)
    assert back_end.launcher.launches[2:] == ["channel_moments", "normalise"]


def test_caches_keep_the_callers_arrays():
    x, w1, w2 = arrays((2, 4, 5, 6), (2, 4), (4, 2))
    _, cache = ops().squeeze_excite_forward(x, w1, None, w2, None)
    assert cache.x is x
    assert cache.gates.w1 is w1
    assert cache.gates.b1 is None


def test_wrappers_accept_it():
    recorder = wrap.record(ops())
    (x,) = arrays((2, 3))
    recorder.relu_forward(x)
    assert recorder.calls[0].op == "relu"
    x[0, 1] = np.inf
    with pytest.raises(NonFiniteError, match=r"relu_forward: its input x .* first at \(0, 1\)"):
        wrap.guarded(ops()).relu_forward(x)


def test_a_deep_copy_is_the_same_back_end():
    """CuPy's compiled kernels refuse to be copied, here as a lock does."""
    compiled = ops()
    compiled.launcher.kernels = [threading.Lock()]
    objective = SoftmaxCrossEntropy(compiled)
    assert copy.deepcopy(objective).ops is compiled


# Errors


def test_refuses_arrays_of_another_library():
    x, w1, w2 = arrays((2, 4, 5, 6), (2, 4), (4, 2))
    back_end = ops()
    forward = back_end.squeeze_excite_forward
    message = "^squeeze_excite: w1 is an array of numpy, expected one of device: pass ops.asarray"
    with pytest.raises(TypeError, match=message):
        forward(x, np.ones((2, 4), np.float32), None, w2, None)
    _, cache = forward(x, w1, None, w2, None)
    with pytest.raises(TypeError, match="^squeeze_excite: dout is an array of numpy, expected"):
        back_end.squeeze_excite_backward(np.ones(x.shape, np.float32), cache)
    with pytest.raises(TypeError, match=r"^squeeze_excite: cache.x is an array of numpy, expected"):
        back_end.squeeze_excite_backward(x, cache._replace(x=np.asarray(x.get())))
    prepared = back_end.prepare_conv2d(*arrays((3, 4, 1, 1)))
    message = "^run_conv2d: shortcut is an array of numpy, expected one of device: pass ops.asarray"
    with pytest.raises(TypeError, match=message):
        back_end.run_conv2d(prepared, x, np.ones((2, 3, 5, 6), np.float32))
    with pytest.raises(TypeError, match="^fold_batch_norm2d: gamma is an array of numpy, expected"):
        back_end.fold_batch_norm2d(*arrays((3, 4, 1, 1)), None, *3 * [np.ones(3)])
    with pytest.raises(TypeError, match=r"^concat: xs\[1\] is an array of numpy, expected one of"):
        back_end.concat_forward(x, np.ones(x.shape, np.float32))


def test_refuses_arrays_on_another_device(monkeypatch):
    (x,) = arrays((2, 3))
    back_end = ops()
    monkeypatch.setattr(Emulator, "on_current_device", lambda self, array: False)
    monkeypatch.setattr(DeviceArray, "device", SimpleNamespace(id=1), raising=False)
    with pytest.raises(ValueError, match=r"^relu: x is on GPU 1, expected the current one: call"):
        back_end.relu_forward(x)


def test_the_launcher_checks_a_kernels_arguments():
    """In an optimised Python, too: a kernel would misread the array."""
    launcher = Emulator(device)
    x, z, strided = arrays((2, 8), (2,), (4,))

    def squeeze(x, z, rows=2, hw=8, blocks=1):
        file, arrays, scalars = "squeeze_excite.cu", (x, z), (1, rows, hw)
        launcher.launch(file, "squeeze", blocks, arrays, scalars, dtype=FLOAT)

    squeeze(x, z)
    for bad, kind, problem in (
        ((x.astype(np.float64), z), TypeError, "squeeze: x is float64 of .*, expected an array"),
        ((x.get(), z), TypeError, "squeeze: x is float32 of numpy, expected an array of"),
        ((3, z), TypeError, "squeeze: x is a int, expected an array of float32"),
        ((x, strided[::2]), ValueError, "squeeze: z is not contiguous"),
        ((x, z, 2**31), ValueError, "squeeze: rows is 2147483648, expected a value of int32"),
        ((x, z, 2, 8, 0), ValueError, r"squeeze: blocks along x are 0, expected 1\.\.2147483647"),
        ((x, z, 2, 8, (1, 65536)), ValueError, r"blocks along y are 65536, expected 1\.\.65535"),
    ):
        with pytest.raises(kind, match=problem):
            squeeze(*bad)
    launch = launcher.launch
    with pytest.raises(TypeError, match="squeeze: arrays are 1, expected 2: x, z"):
        launch("squeeze_excite.cu", "squeeze", 1, (x,), (1, 2, 8), dtype=FLOAT)
    with pytest.raises(TypeError, match="squeeze: scalars are 1, expected 3: group, rows, hw"):
        launch("squeeze_excite.cu", "squeeze", 1, (x, z), (2,), dtype=FLOAT)


def test_a_kernel_reads_a_contiguous_copy():
    launcher = Emulator(device)
    x, z = arrays((2, 16), (2,))
    launcher.launch("squeeze_excite.cu", "squeeze", 1, (x[:, ::2], z), (1, 2, 8), dtype=FLOAT)
    np.testing.assert_allclose(z.get(), x.get()[:, ::2].mean(axis=1), rtol=1e-6)


# Packaging


def test_an_import_loads_no_cupy():
    code = "import sys; from minise.ops import cuda; print('cupy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_kernels_are_read_from_an_installed_wheel(tmp_path):
    """Build a wheel, unpack it in another folder, and read the sources from there."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("minise-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import numpy as np, minise; from minise.ops.cuda.sources import source, parameters;"
        "print(minise.__file__);"
        "print(*parameters(source('squeeze_excite_tile.cu', np.dtype('f')).text))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
    )
    where, kernels = done.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path)
    assert kernels == "tile_forward tile_backward"


def test_every_source_has_kernels_and_a_lesson():
    """Each file begins with its idea, its memory traffic (bytes) and its split of the work."""
    sources = sorted((ROOT / "minise" / "ops" / "cuda").glob("*.cu"))
    assert len(sources) == 7
    for path in sources:
        lesson = path.read_text().partition("\n\n")[0]
        for part in ("Idea.", "Bytes.", "Split of the work."):
            assert f"\n// {part} " in lesson, path.name
        assert parameters(source(path.name, FLOAT).text)


# CuPy itself, if it is installed, with or without a GPU


def test_cupy_has_the_functions_used():
    """Functions of the module, and NumPy functions that are called with its arrays."""
    cupy = pytest.importorskip("cupy")
    DeviceArray.called.clear()
    conform(ops(), cases=4)
    assert {"where", "einsum", "take_along_axis", "concatenate", "tanh"} < DeviceArray.called
    for name in {*DeviceArray.called, *NAMES, "asarray", "empty", "RawModule"}:
        assert hasattr(cupy, name)
    for name in ("getDevice", "deviceGetAttribute", "cudaDevAttrMaxSharedMemoryPerBlockOptin"):
        assert hasattr(cupy.cuda.runtime, name)
