"""Check a backward pass against its forward pass.

Let J be the derivative of forward in one argument, u a random direction of that argument and dout a
random gradient of the output. Then ``<dout, J u> == <J.T dout, u>``: a few runs of forward give the
left side (slopes.py), one of backward the right. One random direction touches every number of the
gradient, so a mistake anywhere shows, and costs as much as a few steps of training.

dout has to be random. All ones would ask for the gradient of ``out.sum()``, which is zero whatever
backward does for batch norm and for softmax; and the sum of squares is as blind.

The two sides may differ by what arithmetic can lose, and by no tuned constant: a random walk of
roundings, one for each number that the op has. Where that is not enough (1 - s * s, where s is
nearly 1), what forward and backward lose is measured, by high differences along a line
(slopes.noise_of). And a difference adds its own truncation error, which is seen by halving the
step.
"""

import functools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from minise.gradcheck.adapters import parameter_names, takes_complex
from minise.gradcheck.arrays import host
from minise.gradcheck.diagnose import Case, Diagnosis, diagnose
from minise.gradcheck.pair import Pair
from minise.gradcheck.report import NOT_SMOOTH, RIGHT, WRONG, ArgumentReport, Entry, Report
from minise.gradcheck.slopes import norm
from minise.ops.checks import check_choice

MODES = ("auto", "directional", "complex_step", "jacobian")
LOOKED_AT = 4000  # entries of a wrong gradient at most, for the diagnosis
SHOWN = 3  # wrong entries


def assert_gradients(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any],
    rng: np.random.Generator | int | None = None,
    **settings: Any,
) -> Report:
    """Assert that backward is the transpose of forward's derivative; takes what `check` takes.

    Raises
    ------
    AssertionError
        With the report, which begins with the first gradient that is wrong.
    """
    __tracebackhide__ = True  # pytest then shows the report, and no line of ours
    report = check(forward, backward, inputs, rng, **settings)
    if not report.ok:
        first = report.problem or report.failures[0].sentence()
        raise AssertionError(f"{first}\n{report}")
    return report


def check(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any],
    rng: np.random.Generator | int | None = None,
    *,
    mode: str = "auto",
    branches: Callable[[Any], Any] | None = None,
    linear: Collection[str | int] = (),
    names: Sequence[str] | None = None,
) -> Report:
    """Check a backward at the given inputs and report on every gradient.

    Parameters
    ----------
    forward : callable
        Maps the inputs to ``(out, cache)``; out is an array or a tuple of arrays, the cache
        anything. Pairs of other shapes: see minise.gradcheck.adapters.
    backward : callable
        Maps ``(dout, cache)`` to one gradient per input, as a tuple, a list, a dict by the names of
        forward's parameters (with or without a leading d), or one array.
    inputs : sequence of ndarray or None
        Where to check, in float64. An input that is None, integer or boolean must get None. Draw
        all of them at random: at gamma = 1, say, a forgotten gamma cannot show.
    rng : numpy.random.Generator or int, optional
        A stream of its own is spawned from it for dout and the directions, so that they are not
        the inputs again where those came from the same seed. None is seed 0.
    mode : {"auto", "directional", "complex_step", "jacobian"}
        "directional": one random direction an argument, by fourth-order differences.
        "complex_step": the same, exact but for rounding, where forward takes complex numbers.
        "jacobian": every entry of every gradient, by differences. "auto" is "complex_step" for
        minise's reference ops and nets that call them, else "directional".
    branches : callable, optional
        Maps the cache to integers that tell which side of every kink forward was on, such as
        ``minise.ops.reference.relu_branches``: then no difference is taken across a kink. At a
        kink itself only a complex step has a slope: that of the side which forward takes there.
    linear : str, or collection of str or int
        Names or places of arguments in which forward is linear: a step of one is then exact.
    names : sequence of str, optional
        Of the arguments; by default those of forward's parameters.

    Returns
    -------
    Report
        ``report.ok``, and so its truth; print it to read it (``rich.print`` in colour),
        ``report.to_json()`` for tools.

    Raises
    ------
    ValueError, TypeError
        If the mode is unknown, or an input is neither None nor an array of finite float64, integers
        or booleans.

    Examples
    --------
    >>> def forward(x):
    ...     return x * x, x
    >>> def backward(dout, x):
    ...     return (dout * x,)  # forgets the 2
    >>> print(check(forward, backward, [np.array([1.0, 2.0, 3.0])]).arguments[0].diagnosis.kind)
    factor
    """
    started = time.perf_counter()
    check_choice("check", "mode", mode, MODES)
    names = _names(forward, inputs, names)
    _check_inputs(inputs, names)
    if mode == "auto":
        mode = "complex_step" if takes_complex(forward) else "directional"
    drawn = rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng or 0)
    rng = drawn.spawn(1)[0]  # else dout could be x
    linear = [linear] if isinstance(linear, str) else linear
    places = {_place(one, names) for one in linear}
    found: tuple[ArgumentReport, ...] = ()
    problem = ""
    with _blas().limit(limits=1, user_api="blas"):
        pair = Pair(forward, backward, inputs, names, mode, branches, places, rng)
        try:
            pair.run_backward()
        except ValueError as error:
            problem = str(error)
        else:
            found = tuple(_one(pair, k, name, rng) for k, name in enumerate(names))
            found = tuple(_explained(pair, one, names) for one in found)
    title = getattr(getattr(forward, "func", forward), "__name__", "forward")
    return Report(title, mode, found, time.perf_counter() - started, problem)


@functools.cache
def _blas() -> ThreadpoolController:
    """Return the BLAS, for one thread: the products are small, and threads that wait cost more."""
    return ThreadpoolController()


def _one(pair: Pair, k: int, name: str, rng: np.random.Generator) -> ArgumentReport:
    """Check the gradient of input k, along a random direction or entry by entry."""
    value, gradient = host(pair.inputs[k]), host(pair.gradients[k])
    shape = () if value is None else value.shape
    if value is None or value.dtype.kind not in "fc":
        problem = "" if gradient is None else "a gradient where None is expected"
        return ArgumentReport(k, name, shape, WRONG if problem else RIGHT, problem=problem)
    if gradient is None or gradient.shape != shape:
        got = "no gradient (None)" if gradient is None else f"gradient of shape {gradient.shape}"
        return ArgumentReport(k, name, shape, WRONG, problem=f"{got}, expected shape {shape}")
    if not np.isfinite(gradient).all():
        return ArgumentReport(k, name, shape, WRONG, problem="the gradient has NaN or infinity")
    if pair.mode == "jacobian":
        return _every_entry(pair, k, name, shape)
    exact, slope, allowed = pair.compared(k, pair.direction(k, rng))
    verdict = RIGHT if abs(exact - slope.value) <= allowed else WRONG
    return ArgumentReport(
        k,
        name,
        shape,
        verdict if slope.smooth else NOT_SMOOTH,
        exact,
        slope.value,
        allowed,
        slope.step,
        slope.tried,
        slope.crossed,
    )


def _every_entry(pair: Pair, k: int, name: str, shape: tuple[int, ...]) -> ArgumentReport:
    """Check every entry of a gradient and report the worst."""
    entries, verdict, worst, worst_by, tried, crossed = [], RIGHT, None, -1.0, 0, 0
    for place, u, size in pair.entries(k):
        exact, slope, allowed = pair.compared(k, u, cheaply=verdict == WRONG)
        tried, crossed = tried + slope.tried, crossed + slope.crossed
        if not slope.smooth:
            verdict = NOT_SMOOTH if verdict == RIGHT else verdict
            continue
        excess = abs(exact - slope.value) / max(allowed, 1e-300)
        if excess > worst_by:
            worst_by = excess
            worst = (exact / size, slope.value / size, allowed / size, slope.step)
        if not excess <= 1:
            verdict = WRONG
            entries.append(Entry(place, exact / size, slope.value / size))
    exact, numeric, allowed, step = worst or (0.0, 0.0, 0.0, 0.0)
    return ArgumentReport(
        k,
        name,
        shape,
        verdict,
        exact,
        numeric,
        allowed,
        step,
        tried,
        crossed,
        entries=_worst_first(entries),
        wrong_share=len(entries) / prod(shape),
    )


def _explained(pair: Pair, one: ArgumentReport, names: Sequence[str]) -> ArgumentReport:
    """Add to a wrong gradient its worst entries and a diagnosis."""
    size = prod(one.shape)
    if one.verdict != WRONG or one.problem or size > LOOKED_AT:
        return one
    right, wrong = pair.gradient(one.index), host(pair.gradients[one.index])
    off = abs(wrong - right) > 1e-6 * (abs(right) + norm((right,)) / np.sqrt(size))
    entries = [
        Entry(tuple(map(int, place)), float(wrong[tuple(place)]), float(right[tuple(place)]))
        for place in np.argwhere(off)
    ]
    others = (
        (names[k], pair.gradient(k))
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
        entries=_worst_first(entries),
        wrong_share=len(entries) / max(size, 1),
        diagnosis=answer,
    )


def _worst_first(entries: list[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda one: -abs(one.exact - one.numeric))[:SHOWN])


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


def _names(
    forward: Callable[..., Any], inputs: Sequence[Any], names: Sequence[str] | None
) -> list[str]:
    """Return one name for each input."""
    if not isinstance(inputs, list | tuple) or not inputs:
        came = type(inputs).__name__ if not isinstance(inputs, list | tuple) else "empty"
        raise TypeError(f"check: inputs is {came}, expected a list of arrays: [x]")
    if names is None:
        names = parameter_names(forward, len(inputs))[: len(inputs)]
    if len(names) != len(inputs):
        raise ValueError(f"check: {len(names)} names for {len(inputs)} inputs")
    return list(names)


def _place(one: str | int, names: Sequence[str]) -> int:
    if isinstance(one, str) and one not in names:
        raise ValueError(f"check: linear names {one!r}, expected any of {', '.join(names)}")
    return names.index(one) if isinstance(one, str) else one


def _check_inputs(inputs: Sequence[Any], names: Sequence[str]) -> None:
    for name, value in zip(names, inputs, strict=True):
        if value is None:
            continue
        dtype = getattr(value, "dtype", None)
        if dtype is None:
            kind = type(value).__name__
            raise TypeError(
                f"check: {name} is a {kind}, expected an array: pass np.asarray({name})"
            )
        if dtype.kind == "f" and dtype != np.float64:
            raise TypeError(
                f"check: {name} has dtype {dtype}, expected float64: finite differences have no "
                f"digits left in less; pass {name}.astype(np.float64)"
            )
        if not host(value).size:
            raise ValueError(f"check: {name} has shape {value.shape}, expected no empty axis")
        if not np.isfinite(host(value)).all():
            raise ValueError(f"check: {name} has NaN or infinity, expected finite numbers")
