"""Hypothesis strategies that draw cases: axes of size 1 and up, random settings."""

from typing import Any, TypeAlias

from hypothesis import strategies as st

from minise.contract.case import Case, optional

Strategy: TypeAlias = st.SearchStrategy[Any]

SEEDS = st.integers(0, 2**32 - 1)
AXIS = st.integers(1, 4)  # the size of one axis


def pairs(low: int, high: int) -> Strategy:
    """Return a strategy for pairs (rows, columns), each from low to high."""
    return st.tuples(st.integers(low, high), st.integers(low, high))


def sizes_of(names: str, **axes: Strategy) -> Strategy:
    """Return a strategy for sizes: AXIS for each letter in names, or the strategy in axes."""
    return st.fixed_dictionaries(dict.fromkeys(names, AXIS) | axes)


@st.composite
def images_for(draw: Any, windows: Any) -> list[int]:
    """Draw H, W large enough for one window; `windows` has (kernel span, padding) per axis."""
    return [max(1, span - 2 * pad) + draw(st.integers(0, 4)) for span, pad in windows]


@st.composite
def normalisation_cases(draw: Any, /, op: str, names: str = "NCHW", **more: Any) -> Case:
    """Draw a case of an op with batch normalisation; `more` has strategies for further settings."""
    sizes = draw(sizes_of(names))
    one_pixel = sizes["N"] * sizes["H"] * sizes["W"] == 1  # no batch statistics
    setting = dict(
        training=False if one_pixel else draw(st.booleans()),
        momentum=draw(st.sampled_from([0, 0.1, 1])),
        eps=draw(st.sampled_from([1e-5, 1e-3, 1.0])),
        **draw(st.fixed_dictionaries(more)),
    )
    return Case(op, sizes, setting)


def elementwise_cases(op: str, **setting: Any) -> Strategy:
    """Return a strategy for cases of an elementwise op: one shape of 0 to 4 axes."""
    shapes = st.lists(AXIS, max_size=4).map(tuple)
    return st.builds(
        lambda shape, setting: Case(op, {"...": shape}, setting),
        shapes,
        st.fixed_dictionaries(setting),
    )


def cases_with_axes(op: str, names: str, **setting: Any) -> Strategy:
    """Return a strategy for cases of an op whose axes are the letters in names."""
    return st.builds(
        lambda sizes, setting: Case(op, sizes, setting),
        sizes_of(names),
        st.fixed_dictionaries(setting),
    )


def without(op: str) -> Strategy:
    """Return a strategy for the set of optional arrays to omit."""
    names = optional(op)
    return st.sets(st.sampled_from(names)) if names else st.just(set())
