"""Pieces of minise's own sources as Markdown, so that a lesson shows the code that runs."""

import inspect
import textwrap
from collections.abc import Callable
from importlib.resources import files
from typing import Any


def python_of(*functions: Callable[..., Any]) -> str:
    """Return the sources of functions or methods without their docstrings, as Markdown."""
    texts = []
    for function in functions:
        text = textwrap.dedent(inspect.getsource(function))
        texts.append(text.replace(f'    """{function.__doc__}"""\n', ""))
    return "```python\n" + "\n".join(texts) + "```"


def cuda_of(*places: tuple[str, str]) -> str:
    """Return functions and kernels of minise.ops.cuda as Markdown.

    Parameters
    ----------
    *places : pair of str
        The name of a file, such as "squeeze_excite.cu", and how the first line begins.
    """
    return "```cpp\n" + "\n\n".join(_piece(file, start) for file, start in places) + "\n```"


def _piece(file: str, start: str) -> str:
    """Return a function as it stands in a file.

    Raises
    ------
    ValueError
        If no line, or more than one, begins so.

    Examples
    --------
    >>> print(_piece("common.cuh", "__device__ __forceinline__ real relu"))
    __device__ __forceinline__ real relu(real v) { return v <= 0 ? 0 : v; }
    """
    path = files("minise").joinpath("ops", "cuda", file)
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [k for k, line in enumerate(lines) if line.startswith(start)]
    if len(found) != 1:
        raise ValueError(
            f"cuda_of: {len(found)} lines of {file} begin with {start!r}, expected one"
        )
    first = found[0]
    last = first if lines[first].endswith("}") else lines.index("}", first)
    return "\n".join(lines[first : last + 1])
