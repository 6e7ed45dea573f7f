"""The algorithms that compute a convolution."""
