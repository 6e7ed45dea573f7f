"""Every kernel compiles for every supported architecture without register spills.

Tested with every installed NVRTC: `.ci/run` installs the oldest supported version and the newest.
"""

import re

import numpy as np
import pytest

from minise.ops.cuda.sources import parameters, source
from tests.ops.cuda.compiler import (
    NEEDED,
    CompilerError,
    build,
    build_text,
    builds,
    by_nvcc,
    compilers,
    label,
)

REGISTERS = 65536  # of a multiprocessor
MAX_THREADS = {75: 1024, 80: 2048, 90: 2048, 100: 2048}  # of a multiprocessor, by chip
MAX_REGISTERS = 64  # per thread: 1024 threads fit into a multiprocessor
BOUNDS = re.compile(r"__launch_bounds__\((\d+)(?:, (\d+))?\) (\w+)\(")

pytestmark = pytest.mark.skipif(not compilers(), reason=f"no CUDA compiler: {NEEDED}")


@pytest.mark.parametrize(("compiler", "file", "dtype", "chip"), builds(compilers()), ids=label)
def test_compiles_without_spills(compiler, file, dtype, chip):
    text = source(file, np.dtype(dtype)).text
    uses = build(compiler, file, dtype, chip).uses
    bounds = {
        kernel: (int(threads), int(blocks or 1)) for threads, blocks, kernel in BOUNDS.findall(text)
    }
    assert set(uses) == set(parameters(text)) == set(bounds)
    for kernel, use in uses.items():
        assert (use.spilled, use.stack) == (0, 0), kernel
        assert use.registers <= MAX_REGISTERS, kernel
        threads, blocks = bounds[kernel]
        resident = min(threads * blocks, MAX_THREADS[chip])
        assert allocated(use.registers) * resident <= REGISTERS, kernel


def allocated(registers):
    """Return the registers that the GPU allocates for a thread, a multiple of eight."""
    return -(-registers // 8) * 8


@pytest.mark.parametrize("compiler", compilers(), ids=label)
def test_a_misspelt_name_does_not_compile(compiler):
    def misspell(text):
        return text.replace("momentum *", "momentums *")

    with pytest.raises(CompilerError, match="error: .* no member .momentums."):
        build(compiler, "sgd.cu", np.float32, 90, misspell)


@pytest.mark.parametrize("compiler", compilers(), ids=label)
def test_a_spill_is_reported(compiler):
    """Sixty-four sums in 32 registers."""
    text = """extern "C" __global__ void __launch_bounds__(1024, 2) crowded(float* a) {
      float sum[64];
      for (int k = 0; k < 64; k++) sum[k] = a[k * 1024 + threadIdx.x];
      __syncthreads();
      for (int k = 0; k < 64; k++) a[k * 1024 + threadIdx.x] = sum[k] * sum[63 - k];
    }"""
    assert build_text(compiler, text, 90, ()).uses["crowded"].spilled > 0


@pytest.mark.skipif(
    any(compiler.compile is by_nvcc for compiler in compilers()),
    reason="the tests above run nvcc already",
)
def test_nvcc_agrees_with_nvrtc():
    unit = source("squeeze_excite.cu", np.dtype(np.float32))
    try:
        report, _ = by_nvcc(unit.text, 90, unit.defines)
    except FileNotFoundError:
        pytest.skip("no nvcc on the PATH")
    assert report.count("0 bytes spill stores") == len(parameters(unit.text))
