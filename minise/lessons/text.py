"""Lines of text that wrap where the page is narrow."""

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
