"""Trace a forward and a backward pass line by line, and show every number: as text or as a page.

`trace` runs an op or a net forward and backward on small arrays and returns a `Trace`: for every
line its formula, its numbers, its derivatives and, in the backward pass, the check of its gradient.
Module `text` prints a trace in the terminal, `page` writes it as an HTML page, and `pages` writes
one page per op and an index.
"""

from minise.tracing.slopes import Check
from minise.walk.steps import Read, Step, Trace
from minise.walk.trace import trace

__all__ = ["Check", "Read", "Step", "Trace", "trace"]
