"""A user's module as a back end: its own ops first, the reference's where it has none.

Functions for inference are the user's, if he has written any and has all of them. The reference's
would predict by code that is not the user's: without them a net predicts by the ops that it is
trained with.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from minise.ops import reference
from minise.ops.checks import check_one_algorithm
from minise.ops.user import composed
from minise.ops.user.errors import OpsError, described, place_of, run
from minise.ops.user.fit import settings_taken
from minise.ops.user.pair import Hook, Pair, cache_of

INFERENCE = {n for n in reference.FUNCTIONS if n.startswith(("fold_", "prepare_", "run_"))}
ARRAYS = {"asarray", "asnumpy", "run_batch_norm2d", "run_conv2d"}  # that return one array
RUNNING = {"using"}  # how the ops are run, where the user's have a choice
CONTRACT = frozenset({*reference.FUNCTIONS, *RUNNING})
OPS = sorted(n.removesuffix("_forward") for n in reference.FUNCTIONS if n.endswith("_forward"))


def halves_of(name: str) -> tuple[str, str]:
    """Return an op and which half of it a name is, or the name and ""."""
    for half in ("forward", "backward", "branches"):
        if name.endswith(f"_{half}"):
            return name.removesuffix(f"_{half}"), half
    return name, ""


class UserOps:
    """A back end: the functions of a user's module, and the reference's.

    Parameters
    ----------
    module, file
        The user's, imported by load.py.
    hook : callable, optional
        Is given the name and the function of every half of an op, and returns what to call instead.

    Attributes
    ----------
    file : Path
        The user's file.
    own : frozenset of str
        The names of the contract that it defines or imports.
    ops : list of str
        The ops of which it has at least one half.
    composed : frozenset of str
        The halves of fused ops that are made of the user's parts, and not of its own.
    fits : dict of str to Fit
        By op: what its forward takes.
    notes : dict of str to dict
        By op: what differs in form, in order; filled by calls.
    folds : bool
        Whether nets predict by the user's functions for inference.
    """

    require = staticmethod(reference.require)
    on_compile = staticmethod(reference.on_compile)

    def __init__(self, module: ModuleType, file: Path, hook: Hook = lambda name, one: one) -> None:
        self.module, self.file, self.hook = module, file, hook
        self.__name__ = module.__name__
        self.own = frozenset(CONTRACT & vars(module).keys())
        halves = map(halves_of, self.own)
        self.ops = sorted({op for op, half in halves if half in ("forward", "backward")} & {*OPS})
        own = {name: getattr(module, name) for name in self.own}
        pairs = {op: Pair(op, own, file, hook) for op in self.ops}
        self.notes = {op: pair.notes for op, pair in pairs.items()}
        self.fits = {op: pair.fit for op, pair in pairs.items()}
        self.folds = self._predicts()
        names = (self.own if self.folds else self.own - INFERENCE) - RUNNING
        functions: dict[str, Any] = {name: self._located(name) for name in names}
        for pair in pairs.values():
            functions.update(pair.functions())
        vars(self).update(_completed(functions, hook))
        self.composed = frozenset(
            f"{op}_{half}"
            for op, parts in composed.PARTS.items()
            if op not in self.ops and set(parts) & set(self.ops)
            for half in ("forward", "backward")
        )
        for name in self.composed:
            setattr(self, name, self.of_parts(name, partial(getattr, self)))
            vars(self).pop(f"{halves_of(name)[0]}_branches", None)

    def __deepcopy__(self, memo: dict[int, Any]) -> "UserOps":
        """Return the same: a copied net calls the same functions."""
        return self

    def of_parts(self, name: str, find: Callable[[str], Any]) -> Callable[..., Any]:
        """Return half of a composed op, whose parts are what `find` returns by their names."""
        parts = composed.PARTS[halves_of(name)[0]]
        halves = [f"{part}_{half}" for part in parts for half in ("forward", "backward")]
        space = {**vars(composed), **{half: find(half) for half in halves}}
        return _rebound(getattr(composed, name), space)

    def hooked(self, hook: Hook) -> "UserOps":
        """Return the same ops, each called through a hook."""
        return UserOps(self.module, self.file, hook)

    def place(self, op: str) -> str:
        """Return the file and line of an op's backward, or of the half that the file has."""
        half = f"{op}_backward" if f"{op}_backward" in self.own else f"{op}_forward"
        return place_of(getattr(self.module, half), self.file)

    def using(self, *, threads: int | None = None, algorithm: str | None = None) -> Any:
        """Return what the user's `using` does of what it takes, or these ops where nothing is left.

        Raises
        ------
        ValueError
            If an algorithm is chosen, but the user's `using` takes none.
        """
        own = vars(self.module).get("using")
        taken = settings_taken(own, ("threads", "algorithm")) if own is not None else set()
        if "algorithm" not in taken:
            check_one_algorithm(self.file.name, algorithm)
        asked = {"threads": threads, "algorithm": algorithm}
        given = {key: asked[key] for key in asked if key in taken and asked[key] is not None}
        return run(own, self.file, [], given) if own is not None and given else self

    def others(self) -> list[str]:
        """Return the ops that are the user's altogether: pairs under names that minise lacks."""
        names = vars(self.module).keys()
        pairs = (halves_of(name)[0] for name in names if halves_of(name)[1] == "forward")
        return [op for op in pairs if op not in OPS and f"{op}_backward" in names]

    def _predicts(self) -> bool:
        """Tell whether the module has all functions for inference, and has written one of them."""
        functions = vars(self.module)
        own = [functions[name] is not getattr(reference, name) for name in INFERENCE & self.own]
        return len(own) == len(INFERENCE) and any(own)

    def _located(self, name: str) -> Callable[..., Any]:
        function = getattr(self.module, name)

        def call(*arguments: Any, **settings: Any) -> Any:
            own = [cache_of(argument) for argument in arguments]
            returned = run(function, self.file, own, settings)
            if name not in ARRAYS or isinstance(returned, np.ndarray):
                return returned
            text = f"{name} returns {described(returned)}, expected an array"
            raise OpsError(f"{place_of(function, self.file)}: {text}")

        call.__wrapped__ = function  # type: ignore[attr-defined]
        return call


def _completed(own: dict[str, Any], hook: Hook) -> dict[str, Any]:
    """Return own functions, and the reference's for others."""
    functions: dict[str, Any] = {}
    for name in reference.FUNCTIONS:
        function = getattr(reference, name)
        is_half = halves_of(name)[1] in ("forward", "backward")
        functions[name] = hook(name, function) if is_half else function
    return {name: one for name, one in functions.items() if name not in INFERENCE} | own


def _rebound(function: Any, space: dict[str, Any]) -> FunctionType:
    """Return a function that finds other functions under its global names."""
    same = FunctionType(function.__code__, space, function.__name__, function.__defaults__)
    same.__kwdefaults__, same.__doc__ = function.__kwdefaults__, function.__doc__
    same.__module__ = function.__module__
    return same
