"""Hypothesis strategies of cases: sizes down to 1, settings down to none."""

from typing import Any, TypeAlias

from hypothesis import strategies as st

from minise.contract.case import Case, optional

Strategy: TypeAlias = st.SearchStrategy[Any]

SEEDS = st.integers(0, 2**32 - 1)
AXIS = st.integers(1, 4)


def pairs(low: int, high: int) -> Strategy:
    """Return a strategy of (rows, columns)."""
    return st.tuples(st.integers(low, high), st.integers(low, high))


def sizes_of(names: str, **axes: Strategy) -> Strategy:
    """Return a strategy of sizes: of the axes that are named, and of those that have their own."""
    return st.fixed_dictionaries(dict.fromkeys(names, AXIS) | axes)


@st.composite
def images_for(draw: Any, windows: Any) -> list[int]:
    """Return H, W that hold at least one window, given (kernel span, padding) of each axis."""
    return [max(1, span - 2 * pad) + draw(st.integers(0, 4)) for span, pad in windows]


@st.composite
def normalised(draw: Any, /, op: str, names: str = "NCHW", **more: Any) -> Case:
    """Return a case of an op that normalises over a batch."""
    sizes = draw(sizes_of(names))
    alone = sizes["N"] * sizes["H"] * sizes["W"] == 1
    setting = dict(
        training=False if alone else draw(st.booleans()),
        momentum=draw(st.sampled_from([0, 0.1, 1])),
        eps=draw(st.sampled_from([1e-5, 1e-3, 1.0])),
        **draw(st.fixed_dictionaries(more)),
    )
    return Case(op, sizes, setting)


def any_shape(op: str, **setting: Any) -> Strategy:
    """Return a strategy of cases of an op whose arrays have one shape, of any number of axes."""
    shapes = st.lists(AXIS, max_size=4).map(tuple)
    return st.builds(
        lambda shape, setting: Case(op, {"...": shape}, setting),
        shapes,
        st.fixed_dictionaries(setting),
    )


def named(op: str, names: str, **setting: Any) -> Strategy:
    """Return a strategy of cases of an op, given the letters of its axes."""
    return st.builds(
        lambda sizes, setting: Case(op, sizes, setting),
        sizes_of(names),
        st.fixed_dictionaries(setting),
    )


def without(op: str) -> Strategy:
    """Return a strategy of the optional arrays to leave out."""
    names = optional(op)
    return st.sets(st.sampled_from(names)) if names else st.just(set())
