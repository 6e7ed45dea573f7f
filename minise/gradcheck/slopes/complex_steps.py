"""Take complex steps through an unknown forward where they can be trusted.

A complex step is exact where differences fail, but only if forward is analytic between its
branches: abs, .real or a cast to float silently drop a part of the derivative. So a complex step is
trusted if the code of forward names only analytic functions (is_analytic), or else if it agrees
with differences. If differences resolve the slope at the inputs themselves, that comparison
decides. Otherwise the two must agree at every one of several other inputs where differences resolve
the slope. Their magnitudes differ, as forward may have branches for large numbers, and a gradient
that vanishes at the inputs does not vanish there. In addition, the steps i t and -i t must agree at
the inputs, which they do not where a maximum is tied.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numpy.exceptions import ComplexWarning

from minise.checks import Array
from minise.gradcheck.slopes.arrays import host, like, outputs_of
from minise.gradcheck.slopes.differences import (
    STEPS,
    Branches,
    Differences,
    Slope,
    complex_step_for,
    phi,
    refined_complex_slope,
)
from minise.gradcheck.slopes.pair import Pair
from minise.gradcheck.slopes.rounding import noise_under_perturbation, root_mean_square

COMPARISON_REL_TOL = 2.0**-17  # a difference with a larger relative error is not compared
INPUT_SIZES = (1.0, 1.0, 0.25, 4.0, 1.0, 0.25, 32.0)  # root mean squares of the other inputs
MIN_AGREEING_INPUTS = 2  # other inputs at which both must agree
REL_SPREAD = 0.25  # of inputs drawn near the pair's own

ARITHMETIC = (
    "add subtract multiply divide true_divide negative reciprocal square power sqrt exp exp2 expm1 "
    "log log2 log10 log1p sin cos tan sinh cosh tanh arctan sum mean prod cumsum dot inner outer "
    "matmul tensordot einsum trace maximum minimum max min amax amin argmax argmin where"
)
SHAPES = (
    "array asarray arange zeros ones full eye zeros_like ones_like full_like empty_like copy shape "
    "ndim size reshape ravel flatten squeeze expand_dims transpose T swapaxes moveaxis "
    "broadcast_to concatenate stack pad flip roll tile repeat newaxis ndindex"
)
OTHER_NAMES = "np numpy pi e inf dtype len range zip enumerate tuple list reversed append"
DATA_TYPES = (bool, int, float, str, np.ndarray, type(None))
ANALYTIC = frozenset(f"{ARITHMETIC} {SHAPES} {OTHER_NAMES}".split())


class ComplexSteps:
    """Slopes of a pair's forward by complex steps, where they can be trusted."""

    def __init__(self, pair: Pair, branches: Branches | None) -> None:
        self._pair, self._branches = pair, branches
        self._analytic = is_analytic(pair.plain_forward)
        self._trusted: dict[int, bool] = {}  # by the index of the input

    def slope(self, k: int, u: Array) -> Slope | None:
        """Return the slope along u in input k, or None if a complex step cannot be trusted."""
        if self._trusted.get(k) is False:
            return None
        slope = self._slope_by_both_signs(self._pair.inputs, k, u)
        if slope is not None and k not in self._trusted:
            self._trusted[k] = self._analytic or self._agrees_with_differences(k)
        return slope if self._trusted.get(k) else None

    def excess_over_rounding(self, k: int, u: Array) -> float:
        """Return by how much a complex step's slope, trusted or not, exceeds rounding errors."""
        slope = self._slope_by_both_signs(self._pair.inputs, k, u)
        if slope is None or slope.value == 0:
            return 0.0
        line = self._pair.line({k: u}, complex_step=True, perturb=True)
        with _strict_complex():
            noise = noise_under_perturbation(phi(line, self._pair.douts, slope.step))
        return max(0.0, abs(slope.value) - noise - slope.truncation)

    def _slope_by_both_signs(self, inputs: Sequence[Any], k: int, u: Array) -> Slope | None:
        """Return the slope by a complex step, or None if the steps i t and -i t disagree."""
        line = self._pair.line({k: u}, inputs, complex_step=True)
        douts, count = self._pair.douts, self._pair.count
        step = complex_step_for(root_mean_square(host(inputs[k])))
        try:
            with _strict_complex():
                slope = refined_complex_slope(line, douts, count, step, sign=-1)
        except Exception:  # forward rejects complex numbers, with an exception of any type
            return None
        return slope if slope.truncation <= 2 * slope.rounding else None

    def _agrees_with_differences(self, k: int) -> bool:
        """Return True if complex steps agree with differences at the inputs, or else elsewhere."""
        at_inputs = self._agrees_at(k, self._pair.inputs)
        if at_inputs is not None:
            return at_inputs
        results = [self._agrees_at(k, inputs) for inputs in self._other_inputs()]
        return results.count(True) >= MIN_AGREEING_INPUTS and False not in results

    def _agrees_at(self, k: int, inputs: Sequence[Any]) -> bool | None:
        """Return True if complex steps and differences agree at some inputs, None if unresolved."""
        value = host(inputs[k])
        u = np.random.default_rng(k).standard_normal(value.shape) * np.maximum(abs(value), 1)
        size = root_mean_square(value)
        steps = [*STEPS, *(h * size for h in STEPS if 0 < size * STEPS[0] < STEPS[-1])]
        pair = self._pair
        try:
            with _strict_complex():
                out, cache = pair.forward(*inputs)
                start = (outputs_of(out), cache)
                line = pair.line({k: u}, inputs)
                differences = Differences(line, pair.douts, pair.count, start, self._branches)
                slopes = (differences.at(h) for h in steps)
                resolved = (slope for slope in slopes if slope is not None and _is_resolved(slope))
                slope = next(resolved, None)
        except Exception:  # forward need not be defined at inputs that the user did not pass
            return None
        if slope is None:
            return None
        exact = self._slope_by_both_signs(inputs, k, u)
        if exact is None:
            return False
        return abs(exact.value - slope.value) <= exact.error + slope.error + slope.kink

    def _other_inputs(self) -> Iterator[list[Any]]:
        """Yield other inputs of several sizes, at which differences may resolve the slope."""
        for seed, size in enumerate(INPUT_SIZES):
            rng = np.random.default_rng(seed)
            yield [_draw_like(value, rng, size, near=seed % 2 == 0) for value in self._pair.inputs]


def _is_resolved(slope: Slope) -> bool:
    """Return True if a slope by differences is exact enough to be compared."""
    return slope.smooth and 0 < slope.error + slope.kink <= COMPARISON_REL_TOL * abs(slope.value)


def _draw_like(value: Any, rng: np.random.Generator, size: float, *, near: bool) -> Any:
    """Return random numbers of an array's shape and some size, or the array rescaled and perturbed.

    The array is rescaled and perturbed if near is True and it is not all zeros.
    """
    numbers = host(value)
    if numbers is None or numbers.dtype.kind != "f":
        return value
    current_size = root_mean_square(numbers)
    noise = rng.standard_normal(numbers.shape)
    if near and current_size:
        return like(np.asarray(size * numbers / current_size * (1 + REL_SPREAD * noise)), value)
    return like(np.asarray(size * (REL_SPREAD if near else 1) * noise), value)


@contextmanager
def _strict_complex() -> Iterator[None]:
    """Ignore floating-point warnings, and raise an error where an imaginary part is dropped."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", ComplexWarning)
        yield


def is_analytic(function: Callable[..., Any]) -> bool:
    """Return True if the names in a function's code show that it computes an analytic function.

    Every global, attribute and method that the code names must be in ANALYTIC, or be a Python
    function for which the same holds. So `abs`, `.real`, `conj`, `astype`, `var` and unknown names
    make the result False. Comparisons are allowed: NumPy orders complex numbers by their real part
    first, so `np.where(x > 0, x, 0)` and `np.maximum` keep their branch. Where operands are tied,
    steps in the two imaginary directions differ, and ComplexSteps detects that.
    """
    return _is_analytic(function, set())


def _is_analytic(function: Any, seen: set[CodeType]) -> bool:
    if not isinstance(function, FunctionType):
        return isinstance(function, np.ufunc) and function.__name__ in ANALYTIC
    if function.__code__ in seen:
        return True
    seen.add(function.__code__)
    values = [*_closure_values(function), *(function.__defaults__ or ())]
    values += (function.__kwdefaults__ or {}).values()
    for name in _names_in(function.__code__):
        if name in function.__globals__:
            values.append(function.__globals__[name])
        elif name not in ANALYTIC:
            return False
    return all(_is_data(value) or _is_analytic(value, seen) for value in values)


def _names_in(code: CodeType) -> Iterator[str]:
    """Yield the globals, attributes and methods that code names, nested functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _closure_values(function: FunctionType) -> Iterator[Any]:
    """Yield the values of a function's free variables."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # the variable has no value yet
            continue


def _is_data(value: Any) -> bool:
    """Return True if a value is NumPy, a number, an array, or a container of these."""
    if isinstance(value, tuple | list | dict):
        return all(map(_is_data, value.values() if isinstance(value, dict) else value))
    if isinstance(value, ModuleType):
        return value is np
    # a subclass of ndarray may override arithmetic
    return isinstance(value, np.generic) or type(value) in DATA_TYPES
