"""The ops on an NVIDIA GPU: raw CUDA kernels through CuPy, same names, signatures and caches.

Arrays are CuPy's: `asarray` makes them of NumPy's, `asnumpy` brings them back. The package can be
imported everywhere; without CuPy, a driver or a GPU the first call says what is missing.

    common.cuh                 what kernels are built of: chunks, sums of lanes, gates
    squeeze_excite.cu          the SE block, a kernel a line of NumPy: where to begin reading
    squeeze_excite_tile.cu     the SE block, each pixel read once
    block_tail.cu              batch normalisation, and the ends of residual units
    windows.cu                 convolution as a matrix product, and pooling
    sgd.cu                     the update

The files of Python beside them choose a kernel, allocate what it writes and start it; the launcher
that does so is a value (launcher.py), so that the tests run both in an emulator on a CPU. Ops that
have no file here are the reference's, see backend.py. Kernels run on CuPy's current stream, and
nothing waits for them but `asnumpy` and whoever looks at a number.
"""

from typing import Any

from minise.ops import reference
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.cupy_launcher import CudaMissing as CudaMissing
from minise.ops.cuda.cupy_launcher import Cupy
from minise.ops.cuda.cupy_launcher import describe as describe
from minise.ops.cuda.cupy_launcher import missing as missing
from minise.ops.cuda.cupy_launcher import require as require

__all__ = reference.FUNCTIONS
folds = Backend.folds
_ops = Backend(Cupy())


def __getattr__(name: str) -> Any:
    """Return one of the ops."""
    return getattr(_ops, name)


def __dir__() -> list[str]:
    """Return all names, also of ops that nobody has asked for yet."""
    return sorted({*globals(), *reference.FUNCTIONS, "on_compile", "using"})
