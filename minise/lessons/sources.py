"""Excerpts of minise's source code as Markdown, so that a lesson shows the code that runs."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from minise.grading.worksheet import source_of


def python_of(*functions: Callable[..., Any]) -> str:
    """Return the sources of functions or methods without their docstrings, as Markdown."""
    texts = []
    for function in functions:
        text = f"{source_of(function)}\n"
        texts.append(text.replace(f'    """{function.__doc__}"""\n', ""))
    return "```python\n" + "\n".join(texts) + "```"


def cuda_of(*excerpts: tuple[str, str]) -> str:
    """Return the source of functions and kernels of minise.ops.cuda as Markdown.

    Parameters
    ----------
    *excerpts : pair of str
        Name of a file, such as "squeeze_excite.cu", and the start of the function's first line.
    """
    return "```cpp\n" + "\n\n".join(_excerpt(file, start) for file, start in excerpts) + "\n```"


def _excerpt(file: str, start: str) -> str:
    """Return the source of a function in a file.

    Raises
    ------
    ValueError
        If not exactly one line of the file begins with `start`.

    Examples
    --------
    >>> print(_excerpt("common.cuh", "__device__ __forceinline__ real relu"))
    __device__ __forceinline__ real relu(real v) { return v <= 0 ? 0 : v; }
    """
    path = files("minise").joinpath("ops", "cuda", file)
    lines = path.read_text(encoding="utf-8").splitlines()
    first_lines = [k for k, line in enumerate(lines) if line.startswith(start)]
    if len(first_lines) != 1:
        raise ValueError(
            f"cuda_of: {len(first_lines)} lines of {file} begin with {start!r}, expected 1: "
            "give more of the line"
        )
    first = first_lines[0]
    last = first if lines[first].endswith("}") else lines.index("}", first)
    return "\n".join(lines[first : last + 1])
