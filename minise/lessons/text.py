"""Text that wraps where the page is narrow, and tables of words and numbers as Markdown."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


class Text:
    """What something prints, for a notebook to show.

    Examples
    --------
    >>> print(Text("one line"))
    one line
    """

    def __init__(self, value: Any) -> None:
        self.text = str(value)

    def __str__(self) -> str:
        """Return the lines."""
        return self.text

    def _repr_html_(self) -> str:
        """Return the lines, wrapped rather than cut."""
        style = "white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85em;margin:0"
        return f"<pre style='{style}'>{escape(self.text)}</pre>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table whose first column is flush left and whose others are flush right.

    Raises
    ------
    ValueError
        If a row has another number of cells than the head.

    Examples
    --------
    >>> print(table(["net", "parameters"], [["resnet20", "269,722"]]))
    | net | parameters |
    |:---|---:|
    | resnet20 | 269,722 |
    """
    lines = ["| " + " | ".join(head) + " |", "|:---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"table: a row has {len(row)} cells, expected {len(head)} as the head")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)
