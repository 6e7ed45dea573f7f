"""Check a backward pass against its forward pass.

Let J be the derivative of forward in one argument, u a random direction of that argument and dout a
random gradient of the output. Then ``<dout, J u> == <J.T dout, u>``: a few runs of forward give the
left side (slopes.py), one of backward the right. One random direction touches every number of the
gradient, so a mistake anywhere shows, and costs as much as a few steps of training.

dout has to be random. All ones would ask for the gradient of ``out.sum()``, which is zero whatever
backward does for batch norm and for softmax; and the sum of squares is as blind.

The two sides may differ by what arithmetic can lose, and by no tuned constant. Every number may be
rounded once for each number that the op has, because no sum is longer. What backward reads was
rounded too, and may be cancelled later (1 - s * s, where s is nearly 1): how much that costs is
measured, by moving every number of dout and the cache by one unit in its last place. And a
difference adds its own truncation error, which is seen by halving the step.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from minise.gradcheck.adapters import by_name, parameter_names, takes_complex
from minise.gradcheck.arrays import host, jittered, like, outputs_of, promoted, shaped_as
from minise.gradcheck.diagnose import Case, Diagnosis, diagnose
from minise.gradcheck.report import NOT_SMOOTH, RIGHT, WRONG, ArgumentReport, Entry, Report
from minise.gradcheck.slopes import (
    EPS,
    Outputs,
    Slope,
    central_slope,
    complex_slope,
    linear_slope,
    norm,
)
from minise.ops.checks import Array, check_choice

MODES = ("auto", "directional", "complex_step", "jacobian")
LOOKED_AT = 4000  # entries of a wrong gradient at most, for the diagnosis
SHOWN = 3  # wrong entries
PROBES, ULPS = 2, 8  # moves of the cache, and how much more the worst of them may cost
JUMP = 2.0**-26  # of a gradient: half of all digits; more is no rounding


def assert_gradients(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any],
    rng: np.random.Generator | None = None,
    **settings: Any,
) -> Report:
    """Assert that backward is the transpose of forward's derivative; takes what `check` takes.

    Raises
    ------
    AssertionError
        With the report, which begins with the first gradient that is wrong.
    """
    report = check(forward, backward, inputs, rng, **settings)
    if not report.ok:
        first = report.problem or report.failures[0].sentence()
        raise AssertionError(f"{first}\n{report}")
    return report


def check(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any],
    rng: np.random.Generator | None = None,
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
        Where to check, in float64. An input that is None, integer or boolean must get None.
    rng : numpy.random.Generator, optional
        Draws dout and the directions; None draws from seed 0.
    mode : {"auto", "directional", "complex_step", "jacobian"}
        "directional": one random direction an argument, by fourth-order differences.
        "complex_step": the same, exact but for rounding, where forward takes complex numbers.
        "jacobian": every entry of every gradient, by differences. "auto" is "complex_step" for
        minise's reference ops and nets that call them, else "directional".
    branches : callable, optional
        Maps the cache to integers that tell which side of every kink forward was on, such as
        ``relu_branches``: then no difference is taken across a kink.
    linear : collection of str or int
        Names or places of arguments in which forward is linear: a step of one is then exact.
    names : sequence of str, optional
        Of the arguments; by default those of forward's parameters.

    Returns
    -------
    Report
        ``report.ok``; print it to read it, ``report.to_json()`` for tools.

    Raises
    ------
    ValueError, TypeError
        If the mode is unknown, or an input is neither None nor an array of float64, integers or
        booleans.

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
    names = list(names or parameter_names(forward, len(inputs)))[: len(inputs)]
    _check_inputs(inputs, names)
    if mode == "auto":
        mode = "complex_step" if takes_complex(forward) else "directional"
    rng = np.random.default_rng(0) if rng is None else rng
    title = getattr(getattr(forward, "func", forward), "__name__", "forward")
    pair = _Pair(forward, branches, inputs, mode, {_place(one, names) for one in linear})
    pair.start(rng)
    try:
        gradients = _as_tuple(forward, backward(pair.dout, pair.cache))
    except ValueError as error:
        return Report(title, mode, (), time.perf_counter() - started, str(error))
    if len(gradients) != len(inputs):
        problem = f"{len(gradients)} gradients for {len(inputs)} inputs"
        return Report(title, mode, (), time.perf_counter() - started, problem)
    noise = _noise(pair, forward, backward, gradients, rng)
    found = tuple(
        _one(pair, k, names[k], gradient, noise[k], rng)
        for k, gradient in enumerate(map(host, gradients))
    )
    found = tuple(_explained(pair, one, gradients, names) for one in found)
    return Report(title, mode, found, time.perf_counter() - started)


class _Pair:
    """Forward at a place, its random dout, and its slopes along any direction."""

    def __init__(
        self,
        forward: Callable[..., Any],
        branches: Callable[[Any], Any] | None,
        inputs: Sequence[Any],
        mode: str,
        linear: set[int],
    ) -> None:
        self.forward, self.branches, self.mode, self.linear = forward, branches, mode, linear
        self.inputs = list(inputs)
        self.promoted = [promoted(value) for value in inputs] if mode == "complex_step" else []

    def start(self, rng: np.random.Generator) -> None:
        """Run forward once and draw dout, shaped as out."""
        out, self.cache = self.forward(*self.inputs)
        outs = outputs_of(out)
        self.douts: Outputs = tuple(np.asarray(rng.standard_normal(one.shape)) for one in outs)
        self.dout = shaped_as(out, self.douts)
        sizes = [host(value).size for value in self.inputs if value is not None]
        self.count = sum(one.size for one in outs) + sum(sizes)

    def slope(self, k: int, u: Array) -> Slope:
        """Return the slope of <dout, out> when input k moves along u."""
        inputs = self.promoted if self.mode == "complex_step" else self.inputs

        def line(t: Any) -> tuple[Outputs, Any]:
            moved = list(inputs)
            moved[k] = moved[k] + like(t * u, moved[k])
            out, cache = self.forward(*moved)
            return outputs_of(out), cache

        if self.mode == "complex_step":
            return complex_slope(line, self.douts, self.count)
        if k in self.linear:
            return linear_slope(line, self.douts, self.count)
        return central_slope(line, self.douts, self.count, self.branches)

    def allowed(self, slope: Slope, gradient: Array, noise: Array, u: Array) -> float:
        """Return by how much the slope and <gradient, u> may differ."""
        rounding = self.count * EPS * norm((gradient,)) * norm((u,))
        return slope.error + rounding + float(np.vdot(noise, abs(u)))


def _noise(
    pair: _Pair,
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    gradients: Sequence[Any],
    rng: np.random.Generator,
) -> list[Any]:
    """Return how far each gradient moves when dout and the cache move in their last places."""
    noise: list[Any] = [0.0 if one is None else np.zeros(np.shape(host(one))) for one in gradients]
    for _ in range(PROBES):
        try:
            moved = _as_tuple(
                forward, backward(jittered(pair.dout, rng), jittered(pair.cache, rng))
            )
        except RuntimeError:
            return noise  # a layer's cache serves one backward
        for k, (one, other) in enumerate(zip(gradients, moved, strict=True)):
            if one is not None and other is not None and np.shape(one) == np.shape(other):
                moves = ULPS * abs(host(other) - host(one))
                decided = moves > JUMP * abs(host(one)).max()  # a tie fell the other way: no noise
                noise[k] = np.maximum(noise[k], np.where(decided, 0.0, moves))
    return noise


def _one(
    pair: _Pair,
    k: int,
    name: str,
    gradient: Array | None,
    noise: Array,
    rng: np.random.Generator,
) -> ArgumentReport:
    """Check the gradient of input k, along a random direction or entry by entry."""
    value = host(pair.inputs[k])
    shape = () if value is None else value.shape
    if value is None or value.dtype.kind not in "fc":
        problem = "" if gradient is None else "a gradient where None is expected"
        return ArgumentReport(k, name, shape, WRONG if problem else RIGHT, problem=problem)
    if gradient is None or gradient.shape != shape:
        got = None if gradient is None else gradient.shape
        return ArgumentReport(
            k, name, shape, WRONG, problem=f"gradient of shape {got} is not {shape}"
        )
    if not np.isfinite(gradient).all():
        return ArgumentReport(k, name, shape, WRONG, problem="the gradient has NaN or infinity")
    if pair.mode == "jacobian":
        return _every_entry(pair, k, name, gradient, noise)
    u = np.asarray(rng.standard_normal(shape))
    slope = pair.slope(k, u)
    exact = float(np.vdot(gradient, u))
    allowed = pair.allowed(slope, gradient, noise, u)
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


def _every_entry(pair: _Pair, k: int, name: str, gradient: Array, noise: Array) -> ArgumentReport:
    """Check every entry of a gradient and report the worst."""
    slopes = _entries(pair, k, gradient.shape)
    entries, verdict, worst, worst_by = [], RIGHT, None, -1.0
    for place, (u, slope) in slopes.items():
        exact = float(gradient[place])
        allowed = pair.allowed(slope, gradient, noise, u)
        excess = abs(exact - slope.value) / max(allowed, 1e-300)
        if not slope.smooth:
            verdict = NOT_SMOOTH if verdict == RIGHT else verdict
            continue
        if excess > worst_by:
            worst, worst_by = (exact, slope, allowed), excess
        if not excess <= 1:
            verdict = WRONG
            entries.append(Entry(place, exact, slope.value))
    tried = sum(slope.tried for _, slope in slopes.values())
    crossed = sum(slope.crossed for _, slope in slopes.values())
    exact, slope, allowed = worst or (0.0, Slope(0.0, 0.0, 0.0, 0, 0, False), 0.0)
    return ArgumentReport(
        k,
        name,
        gradient.shape,
        verdict,
        exact,
        slope.value,
        allowed,
        slope.step,
        tried,
        crossed,
        entries=_worst_first(entries),
        wrong_share=len(entries) / gradient.size,
    )


def _explained(
    pair: _Pair, one: ArgumentReport, gradients: Sequence[Any], names: Sequence[str]
) -> ArgumentReport:
    """Add to a wrong gradient its worst entries and a diagnosis."""
    size = int(np.prod(one.shape))
    if one.verdict != WRONG or one.problem or size > LOOKED_AT:
        return one
    right, wrong = numeric_gradient(pair, one.index), host(gradients[one.index])
    off = abs(wrong - right) > 1e-6 * (abs(right) + norm((right,)) / np.sqrt(size))
    entries = [
        Entry(tuple(map(int, place)), float(wrong[tuple(place)]), float(right[tuple(place)]))
        for place in np.argwhere(off)
    ]
    alike = [
        k
        for k, value in enumerate(pair.inputs)
        if k != one.index and value is not None and host(value).shape == one.shape
    ]
    others = {
        names[k]: numeric_gradient(pair, k) for k in alike if pair.inputs[k].dtype.kind == "f"
    }
    value = host(pair.inputs[one.index])
    answer: Diagnosis = diagnose(Case(wrong, right, value, others, _sizes(pair)))
    return ArgumentReport(
        **{
            **vars(one),
            "entries": _worst_first(entries),
            "wrong_share": len(entries) / max(size, 1),
            "diagnosis": answer,
        }
    )


def numeric_gradient(pair: _Pair, k: int) -> Array:
    """Return forward's slope along every entry of input k."""
    shape = host(pair.inputs[k]).shape
    right = np.zeros(shape)
    for place, (_, slope) in _entries(pair, k, shape).items():
        right[place] = slope.value if np.isfinite(slope.value) else 0.0
    return right


def _entries(
    pair: _Pair, k: int, shape: tuple[int, ...]
) -> dict[tuple[int, ...], tuple[Array, Slope]]:
    found = {}
    for place in np.ndindex(*shape):
        u = np.zeros(shape)
        u[place] = 1.0
        found[place] = u, pair.slope(k, u)
    return found


def _worst_first(entries: list[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda one: -abs(one.exact - one.numeric))[:SHOWN])


def _sizes(pair: _Pair) -> dict[str, int]:
    """Return the sizes that factors are made of, read off the first input and out."""
    sizes = {}
    shape = host(pair.inputs[0]).shape if pair.inputs[0] is not None else ()
    if len(shape) == 4:
        N, C, H, W = map(int, shape)
        sizes = {"N": N, "H*W": H * W, "N*H*W": N * H * W, "C": C}
    elif shape:
        sizes = {"N": shape[0], "size": int(np.prod(shape)), "last axis": shape[-1]}
    windows = pair.douts[0].shape[2:]
    return {**sizes, "OH*OW": int(np.prod(windows))} if len(windows) == 2 else sizes


def _as_tuple(forward: Callable[..., Any], gradients: Any) -> tuple[Any, ...]:
    if isinstance(gradients, dict):
        return by_name(forward, gradients)
    return tuple(gradients) if isinstance(gradients, tuple | list) else (gradients,)


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
