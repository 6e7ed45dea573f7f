"""Decide where a complex step through an unknown forward can be believed, and take it there.

A complex step resolves what no difference can, but only if forward is analytic between its
branches: abs, .real or a cast to float drop a part of the derivative without an error. So it is
believed where the code of forward names only analytic arithmetic (is_analytic), or else if it
agrees with differences. If differences can tell at the inputs themselves, that decides. If not, the
two have to agree at all of some other inputs where differences can tell, of several sizes, as
forward may have branches for large numbers; gradients that vanish at the inputs do not vanish
there. And at the inputs the steps i t and -i t have to agree, which they do not where a maximum is
tied.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numpy.exceptions import ComplexWarning

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
from minise.gradcheck.slopes.rounding import root_mean_square, spread_of
from minise.ops.checks import Array

VOUCHING_REL_TOL = 2.0**-17  # of a slope: what a difference has to resolve to be compared
INPUT_SIZES = (1.0, 1.0, 0.25, 4.0, 1.0, 0.25, 32.0)  # of other inputs
INPUTS_NEEDED = 2  # other inputs at which both agree
SPREAD = 0.25  # of the inputs drawn beside those given, and of those that are zero

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
    """Slopes of a pair's forward by complex steps, where they can be believed."""

    def __init__(self, pair: Pair, branches: Branches | None) -> None:
        self._pair, self._branches = pair, branches
        self._analytic = is_analytic(pair.plain_forward)
        self._vouched: dict[int, bool] = {}  # by the number of the input

    def slope(self, k: int, u: Array) -> Slope | None:
        """Return the slope when input k moves along u, or None if it cannot be believed."""
        if self._vouched.get(k) is False:
            return None
        slope = self._both_ways(self._pair.inputs, k, u)
        if slope is not None and k not in self._vouched:
            self._vouched[k] = self._analytic or self._agrees_where_it_can(k)
        return slope if self._vouched.get(k) else None

    def surplus(self, k: int, u: Array) -> float:
        """Return how much of a slope a complex step finds, believed or not, beyond rounding."""
        slope = self._both_ways(self._pair.inputs, k, u)
        if slope is None or slope.value == 0:
            return 0.0
        line = self._pair.line({k: u}, complex_step=True, perturb=True)
        with _quiet():
            noise = spread_of(phi(line, self._pair.douts, slope.step))
        return max(0.0, abs(slope.value) - noise - slope.truncation)

    def _both_ways(self, inputs: Sequence[Any], k: int, u: Array) -> Slope | None:
        """Return the slope by a complex step, or None if -i t gives another one than i t."""
        line = self._pair.line({k: u}, inputs, complex_step=True)
        douts, count = self._pair.douts, self._pair.count
        step = complex_step_for(root_mean_square(host(inputs[k])))
        try:
            with _quiet():
                slope = refined_complex_slope(line, douts, count, step, sign=-1)
        except Exception:  # forward does not take complex numbers, and may say so in its own way
            return None
        return slope if slope.truncation <= 2 * slope.rounding else None

    def _agrees_where_it_can(self, k: int) -> bool:
        """Tell whether complex steps agree with differences at the inputs, or else elsewhere."""
        at_inputs = self._agrees(k, self._pair.inputs)
        if at_inputs is not None:
            return at_inputs
        answers = [self._agrees(k, inputs) for inputs in self._other_inputs()]
        return answers.count(True) >= INPUTS_NEEDED and False not in answers

    def _agrees(self, k: int, inputs: Sequence[Any]) -> bool | None:
        """Tell whether both ways agree at some inputs, or None if differences cannot tell there."""
        value = host(inputs[k])
        u = np.random.default_rng(k).standard_normal(value.shape) * np.maximum(abs(value), 1)
        size = root_mean_square(value)
        steps = [*STEPS, *(h * size for h in STEPS if 0 < size * STEPS[0] < STEPS[-1])]
        pair = self._pair
        try:
            with _quiet():
                out, cache = pair.forward(*inputs)
                start = (outputs_of(out), cache)
                line = pair.line({k: u}, inputs)
                by_step = Differences(line, pair.douts, pair.count, start, self._branches)
                slopes = (by_step.at(h) for h in steps)
                resolved = (slope for slope in slopes if slope is not None and _resolves(slope))
                slope = next(resolved, None)
        except Exception:  # inputs that were not given need not lie where forward is defined
            return None
        if slope is None:
            return None
        exact = self._both_ways(inputs, k, u)
        if exact is None:
            return False
        return abs(exact.value - slope.value) <= exact.error + slope.error + slope.kink

    def _other_inputs(self) -> Iterator[list[Any]]:
        """Yield inputs at which differences may tell more, of several sizes."""
        for seed, size in enumerate(INPUT_SIZES):
            rng = np.random.default_rng(seed)
            yield [_drawn(value, rng, size, near=seed % 2 == 0) for value in self._pair.inputs]


def _resolves(slope: Slope) -> bool:
    return slope.smooth and 0 < slope.error + slope.kink <= VOUCHING_REL_TOL * abs(slope.value)


def _drawn(value: Any, rng: np.random.Generator, size: float, *, near: bool) -> Any:
    """Return normal numbers of an array's shape and some size; or near it, the array rescaled."""
    numbers = host(value)
    if numbers is None or numbers.dtype.kind != "f":
        return value
    own = root_mean_square(numbers)
    noise = rng.standard_normal(numbers.shape)
    if near and own:
        return like(np.asarray(size * numbers / own * (1 + SPREAD * noise)), value)
    return like(np.asarray(size * (SPREAD if near else 1) * noise), value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let overflow pass without a word, and make an error of an imaginary part that is dropped."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", ComplexWarning)
        yield


def is_analytic(function: Callable[..., Any]) -> bool:
    """Tell whether a function can be seen to do only analytic arithmetic, by the names in its code.

    Every global, attribute and method that its code names has to be in ANALYTIC, or a Python
    function for which the same holds; so `abs`, `.real`, `conj`, `astype`, `var` and unknown names
    are refused. Comparisons are allowed: NumPy orders complex numbers by their real part first, so
    `np.where(x > 0, x, 0)` and `np.maximum` keep their branch (where they are tied, steps in both
    imaginary directions differ, which ComplexSteps sees).
    """
    return _all_analytic(function, set())


def _all_analytic(function: Any, seen: set[CodeType]) -> bool:
    if not isinstance(function, FunctionType):
        return isinstance(function, np.ufunc) and function.__name__ in ANALYTIC
    if function.__code__ in seen:
        return True
    seen.add(function.__code__)
    held = [*_contents(function), *(function.__defaults__ or ())]
    held += (function.__kwdefaults__ or {}).values()
    for name in _names(function.__code__):
        if name in function.__globals__:
            held.append(function.__globals__[name])
        elif name not in ANALYTIC:
            return False
    return all(_is_data(value) or _all_analytic(value, seen) for value in held)


def _names(code: CodeType) -> Iterator[str]:
    """Yield the globals, attributes and methods that code names, also in functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _contents(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that has no value yet
            continue


def _is_data(value: Any) -> bool:
    """Tell whether a value is NumPy, a number, an array, or a container of such."""
    if isinstance(value, tuple | list | dict):
        return all(map(_is_data, value.values() if isinstance(value, dict) else value))
    if isinstance(value, ModuleType):
        return value is np
    # a subclass may compute in its own way
    return isinstance(value, np.generic) or type(value) in DATA_TYPES
