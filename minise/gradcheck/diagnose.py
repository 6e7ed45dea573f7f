"""Diagnose a wrong gradient: list its worst entries and name the likely mistake.

Each rule tests for one common mistake in a backward pass. It yields a diagnosis if that mistake
reproduces the wrong gradient to the accuracy of the numerical one. Specific rules come before
general ones, and the first diagnosis is returned.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from minise.checks import Array
from minise.gradcheck.report import UNKNOWN, WRONG, ArgumentReport, Diagnosis, Entry
from minise.gradcheck.slopes.arrays import host
from minise.gradcheck.slopes.pair import Pair
from minise.gradcheck.slopes.pair_slopes import PairSlopes
from minise.gradcheck.slopes.rounding import norm

MAX_ENTRIES = 4000  # larger gradients get no diagnosis
ENTRIES_SHOWN = 3
REL_TOL = 1e-5  # far above the error of the numerical gradient, far below a chance match


class Case(NamedTuple):
    """A wrong gradient and the correct one."""

    wrong: Array  # the gradient from backward
    right: Array  # the gradient of forward, numerically
    value: Array  # the argument itself
    others: Iterable[tuple[str, Array]]  # names and correct gradients of the other arguments
    sizes: dict[str, int]  # sizes that occur as factors, by name, such as N and H*W
    windows: bool = True  # whether the op may have overlapping windows
    axes: tuple[str, ...] = ()  # name of each axis, such as "channel", where known


def with_diagnosis(
    slopes: PairSlopes, argument: ArgumentReport, names: Sequence[str]
) -> ArgumentReport:
    """Return the report of a wrong gradient with its worst entries and a diagnosis."""
    pair, size = slopes.pair, prod(argument.shape)
    if argument.verdict != WRONG or argument.problem or size > MAX_ENTRIES:
        return argument
    right, wrong = slopes.gradient(argument.index), host(pair.gradients[argument.index])
    differs = abs(wrong - right) > 1e-6 * (abs(right) + norm((right,)) / np.sqrt(size))
    entries = [
        Entry(tuple(map(int, index)), float(wrong[tuple(index)]), float(right[tuple(index)]))
        for index in np.argwhere(differs)
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
    diagnosis = diagnose(Case(wrong, right, value, others, _factor_sizes(pair)))
    return replace(
        argument,
        entries=worst_first(entries),
        wrong_share=len(entries) / max(size, 1),
        diagnosis=diagnosis,
    )


def worst_first(entries: list[Entry]) -> tuple[Entry, ...]:
    """Return the entries with the largest errors, in index order where errors are equal."""
    # six digits, so that rounding does not decide between equal errors
    return tuple(sorted(entries, key=lambda entry: -float(f"{entry.error:.6e}"))[:ENTRIES_SHOWN])


def _factor_sizes(pair: Pair) -> dict[str, int]:
    """Return the sizes that occur as factors, from the shapes of the first input and of out."""
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
    """Return the first diagnosis that explains the wrong gradient."""
    for rule in RULES:
        for diagnosis in rule(case):
            return diagnosis
    share = float(_differs(case).mean())
    return Diagnosis(UNKNOWN, f"no known pattern: {share:.0%} of the entries are wrong")


def _rms(array: Array) -> float:
    """Return the root mean square of an array's entries, plus 1e-300 to avoid division by zero."""
    return float(np.sqrt((array * array).mean())) + 1e-300


def _equal(a: Array, b: Array) -> bool:
    """Return True if two arrays are equal up to the tolerance of a diagnosis."""
    return a.shape == b.shape and _rms(a - b) <= REL_TOL * _rms(b)


def _differs(case: Case) -> Array:
    """Return a mask that is True where the gradient is wrong."""
    return np.asarray(abs(case.wrong - case.right) > REL_TOL * _rms(case.right))


def _zero(case: Case) -> Iterator[Diagnosis]:
    if _rms(case.right) > 1e-12 and not case.wrong.any():
        yield Diagnosis("zero", "the gradient is zero: it is never computed, or dropped")


def _not_finite(case: Case) -> Iterator[Diagnosis]:
    if not np.isfinite(case.wrong).all():
        text = "the gradient has NaN or infinity: a division by zero, or an overflow"
        yield Diagnosis("not finite", text)


def _nearly_right(case: Case) -> Iterator[Diagnosis]:
    error = _rms(case.wrong - case.right) / _rms(case.right)
    if error < REL_TOL:
        text = f"the relative error is only {error:.0e}: float32 arithmetic inside, or a missing "
        yield Diagnosis("nearly right", f"{text}eps")


def _should_be_zero(case: Case) -> Iterator[Diagnosis]:
    if _rms(case.right) <= 1e-9 * _rms(case.wrong):
        text = "out does not depend on this argument: the gradient must be zero"
        yield Diagnosis("should be zero", text)


def _factor(case: Case) -> Iterator[Diagnosis]:
    scale = float(np.vdot(case.right, case.wrong) / np.vdot(case.right, case.right))
    if scale == 0 or not _equal(case.wrong, scale * case.right):
        return
    if abs(scale + 1) < REL_TOL:
        yield Diagnosis("sign", "the gradient has the wrong sign")
    if abs(scale - 2) < REL_TOL:
        text = "the gradient is too large by a factor of 2: accumulated twice, or an extra 2"
        yield Diagnosis("factor 2", text)
    for name, size in case.sizes.items():
        if size > 1 and abs(scale - size) < REL_TOL * size:
            text = f"the gradient is too large by a factor of {name} = {size}: the 1/({name}) of "
            yield Diagnosis(f"factor {name}", f"{text}a mean is missing")
        if size > 1 and abs(scale * size - 1) < REL_TOL:
            text = f"the gradient is too small by a factor of {name} = {size}: a mean instead of a "
            text += "sum, or one division too many"
            text += ", or a missing 2, as in the derivative of a square" if size == 2 else ""
            yield Diagnosis(f"factor 1/{name}", text)
    text = f"the gradient is {scale:.6g} times the correct one: a constant factor is wrong"
    yield Diagnosis("factor", text)


def _swapped(case: Case) -> Iterator[Diagnosis]:
    for name, right in case.others:
        if _equal(case.wrong, right):
            text = f"this is the gradient of {name}: the two are swapped, or a factor is missing"
            yield Diagnosis("swapped", text)


def _permuted(case: Case) -> Iterator[Diagnosis]:
    """Recognise the right entries in the wrong positions."""
    wrong, right = case.wrong, case.right
    for a in range(wrong.ndim):
        if _equal(wrong, np.flip(right, a)) or _equal(wrong, np.flip(right)):
            yield Diagnosis("flipped", "the entries are in reverse order along an axis")
        for b in range(a):
            transposed = np.swapaxes(right, a, b)
            if _equal(wrong, transposed) or _equal(wrong, transposed.reshape(wrong.shape)):
                yield Diagnosis("transposed", f"axes {b} and {a} are transposed")
    if wrong.ndim >= 2:
        if _equal(wrong, np.flip(right, (-2, -1))):
            yield Diagnosis("flipped", "the kernel is flipped along both axes")
        matrices = right.reshape(-1, *right.shape[-2:])
        if _equal(wrong, matrices.swapaxes(1, 2).reshape(wrong.shape)):
            yield Diagnosis("transposed", "the last two axes are transposed")
    for axis in range(wrong.ndim):
        for shift in range(-2, 3):
            if shift and _equal(wrong, np.roll(right, shift, axis)):
                yield Diagnosis("shifted", f"the entries are shifted by {shift} along axis {axis}")
    if wrong.ndim >= 2 and (offset := _offset_of_rows_and_columns(wrong, right)):
        text = f"the entries are shifted by {offset} (rows, columns): padding cropped at the wrong "
        yield Diagnosis("shifted", f"{text}side")
    if wrong.size > 1 and np.allclose(np.sort(wrong, None), np.sort(right, None), REL_TOL, REL_TOL):
        yield Diagnosis("permuted", "the entries are right but in the wrong positions")


def _offset_of_rows_and_columns(wrong: Array, right: Array) -> tuple[int, int] | None:
    """Return the shift of wrong relative to right along the last two axes, or None."""
    H, W = wrong.shape[-2:]
    for i, j in [(i, j) for i in range(-2, 3) for j in range(-2, 3) if i or j]:
        if abs(i) >= H - 1 or abs(j) >= W - 1:
            continue
        a = wrong[..., max(i, 0) : H + min(i, 0), max(j, 0) : W + min(j, 0)]
        b = right[..., max(-i, 0) : H + min(-i, 0), max(-j, 0) : W + min(-j, 0)]
        if b.any() and _equal(a, b):
            return i, j
    return None


def _missing_mean(case: Case) -> Iterator[Diagnosis]:
    """Test whether the missing part of an image gradient comes from a shared mean or variance."""
    missing = case.right - case.wrong
    if missing.ndim == 4:
        if _constant_along(missing, (0, 2, 3)):
            mean = (
                "batch mean" if len(missing) > 1 else "channel's mean"
            )  # of the batch or the image
            text = f"the error is constant per channel: the term through the {mean} is missing "
            text += "or wrongly scaled"
            yield Diagnosis("missing mean term", text)
        if _constant_along(missing, (2, 3)):
            text = "the error is constant over the pixels of each channel: the term through the "
            text += "image's mean, such as an SE gate, is missing or wrongly scaled"
            yield Diagnosis("missing gate path", text)
        centred = case.value - case.value.mean(axis=(0, 2, 3), keepdims=True)
        if _proportional(missing, centred, (0, 2, 3)):
            text = "the error is proportional to x - mean per channel: the term through the batch "
            text += "variance is missing or wrongly scaled"
            yield Diagnosis("missing variance term", text)
        if _affine(missing, centred, (0, 2, 3)):
            text = "the error is affine in x per channel: the terms through batch mean and "
            text += "variance are missing or wrongly scaled"
            yield Diagnosis("missing mean and variance terms", text)
        if _proportional(case.wrong, case.right, (0, 2, 3)):
            text = "the gradient is wrong by a factor per channel: gamma, or 1 / std"
            yield Diagnosis("channel factor", text)
        if _constant_along(case.wrong, (2, 3)):
            text = "the gradient is constant over the pixels of each channel: only the term "
            yield Diagnosis("missing scale path", f"{text}through a mean is present")
        pairs = (missing, case.value), (case.wrong, case.right)
        if any(_proportional(array, model, (2, 3)) for array, model in pairs):
            text = "the gradient is wrong by a factor per image and channel: a gate, or the path "
            yield Diagnosis("missing scale path", f"{text}through the gated x")
    elif missing.ndim == 2:
        yield from _missing_mean_of_matrix(case, missing)


def _missing_mean_of_matrix(case: Case, missing: Array) -> Iterator[Diagnosis]:
    """Test the same for an op that normalises the rows or the columns of a matrix."""
    for axis, line in ((1, "row"), (0, "column")):
        if _constant_along(missing, (axis,)):
            text = f"the error is constant per {line}: the term through a sum (of a mean, or of "
            yield Diagnosis("missing mean term", f"{text}softmax) is missing or wrongly scaled")
        centred = case.value - case.value.mean(axis=axis, keepdims=True)
        if _proportional(missing, centred, (axis,)):
            text = f"the error is proportional to x - mean per {line}: the term through the {line} "
            text += "variance is missing or wrongly scaled"
            yield Diagnosis("missing variance term", text)
        if _affine(missing, centred, (axis,)):
            text = f"the error is affine in x per {line}: the terms through mean and variance "
            text += "are missing or wrongly scaled"
            yield Diagnosis("missing mean and variance terms", text)
        if _proportional(case.wrong, case.right, (axis,)):
            text = f"the gradient is wrong by a factor per {line}: 1 / std, or a weight"
            yield Diagnosis("line factor", text)


def _constant_along(array: Array, axes: tuple[int, ...]) -> bool:
    """Return True if an array is constant along axes with more than two entries in total."""
    return prod(array.shape[a] for a in axes) > 2 and _equal(
        array, np.broadcast_to(array.mean(axis=axes, keepdims=True), array.shape)
    )


def _proportional(array: Array, model: Array, axes: tuple[int, ...]) -> bool:
    """Return True if array is model times a factor that is constant along some axes."""
    if prod(array.shape[a] for a in axes) <= 2:
        return False
    square = (model * model).sum(axis=axes, keepdims=True)
    factor = (array * model).sum(axis=axes, keepdims=True) / np.where(square > 0, square, 1)
    return _equal(array, factor * model)


def _affine(array: Array, centred: Array, axes: tuple[int, ...]) -> bool:
    """Return True if array is a constant plus a multiple of centred along some axes."""
    if prod(array.shape[a] for a in axes) <= 3:
        return False
    return _proportional(array - array.mean(axis=axes, keepdims=True), centred, axes)


def _mask(case: Case) -> Iterator[Diagnosis]:
    """Test for entries that are wrongly zero or wrongly nonzero."""
    wrong, right, differs = case.wrong, case.right, _differs(case)
    if not (wrong * right).any():
        text = "the gradient is zero exactly where it should not be: the mask is inverted, or it "
        text += "tests the wrong array"
        yield Diagnosis("wrong mask", text)
    if differs.all():
        return
    if not (differs & (wrong != 0)).any():
        text = f"{differs.mean():.0%} of the entries are zero but should not be: "
        text += "overlapping windows not accumulated, " if case.windows else ""
        yield Diagnosis("not accumulated", f"{text}an edge cut off, or a wrong mask")
    if not (differs & (abs(right) > REL_TOL * _rms(right))).any():
        text = f"{differs.mean():.0%} of the entries should be zero but are not: a mask is missing"
        yield Diagnosis("wrong mask", f"{text}, or tied maxima share the gradient")


def _wrong_slices(case: Case) -> Iterator[Diagnosis]:
    """Test if some slices along one axis, such as channels, are right and others wrong."""
    differs = _differs(case)
    for axis, size in enumerate(differs.shape[:2]):
        wrong = differs.any(axis=tuple(a for a in range(differs.ndim) if a != axis))
        if size < 2 or not wrong.any() or wrong.all():
            continue
        name = case.axes[axis] if axis < len(case.axes) else f"index of axis {axis}:"
        right, others = (_listed(np.flatnonzero(mask)) for mask in (~wrong, wrong))
        text = f"all of {name} {right} is right, {name} {others} wrong: a factor or mask along the "
        text += "wrong axis, a missing [:, None, None], or indices left out"
        share = differs.sum() / (wrong.sum() * differs.size / size)
        if share > (0.9 if differs.ndim == 2 else 0.3):  # more than a few entries of a slice
            yield Diagnosis("one part", text)


def _listed(indices: Array) -> str:
    """Return the first four indices as text."""
    shown = ", ".join(str(index) for index in indices[:4])
    return shown if len(indices) <= 4 else f"{shown}, …"


def _partly_right(case: Case) -> Iterator[Diagnosis]:
    """Test if some entries are exactly right and others wrong."""
    share = _differs(case).mean()
    if 0 < share < 0.95:
        text = f"{share:.0%} of the entries are wrong, all others exactly right: "
        text += "overlapping windows assigned instead of added, " if case.windows else "a mask, "
        yield Diagnosis("not accumulated", f"{text}tied maxima, or an edge")


def _wrong_slope(case: Case) -> Iterator[Diagnosis]:
    """Test if all entries have the right sign, but each is wrong by a different factor."""
    product = case.wrong * case.right
    if (product > 0).sum() >= 4 and (product >= 0).all():
        text = "every entry has the right sign but is wrong by a different factor: a wrong "
        text += "elementwise derivative, such as that of a sigmoid or a square"
        yield Diagnosis("wrong slope", text)


RULES: tuple[Callable[[Case], Iterator[Diagnosis]], ...] = (
    _not_finite,
    _zero,
    _nearly_right,
    _should_be_zero,
    _factor,
    _swapped,
    _permuted,
    _mask,
    _missing_mean,
    _wrong_slices,
    _partly_right,
    _wrong_slope,
)
