"""Shared by tests of benchmarks: the text of a table."""

import io

from rich.console import Console


def text_of(table, width=110):
    """Return a table as the terminal shows it."""
    output = io.StringIO()
    Console(file=output, width=width).print(table.render())
    return output.getvalue()
