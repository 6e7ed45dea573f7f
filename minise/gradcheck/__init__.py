"""Check a hand-written backward pass against its forward pass.

Read check.py first: it explains which two numbers are compared, and with what tolerance.

check.py      check and assert_gradients, for a forward and a backward at some inputs
layers.py     check_layer and assert_layer_gradients, for a layer or a net with its parameters
adapters.py   adapt layers, and functions of another form, to the pair that check takes
inputs.py     validate the arguments of a check
verdict.py    decide whether a gradient is right, wrong, or could not be checked
diagnose.py   list the worst entries of a wrong gradient and name the likely mistake
report.py     the result as objects, as text and as JSON
slopes/       the derivative of forward along a direction, with bounds on its error
strategies/   Hypothesis strategies for testing an op of your own
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
