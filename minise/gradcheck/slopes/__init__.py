"""Numerical derivatives of forward along a direction, with bounds on their error.

A slope is the directional derivative of <dout, out> with respect to one input. Gradients are
compared with slopes. Read differences.py first. No file in this folder imports a file above it.

differences.py     slopes by a complex step, by central differences, or by one step if linear
rounding.py        rounding errors: bounds from the number of terms, and measurements
evidence.py        one gradient against slopes at many step sizes
complex_steps.py   decide whether a complex step through an unknown forward can be trusted
pair.py            a forward and a backward at some inputs: gradients, directions, lines
pair_slopes.py     slopes of a pair, by the method that the mode selects
arrays.py          arrays of any library and containers of them: convert, copy, compare, perturb
"""
