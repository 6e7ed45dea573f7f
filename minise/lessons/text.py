"""Text that wraps on a narrow page, and Markdown tables."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


class Text:
    """The printed form of an object, for a notebook to show.

    Examples
    --------
    >>> print(Text("one line"))
    one line
    """

    def __init__(self, value: Any) -> None:
        self.text = str(value)

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def _repr_html_(self) -> str:
        """Return the text as HTML whose long lines wrap."""
        style = "white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85em;margin:0"
        return f"<pre style='{style}'>{escape(self.text)}</pre>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a Markdown table: first column aligned left, all others right.

    Raises
    ------
    ValueError
        If a row does not have as many cells as the head.

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
