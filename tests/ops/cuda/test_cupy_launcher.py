"""The launcher's calls of CuPy and cuBLAS."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from minise import nn
from minise.ops import cuda
from minise.ops.cuda import cupy_launcher
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.sources import source
from minise.ops.dependencies import dependencies
from minise.train.environment import differences, environment
from tests.ops.cuda import fake_cublas
from tests.ops.cuda.emulator import Emulator
from tests.ops.cuda.fake_cupy import CudaError, FakeArray, FakeModule, fake_launcher

FLOAT = np.dtype(np.float32)


def squeeze(launcher, dtype=FLOAT, device=0, kernel="squeeze", blocks=1):
    arrays = [FakeArray(np.zeros((2, 8), dtype), device) for _ in range(2 + (kernel == "scale"))]
    launcher.launch("squeeze_excite.cu", kernel, blocks, arrays, (1, 2, 8), dtype=dtype)


def test_a_source_is_compiled_once_for_each_device_and_dtype(monkeypatch):
    launcher, device_of = fake_launcher(monkeypatch)
    for kernel in ("squeeze", "scale", "squeeze"):
        squeeze(launcher, kernel=kernel)
    text = source("squeeze_excite.cu", FLOAT).text
    assert FakeModule.made == [(text, ("-std=c++17", "-DREAL=float"))]
    squeeze(launcher, np.dtype(float))
    assert FakeModule.made[1][1] == ("-std=c++17", "-DREAL=double")
    device_of.now = 1
    squeeze(launcher, device=1)
    assert len(FakeModule.made) == 3
    names = [name for name, *_ in FakeModule.launched]
    assert names == ["squeeze", "scale", "squeeze", "squeeze", "squeeze"]


def test_refuses_an_array_of_another_device(monkeypatch):
    launcher, _ = fake_launcher(monkeypatch)
    message = "squeeze: x is on another device, expected the current one"
    with pytest.raises(ValueError, match=message):
        squeeze(launcher, device=1)


def test_arguments_of_a_launch(monkeypatch):
    """CuPy passes an argument's bytes to the kernel: a Python int would have eight."""
    launcher, _ = fake_launcher(monkeypatch)
    array = FakeArray(np.zeros(4, FLOAT))
    arrays, shared = (array, array, None, array, None, *4 * [array]), 100 << 10

    def launch(blocks, shared):
        settings = dict(dtype=FLOAT, threads=512, shared=shared)
        scalars = 0, 4, 1, 1
        launcher.launch(
            "squeeze_excite_tile.cu", "tile_forward", blocks, arrays, scalars, **settings
        )

    launch((3, 2), shared)
    ((_, blocks, threads, arguments, size),) = FakeModule.launched
    assert (blocks, threads, size) == ((3, 2), (512,), shared)
    assert arguments[:9] == arrays
    assert [(type(a), int(a)) for a in arguments[9:]] == [(np.int32, k) for k in (0, 4, 1, 1)]
    (kernel,) = launcher._kernels.values()
    assert kernel.max_dynamic_shared_size_bytes == shared
    launch(3, 60 << 10)
    assert kernel.max_dynamic_shared_size_bytes == shared


def test_a_learning_rate_that_changes_keeps_few_plans(monkeypatch):
    monkeypatch.setattr("minise.ops.cuda.launcher.MAX_PLANS", 10)
    launcher, _ = fake_launcher(monkeypatch)
    for blocks in range(1, 99):
        squeeze(launcher, blocks=blocks)
    assert len(launcher.plans) <= 10
    assert len(FakeModule.made) == 1


def test_the_synchronous_switch_names_the_kernel(monkeypatch):
    monkeypatch.setenv("MINISE_CUDA_SYNC", "1")
    launcher, _ = fake_launcher(monkeypatch)
    stream = SimpleNamespace(synchronize=lambda: None)
    sys.modules["cupy"].cuda.get_current_stream = lambda: stream
    squeeze(launcher)

    def fail():
        raise CudaError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    stream.synchronize = fail
    with pytest.raises(
        cupy_launcher.KernelFault, match=r"^squeeze failed on the GPU \(cudaErrorIll"
    ):
        squeeze(launcher)


LAYOUTS = {  # of a (batch, M, K), b (batch, K, N) and out (batch, M, N), from contiguous arrays
    "one matrix for all": lambda a, b, out: (a[0], b, out),
    "transposed": lambda a, b, out: (
        a.swapaxes(1, 2).copy().swapaxes(1, 2),
        b.swapaxes(1, 2).copy().swapaxes(1, 2),
        out,
    ),
    "columns of several images": lambda a, b, out: (
        a,
        b.swapaxes(0, 1).copy().swapaxes(0, 1),
        out.swapaxes(0, 1).copy().swapaxes(0, 1),
    ),
    "single matrices": lambda a, b, out: (a[0], b[0].T.copy().T, out[0]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "sizes", [(3, 4, 5, 6), (3, 1, 5, 6), (3, 4, 1, 6), (3, 4, 5, 1), (1, 1, 1, 1)]
)
@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("add", [False, True])
def test_products(layout, sizes, dtype, add, monkeypatch):
    """cuBLAS is column-major, NumPy row-major; a call has addresses and strides."""
    batch, M, K, N = sizes
    rng, (launcher, _) = np.random.default_rng(0), fake_launcher(monkeypatch)
    arrays = (
        rng.standard_normal(s).astype(dtype) for s in ((batch, M, K), (batch, K, N), (batch, M, N))
    )
    a, b, out = LAYOUTS[layout](*arrays)
    expected = a.astype(float) @ b + (out if add else 0)
    launcher.multiply(*map(FakeArray, (a, b, out)), add=add)
    np.testing.assert_allclose(
        out, expected, rtol=K * np.finfo(dtype).eps, atol=4 * K * np.finfo(dtype).eps
    )


def test_products_round_to_tf32_where_asked(monkeypatch):
    """TF32 keeps 10 bits of a significand: 1 + 2**-11 becomes 1."""
    for setting, expected in ((None, 1 + 2**-11), (True, 1), (False, 1 + 2**-11)):
        launcher, _ = fake_launcher(monkeypatch)
        ops = Backend(launcher).using(tf32=setting)
        a, b, out = (np.full((1, 1), v, FLOAT) for v in (1 + 2**-11, 1, 0))
        ops.launcher.multiply(*map(FakeArray, (a, b, out)))
        assert out.item() == expected
    monkeypatch.setenv("CUPY_TF32", "1")
    launcher, _ = fake_launcher(monkeypatch)
    launcher.multiply(*map(FakeArray, (a, b, out)))
    assert out.item() == 1


def test_refuses_a_product_of_other_sizes(monkeypatch):
    launcher, _ = fake_launcher(monkeypatch)
    a, b, out = (np.zeros(s, FLOAT) for s in ((2, 3), (3, 4), (2, 4)))
    for bad, kind, problem in (
        ((a, b.T, out), ValueError, "shapes are"),
        ((a, b, out.astype(float)), TypeError, "dtypes are"),
        ((a, b, np.zeros((4, 2), FLOAT).T), ValueError, "expected contiguous rows"),
        ((a, np.zeros((6, 8), FLOAT)[::2, ::2], out), ValueError, "a matrix has strides"),
    ):
        with pytest.raises(kind, match=problem):
            launcher.multiply(*map(FakeArray, bad))


def test_the_shared_memory_limit_is_per_device(monkeypatch):
    launcher, device_of = fake_launcher(monkeypatch)
    assert launcher.shared_limit() == 97000
    device_of.now = 1
    assert launcher.shared_limit() == 97001


def test_what_bits_depend_on(monkeypatch):
    """The current device, and the versions of driver, libraries and CuPy."""
    launcher, device_of = fake_launcher(monkeypatch)
    properties = [dict(name=name, multiProcessorCount=132) for name in (b"H100", b"H200")]
    monkeypatch.setattr(launcher.xp, "__version__", "14.0", raising=False)
    monkeypatch.setattr(fake_cublas, "getVersion", lambda handle: 120904, raising=False)
    launcher.xp._core = SimpleNamespace(get_reduction_accelerators=lambda: [1, 2])
    launcher.xp.cuda.runtime.getDeviceProperties = lambda device: properties[device]
    net = nn.Linear(2, 2, ops=Backend(Emulator()))
    monkeypatch.setattr(net.ops, "launcher", launcher)
    entries = environment(net, {}, 2)
    assert {
        "back end": "cuda",
        "GPU": "H100, 132 SMs",
        "CUDA driver": "0",
        "CUDA runtime": "12090",
        "NVRTC": "12.9",
        "cuBLAS": "120904",
        "CuPy version": "14.0",
        "CuPy accelerators": "1, 2",
        "cuda squeeze_excite": "auto",
        "cuda TF32": "False",
    }.items() <= entries.items()
    assert not [title for title in entries if "BLAS" in title and title != "cuBLAS"]
    monkeypatch.setattr(cuda, "_ops", net.ops)
    assert dependencies([cuda], 2).items() <= entries.items()
    device_of.now, launcher.tf32 = 1, True
    assert differences(entries, environment(net, {}, 2)) == [
        "GPU: H100, 132 SMs when saved, H200, 132 SMs now",
        "cuda TF32: False when saved, True now",
    ]
