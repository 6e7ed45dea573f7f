"""Check a hand-written backward pass against its forward pass.

Read check.py first: it says what is compared with what, and when the two agree.

check.py      check and assert_gradients: a forward and a backward at some inputs
layers.py     check_layer and assert_layer_gradients: a layer or a net, with its parameters
adapters.py   makes layers, and functions of another form, a pair that check takes
inputs.py     the arguments of a check, read and refused
verdict.py    right, wrong or could not be checked: a gradient against slopes of forward
diagnose.py   the worst entries of a wrong gradient, and the likely mistake
report.py     the result as objects, as text and as JSON
slopes/       the derivative of forward along a direction, and bounds on its error
strategies/   Hypothesis strategies for tests of an op of your own
"""

from minise.gradcheck.check import assert_gradients, check
from minise.gradcheck.layers import assert_layer_gradients, check_layer
from minise.gradcheck.report import ArgumentReport, Report

__all__ = [
    "ArgumentReport",
    "Report",
    "assert_gradients",
    "assert_layer_gradients",
    "check",
    "check_layer",
]
