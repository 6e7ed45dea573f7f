"""Write a gradient check as a program: imports, arrays to the last digit, one call.

Functions are imported from their modules; a module's folder is put on sys.path where Python would
not look. A function that cannot be imported (a local one, a lambda, one of `__main__`) is left for
the reader to fill in.
"""

import math
import site
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np

from minise.ops.checks import Array

WIDTH = 88  # of a line of numbers


class Program:
    """A program under construction: expressions, and the imports that they need."""

    def __init__(self) -> None:
        self._imports: dict[str, set[str]] = {}
        self._modules: set[str] = set()
        self._folders: list[str] = []
        self._missing: list[str] = []

    def imported(self, module: str, name: str) -> str:
        """Return the expression of a module's name after noting the import of it."""
        if any(name in names for other, names in self._imports.items() if other != module):
            self._modules.add(module)  # two functions of one name
            return f"{module}.{name}"
        self._imports.setdefault(module, set()).add(name)
        return name

    def value(self, value: Any, role: str) -> str:
        """Return the expression of a setting: a literal, an array or an imported function."""
        if isinstance(value, np.ndarray):
            return array_literal(value)
        if isinstance(value, float) and not math.isfinite(value):
            return f"float('{value}')"
        return self.function(value, role) if callable(value) else repr(value)

    def function(self, function: Callable[..., Any], role: str) -> str:
        """Return the expression of a function that is imported, or left to fill in.

        The role names a function that has no name of its own.
        """
        if isinstance(function, partial):
            parts = [self.function(function.func, role)]
            parts += [self.value(value, role) for value in function.args]
            parts += [f"{key}={self.value(value, key)}" for key, value in function.keywords.items()]
            return f"{self.imported('functools', 'partial')}({', '.join(parts)})"
        module = getattr(function, "__module__", None) or ""
        path = getattr(function, "__qualname__", "")
        if not _is_importable(function, module, path):
            name = path.rpartition(".")[2]
            name = name if name.isidentifier() else role
            what = f"{module}.{path}" if path else f"a {type(function).__name__}"
            self._missing.append(f"{name} = ...  # fill in: {what} cannot be imported")
            return name
        folder = _folder_of(module)
        if folder is not None and folder not in self._folders:
            self._folders.append(folder)
        name, dot, attribute = path.partition(".")
        return f"{self.imported(module, name)}{dot}{attribute}"

    def text(self, *body: str) -> str:
        """Return the program: imports, functions to fill in, and the body."""
        lines = ["import numpy as np"]
        if self._folders:
            lines = ["import sys", "", *lines, ""]
            lines += [f"sys.path.insert(0, {folder!r})" for folder in self._folders]
        lines += [f"import {module}" for module in sorted(self._modules)]
        for module, names in sorted(self._imports.items()):
            lines.append(f"from {module} import {', '.join(sorted(names))}")
        missing = dict.fromkeys(self._missing)
        return "\n".join([*lines, "", *missing, *([""] if missing else []), *body]) + "\n"


def array_literal(array: Array) -> str:
    r"""Return an expression whose value is an array of the same numbers, shape and dtype.

    Examples
    --------
    >>> array_literal(np.array([[0.1, 2], [-3, 4]]))
    'np.array([[0.1, 2.0],\n [-3.0, 4.0]])'
    >>> array_literal(np.float32([1]))
    "np.array([1.0], dtype='float32')"
    """
    numbers = np.array2string(
        array,
        separator=", ",
        threshold=sys.maxsize,
        max_line_width=WIDTH,
        formatter={"all": lambda number: repr(number.item())},  # type: ignore[arg-type]
    )
    plain = array.dtype in (np.dtype(float), np.dtype(int), np.dtype(bool))
    return f"np.array({numbers}{'' if plain else f', dtype={array.dtype.name!r}'})"


def gradient_check(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any],
    settings: dict[str, Any],
    options: dict[str, Any],
    names: Sequence[str],
    layout: str = "",
) -> str:
    """Return a program that calls assert_gradients.

    Parameters
    ----------
    forward, backward : callable
        As assert_gradients takes them, forward without its settings filled in.
    inputs : sequence of ndarray or None
        In the order of forward's arguments.
    settings : dict
        What forward takes by keyword.
    options : dict
        What assert_gradients takes by keyword.
    names : sequence of str
        Of the inputs, for comments.
    layout : str
        A function of drawing.py beside this file that lays out every array; "" leaves them in C
        order.
    """
    program = Program()
    laid_out = program.imported("minise.gradcheck.strategies.drawing", layout) if layout else ""

    def expression(value: Any, name: str) -> str:
        text = program.value(value, name)
        return f"{laid_out}({text})" if laid_out and isinstance(value, np.ndarray) else text

    arrays = [
        f"    {expression(value, name)},  # {name}"
        for name, value in zip(names, inputs, strict=True)
    ]
    call = program.function(forward, "forward")
    if settings:
        filled = [f"{key}={expression(value, key)}" for key, value in settings.items()]
        call = f"{program.imported('functools', 'partial')}({', '.join([call, *filled])})"
    arguments = [f"{key}={program.value(value, key)}" for key, value in options.items()]
    arguments = [call, program.function(backward, "backward"), "inputs", *arguments]
    check = program.imported("minise.gradcheck", "assert_gradients")
    return program.text("inputs = [", *arrays, "]", f"{check}({', '.join(arguments)})")


def _is_importable(function: Any, module: str, path: str) -> bool:
    """Tell whether `from module import …` gives this very function in another process."""
    if module in ("", "__main__") or module not in sys.modules:
        return False
    try:
        return reduce(getattr, path.split("."), sys.modules[module]) is function
    except AttributeError:
        return False


def _folder_of(module: str) -> str | None:
    """Return the folder that has to be on sys.path, or None where Python looks by itself."""
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return None
    path = Path(file).resolve()
    depth = module.count(".") + (path.stem == "__init__")
    folder = path.parents[depth]
    own = [sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")]
    own.append(site.getusersitepackages())
    return None if folder in [Path(entry).resolve() for entry in own] else str(folder)
