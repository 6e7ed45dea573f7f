"""The ops compiled by Numba: same names, same signatures, same caches, fast on a CPU.

Each function stands in the file that has its name in minise/ops/reference. A function that no file
here defines, as there is nothing to compile in it, is the reference's.
"""

from typing import TYPE_CHECKING

from minise.ops import reference
from minise.ops.exports import exported
from minise.ops.jit.compiler.compile import on_compile as on_compile
from minise.ops.jit.using import using as using
from minise.ops.reference import FUNCTIONS as FUNCTIONS
from minise.ops.reference import require as require

_functions = {name: getattr(reference, name) for name in FUNCTIONS}
_functions |= exported(__name__)
folds = True  # nets predict by the functions for inference

if TYPE_CHECKING:  # type checkers and editors go by these lines, one for each file with functions
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
