"""The optimiser's update, compiled; see minise.ops.reference.arrays."""

from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.vector.layout import flat
from minise.ops.reference import arrays as reference


def sgd_update(
    param: Array,
    grad: Array,
    velocity: Array,
    *,
    rate: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """See minise.ops.reference.sgd_update."""
    if not (param.flags.c_contiguous and velocity.flags.c_contiguous):
        reference.sgd_update(
            param,
            grad,
            velocity,
            rate=rate,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
        )
        return
    numbers = flat(grad, like=param)
    settings = float(rate), float(momentum), bool(nesterov), float(weight_decay)
    _update(param.reshape(-1), numbers, velocity.reshape(-1), *settings)


@kernel
def _update(param, grad, velocity, rate, momentum, nesterov, weight_decay):
    for i in prange(len(param)):
        g = grad[i] + weight_decay * param[i]
        v = momentum * velocity[i] + g
        velocity[i] = v
        param[i] -= rate * (g + momentum * v if nesterov else v)
