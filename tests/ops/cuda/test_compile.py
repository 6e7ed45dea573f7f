"""Every kernel compiles for every supported architecture without register spills."""

import numpy as np
import pytest

from minise.ops.cuda.launcher import parameters, source
from tests.ops.cuda.compiler import NEEDED, CompilerError, by_nvcc, compiler, uses

FILES = ["squeeze_excite.cu", "squeeze_excite_tile.cu", "block_tail.cu", "windows.cu", "sgd.cu"]
CHIPS = {75: "Turing", 80: "Ampere", 90: "Hopper"}
MAX_REGISTERS = 64  # per thread: 1024 threads fit into a multiprocessor's 65536 registers

pytestmark = pytest.mark.skipif(compiler() is None, reason=f"no CUDA compiler: {NEEDED}")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiles_without_spills(file, chip, dtype):
    unit = source(file, np.dtype(dtype))
    kernels = uses(unit.text, chip, unit.defines)
    assert set(kernels) == set(parameters(unit.text))
    for kernel, use in kernels.items():
        assert (use.spilled, use.stack) == (0, 0), kernel
        assert use.registers <= MAX_REGISTERS, kernel


def test_a_misspelt_name_does_not_compile():
    unit = source("sgd.cu", np.dtype(np.float32))
    with pytest.raises(CompilerError, match="identifier .momentums. is undefined"):
        uses(unit.text.replace("momentum *", "momentums *"), 90, unit.defines)


def test_a_spill_is_reported():
    """Sixty-four sums in 32 registers."""
    text = """extern "C" __global__ void __launch_bounds__(1024, 2) crowded(float* a) {
      float sum[64];
      for (int k = 0; k < 64; k++) sum[k] = a[k * 1024 + threadIdx.x];
      __syncthreads();
      for (int k = 0; k < 64; k++) a[k * 1024 + threadIdx.x] = sum[k] * sum[63 - k];
    }"""
    assert uses(text, 90, ())["crowded"].spilled > 0


@pytest.mark.skipif(compiler() is by_nvcc, reason="the tests above run nvcc already")
def test_nvcc_agrees_with_nvrtc():
    unit = source("squeeze_excite.cu", np.dtype(np.float32))
    try:
        report = by_nvcc(unit.text, 90, unit.defines)
    except FileNotFoundError:
        pytest.skip("no nvcc on the PATH")
    assert report.count("0 bytes spill stores") == len(parameters(unit.text))
