"""A second process that compiles the backward pass during the first forward pass of training."""
