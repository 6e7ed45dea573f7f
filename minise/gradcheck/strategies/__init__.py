"""Hypothesis strategies of a function's inputs, from a line such as "x: N C H W, s: N C"."""

from minise.gradcheck.strategies.of_shapes import PLAIN as PLAIN
from minise.gradcheck.strategies.of_shapes import Case as Case
from minise.gradcheck.strategies.of_shapes import cases as cases
