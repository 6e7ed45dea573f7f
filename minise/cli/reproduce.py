"""The verb that compares nets with the tables of the SENet paper: `minise reproduce`."""

from typing import Literal

import tyro
from rich.console import Console

from minise.cli.words import Failure, misuse, say

WIDTH = 100  # of tables that are not printed in a terminal


def reproduce(
    table: tyro.conf.Positional[str] = "",
    format: Literal["text", "json", "markdown"] = "text",
) -> int:
    """Compare parameters and operations with the tables of the paper.

    Every row shows the number that the paper prints, the one that minise counts, the difference,
    and the reason where they disagree. Errors are quoted, not reproduced. Exit status: 1 if a
    difference has no explanation.

    Example: minise reproduce 10

    Args:
        table: A table of arXiv:1709.01507: 2, 3, 10 to 16, cifar (4 and 5), senet154 (8),
            overhead (section 4), or all; without it, the tables are listed.
        format: Format of the output.
    """
    from minise.analysis import paper

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    if not table:
        say(console, "\n".join(f"{name:9} {shown.title}" for name, shown in paper.TABLES.items()))
        return 0
    with misuse():
        tables = paper.tables_of(table)
    results = {name: (shown, paper.compare(shown)) for name, shown in tables.items()}
    if format == "json":
        print(paper.as_json(results))
    for shown, lines in results.values() if format != "json" else ():
        if format == "markdown":
            print(paper.as_markdown(shown, lines))
        else:
            console.print(paper.table_of(shown, lines))
            say(console, "\n".join(["", *paper.notes_of(shown, lines), ""]))
    wrong = [line for _, lines in results.values() for line in lines if line.status == paper.WRONG]
    if wrong:
        names = ", ".join(f"{line.label} ({line.printed} {line.unit})" for line in wrong)
        raise Failure(f"reproduce: differences without an explanation: {names}")
    return 0
