"""Explain a wrong gradient: its worst entries beside the right ones, and the likely mistake.

Each rule knows one way in which backward passes go wrong, and answers if that explains the wrong
gradient to within the accuracy of the right one. Rules that explain less come later.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from minise.gradcheck.report import UNKNOWN, WRONG, ArgumentReport, Diagnosis, Entry
from minise.gradcheck.slopes.arrays import host
from minise.gradcheck.slopes.pair import Pair
from minise.gradcheck.slopes.pair_slopes import PairSlopes
from minise.gradcheck.slopes.rounding import norm
from minise.ops.checks import Array

LOOKED_AT = 4000  # entries of a wrong gradient at most
SHOWN = 3  # wrong entries
CLOSE = 1e-5  # relative: far above the error of the right gradient, far below a chance match


class Case(NamedTuple):
    """A wrong gradient beside the right one."""

    wrong: Array  # what backward gave
    right: Array  # forward's slope, entry by entry
    value: Array  # the argument itself
    others: Iterable[tuple[str, Array]]  # names and right gradients of the other arguments
    sizes: dict[str, int]  # sizes that factors are made of, by name, such as N and H*W
    windows: bool = True  # whether the op may have windows that overlap
    axes: tuple[str, ...] = ()  # what an entry of each axis is, such as "channel", where known


def explained(slopes: PairSlopes, argument: ArgumentReport, names: Sequence[str]) -> ArgumentReport:
    """Add to a wrong gradient its worst entries and a diagnosis."""
    pair, size = slopes.pair, prod(argument.shape)
    if argument.verdict != WRONG or argument.problem or size > LOOKED_AT:
        return argument
    right, wrong = slopes.gradient(argument.index), host(pair.gradients[argument.index])
    off = abs(wrong - right) > 1e-6 * (abs(right) + norm((right,)) / np.sqrt(size))
    entries = [
        Entry(tuple(map(int, index)), float(wrong[tuple(index)]), float(right[tuple(index)]))
        for index in np.argwhere(off)
    ]
    others = (
        (names[k], slopes.gradient(k))
        for k, value in enumerate(map(host, pair.inputs))
        if k != argument.index
        and value is not None
        and value.shape == argument.shape
        and value.dtype.kind == "f"
    )
    value = host(pair.inputs[argument.index])
    answer: Diagnosis = diagnose(Case(wrong, right, value, others, _sizes(pair)))
    return replace(
        argument,
        entries=worst_first(entries),
        wrong_share=len(entries) / max(size, 1),
        diagnosis=answer,
    )


def worst_first(entries: list[Entry]) -> tuple[Entry, ...]:
    """Return the entries with the largest errors; equal ones, but for rounding, as they stand."""
    return tuple(sorted(entries, key=lambda entry: -float(f"{entry.error:.6e}"))[:SHOWN])


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


def diagnose(case: Case) -> Diagnosis:
    """Return the first rule's answer that explains the wrong gradient."""
    for rule in RULES:
        for answer in rule(case):
            return answer
    share = float((abs(case.wrong - case.right) > CLOSE * _size(case.right)).mean())
    return Diagnosis(UNKNOWN, f"no known pattern: {share:.0%} of its entries are wrong")


def _size(array: Array) -> float:
    return float(np.sqrt((array * array).mean())) + 1e-300


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and _size(a - b) <= CLOSE * _size(b)


def _zero(case: Case) -> Iterator[Diagnosis]:
    if _size(case.right) > 1e-12 and not case.wrong.any():
        yield Diagnosis("zero", "it is zero: the argument's gradient is not computed, or dropped")


def _not_finite(case: Case) -> Iterator[Diagnosis]:
    if not np.isfinite(case.wrong).all():
        yield Diagnosis("not finite", "it has NaN or infinity: a division by zero, or an overflow")


def _nearly(case: Case) -> Iterator[Diagnosis]:
    share = _size(case.wrong - case.right) / _size(case.right)
    if share < CLOSE:
        text = f"it is off by {share:.0e} of its size: single precision inside, or an eps left out"
        yield Diagnosis("nearly right", text)


def _should_be_zero(case: Case) -> Iterator[Diagnosis]:
    if _size(case.right) <= 1e-9 * _size(case.wrong):
        yield Diagnosis("should be zero", "out does not depend on the argument, but it is not zero")


def _factor(case: Case) -> Iterator[Diagnosis]:
    scale = float(np.vdot(case.right, case.wrong) / np.vdot(case.right, case.right))
    if scale == 0 or not _same(case.wrong, scale * case.right):
        return
    if abs(scale + 1) < CLOSE:
        yield Diagnosis("sign", "it has the wrong sign")
    if abs(scale - 2) < CLOSE:
        yield Diagnosis("factor 2", "it is twice too large: accumulated twice, or a square's 2")
    for name, size in case.sizes.items():
        if size > 1 and abs(scale - size) < CLOSE * size:
            text = f"it is {name} = {size} times too large: a mean whose 1/({name}) is missing"
            yield Diagnosis(f"factor {name}", text)
        if size > 1 and abs(scale * size - 1) < CLOSE:
            text = f"it is {name} = {size} times too small: divided once too often, or a mean "
            square = ", or a square's 2 is missing" if size == 2 else ""
            yield Diagnosis(f"factor 1/{name}", f"{text}instead of a sum{square}")
    yield Diagnosis("factor", f"it is {scale:.6g} times the right one: a constant factor is wrong")


def _swapped(case: Case) -> Iterator[Diagnosis]:
    for name, right in case.others:
        if _same(case.wrong, right):
            yield Diagnosis(
                "swapped", f"it is the gradient of {name}: swapped, or a factor left out"
            )


def _moved(case: Case) -> Iterator[Diagnosis]:
    """Find the same numbers at other places."""
    wrong, right = case.wrong, case.right
    for a in range(wrong.ndim):
        if _same(wrong, np.flip(right, a)) or _same(wrong, np.flip(right)):
            yield Diagnosis("flipped", "its entries stand in reverse order along an axis")
        for b in range(a):
            turned = np.swapaxes(right, a, b)
            if _same(wrong, turned) or _same(wrong, turned.reshape(wrong.shape)):
                yield Diagnosis("transposed", f"axes {b} and {a} are transposed")
    if wrong.ndim >= 2:
        if _same(wrong, np.flip(right, (-2, -1))):
            yield Diagnosis("flipped", "the kernel is flipped in both its axes")
        cut = right.reshape(-1, *right.shape[-2:])
        if _same(wrong, cut.swapaxes(1, 2).reshape(wrong.shape)):
            yield Diagnosis("transposed", "the last two axes are transposed")
    for axis in range(wrong.ndim):
        for shift in range(-2, 3):
            if shift and _same(wrong, np.roll(right, shift, axis)):
                yield Diagnosis("shifted", f"its entries are shifted by {shift} along axis {axis}")
    if wrong.ndim >= 2 and (by := _shift_of_a_part(wrong, right)):
        text = f"it is right but for a shift by {by} (rows, columns): cropped at another place"
        yield Diagnosis("shifted", text)
    if wrong.size > 1 and np.allclose(np.sort(wrong, None), np.sort(right, None), CLOSE, CLOSE):
        yield Diagnosis("permuted", "its numbers are right but stand at the wrong places")


def _shift_of_a_part(wrong: Array, right: Array) -> tuple[int, int] | None:
    """Return by how much the last two axes of wrong are shifted, where they overlap."""
    H, W = wrong.shape[-2:]
    for i, j in [(i, j) for i in range(-2, 3) for j in range(-2, 3) if i or j]:
        if abs(i) >= H - 1 or abs(j) >= W - 1:
            continue
        a = wrong[..., max(i, 0) : H + min(i, 0), max(j, 0) : W + min(j, 0)]
        b = right[..., max(-i, 0) : H + min(-i, 0), max(-j, 0) : W + min(-j, 0)]
        if b.any() and _same(a, b):
            return i, j
    return None


def _missing_mean(case: Case) -> Iterator[Diagnosis]:
    """See whether what is missing is the same for all that share a mean."""
    missing = case.right - case.wrong
    if missing.ndim == 4:
        if _constant(missing, (0, 2, 3)):
            text = "what is missing is one number in each channel: the route through the batch's "
            text += "mean, absent or wrongly scaled"
            yield Diagnosis("missing mean term", text)
        if _constant(missing, (2, 3)):
            text = "what is missing is one number in each channel of an image: the route through "
            text += "the image's mean, as through an SE gate, absent or wrongly scaled"
            yield Diagnosis("missing gate path", text)
        centred = case.value - case.value.mean(axis=(0, 2, 3), keepdims=True)
        if _along(missing, centred, (0, 2, 3)):
            text = "what is missing is a multiple of x - mean in each channel: the route through "
            text += "the batch's variance, absent or wrongly scaled"
            yield Diagnosis("missing variance term", text)
        if _affine(missing, centred, (0, 2, 3)):
            text = "what is missing is affine in x in each channel: the routes through mean and "
            text += "variance, absent or wrongly scaled"
            yield Diagnosis("missing mean and variance terms", text)
        if _along(case.wrong, case.right, (0, 2, 3)):
            yield Diagnosis("channel factor", "each channel has a wrong factor: gamma, or 1 / std")
        if _constant(case.wrong, (2, 3)):
            text = "it is one number in each channel of an image: only the route through a mean "
            yield Diagnosis("missing scale path", f"{text}is there")
        if _along(missing, case.value, (2, 3)) or _along(case.wrong, case.right, (2, 3)):
            text = "each channel of each image has a wrong factor: a gate, or its route through x"
            yield Diagnosis("missing scale path", text)
    elif missing.ndim == 2:
        yield from _missing_in_lines(case, missing)


def _missing_in_lines(case: Case, missing: Array) -> Iterator[Diagnosis]:
    """See the same for what is normalised along the rows or the columns of a matrix."""
    for axis, line in ((1, "row"), (0, "column")):
        if _constant(missing, (axis,)):
            text = f"what is missing is one number in each {line}: the part of a sum (a mean, a "
            yield Diagnosis("missing mean term", f"{text}softmax), absent or wrongly scaled")
        centred = case.value - case.value.mean(axis=axis, keepdims=True)
        if _along(missing, centred, (axis,)):
            text = f"what is missing is a multiple of x - mean in each {line}: the route through "
            text += f"the {line}'s variance, absent or wrongly scaled"
            yield Diagnosis("missing variance term", text)
        if _affine(missing, centred, (axis,)):
            text = f"what is missing is affine in x in each {line}: the routes through mean and "
            text += "variance, absent or wrongly scaled"
            yield Diagnosis("missing mean and variance terms", text)
        if _along(case.wrong, case.right, (axis,)):
            text = f"each {line} has a wrong factor of its own: 1 / std, or a weight"
            yield Diagnosis("line factor", text)


def _constant(array: Array, axes: tuple[int, ...]) -> bool:
    return prod(array.shape[a] for a in axes) > 2 and _same(
        array, np.broadcast_to(array.mean(axis=axes, keepdims=True), array.shape)
    )


def _along(array: Array, model: Array, axes: tuple[int, ...]) -> bool:
    """Tell whether array is model times one number for each place of the other axes."""
    if prod(array.shape[a] for a in axes) <= 2:
        return False
    square = (model * model).sum(axis=axes, keepdims=True)
    factor = (array * model).sum(axis=axes, keepdims=True) / np.where(square > 0, square, 1)
    return _same(array, factor * model)


def _affine(array: Array, centred: Array, axes: tuple[int, ...]) -> bool:
    if prod(array.shape[a] for a in axes) <= 3:
        return False
    return _along(array - array.mean(axis=axes, keepdims=True), centred, axes)


def _mask(case: Case) -> Iterator[Diagnosis]:
    """Find zeros that should be none, and none that should be zeros."""
    wrong, right = case.wrong, case.right
    off = abs(wrong - right) > CLOSE * _size(right)
    if not (wrong * right).any():
        text = "it is zero just where it should not be: the mask is inverted, or it "
        text += "tests the wrong array"
        yield Diagnosis("wrong mask", text)
    if off.all():
        return
    if not (off & (wrong != 0)).any():
        text = f"{off.mean():.0%} of its entries are zero but should not be: "
        text += "not accumulated where windows overlap, " if case.windows else ""
        yield Diagnosis("not accumulated", f"{text}cut off, or a wrong mask")
    if not (off & (abs(right) > CLOSE * _size(right))).any():
        text = f"{off.mean():.0%} of its entries should be zero but are not: a mask is missing, or "
        yield Diagnosis("wrong mask", f"{text}ties are shared")


def _one_part(case: Case) -> Iterator[Diagnosis]:
    """Find places along one axis, such as channels, where all is right, and others."""
    off = abs(case.wrong - case.right) > CLOSE * _size(case.right)
    for axis, size in enumerate(off.shape[:2]):
        wrong = off.any(axis=tuple(a for a in range(off.ndim) if a != axis))
        if size < 2 or not wrong.any() or wrong.all():
            continue
        name = case.axes[axis] if axis < len(case.axes) else f"index of axis {axis}:"
        right, others = (_listed(np.flatnonzero(mask)) for mask in (~wrong, wrong))
        text = f"all of {name} {right} is right, {name} {others} wrong: a factor or mask along the "
        text += "wrong axis, a missing [:, None, None], or some places left out"
        share = off.sum() / (wrong.sum() * off.size / size)
        if share > (0.9 if off.ndim == 2 else 0.3):  # not only a few entries there
            yield Diagnosis("one part", text)


def _listed(indices: Array) -> str:
    shown = ", ".join(str(index) for index in indices[:4])
    return shown if len(indices) <= 4 else f"{shown}, …"


def _partly(case: Case) -> Iterator[Diagnosis]:
    """Find entries that are exactly right beside entries that are wrong."""
    share = (abs(case.wrong - case.right) > CLOSE * _size(case.right)).mean()
    if 0 < share < 0.95:
        text = f"{share:.0%} of its entries are wrong, the others exactly right: "
        text += "assigned instead of added where windows overlap, " if case.windows else "a mask, "
        yield Diagnosis("not accumulated", f"{text}ties that share, or an edge")


def _slope(case: Case) -> Iterator[Diagnosis]:
    """Find entries that all have the right sign, each with a factor of its own."""
    product = case.wrong * case.right
    if (product > 0).sum() >= 4 and (product >= 0).all():
        text = "every entry has the right sign but a factor of its own: a wrong slope, as of a "
        yield Diagnosis("wrong slope", f"{text}sigmoid or a square")


RULES: tuple[Callable[[Case], Iterator[Diagnosis]], ...] = (
    _not_finite,
    _zero,
    _nearly,
    _should_be_zero,
    _factor,
    _swapped,
    _moved,
    _mask,
    _missing_mean,
    _one_part,
    _partly,
    _slope,
)
