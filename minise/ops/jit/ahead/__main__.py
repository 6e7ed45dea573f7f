"""Compiles the kernels of a backward pass, in the order in which a net's training meets them.

`python -m minise.ops.jit.ahead` is started by compiler/compile.py when a first training begins. The
caches that backward takes are made by the reference, so that no forward is compiled here.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from minise.ops import jit, reference
from minise.ops.jit.vector.simd import lanes_of

FLOAT = np.dtype(np.float32)  # what nets are trained in


def main() -> None:
    """Compile one kernel after the other."""
    for backward, forward, arrays, settings in works():
        out, cache = forward(*arrays, **settings)
        backward(np.ones_like(out), cache)


def works() -> Iterator[tuple[Any, Any, tuple[Any, ...], dict[str, Any]]]:
    """Yield backward and forward functions with small inputs.

    They go from the end of a residual net to where it strides. How dx is found at stride 1 is not
    among them, as forward does the same.
    """
    C, rng = lanes_of(FLOAT), np.random.default_rng(0)

    def some(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(FLOAT)

    images = some(2, C, 8, 8)
    running = {"running_mean": some(C), "running_var": abs(some(C)), "training": True}
    dense = some(2, C), some(2), some(C, 2), some(C)
    filters, padding = some(C, C, 3, 3), {"padding": (1, 1)}
    conv, norm = reference.conv2d_forward, reference.se_block_tail_forward
    yield jit.se_block_tail_backward, norm, (images, some(C), some(C), *dense, images), running
    without_dx = partial(jit.conv2d_backward, needs_dx=False)
    yield without_dx, conv, (images, filters), padding
    yield jit.conv2d_backward, conv, (images, filters), {**padding, "stride": (2, 2)}


if __name__ == "__main__":
    main()
