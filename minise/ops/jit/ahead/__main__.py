"""Compile the kernels of the backward pass, in the order in which a training step needs them.

compiler/compile.py starts `python -m minise.ops.jit.ahead --until-stdin-ends` when the first
training begins; with this option it ends when the process that started it does. The reference
computes the caches that backward takes, so that no forward kernel is compiled here.
"""

import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from minise.ops import jit, reference
from minise.ops.jit.vector.simd import lanes_of

FLOAT = np.dtype(np.float32)  # the dtype of training


def main() -> None:
    """Compile the kernels one after another, by running each backward once."""
    for backward, forward, arrays, settings in workloads():
        out, cache = forward(*arrays, **settings)
        backward(np.ones_like(out), cache)


def workloads() -> Iterator[tuple[Any, Any, tuple[Any, ...], dict[str, Any]]]:
    """Yield (backward, forward, arrays, settings) with small inputs, in backward's order.

    They run from the end of a residual net to its strided convolutions. dx needs no workload: it
    uses the kernels of forward.
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
    yield without_dx, conv, (images, filters), {**padding, "stride": (2, 2)}


def end_after_stdin() -> None:
    """End this process at the end of its standard input, also during a compilation."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    if "--until-stdin-ends" in sys.argv:
        threading.Thread(target=end_after_stdin, daemon=True).start()
    main()
