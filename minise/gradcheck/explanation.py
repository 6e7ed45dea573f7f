"""What a wrong gradient has wrong: its worst entries beside the right ones, and a diagnosis."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from minise.gradcheck.diagnose import Case, Diagnosis, diagnose
from minise.gradcheck.report import WRONG, ArgumentReport, Entry
from minise.gradcheck.slopes.arrays import host
from minise.gradcheck.slopes.pair import Pair
from minise.gradcheck.slopes.pair_slopes import PairSlopes
from minise.gradcheck.slopes.rounding import norm

LOOKED_AT = 4000  # entries of a wrong gradient at most
SHOWN = 3  # wrong entries


def explained(slopes: PairSlopes, one: ArgumentReport, names: Sequence[str]) -> ArgumentReport:
    """Add to a wrong gradient its worst entries and a diagnosis."""
    pair, size = slopes.pair, prod(one.shape)
    if one.verdict != WRONG or one.problem or size > LOOKED_AT:
        return one
    right, wrong = slopes.gradient(one.index), host(pair.gradients[one.index])
    off = abs(wrong - right) > 1e-6 * (abs(right) + norm((right,)) / np.sqrt(size))
    entries = [
        Entry(tuple(map(int, place)), float(wrong[tuple(place)]), float(right[tuple(place)]))
        for place in np.argwhere(off)
    ]
    others = (
        (names[k], slopes.gradient(k))
        for k, value in enumerate(map(host, pair.inputs))
        if k != one.index
        and value is not None
        and value.shape == one.shape
        and value.dtype.kind == "f"
    )
    value = host(pair.inputs[one.index])
    answer: Diagnosis = diagnose(Case(wrong, right, value, others, _sizes(pair)))
    return replace(
        one,
        entries=worst_first(entries),
        wrong_share=len(entries) / max(size, 1),
        diagnosis=answer,
    )


def worst_first(entries: list[Entry]) -> tuple[Entry, ...]:
    """Return the entries with the largest errors; equal ones, but for rounding, as they stand."""
    return tuple(sorted(entries, key=lambda one: -float(f"{one.error:.6e}"))[:SHOWN])


def _sizes(pair: Pair) -> dict[str, int]:
    """Return the sizes that factors are made of, read off the first input and out."""
    sizes = {}
    shape = host(pair.inputs[0]).shape if pair.inputs[0] is not None else ()
    if len(shape) == 4:
        N, C, H, W = map(int, shape)
        sizes = {"N": N, "H*W": H * W, "N*H*W": N * H * W, "C": C}
    elif shape:
        sizes = {"N": shape[0], "size": prod(shape), "last axis": shape[-1]}
    windows = pair.douts[0].shape[2:]
    return {**sizes, "OH*OW": prod(windows)} if len(windows) == 2 else sizes
