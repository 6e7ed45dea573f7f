"""See every number of a backward pass, line by line: as objects, as text, as a page."""

from minise.walk.steps import Check, Read, Step, Trace
from minise.walk.trace import trace

__all__ = ["Check", "Read", "Step", "Trace", "trace"]
