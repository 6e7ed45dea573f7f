"""Check the settings of conv2d_backward: plus is added to dx, needs_dx=False only omits dx."""

import numpy as np

from minise.ops import jit


def check_settings(dout, cache, gradients, plus, ops=jit):
    """Assert that backward with plus, and without dx, has the bits of `gradients` otherwise."""
    dx, *params = gradients
    dx_with_plus, *params_with_plus = ops.conv2d_backward(dout, cache, plus=plus)
    np.testing.assert_array_equal(dx_with_plus, dx + plus, strict=True)
    no_dx, *params_without_dx = ops.conv2d_backward(dout, cache, needs_dx=False)
    assert no_dx is None
    for with_plus, without_dx, wanted in zip(
        params_with_plus, params_without_dx, params, strict=True
    ):
        np.testing.assert_array_equal(with_plus, wanted)
        np.testing.assert_array_equal(without_dx, wanted)
