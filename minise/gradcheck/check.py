"""Check a backward pass against its forward pass.

Let J be the derivative of forward in one argument, u a random direction of that argument and dout a
random gradient of the output. Then ``<dout, J u> == <J.T dout, u>``: a few runs of forward give the
left side (slopes/differences.py), one run of backward the right. A random direction touches every
number of the gradient, so a mistake anywhere shows, at the cost of a few steps of training.

dout has to be random. All ones would ask for the gradient of ``out.sum()``, which is zero whatever
backward does for batch norm and for softmax; the sum of squares has the same blind spot.

How far the two sides may differ is derived from the arithmetic, not tuned: a random walk of
roundings, one for each number that the op has. Where that is not enough (1 - s * s with s nearly
1), the rounding of forward and backward is measured by high differences along a line (noise_of in
slopes/rounding.py). A difference adds its truncation error, which is estimated by halving the step.
If the sum of these bounds is not small against the gradient, or a kink looks like a slope, the
gradient could not be checked, and the report says so (verdict.py).
"""

import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from minise.gradcheck.adapters import takes_complex
from minise.gradcheck.diagnose import explained, worst_first
from minise.gradcheck.inputs import as_inputs, numbers_of
from minise.gradcheck.report import (
    NOT_ANALYTIC,
    RIGHT,
    UNCHECKED,
    WRONG,
    ArgumentReport,
    Entry,
    Report,
)
from minise.gradcheck.slopes.arrays import host
from minise.gradcheck.slopes.complex_steps import is_analytic
from minise.gradcheck.slopes.pair import NotCheckable, Pair
from minise.gradcheck.slopes.pair_slopes import PairSlopes
from minise.gradcheck.slopes.rounding import norm
from minise.gradcheck.verdict import Finding, Judge
from minise.ops.checks import Array, as_generator, check_choice

MODES = ("auto", "directional", "complex_step", "jacobian")


def assert_gradients(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any] | Mapping[str, Any],
    rng: np.random.Generator | int | None = None,
    *,
    allow_unchecked: bool = False,
    **settings: Any,
) -> Report:
    """Assert that backward is the transpose of forward's derivative.

    Parameters
    ----------
    forward, backward, inputs, rng, **settings
        As `check` takes them.
    allow_unchecked : bool
        Whether gradients that could not be checked pass.

    Returns
    -------
    Report
        Of the check.

    Raises
    ------
    AssertionError
        With the report, which begins with the first gradient that is wrong, or else with the first
        that could not be checked.
    """
    __tracebackhide__ = True  # pytest then shows the report, and no line of ours
    return asserted(check(forward, backward, inputs, rng, **settings), allow_unchecked)


def asserted(report: Report, allow_unchecked: bool) -> Report:
    """Return a report, if nothing in it is wrong; raise as `assert_gradients` says if it is."""
    __tracebackhide__ = True
    bad = report.wrong if allow_unchecked else report.failures
    if report.problem or bad:
        raise AssertionError(f"{report.problem or bad[0].sentence()}\n{report}")
    return report


def check(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any] | Mapping[str, Any],
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
        anything. For a layer there is check_layer, for pairs of other shapes
        minise.gradcheck.adapters.
    backward : callable
        Maps ``(dout, cache)`` to one gradient per input, as a tuple, a list, a dict by the names of
        forward's parameters (with or without a leading d), or one array. It is called twice with
        the same cache, each time in lists, tuples and dicts of its own: it may empty a list, but
        not write into an array.
    inputs : sequence of ndarray or None, or dict of them
        Where to check, in float64; a dict is by the names of forward's parameters. An input that is
        None, integer or boolean must get None. Draw all of them at random: with gamma = 1, a
        missing gamma would go unnoticed.
    rng : numpy.random.Generator or int, optional
        A stream of its own is spawned from it for dout and the directions, so that they are not
        the inputs again where those came from the same seed. None is seed 0.
    mode : {"auto", "directional", "complex_step", "jacobian"}
        "directional": one random direction an argument, by fourth-order differences.
        "complex_step": the same, exact but for rounding, where forward takes complex numbers.
        "jacobian": every entry of every gradient, by differences. "auto" is "complex_step" for
        minise's reference ops and nets that call them; for others it is "directional", and a
        complex step where differences cannot tell, if forward is seen to take one.
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
        ``report.ok``, and so its truth: whether every gradient is right, which a gradient that
        could not be checked is not. Print it to read it (``rich.print`` in colour);
        ``report.to_json()`` is for tools. What was checked is left as it was: inputs, and the
        parameters, statistics and gradients of an adapted layer.

    Raises
    ------
    ValueError, TypeError
        If the mode is unknown, an input is neither None nor an array of finite float64, integers
        or booleans, or forward's out is no array of float64, nor a tuple of them.

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
    inputs, names = as_inputs(forward, backward, inputs, names)
    linear_inputs = numbers_of(linear, names)
    if branches is not None and not callable(branches):
        kind = type(branches).__name__
        raise TypeError(f"check: branches is a {kind}, expected a function of the cache")
    rng = as_generator("check", 0 if rng is None else rng).spawn(1)[0]  # else dout could be x
    known = takes_complex(forward)
    if mode == "auto" and known:
        mode = "complex_step"
    arguments: tuple[ArgumentReport, ...] = ()
    problem = ""
    with _blas().limit(limits=1, user_api="blas"):
        pair = Pair(forward, backward, inputs, names, rng)
        try:
            pair.run_backward()
        except NotCheckable as error:
            problem = str(error)
        else:
            slopes = PairSlopes(pair, mode, branches, linear_inputs)
            judge = Judge(slopes)
            arguments = tuple(_checked(judge, k, name, rng, mode) for k, name in enumerate(names))
            if not known and not is_analytic(forward):
                arguments = tuple(_believed(slopes, argument) for argument in arguments)
            arguments = tuple(explained(slopes, argument, names) for argument in arguments)
    title = getattr(getattr(forward, "func", forward), "__name__", "forward")
    if mode == "auto":
        mode = "directional"
    return Report(title, mode, arguments, time.perf_counter() - started, problem)


@functools.cache
def _blas() -> ThreadpoolController:
    """Return the BLAS, for one thread: the products are small, and threads that wait cost more."""
    return ThreadpoolController()


def _checked(
    judge: Judge, k: int, name: str, rng: np.random.Generator, mode: str
) -> ArgumentReport:
    """Check the gradient of input k, along a random direction or entry by entry."""
    pair = judge.pair
    value, gradient = host(pair.inputs[k]), host(pair.gradients[k])
    shape = () if value is None else value.shape
    if problem := _not_comparable(name, value, gradient):
        return ArgumentReport(k, name, shape, WRONG, problem=problem)
    if gradient is None:
        return ArgumentReport(k, name, shape, RIGHT)
    if mode == "jacobian":
        return _every_entry(judge, k, name, shape)
    return _report(k, name, shape, judge.compare(k, pair.direction(k, rng)))


def _not_comparable(name: str, value: Array | None, gradient: Array | None) -> str:
    """Say why a gradient cannot be compared with anything, or nothing."""
    if value is None:
        return "" if gradient is None else "a gradient where None is expected, as the input is None"
    if value.dtype.kind != "f":
        if gradient is None:
            return ""
        return (
            f"a gradient where None is expected, as the input is {value.dtype}: if a gradient is "
            f"wanted, pass {name}.astype(np.float64)"
        )
    if gradient is None:
        return f"no gradient (None), expected shape {value.shape}"
    if gradient.shape != value.shape:
        return f"gradient of shape {gradient.shape}, expected shape {value.shape}"
    if gradient.dtype.kind not in "fiub":
        return f"the gradient has dtype {gradient.dtype}, expected real numbers"
    return "" if np.isfinite(gradient).all() else "the gradient has NaN or infinity"


def _report(k: int, name: str, shape: tuple[int, ...], finding: Finding) -> ArgumentReport:
    evidence, slope = finding.evidence, finding.slope
    return ArgumentReport(
        k,
        name,
        shape,
        finding.verdict,
        evidence.exact,
        slope.value,
        finding.allowed,
        finding.resolved,
        slope.step,
        evidence.tried,
        evidence.crossed,
        reason=finding.reason,
    )


def _believed(slopes: PairSlopes, argument: ArgumentReport) -> ArgumentReport:
    """Return a report, but of nothing that rests on a complex step which drops a part."""
    if argument.problem or not slopes.drops_a_part(argument.index):
        return argument
    return replace(argument, verdict=UNCHECKED, resolved=0.0, reason=NOT_ANALYTIC)


def _every_entry(judge: Judge, k: int, name: str, shape: tuple[int, ...]) -> ArgumentReport:
    """Check every entry of a gradient and report the worst."""
    gradient = host(judge.pair.gradients[k])
    typical = norm((gradient,)) / np.sqrt(gradient.size)
    entries: list[Entry] = []
    worst: ArgumentReport | None = None
    tried = crossed = 0
    for index, u, length in judge.pair.entries(k):
        finding = judge.compare(k, u, typical * length, cheaply=bool(entries))
        entry = _report(k, name, shape, finding)
        tried, crossed = tried + entry.tried, crossed + entry.crossed
        entry = replace(
            entry,
            exact=entry.exact / length,
            numeric=entry.numeric / length,
            allowed=entry.allowed / length,
        )
        if entry.verdict == WRONG:
            entries.append(Entry(index, entry.exact, entry.numeric))
        if worst is None or _badness(entry) > _badness(worst):
            worst = entry
    assert worst is not None
    return replace(
        worst,
        tried=tried,
        crossed=crossed,
        entries=worst_first(entries),
        wrong_share=len(entries) / prod(shape),
    )


def _badness(entry: ArgumentReport) -> tuple[int, float]:
    """Return what orders entries: wrong before unchecked before right, then by their error."""
    error = entry.error / max(entry.allowed, 1e-300)
    rank = (RIGHT, UNCHECKED, WRONG).index(entry.verdict)
    return rank, entry.resolved if entry.verdict == UNCHECKED else error
