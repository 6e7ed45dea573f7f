"""Write a gradient check as a program: imports, exact arrays, and one call.

The program imports functions from their modules, and adds a module's folder to sys.path if Python
would not find it. For a function that cannot be imported (a local function, a lambda, a function of
`__main__`) the program has a placeholder that the reader fills in.
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

from minise.checks import Array

LINE_WIDTH = 88  # characters in a line of numbers


class Program:
    """A program under construction: expressions, and the imports that they need."""

    def __init__(self) -> None:
        self._imports: dict[str, set[str]] = {}
        self._modules: set[str] = set()
        self._folders: list[str] = []
        self._placeholders: list[str] = []

    def imported(self, module: str, name: str) -> str:
        """Return an expression for a name of a module, and record the import."""
        if any(name in names for other, names in self._imports.items() if other != module):
            self._modules.add(module)  # two functions have the same name
            return f"{module}.{name}"
        self._imports.setdefault(module, set()).add(name)
        return name

    def value(self, value: Any, role: str) -> str:
        """Return an expression for a setting: a literal, an array or a function."""
        if isinstance(value, np.ndarray):
            return array_literal(value)
        if isinstance(value, float) and not math.isfinite(value):
            return f"float('{value}')"
        return self.function(value, role) if callable(value) else repr(value)

    def function(self, function: Callable[..., Any], role: str) -> str:
        """Return an expression for a function: an imported name, or a placeholder to fill in.

        A placeholder of a function without a name is called by its role.
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
            described = f"{module}.{path}" if path else f"a {type(function).__name__}"
            self._placeholders.append(f"{name} = ...  # fill in: {described} cannot be imported")
            return name
        folder = _folder_of(module)
        if folder is not None and folder not in self._folders:
            self._folders.append(folder)
        name, dot, attribute = path.partition(".")
        return f"{self.imported(module, name)}{dot}{attribute}"

    def text(self, *body: str) -> str:
        """Return the program: imports, placeholders, and the body."""
        lines = ["import numpy as np"]
        if self._folders:
            lines = ["import sys", "", *lines, ""]
            lines += [f"sys.path.insert(0, {folder!r})" for folder in self._folders]
        lines += [f"import {module}" for module in sorted(self._modules)]
        for module, names in sorted(self._imports.items()):
            lines.append(f"from {module} import {', '.join(sorted(names))}")
        placeholders = [*dict.fromkeys(self._placeholders)]
        if placeholders:
            placeholders.append("")
        return "\n".join([*lines, "", *placeholders, *body]) + "\n"


def array_literal(array: Array) -> str:
    r"""Return an expression for an array that keeps its numbers, shape and dtype exactly.

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
        max_line_width=LINE_WIDTH,
        formatter={"all": lambda number: repr(number.item())},  # type: ignore[arg-type]
    )
    is_default = array.dtype in (np.dtype(float), np.dtype(int), np.dtype(bool))
    return f"np.array({numbers}{'' if is_default else f', dtype={array.dtype.name!r}'})"


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
        The functions to check, forward without its settings.
    inputs : sequence of ndarray or None
        The inputs in the order of forward's parameters.
    settings : dict
        Keyword arguments of forward.
    options : dict
        Keyword arguments of assert_gradients.
    names : sequence of str
        Names of the inputs, for comments.
    layout : str
        Name of the function in drawing.py that lays out every array; "" keeps C order.
    """
    program = Program()
    lay_out = program.imported("minise.gradcheck.strategies.drawing", layout) if layout else ""

    def expression(value: Any, name: str) -> str:
        text = program.value(value, name)
        return f"{lay_out}({text})" if lay_out and isinstance(value, np.ndarray) else text

    arrays = [
        f"    {expression(value, name)},  # {name}"
        for name, value in zip(names, inputs, strict=True)
    ]
    call = program.function(forward, "forward")
    if settings:
        keywords = [f"{key}={expression(value, key)}" for key, value in settings.items()]
        call = f"{program.imported('functools', 'partial')}({', '.join([call, *keywords])})"
    arguments = [f"{key}={program.value(value, key)}" for key, value in options.items()]
    arguments = [call, program.function(backward, "backward"), "inputs", *arguments]
    check = program.imported("minise.gradcheck", "assert_gradients")
    return program.text("inputs = [", *arrays, "]", f"{check}({', '.join(arguments)})")


def _is_importable(function: Any, module: str, path: str) -> bool:
    """Return True if `from module import …` gives the same function in another process."""
    if module in ("", "__main__") or module not in sys.modules:
        return False
    try:
        return reduce(getattr, path.split("."), sys.modules[module]) is function
    except AttributeError:
        return False


def _folder_of(module: str) -> str | None:
    """Return the folder that must be added to sys.path, or None if Python finds the module."""
    file = getattr(sys.modules[module], "__file__", None)
    if file is None:
        return None
    path = Path(file).resolve()
    depth = module.count(".") + (path.stem == "__init__")
    folder = path.parents[depth]
    installed = [sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib")]
    installed.append(site.getusersitepackages())
    return None if folder in [Path(entry).resolve() for entry in installed] else str(folder)
