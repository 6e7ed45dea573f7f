"""Check a hand-written backward pass against its forward pass."""

from minise.gradcheck.check import assert_gradients

__all__ = ["assert_gradients"]
