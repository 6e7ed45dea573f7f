"""Global names under which traced code sees a NumPy that records a tape.

np.zeros returns a plain array, and np.asarray drops the node of a taped one; the NumPy of this
module returns taped arrays. Functions are copied with other global names; no module changes.
"""

import inspect
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from minise.tracing.instrument import PACKAGE
from minise.tracing.tape import Tape
from minise.tracing.taped import HANDLERS, TapedArray, plain, raw, taped_in, unknown, wrap
from minise.tracing.taped_functions import RECORDED

CREATE = set("zeros ones empty full arange eye identity indices linspace tri".split())  # noqa: SIM905
ALIAS = {"asarray", "asanyarray", "array", "ascontiguousarray", "asfortranarray", "copy"}
HANDLERS.update(RECORDED)


class TapedNumPy(ModuleType):
    """NumPy, with taped arrays from the functions that create arrays or would drop a node."""

    def __init__(self, tape: Tape) -> None:
        super().__init__("numpy")
        self._tape = tape

    def __getattr__(self, name: str) -> Any:
        """Return NumPy's attribute; functions that create or convert arrays are replaced."""
        function = getattr(np, name)
        if name in CREATE:
            return lambda *arguments, **options: self._created(function, arguments, options)
        if name in ALIAS:
            return lambda x, *arguments, **options: self._alias(function, x, arguments, options)
        return function

    def _created(self, function: Any, arguments: Any, options: Any) -> Any:
        result = function(*plain(arguments), **plain(options))
        parts = result if isinstance(result, tuple) else (result,)
        arrays = tuple(wrap(self._tape, part, self._tape.constant(part)) for part in parts)
        return arrays if isinstance(result, tuple) else arrays[0]

    def _alias(self, function: Any, x: Any, arguments: Any, options: Any) -> Any:
        if isinstance(x, list | tuple) and any(taped_in(x)):
            return np.stack(x)
        if not isinstance(x, TapedArray):
            return function(x, *arguments, **options)
        result = function(raw(x), *plain(arguments), **plain(options))
        if np.shape(result) != x.shape or result.dtype != x.dtype:
            return unknown(self._tape, function.__name__, x, result)
        if np.may_share_memory(result, raw(x)):
            return x
        op = "contiguous" if function is np.ascontiguousarray else "copy"
        return wrap(self._tape, result, self._tape.add(op, (x.node,), result))


class Namespaces:
    """Global names of functions, in which NumPy records a tape.

    Parameters
    ----------
    tape : Tape
        The tape to record on.
    file : path, optional
        A file of the caller; its functions, and those of minise, are replaced by copies that see
        the same names.
    """

    def __init__(self, tape: Tape, file: Path | None = None) -> None:
        self._numpy, self._file = TapedNumPy(tape), file
        self._known: dict[int, dict[str, Any]] = {}

    def globals_of(self, function: FunctionType) -> dict[str, Any]:
        """Return the global names of a function, those of its helpers replaced as well."""
        own = function.__globals__
        if id(own) not in self._known:
            names = self._known[id(own)] = dict(own)
            names.update({name: self._replaced(value) for name, value in own.items()})
        return self._known[id(own)]

    def _replaced(self, value: Any) -> Any:
        if value is np:
            return self._numpy
        name = getattr(value, "__name__", "")
        if inspect.isroutine(value) and getattr(np, name, None) is value:
            return getattr(self._numpy, name)  # from numpy import zeros
        if not isinstance(value, FunctionType) or not self._is_source(value):
            return value
        names = self.globals_of(value)
        copy = FunctionType(
            value.__code__, names, value.__name__, value.__defaults__, value.__closure__
        )
        copy.__kwdefaults__, copy.__module__ = value.__kwdefaults__, value.__module__
        return copy

    def _is_source(self, function: FunctionType) -> bool:
        path = Path(function.__code__.co_filename)
        return path == self._file or PACKAGE / "ops" in path.parents
