"""See every number of a backward pass, line by line: as objects, as text, as a page.

`trace` runs an op or a net forward and backward on small arrays and returns a `Trace`, in which
every line has its formula, its numbers, its derivatives and the check of its gradient. Text shows a
trace in the terminal, page shows it in a browser, and pages writes one page for each op.
"""

from minise.tracing.slopes import Check
from minise.walk.steps import Read, Step, Trace
from minise.walk.trace import trace

__all__ = ["Check", "Read", "Step", "Trace", "trace"]
