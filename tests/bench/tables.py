"""What tests of benchmarks share: a table as text."""

import io

from rich.console import Console


def text_of(table, width=110):
    written = io.StringIO()
    Console(file=written, width=width).print(table.render())
    return written.getvalue()
