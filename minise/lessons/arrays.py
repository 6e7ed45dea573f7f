"""Show arrays as HTML tables of numbers, coloured by value.

An HTML table needs no plotting library, is readable on a phone, and works in every notebook.
"""

from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np

from minise.checks import Array

MAX_ROWS = 12  # rows and columns shown; larger arrays are truncated
BLUE, RED = "33,102,172", "202,80,32"


class Arrays:
    """Named arrays side by side, for a notebook to show.

    Parameters
    ----------
    digits : int
        Number of decimals.
    **arrays
        Arrays by name, with up to four axes; the last two are rows and columns.

    Examples
    --------
    >>> print(Arrays(x=np.array([[1.0, -2.0]])))
    x (1, 2)
      [ 1.00 -2.00]
    """

    def __init__(self, digits: int = 2, /, **arrays: Any) -> None:
        self.digits = digits
        self.arrays = {name: np.asarray(value) for name, value in arrays.items()}

    def __str__(self) -> str:
        """Return name, shape and numbers of each array as text."""
        lines = []
        for name, array in self.arrays.items():
            lines.append(f"{name} {array.shape}")
            for title, matrix in _matrices("", array):
                lines += [f"  {title}"] if title else []
                lines += [f"  [{' '.join(self._number(v) for v in row)}]" for row in matrix]
        return "\n".join(lines)

    def _number(self, value: Any) -> str:
        if isinstance(value, np.floating | float):
            return f"{value + 0.0:5.{self.digits}f}"
        return str(value)

    def _repr_html_(self) -> str:
        """Return HTML tables, side by side if the page is wide enough."""
        boxes = []
        for name, array in self.arrays.items():
            real = array.astype(float) if array.dtype.kind in "fiub" else np.zeros(array.shape)
            largest = float(np.max(abs(np.nan_to_num(real)), initial=0.0)) or 1.0
            tables = "".join(
                f"<div style='margin:0 .6em .3em 0'>{_title(title)}"
                f"{self._table(matrix, largest)}</div>"
                for title, matrix in _matrices(name, array)
            )
            shape = "(" + ", ".join(map(str, array.shape)) + ")"
            boxes.append(
                f"<div style='margin:0 1.2em .7em 0'><div><b>{escape(name)}</b> "
                f"<span style='color:#888;font-size:.85em'>{shape}</span></div>"
                f"<div style='display:flex;flex-wrap:wrap'>{tables}</div></div>"
            )
        return f"<div style='display:flex;flex-wrap:wrap'>{''.join(boxes)}</div>"

    def _table(self, matrix: Array, largest: float) -> str:
        rows = []
        for row in matrix[:MAX_ROWS]:
            cells = "".join(self._cell(value, largest) for value in row[:MAX_ROWS])
            rows.append(f"<tr>{cells}</tr>")
        table = (
            "border-collapse:collapse;font-size:.85em;font-variant-numeric:tabular-nums;margin:0"
        )
        return f"<table style='{table};width:auto'>{''.join(rows)}</table>"

    def _cell(self, value: Any, largest: float) -> str:
        strength = 0.55 * min(abs(float(value)) / largest, 1.0) if np.isfinite(value) else 0.0
        colour = f"rgba({BLUE if value < 0 else RED},{strength:.2f})"
        style = f"background:{colour};padding:.25em .5em;text-align:right;border:1px solid #8884"
        return f"<td style='{style}'>{self._number(value).strip()}</td>"


def _matrices(name: str, array: Array) -> Iterator[tuple[str, Array]]:
    """Yield the matrices of the last two axes, each with a title such as "x[0, 1]"."""
    if array.ndim <= 2:
        yield "", array.reshape(-1, array.shape[-1] if array.ndim else 1)
        return
    for index in np.ndindex(*array.shape[:-2]):
        several = any(size > 1 for size in array.shape[:-2])
        yield f"{name}[{', '.join(map(str, index))}]" if several else "", array[index]


def _title(text: str) -> str:
    return f"<div style='color:#888;font-size:.8em'>{escape(text)}</div>" if text else ""
