"""Numerical slopes of forward, and bounds on their error: what a gradient is compared with.

The slope is the derivative of <dout, out> where an input moves along a direction. Read
differences.py first. Nothing here imports the files above this folder.

differences.py     the slope by a complex step, by central differences or by one step of a line
rounding.py        what rounding costs, as a bound and as measured
evidence.py        what slopes at steps of many sizes tell about one gradient
complex_steps.py   where a complex step through an unknown forward can be believed
pair.py            a forward and a backward at some inputs: gradients, directions, lines
pair_slopes.py     the slopes of a pair, computed as the mode asks
arrays.py          arrays of any library and containers of them: convert, copy, compare, perturb
"""
