"""The cuda back end without CuPy, driver or GPU, and its calls of CuPy (a fake)."""

import importlib.machinery
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from minise.ops import cuda
from minise.ops.backend import backend, load_ops
from minise.ops.cuda import cupy_launcher
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.launcher import source
from tests.cli.commands import call

ROOT = Path(__file__).parents[3]
FLOAT = np.dtype(np.float32)


class CudaError(RuntimeError):
    """Stands in for CuPy's error class."""


def fake_cupy(monkeypatch, *, devices=1, nvrtc=True):
    """Replace CuPy by a fake that reports these devices, or raises if they are an error text."""

    def count():
        if isinstance(devices, int):
            return devices
        raise CudaError(devices)

    def version():
        if nvrtc:
            return 12, 9
        raise RuntimeError('Failure finding "libnvrtc.so.12": No such file\nand more')

    fake = ModuleType("cupy")
    fake.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    runtime = SimpleNamespace(getDeviceCount=count, runtimeGetVersion=lambda: 12090)
    fake.cuda = SimpleNamespace(runtime=runtime, nvrtc=SimpleNamespace(getVersion=version))
    monkeypatch.setitem(sys.modules, "cupy", fake)


def no_cupy(monkeypatch):
    monkeypatch.setattr(cupy_launcher.importlib.util, "find_spec", lambda name: None)


def broken_cupy(monkeypatch):
    monkeypatch.setattr(cupy_launcher.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes the import raise


TOO_OLD = "cudaErrorInsufficientDriver: CUDA driver version is insufficient"
MISSING = {
    "cupy": (no_cupy, r"CuPy is not installed: pip install -e '.\[cuda13\]'"),
    "cupy's libraries": (broken_cupy, r"CuPy cannot be imported \(.*\): pip install -e '.\["),
    "driver": (
        lambda patch: fake_cupy(patch, devices=TOO_OLD),
        r"no NVIDIA driver for CUDA 12.9 \(cudaErrorInsuff.*\): install one, such as apt install",
    ),
    "device": (
        lambda patch: fake_cupy(patch, devices="cudaErrorNoDevice: no CUDA-capable device"),
        r"no GPU is found \(cudaErrorNoDevice.*\): see nvidia-smi and CUDA_VISIBLE_DEVICES",
    ),
    "all devices": (
        lambda patch: fake_cupy(patch, devices=0),
        "the NVIDIA driver shows no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES",
    ),
    "nvrtc": (
        lambda patch: fake_cupy(patch, nvrtc=False),
        r"NVRTC, which compiles .* \(Failure finding \"libnvrtc.so.12\": No such file\): pip inst",
    ),
}


@pytest.mark.parametrize("part", MISSING)
def test_messages_name_the_missing_part_and_the_fix(part, monkeypatch):
    make, message = MISSING[part]
    make(monkeypatch)
    for use in (
        cuda.require,
        lambda: backend("cuda"),
        lambda: load_ops("cuda"),
        lambda: Backend(cupy_launcher.Cupy()).asarray([1.0]),
        lambda: Backend(cupy_launcher.Cupy()).relu_forward(np.ones(3)),
    ):
        with pytest.raises(ImportError, match=f"^the cuda back end cannot run: .*{message}"):
            use()
    assert cuda.describe() == cuda.missing()


def test_nothing_is_missing(monkeypatch):
    fake_cupy(monkeypatch)
    assert cuda.missing() is None
    cuda.require()


# Calls of CuPy


class FakeModule:
    """A fake of CuPy's RawModule and of its kernels; records its arguments."""

    made, launched = [], []

    def __init__(self, code, options):
        FakeModule.made.append((code, options))

    def get_function(self, name):
        def launch(*arguments, **settings):
            FakeModule.launched.append((name, arguments, settings))

        launch.max_dynamic_shared_size_bytes = 48 << 10
        return launch


def fake_launcher(monkeypatch):
    fake_cupy(monkeypatch)
    fake, device_of = sys.modules["cupy"], SimpleNamespace(now=0)
    fake.RawModule = FakeModule
    fake.cuda.runtime.getDevice = lambda: device_of.now
    fake.cuda.runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
    fake.cuda.runtime.deviceGetAttribute = lambda attribute, device: 1000 * attribute + device
    monkeypatch.setattr(FakeModule, "made", [])
    monkeypatch.setattr(FakeModule, "launched", [])
    return cupy_launcher.Cupy(), device_of


def test_a_source_is_compiled_once_for_each_device_and_dtype(monkeypatch):
    launcher, device_of = fake_launcher(monkeypatch)
    unit = source("squeeze_excite.cu", FLOAT)
    for kernel in ("squeeze", "scale", "squeeze"):
        launcher.run(unit, kernel, (1,), 256, [], 0)
    assert FakeModule.made == [(unit.text, ("-std=c++17", "-DREAL=float"))]
    launcher.run(source("squeeze_excite.cu", np.dtype(float)), "squeeze", (1,), 256, [], 0)
    assert FakeModule.made[1][1] == ("-std=c++17", "-DREAL=double")
    device_of.now = 1
    launcher.run(unit, "squeeze", (1,), 256, [], 0)
    assert len(FakeModule.made) == 3
    assert [name for name, *_ in FakeModule.launched] == [
        "squeeze",
        "scale",
        "squeeze",
        "squeeze",
        "squeeze",
    ]


def test_arguments_of_a_launch(monkeypatch):
    """CuPy passes an argument's bytes to the kernel: a Python int would have eight."""
    launcher, _ = fake_launcher(monkeypatch)
    unit = source("squeeze_excite_tile.cu", FLOAT)
    launcher.run(unit, "tile_forward", (3, 2), 512, [None, np.int32(7)], 100 << 10)
    ((_, (blocks, threads, arguments), settings),) = FakeModule.launched
    assert (blocks, threads, settings) == ((3, 2), (512,), {"shared_mem": 100 << 10})
    assert [(type(a), int(a)) for a in arguments] == [(np.uint64, 0), (np.int32, 7)]
    (kernel,) = launcher._kernels.values()
    assert kernel.max_dynamic_shared_size_bytes == 100 << 10
    launcher.run(unit, "tile_forward", (3,), 512, [], 60 << 10)
    assert kernel.max_dynamic_shared_size_bytes == 100 << 10


def test_the_shared_memory_limit_is_per_device(monkeypatch):
    launcher, device_of = fake_launcher(monkeypatch)
    assert launcher.shared_limit() == 97000
    device_of.now = 1
    assert launcher.shared_limit() == 97001


# On the command line, and in the tests of a GPU


@pytest.mark.parametrize("line", ["train --data shapes10 --ops cuda", "check --ops cuda"])
def test_the_command_line_says_what_is_missing(line, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    no_cupy(monkeypatch)
    status, _, error = call(line, capsys)
    assert status == 2
    assert error == (
        "minise: the cuda back end cannot run: CuPy is not installed: pip install -e '.[cuda13]', "
        "or '.[cuda12]' for a driver below 580\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["profile", "bench cpu", "bench scaling"])
def test_verbs_that_time_on_the_cpu_refuse_cuda(verb, capsys):
    status, _, error = call(f"{verb} --ops cuda", capsys)
    assert status == 2
    assert (
        "ops is 'cuda', expected a back end that runs on the CPU: kernels on a GPU run async"
        in error
    )


def test_doctor_says_what_is_missing(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    no_cupy(monkeypatch)
    status, out, _ = call("doctor", capsys)
    assert status == 0
    assert "CuPy is not installed: pip install -e '.[cuda13]', or '.[cuda12]'" in out


@pytest.mark.skipif(cuda.missing() is None, reason="there is a GPU: its tests run")
@pytest.mark.parametrize(("required", "status"), [("0", 0), ("1", 1)])
def test_tests_for_a_gpu_are_skipped_with_the_reason_or_fail(required, status):
    command = [sys.executable, "-m", "pytest", "-q", "-rsfE", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/ops/cuda/test_kernels.py", "-k", "on_a_gpu and max_pool"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "MINISE_REQUIRE_GPU": required, "COLUMNS": "300"},
    )
    expected = "MINISE_REQUIRE_GPU is 1, but " if required == "1" else ""
    assert done.returncode == status, done.stdout
    assert f"{expected}{cuda.missing()}" in done.stdout
