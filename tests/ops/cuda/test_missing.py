"""The cuda back end without CuPy, a driver or a GPU: what is missing, and how to install it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minise.ops import cuda
from minise.ops.backend import backend, load_ops
from minise.ops.cuda import cupy_launcher, requirements
from minise.ops.cuda.backend import Backend
from tests.cli.commands import call
from tests.ops.cuda.fake_cupy import fake_cupy

ROOT = Path(__file__).parents[3]
FLOAT = np.dtype(np.float32)


def two_builds(monkeypatch):
    fake_cupy(monkeypatch)
    monkeypatch.setattr(requirements, "_cupy_builds", lambda: ["cupy-cuda12x", "cupy-cuda13x"])


def no_cupy(monkeypatch):
    monkeypatch.setattr(requirements.importlib.util, "find_spec", lambda name: None)


def broken_cupy(monkeypatch):
    monkeypatch.setattr(requirements.importlib.util, "find_spec", lambda name: name)
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
    "an older driver": (
        lambda patch: fake_cupy(patch, devices=TOO_OLD, driver=12040, version=13000),
        r"CuPy is built for CUDA 13.0, but the driver supports CUDA 12.4 at most \(cuda.*\): "
        r"pip uninstall cupy-cuda13x, then pip install -e '.\[cuda12\]', or install a newer driver",
    ),
    "one of two builds": (
        two_builds,
        "cupy-cuda12x and cupy-cuda13x are both installed, but .*: pip uninstall cupy-cuda12x cup",
    ),
    "cublas": (
        lambda patch: fake_cupy(patch, cublas=False),
        r"cuBLAS, which multiplies matrices, is not found \(Failure .*cublasLt.*\): pip install",
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
