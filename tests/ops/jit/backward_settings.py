"""The settings of conv2d_backward: what they leave out or add, and nothing else."""

import numpy as np

from minise.ops import jit


def check_settings(dout, cache, gradients, plus, ops=jit):
    """Compare backward with plus, and without dx, with the gradients without settings, to the bit.

    plus has to be integers if dx is scattered: there the sum begins with it.
    """
    dx, *params = gradients
    both, *same = ops.conv2d_backward(dout, cache, plus=plus)
    np.testing.assert_array_equal(both, dx + plus, strict=True)
    none, *alone = ops.conv2d_backward(dout, cache, needs_dx=False)
    assert none is None
    for one, other, wanted in zip(same, alone, params, strict=True):
        np.testing.assert_array_equal(one, wanted)
        np.testing.assert_array_equal(other, wanted)
