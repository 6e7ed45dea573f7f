"""The ops compiled by Numba: same names, same signatures, same caches, fast on a CPU.

Each function is in the file of the same name as in minise/ops/reference. Functions that are not
defined here are the reference's: there is nothing in them to compile.
"""

import sys
from typing import TYPE_CHECKING

from minise.ops import reference
from minise.ops.exports import exported
from minise.ops.jit.compiler.compile import on_compile as on_compile
from minise.ops.jit.running import configure
from minise.ops.protocol import Backend
from minise.ops.reference import FUNCTIONS as FUNCTIONS
from minise.ops.reference import require as require

_functions = {name: getattr(reference, name) for name in FUNCTIONS}
_functions |= exported(__name__)
folds = True  # nets use the inference functions to predict

if TYPE_CHECKING:  # for type checkers and editors: one line for each file with functions
    from minise.ops.reference import *  # type: ignore[assignment]  # on_compile is jit's

    # isort: split
    from minise.ops.jit.activation import *
    from minise.ops.jit.arrays import *
    from minise.ops.jit.combine import *
    from minise.ops.jit.conv import *
    from minise.ops.jit.fused import *
    from minise.ops.jit.inference import *  # type: ignore[assignment]  # as PreparedConv2d is
    from minise.ops.jit.linear import *
    from minise.ops.jit.loss import *
    from minise.ops.jit.norm import *
    from minise.ops.jit.pool import *
    from minise.ops.jit.shape import *
    from minise.ops.jit.squeeze_excite import *
else:
    globals().update(_functions)
    __all__ = FUNCTIONS


def using(  # type: ignore[no-redef]  # the reference has a function `using`, too
    *, threads: int | None = None, algorithm: str | None = None
) -> Backend:
    """Return a back end with the same functions and the given settings.

    Parameters
    ----------
    threads : int, optional
        Number of threads, from 1 to the number that Numba has started: the machine's cores, or the
        environment variable NUMBA_NUM_THREADS. Results are bit-identical for any number.
    algorithm : {"auto", "direct", "winograd"}, optional
        Algorithm of convolutions; convolution/algorithm.py states the rule of "auto". Results of
        different algorithms differ in their bits.

    Raises
    ------
    ValueError, TypeError
        If threads is not an integer in this range, or algorithm is not one of the three.
    """
    return configure(sys.modules[__name__], threads, algorithm)
