"""By how much two right back ends may differ: what rounding can do, entry by entry.

Two sums of the same terms in different orders differ by at most one rounding of the terms'
magnitude for each term. So the spec of every op bounds, by its `magnitudes`, what the terms of out
and of each gradient add up to, all taken as positive: by one of the three functions below, or,
where an op does one thing after another and an error on the way grows by what comes behind it, by
its own function, which follows the op step by step, to first order.

Results may differ by 2 * count_of(inputs, out) * eps times their magnitude: 4 eps times it where
the only input is one number. If the two back ends' roundings can add up to more, which shows at
small sizes only, the magnitudes have to be larger by a factor.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from minise.checks import Array
from minise.ops import reference

# inputs, keywords, dout -> one bound for out and one for each gradient, entry by entry
Magnitudes: TypeAlias = Callable[[Sequence[Any], dict[str, Any], Array], list[Any]]


def selecting(op: str) -> Magnitudes:
    """Return the magnitudes of an op that only selects from its numbers."""

    def magnitudes(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
        out, cache = getattr(reference, f"{op}_forward")(*inputs, **keywords)
        return [abs(out), *getattr(reference, f"{op}_backward")(abs(dout), cache)]

    return magnitudes


def pointwise(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Bound a function of each number of x whose slopes are at most 1."""
    return [1 + abs(inputs[0]), abs(dout)]


def sums_of_products(op: str) -> Magnitudes:
    """Return the magnitudes of an op that adds up products."""

    def magnitudes(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
        positive = [a if a is None or a.dtype == bool else abs(a) for a in inputs]
        out, cache = getattr(reference, f"{op}_forward")(*positive, **keywords)
        return [out, *getattr(reference, f"{op}_backward")(abs(dout), cache)]

    return magnitudes


def count_of(inputs: Sequence[Any], out: Array) -> int:
    """Return how many numbers an op has: no sum in it is longer."""
    return int(out.size + sum(a.size for a in inputs if a is not None))
