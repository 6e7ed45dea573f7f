"""What `minise` shows without a verb: the verbs, those needed first at the top."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from minise.cli import FIRST, VERBS, function_of

DESCRIPTION = "Squeeze-and-excitation CNNs from scratch, every gradient written by hand."


def show_overview() -> None:
    """Print every verb with the first line of its docstring."""
    console = Console()
    console.print(f"{DESCRIPTION}\n\n[bold]usage:[/] minise VERB {escape('[OPTIONS]')}\n")
    for title, verbs in (
        ("first steps", FIRST),
        ("more", [verb for verb in VERBS if verb not in FIRST]),
    ):
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, show_header=False
        )
        table.add_column(style="cyan", min_width=12, no_wrap=True)
        for verb in verbs:
            summary, _, _ = (function_of(verb).__doc__ or "").partition("\n")
            table.add_row(verb, summary)
        console.print(table, "")
    console.print("minise VERB --help shows the options of a verb and an example.", highlight=False)
    console.print("minise --version shows the version.", highlight=False)
