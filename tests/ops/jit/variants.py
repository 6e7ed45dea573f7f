"""The variants of conv2d_backward: what they leave out or add, and nothing else."""

import numpy as np

from minise.ops import jit


def check_variants(dout, cache, gradients, plus, ops=jit):
    """Compare the variants with the gradients that conv2d_backward found, to the bit.

    plus has to be integers if dx is scattered: there the sum begins with it.
    """
    dx, *params = gradients
    both, *same = ops.conv2d_backward_plus(dout, cache, plus)
    np.testing.assert_array_equal(both, dx + plus, strict=True)
    none, *alone = ops.conv2d_backward_params(dout, cache)
    assert none is None
    for one, other, wanted in zip(same, alone, params, strict=True):
        np.testing.assert_array_equal(one, wanted)
        np.testing.assert_array_equal(other, wanted)
