"""The ops on an NVIDIA GPU: CUDA kernels launched through CuPy, with the reference's signatures.

Arrays are CuPy's: `asarray` copies NumPy arrays to the GPU, `asnumpy` copies them back. The package
can be imported on any machine; without CuPy, a driver or a GPU the first call raises ImportError.

    common.cuh                 device functions of all kernels: chunks, warp sums, gates
    squeeze_excite.cu          the SE block, one kernel per line of NumPy: read this file first
    squeeze_excite_tile.cu     the SE block, each pixel read once
    block_tail.cu              batch normalisation, and the ends of residual units
    windows.cu                 convolution as a matrix product, and pooling
    cross_entropy.cu           softmax cross-entropy
    sgd.cu, copy.cu            the parameter update, and copies of many arrays

The Python files choose a kernel, allocate its outputs and launch it. The launcher is an argument
(launcher.py), so that the tests run Python files and kernels in an emulator on the CPU. Ops without
a file here call the reference's code (backend.py). Kernels run asynchronously on CuPy's current
stream; only `asnumpy` and reading a number wait for them.
"""

from typing import Any

from minise.ops import reference
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.cupy_launcher import Cupy
from minise.ops.cuda.requirements import CudaMissing as CudaMissing
from minise.ops.cuda.requirements import describe as describe
from minise.ops.cuda.requirements import missing as missing
from minise.ops.cuda.requirements import require as require

__all__ = reference.FUNCTIONS
folds = Backend.folds
_ops = Backend(Cupy())


def __getattr__(name: str) -> Any:
    """Return an op of the back end."""
    return getattr(_ops, name)


def __dir__() -> list[str]:
    """Return all names, including ops that have not been used yet."""
    return sorted({*globals(), *reference.FUNCTIONS, "on_compile", "using"})
