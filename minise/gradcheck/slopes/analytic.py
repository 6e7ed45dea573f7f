"""Whether a function can be seen, by the names in its code, to do nothing but analytic arithmetic.

A complex step is exact for such a function. Every global, attribute and method that its code names
has to be in a list, or a Python function of which the same holds; so `abs`, `.real`, `conj`,
`astype`, `var` and whatever is not known are not. Comparisons are allowed: NumPy orders complex
numbers by their real part first, so `np.where(x > 0, x, 0)` and `np.maximum` keep their branch
(where they are tied, steps in both imaginary directions differ, which is seen elsewhere).
"""

from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

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
OTHERS = "np numpy pi e inf dtype len range zip enumerate tuple list reversed append"
PLAIN = (bool, int, float, str, np.ndarray)
ANALYTIC = frozenset(f"{ARITHMETIC} {SHAPES} {OTHERS}".split())


def is_analytic(function: Callable[..., Any]) -> bool:
    """Tell whether all that a function's code names is analytic."""
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
    return all(_is_data(one) or _all_analytic(one, seen) for one in held)


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
    return isinstance(value, np.generic) or type(value) in (*PLAIN, type(None))
