"""Check a backward pass against its forward pass.

Let J be the derivative of forward with respect to one argument, u a random direction of that
argument and dout a random gradient of the output. Then ``<dout, J u> == <J.T dout, u>``. A few runs
of forward give the left side, the slope of forward along u (slopes/differences.py); one run of
backward gives the right side. A random direction involves every entry of the gradient, so a mistake
in any entry shows, at the cost of a few training steps.

dout must be random. With all ones, the check would compare gradients of ``out.sum()``, which are
zero for batch norm and softmax whatever backward does; the sum of squares has the same blind spot.

The tolerance is derived from the arithmetic, not tuned: the rounding errors of all inputs and
outputs add up like a random walk. Where this bound is too small (1 - s * s with s nearly 1), the
rounding errors of forward and backward are measured by high-order differences along a line
(noise_of in slopes/rounding.py). A finite difference adds its truncation error, estimated by
halving the step. If the sum of these bounds is not small against the gradient, or a kink is too
close, the gradient could not be checked, and the report says so (verdict.py).
"""

import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from minise.checks import Array, as_generator, check_choice
from minise.gradcheck.adapters import takes_complex
from minise.gradcheck.diagnose import with_diagnosis, worst_first
from minise.gradcheck.inputs import as_inputs, linear_indices
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
        As in `check`.
    allow_unchecked : bool
        Whether to accept gradients that could not be checked.

    Returns
    -------
    Report
        The report of the check.

    Raises
    ------
    AssertionError
        If a gradient is wrong or could not be checked. The message is the first such gradient in
        one line, wrong ones before unchecked ones, and the report.
    """
    __tracebackhide__ = True  # pytest then shows the report instead of this function
    return require_right(check(forward, backward, inputs, rng, **settings), allow_unchecked)


def require_right(report: Report, allow_unchecked: bool) -> Report:
    """Return the report if its gradients are right, or raise the AssertionError of the check."""
    __tracebackhide__ = True
    failures = report.wrong if allow_unchecked else report.failures
    if report.problem or failures:
        raise AssertionError(f"{report.problem or failures[0].sentence()}\n{report}")
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
    """Check every gradient of a backward at some inputs and return a report.

    Parameters
    ----------
    forward : callable
        Maps the inputs to ``(out, cache)``: out is an array or a tuple of arrays, the cache any
        object. For a layer use check_layer, for functions of another form
        minise.gradcheck.adapters.
    backward : callable
        Maps ``(dout, cache)`` to one gradient per input: a tuple, a list, a dict with the names of
        forward's parameters as keys (with or without a leading d), or a single array. It is called
        twice with the same arrays in new containers: it may empty a list of the cache, but not
        write into an array.
    inputs : sequence of ndarray or None, or dict of them
        Float64 arrays at which to check, in the order of forward's parameters or by their names.
        For an input that is None, integer or boolean, backward must return None. Pass random
        inputs: with gamma = 1, a missing gamma would go unnoticed.
    rng : numpy.random.Generator or int, optional
        Seeds dout and the directions; None is seed 0. They come from a spawned stream, so that they
        differ from inputs drawn with the same seed.
    mode : {"auto", "directional", "complex_step", "jacobian"}
        "directional" checks one random direction per argument, by fourth-order differences.
        "complex_step" does the same by a complex step, exact up to rounding, if forward takes
        complex numbers. "jacobian" checks every entry of every gradient, by differences. "auto" is
        "complex_step" for minise's reference ops and nets that call them. For all others "auto" is
        "directional", and falls back on a complex step where differences cannot resolve the
        gradient and forward can be trusted with one.
    branches : callable, optional
        Maps the cache to integers that identify the side of every kink that forward was on, such as
        ``minise.ops.reference.relu_branches``. Then no difference is taken across a kink. Exactly
        at a kink only a complex step gives a slope, that of the side which forward takes.
    linear : str, or collection of str or int
        Names or indices of arguments in which forward is linear: a step of 1 is then exact.
    names : sequence of str, optional
        Names of the arguments; by default the names of forward's parameters.

    Returns
    -------
    Report
        ``report.ok``, also ``bool(report)``, is True if every gradient was checked and is right.
        Print the report (``rich.print`` shows colours), or write ``report.to_json()``. The check
        leaves the inputs unchanged, and the parameters, statistics and gradients of an adapted
        layer.

    Raises
    ------
    ValueError, TypeError
        If the mode is unknown, an input is neither None nor an array of finite float64, integers
        or booleans, or forward's out is not an array of float64 or a tuple of such arrays.

    Examples
    --------
    >>> def forward(x):
    ...     return x * x, x
    >>> def backward(dout, x):
    ...     return (dout * x,)  # the factor 2 is missing
    >>> print(check(forward, backward, [np.array([1.0, 2.0, 3.0])]).arguments[0].diagnosis.kind)
    factor
    """
    started = time.perf_counter()
    check_choice("check", "mode", mode, MODES)
    inputs, names = as_inputs(forward, backward, inputs, names)
    linear_inputs = linear_indices(linear, names)
    if branches is not None and not callable(branches):
        kind = type(branches).__name__
        raise TypeError(f"check: branches is a {kind}, expected a function of the cache")
    # spawned, since dout would equal x if both came from the same seed
    rng = as_generator("check", 0 if rng is None else rng).spawn(1)[0]
    known_complex = takes_complex(forward)
    if mode == "auto" and known_complex:
        mode = "complex_step"
    arguments: tuple[ArgumentReport, ...] = ()
    problem = ""
    with _blas_controller().limit(limits=1, user_api="blas"):
        pair = Pair(forward, backward, inputs, names, rng)
        try:
            pair.run_backward()
        except NotCheckable as error:
            problem = str(error)
        else:
            slopes = PairSlopes(pair, mode, branches, linear_inputs)
            judge = Judge(slopes)
            reports = [_check_argument(judge, k, name, rng, mode) for k, name in enumerate(names)]
            if not known_complex and not is_analytic(forward):
                reports = [_unchecked_if_not_analytic(slopes, report) for report in reports]
            arguments = tuple(with_diagnosis(slopes, report, names) for report in reports)
    title = getattr(getattr(forward, "func", forward), "__name__", "forward")
    if mode == "auto":
        mode = "directional"
    return Report(title, mode, arguments, time.perf_counter() - started, problem)


@functools.cache
def _blas_controller() -> ThreadpoolController:
    """Return a controller of BLAS threads: for small products one thread is fastest."""
    return ThreadpoolController()


def _check_argument(
    judge: Judge, k: int, name: str, rng: np.random.Generator, mode: str
) -> ArgumentReport:
    """Check the gradient of input k, along a random direction or entry by entry."""
    pair = judge.pair
    value, gradient = host(pair.inputs[k]), host(pair.gradients[k])
    shape = () if value is None else value.shape
    if problem := _why_not_comparable(name, value, gradient):
        return ArgumentReport(k, name, shape, WRONG, problem=problem)
    if gradient is None:
        return ArgumentReport(k, name, shape, RIGHT)
    if mode == "jacobian":
        return _check_every_entry(judge, k, name, shape)
    return _argument_report(k, name, shape, judge.compare(k, pair.direction(k, rng)))


def _why_not_comparable(name: str, value: Array | None, gradient: Array | None) -> str:
    """Return why a gradient cannot be compared, such as a wrong shape, or "" if it can."""
    if value is None:
        return "" if gradient is None else "gradient is an array, expected None: the input is None"
    if value.dtype.kind != "f":
        if gradient is None:
            return ""
        return (
            f"gradient is an array, expected None: the input is {value.dtype}; to check a gradient "
            f"pass {name}.astype(np.float64)"
        )
    if gradient is None:
        return f"gradient is None, expected an array of shape {value.shape}"
    if gradient.shape != value.shape:
        return f"gradient has shape {gradient.shape}, expected {value.shape}"
    if gradient.dtype.kind not in "fiub":
        return f"gradient has dtype {gradient.dtype}, expected real numbers"
    return "" if np.isfinite(gradient).all() else "gradient has NaN or infinity, expected numbers"


def _argument_report(k: int, name: str, shape: tuple[int, ...], finding: Finding) -> ArgumentReport:
    """Return the report of one argument from the verdict along one direction."""
    evidence, slope = finding.evidence, finding.slope
    return ArgumentReport(
        k,
        name,
        shape,
        finding.verdict,
        evidence.exact,
        slope.value,
        finding.tolerance,
        finding.resolved,
        slope.step,
        evidence.tried,
        evidence.crossed,
        reason=finding.reason,
    )


def _unchecked_if_not_analytic(slopes: PairSlopes, argument: ArgumentReport) -> ArgumentReport:
    """Return the report, as unchecked if it relies on a complex step that forward falsifies."""
    if argument.problem or not slopes.drops_imaginary_part(argument.index):
        return argument
    return replace(argument, verdict=UNCHECKED, resolved=0.0, reason=NOT_ANALYTIC)


def _check_every_entry(judge: Judge, k: int, name: str, shape: tuple[int, ...]) -> ArgumentReport:
    """Check every entry of a gradient and return the report of the worst."""
    gradient = host(judge.pair.gradients[k])
    typical_size = norm((gradient,)) / np.sqrt(gradient.size)
    entries: list[Entry] = []
    worst: ArgumentReport | None = None
    tried = crossed = 0
    for index, u, length in judge.pair.entries(k):
        finding = judge.compare(k, u, typical_size * length, cheaply=bool(entries))
        entry = _argument_report(k, name, shape, finding)
        tried, crossed = tried + entry.tried, crossed + entry.crossed
        entry = replace(
            entry,
            exact=entry.exact / length,
            numeric=entry.numeric / length,
            allowed=entry.allowed / length,
        )
        if entry.verdict == WRONG:
            entries.append(Entry(index, entry.exact, entry.numeric))
        if worst is None or _severity(entry) > _severity(worst):
            worst = entry
    assert worst is not None
    return replace(
        worst,
        tried=tried,
        crossed=crossed,
        entries=worst_first(entries),
        wrong_share=len(entries) / prod(shape),
    )


def _severity(entry: ArgumentReport) -> tuple[int, float]:
    """Return a sort key: wrong above unchecked above right, then by error relative to tolerance.

    Unchecked entries are ordered by their detection limit instead.
    """
    error = entry.error / max(entry.allowed, 1e-300)
    rank = (RIGHT, UNCHECKED, WRONG).index(entry.verdict)
    return rank, entry.resolved if entry.verdict == UNCHECKED else error
