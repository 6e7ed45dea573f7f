"""The ops in NumPy: the specification, written to be read.

Each function stands in the file of its family, such as relu_forward in activation.py. Exported are
those that class Backend of minise/ops/protocol.py declares.
"""

from typing import TYPE_CHECKING

from minise.ops.exports import exported
from minise.ops.reference.using import on_compile as on_compile
from minise.ops.reference.using import require as require
from minise.ops.reference.using import using as using

_functions = exported(__name__)
FUNCTIONS: list[str] = sorted(_functions)  # of the contract: all but those that say how ops are run
folds = True  # nets predict by the functions for inference

if TYPE_CHECKING:  # type checkers and editors go by these lines, one for each file with functions
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
