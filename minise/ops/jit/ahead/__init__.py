"""A second process that compiles the backward pass while a first training step goes forward."""
