"""A back end that computes shapes only: nothing is multiplied, and arrays have no elements.

Every op of the reference is here. Its results, caches and gradients are NumPy arrays of the right
shape and dtype whose elements are one number in memory (array.py); a mistake raises the reference's
error. So a training step of the real loop can run on this back end, without arithmetic and almost
without memory, and shows what a step on real arrays would allocate:

    ops = cost.Shapes()
    net = models.build("se_resnet110", ops=ops)      # parameters are not drawn
    net.forward(ops.shaped((128, 3, 32, 32), np.float32), training=True)
    ops.ledger.peak                                  # bytes

minise.analysis.memory_of does this. The ops are the reference's own functions, in whose
modules `np` is rules.Numpy, so that temporaries are counted too (ledger.py); for another back end,
`Shapes` counts the results, and the workspaces that the back end declares.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from types import FunctionType
from typing import Any

from minise.checks import Array, did_you_mean
from minise.ops import reference
from minise.ops.backend import BACKENDS
from minise.ops.cost.array import ShapeArray, new
from minise.ops.cost.ledger import CachingLedger, Ledger
from minise.ops.cost.recipe import Unknown, follow, key_of, recipe_of
from minise.ops.cost.rules import Numpy
from minise.ops.exports import exported
from minise.ops.protocol import Listener

# Maps a function's name, arguments, settings and results to the bytes of its workspace: the size of
# each array from the back end's caching allocator, in order, and the sum of all other arrays.
Workspace = Callable[[str, tuple[Any, ...], dict[str, Any], Any], tuple[list[int], int]]

# Resident bytes for each byte of an array from the C library, measured by tests/analysis/peaks.py:
# for reference 1.05 to 1.15; jit's freed scratch also stays in the heap of each thread.
HEAP = {"reference": 1.06, "jit": 1.3}


class Shapes:
    """The ops as attributes, like a module's functions.

    Parameters
    ----------
    ledger : Ledger, optional
        Counts the bytes of arrays; by default a new one.
    workspace : callable, optional
        Bytes that a call of a function needs besides its results in the back end that is modelled;
        by default, the reference's temporaries count.
    """

    folds = False  # nets predict with the ops of training

    def __init__(self, ledger: Ledger | None = None, workspace: Workspace | None = None) -> None:
        self.ledger = Ledger() if ledger is None else ledger
        self.workspace = workspace
        numpy = Numpy(self.ledger)
        self.asarray: Callable[..., Array] = numpy.asarray
        self.__all__ = reference.FUNCTIONS
        for name, function in _functions(numpy).items():
            run = self._memoised(function)
            setattr(self, name, run if workspace is None else self._declared(name, run))

    def asnumpy(self, array: Array) -> Array:
        """Return the array: only arrays of shape () have a value."""
        return array

    def shaped(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array of a shape, such as initial parameters, which are not drawn."""
        return new(tuple(shape), dtype, self.ledger)

    def require(self) -> None:
        """Do nothing."""

    def using(self, *, threads: int | None = None, algorithm: str | None = None) -> "Shapes":
        """Return these ops: threads and algorithms do not change shapes."""
        return self

    def on_compile(self, listener: Listener) -> AbstractContextManager[None]:
        """Return a context in which listener is never called."""
        return reference.on_compile(listener)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Shapes":
        """Return the same object."""
        return self

    def _memoised(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that makes only the results if a call's shapes occurred before."""
        recipes: dict[Any, tuple[Any, int]] = {}

        @wraps(function)
        def run(*arguments: Any, **settings: Any) -> Any:
            ledger, inputs = self.ledger, list[ShapeArray]()
            try:
                key = key_of((arguments, settings), inputs)
            except Unknown:
                return function(*arguments, **settings)
            if key in recipes:
                recipe, most = recipes[key]
                ledger.note(most)
                return follow(recipe, inputs, ledger, [])
            before = ledger.most_live = ledger.live
            results = function(*arguments, **settings)
            recipes[key] = recipe_of(results, inputs, []), ledger.most_live - before
            return results

        return run

    def _declared(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts only its results, and the declared workspace."""

        @wraps(function)
        def run(*arguments: Any, **settings: Any) -> Any:
            ledger, self.ledger.paused = self.ledger, True
            try:
                results = function(*arguments, **settings)
            finally:
                ledger.paused = False
            _count(results)
            assert self.workspace is not None
            pooled, others = self.workspace(name, arguments, settings, results)
            for size in pooled:
                ledger.take(size, True)
                ledger.note(others)
                ledger.give(size, True)
            ledger.note(others)
            return results

        return run


def _count(results: Any) -> None:
    """Count the arrays of results, and of caches, that are not counted yet."""
    if isinstance(results, ShapeArray):
        results.memory.count(pooled=True)
    elif isinstance(results, tuple):
        for entry in results:
            _count(entry)


def _functions(numpy: Numpy) -> dict[str, Callable[..., Any]]:
    """Return the reference's functions, with another `np` in their modules and those they call."""
    spaces: dict[str, dict[str, Any]] = {}
    for file in pkgutil.iter_modules(reference.__path__, f"{reference.__name__}."):
        spaces[file.name] = {**vars(importlib.import_module(file.name)), "np": numpy}
    for space in spaces.values():
        for name, value in space.items():
            if inspect.isfunction(value) and value.__module__ in spaces:
                space[name] = _rebound(value, spaces[value.__module__])
    return {
        name: spaces[function.__module__][name]
        for name, function in exported(reference.__name__).items()
        if name not in ("asarray", "asnumpy")
    }


def _rebound(function: Any, space: dict[str, Any]) -> Callable[..., Any]:
    same = function.__code__, space, function.__name__, function.__defaults__, function.__closure__
    rebound = FunctionType(*same)
    rebound.__kwdefaults__ = function.__kwdefaults__
    return wraps(function)(rebound)


def modelled(name: str) -> Shapes:
    """Return a back end of shapes whose ledger counts the memory of another back end.

    Parameters
    ----------
    name : {"reference", "jit", "cuda"}
        "cuda" is declared from its code, not measured on a GPU.

    Raises
    ------
    ValueError
        If the name is another one.
    ImportError
        If a part of jit is missing.
    """
    if name == "reference":
        return Shapes(Ledger(HEAP["reference"]))
    if name == "jit":
        from minise.ops.jit.convolution.workspace import workspace
        from minise.ops.jit.vector.memory import MAX_UNPOOLED_BYTES

        return Shapes(CachingLedger(MAX_UNPOOLED_BYTES, HEAP["jit"]), workspace)
    if name == "cuda":
        from minise.ops.cuda.workspace import workspace as cuda_workspace

        return Shapes(Ledger(), cuda_workspace)
    hint = did_you_mean(name, BACKENDS) or ": the memory of other back ends cannot be predicted"
    raise ValueError(f"cost: ops is {name!r}, expected one of {', '.join(BACKENDS)}{hint}")


_ops = Shapes()
folds = Shapes.folds
__all__ = reference.FUNCTIONS


def __getattr__(name: str) -> Any:
    """Return an op of a back end that all users of this module share."""
    return getattr(_ops, name)


def __dir__() -> list[str]:
    """Return all names, with those of the ops."""
    return sorted({*globals(), *reference.FUNCTIONS, "on_compile", "require", "using", "shaped"})
