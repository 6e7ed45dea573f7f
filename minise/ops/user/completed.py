"""A user's module as a back end: its own ops, and the reference's for those that it lacks.

The module's functions for inference are used only if it has all of them and defines at least one.
Otherwise a net predicts with the ops used in training: the reference's functions for inference
would not call the user's ops.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from minise.checks import check_one_algorithm
from minise.ops import reference
from minise.ops.user import composed
from minise.ops.user.errors import OpsError, call_user, describe, location_of
from minise.ops.user.fit import accepted_settings
from minise.ops.user.pair import Hook, Pair, cache_of

INFERENCE = {n for n in reference.FUNCTIONS if n.startswith(("fold_", "prepare_", "run_"))}
ARRAYS = {
    "asarray",
    "asnumpy",
    "run_batch_norm2d",
    "run_conv2d",
}  # functions that return a single array
CONFIGURATION = {"using"}  # optional settings of the user's ops
CONTRACT = frozenset({*reference.FUNCTIONS, *CONFIGURATION})
OPS = sorted(n.removesuffix("_forward") for n in reference.FUNCTIONS if n.endswith("_forward"))


def split_name(name: str) -> tuple[str, str]:
    """Split "relu_forward" into "relu" and "forward"; return any other name with ""."""
    for half in ("forward", "backward", "branches"):
        if name.endswith(f"_{half}"):
            return name.removesuffix(f"_{half}"), half
    return name, ""


class UserOps:
    """A back end that combines the functions of a user's module with the reference's.

    Parameters
    ----------
    module, file
        The user's module, imported by load.py, and its file.
    hook : callable, optional
        Called with the name and the function of each forward and backward; returns the function to
        call instead.

    Attributes
    ----------
    file : Path
        The user's file.
    own : frozenset of str
        The functions of the contract that the module defines or imports.
    ops : list of str
        The ops whose forward or backward the module has.
    composed : frozenset of str
        Forward and backward of the fused ops that are computed by the user's ops (composed.py).
    fits : dict of str to Fit
        By op: the signature of its forward.
    notes : dict of str to dict
        By op: differences in form from the contract, in order; filled by calls.
    folds : bool
        True if nets predict with the user's functions for inference.
    """

    require = staticmethod(reference.require)
    on_compile = staticmethod(reference.on_compile)

    def __init__(
        self, module: ModuleType, file: Path, hook: Hook = lambda name, function: function
    ) -> None:
        self.module, self.file, self.hook = module, file, hook
        self.__name__ = module.__name__
        self.own = frozenset(CONTRACT & vars(module).keys())
        halves = map(split_name, self.own)
        self.ops = sorted({op for op, half in halves if half in ("forward", "backward")} & {*OPS})
        own = {name: getattr(module, name) for name in self.own}
        pairs = {op: Pair(op, own, file, hook) for op in self.ops}
        self.notes = {op: pair.notes for op, pair in pairs.items()}
        self.fits = {op: pair.fit for op, pair in pairs.items()}
        self.folds = self._has_inference()
        names = (self.own if self.folds else self.own - INFERENCE) - CONFIGURATION
        functions: dict[str, Any] = {name: self._located(name) for name in names}
        for pair in pairs.values():
            functions.update(pair.functions())
        vars(self).update(_with_reference(functions, hook))
        self.composed = frozenset(
            f"{op}_{half}"
            for op, parts in composed.PARTS.items()
            if op not in self.ops and set(parts) & set(self.ops)
            for half in ("forward", "backward")
        )
        for name in self.composed:
            setattr(self, name, self.compose(name, partial(getattr, self)))
            vars(self).pop(f"{split_name(name)[0]}_branches", None)

    def __deepcopy__(self, memo: dict[int, Any]) -> "UserOps":
        """Return the same object: a copied net calls the same functions."""
        return self

    def compose(self, name: str, find: Callable[[str], Any]) -> Callable[..., Any]:
        """Return forward or backward of a fused op that calls the ops which `find` looks up."""
        parts = composed.PARTS[split_name(name)[0]]
        called = [f"{part}_{half}" for part in parts for half in ("forward", "backward")]
        namespace = {**vars(composed), **{function: find(function) for function in called}}
        return _with_globals(getattr(composed, name), namespace)

    def with_hook(self, hook: Hook) -> "UserOps":
        """Return the same ops, with another function to call in place of each op's functions."""
        return UserOps(self.module, self.file, hook)

    def location(self, op: str) -> str:
        """Return file and line of the module's backward of an op, or else of its forward."""
        half = f"{op}_backward" if f"{op}_backward" in self.own else f"{op}_forward"
        return location_of(getattr(self.module, half), self.file)

    def using(self, *, threads: int | None = None, algorithm: str | None = None) -> Any:
        """Return the result of the user's `using`, or these ops if it takes none of the settings.

        Raises
        ------
        ValueError
            If an algorithm is chosen, and the user's `using` has no such parameter.
        """
        own = vars(self.module).get("using")
        taken = accepted_settings(own, ("threads", "algorithm")) if own is not None else set()
        if "algorithm" not in taken:
            check_one_algorithm(self.file.name, algorithm)
        requested = {"threads": threads, "algorithm": algorithm}
        passed = {k: value for k, value in requested.items() if k in taken and value is not None}
        return call_user(own, self.file, [], passed) if own is not None and passed else self

    def additional_ops(self) -> list[str]:
        """Return the module's ops, with forward and backward, that minise does not have."""
        names = vars(self.module).keys()
        pairs = (split_name(name)[0] for name in names if split_name(name)[1] == "forward")
        return [op for op in pairs if op not in OPS and f"{op}_backward" in names]

    def _has_inference(self) -> bool:
        """Return True if the module has all functions for inference and defines at least one."""
        functions = vars(self.module)
        own = [functions[name] is not getattr(reference, name) for name in INFERENCE & self.own]
        return len(own) == len(INFERENCE) and any(own)

    def _located(self, name: str) -> Callable[..., Any]:
        function = getattr(self.module, name)

        def call(*arguments: Any, **settings: Any) -> Any:
            unwrapped = [cache_of(argument) for argument in arguments]
            returned = call_user(function, self.file, unwrapped, settings)
            if name not in ARRAYS or isinstance(returned, np.ndarray):
                return returned
            text = f"{name} returns {describe(returned)}, expected an array"
            raise OpsError(f"{location_of(function, self.file)}: {text}")

        call.__wrapped__ = function  # type: ignore[attr-defined]
        return call


def _with_reference(own: dict[str, Any], hook: Hook) -> dict[str, Any]:
    """Return the user's functions, and the reference's for all others except inference."""
    functions: dict[str, Any] = {}
    for name in reference.FUNCTIONS:
        function = getattr(reference, name)
        is_half = split_name(name)[1] in ("forward", "backward")
        functions[name] = hook(name, function) if is_half else function
    return {name: f for name, f in functions.items() if name not in INFERENCE} | own


def _with_globals(function: Any, namespace: dict[str, Any]) -> FunctionType:
    """Return a copy of a function with other global names."""
    copy = FunctionType(function.__code__, namespace, function.__name__, function.__defaults__)
    copy.__kwdefaults__, copy.__doc__ = function.__kwdefaults__, function.__doc__
    copy.__module__ = function.__module__
    return copy
