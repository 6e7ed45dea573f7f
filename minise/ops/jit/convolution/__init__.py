"""The ways of computing a convolution."""
