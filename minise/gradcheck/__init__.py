"""Check a hand-written backward pass against its forward pass."""

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
