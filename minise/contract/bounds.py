"""Bound the rounding error between two correct back ends, elementwise.

Two sums of the same terms in different orders differ by at most, for each term, one rounding error
of the sum of their absolute values. The spec of each op therefore has `magnitudes`: the sums of the
absolute terms of out and of each gradient. Most specs use one of the three functions below. An op
of several steps, where later steps amplify earlier errors, has its own function, which propagates
the error step by step, to first order.

The tolerance is 2 * count_of(inputs, out) * eps * magnitude, so 4 eps * magnitude if the only input
has one element. If the rounding errors of the two back ends can exceed that, which happens at small
sizes only, the op's magnitudes include a larger factor.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from minise.checks import Array
from minise.ops import reference

# inputs, keywords, dout -> the magnitudes of out and of each gradient, elementwise
Magnitudes: TypeAlias = Callable[[Sequence[Any], dict[str, Any], Array], list[Any]]


def selecting(op: str) -> Magnitudes:
    """Return the magnitudes function of an op that only selects elements."""

    def magnitudes(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
        out, cache = getattr(reference, f"{op}_forward")(*inputs, **keywords)
        return [abs(out), *getattr(reference, f"{op}_backward")(abs(dout), cache)]

    return magnitudes


def pointwise(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Return the magnitudes of an elementwise function whose derivative is at most 1."""
    return [1 + abs(inputs[0]), abs(dout)]


def sums_of_products(op: str) -> Magnitudes:
    """Return the magnitudes function of an op that computes sums of products."""

    def magnitudes(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
        positive = [a if a is None or a.dtype == bool else abs(a) for a in inputs]
        out, cache = getattr(reference, f"{op}_forward")(*positive, **keywords)
        return [out, *getattr(reference, f"{op}_backward")(abs(dout), cache)]

    return magnitudes


def count_of(inputs: Sequence[Any], out: Array) -> int:
    """Return the number of elements of inputs and out, an upper bound on the length of any sum."""
    return int(out.size + sum(a.size for a in inputs if a is not None))
