"""Hypothesis strategies for the inputs of a function, from a line such as "x: N C H W, s: N C".

Read of_shapes.py first: it has an example. Hypothesis is imported only when `cases` is first used,
so that drawing.py works without it.

of_shapes.py      cases(line), the strategy
drawing.py        draw the arrays of a line for chosen sizes, in several memory layouts
failing_case.py   Case: one drawn set of arrays and settings, and its gradient check
reproduce.py      write a check as a program that runs without Hypothesis
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minise.gradcheck.strategies.of_shapes import PLAIN, Case, cases

__all__ = ["PLAIN", "Case", "cases"]


def __getattr__(name: str) -> Any:
    """Return cases, Case or PLAIN, from of_shapes.py."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from minise.gradcheck.strategies import of_shapes

    return getattr(of_shapes, name)
