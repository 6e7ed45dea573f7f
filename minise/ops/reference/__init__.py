"""The ops in NumPy: the specification, written to be read.

Each function is in the file of its family, such as relu_forward in activation.py. The package
exports the functions that class Backend of minise/ops/protocol.py declares.
"""

import sys
from typing import TYPE_CHECKING, cast

from minise.checks import check_one_algorithm
from minise.ops.exports import exported
from minise.ops.protocol import Backend
from minise.ops.reference.running import on_compile as on_compile
from minise.ops.reference.running import require as require

_functions = exported(__name__)
FUNCTIONS: list[str] = sorted(_functions)  # without require, using and on_compile
folds = True  # nets predict with the functions for inference

if TYPE_CHECKING:  # for type checkers and editors: one line per file
    from minise.ops.reference.activation import *
    from minise.ops.reference.arrays import *
    from minise.ops.reference.combine import *
    from minise.ops.reference.conv import *
    from minise.ops.reference.fused import *
    from minise.ops.reference.inference import *
    from minise.ops.reference.linear import *
    from minise.ops.reference.loss import *
    from minise.ops.reference.norm import *
    from minise.ops.reference.pool import *
    from minise.ops.reference.shape import *
    from minise.ops.reference.squeeze_excite import *
else:
    globals().update(_functions)
    __all__ = FUNCTIONS


def using(*, threads: int | None = None, algorithm: str | None = None) -> Backend:
    """Return these ops: they have no settings to change.

    Parameters
    ----------
    threads : int, optional
        Ignored: the ops have no threads of their own, and BLAS has its own setting.
    algorithm : {"auto"}, optional
        Algorithm of convolutions.

    Raises
    ------
    ValueError
        If another algorithm is chosen.
    """
    check_one_algorithm("reference", algorithm)
    return cast(Backend, sys.modules[__name__])
