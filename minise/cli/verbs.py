"""The verbs of the command line, and the overview that `minise` prints without a verb."""

from collections.abc import Callable, Sequence
from importlib import import_module

# Verb -> module of minise.cli and function. The first six are what people need first.
VERBS = {
    "quickstart": ("train", "quickstart"),
    "train": ("train", "train_verb"),
    "predict": ("predict", "predict"),
    "check": ("check", "check"),
    "walk": ("walk", "walk"),
    "summary": ("summary", "summary"),
    "data": ("data", "data"),
    "resume": ("train", "resume"),
    "eval": ("evaluate", "evaluate_run"),
    "verify": ("verify", "verify_runs"),
    "profile": ("profile", "profile"),
    "bench": ("bench", "bench"),
    "reproduce": ("reproduce", "reproduce"),
    "guard": ("guard", "guard"),
    "site": ("site", "site"),
    "doctor": ("doctor", "doctor"),
}
FIRST = list(VERBS)[:6]
DESCRIPTION = "Squeeze-and-excitation CNNs from scratch, every gradient written by hand."


def function_of(verb: str, arguments: Sequence[str] = ()) -> Callable[..., int]:
    """Return the function of a verb; the defaults of train depend on the arguments."""
    module, name = VERBS[verb]
    function = getattr(import_module(f"minise.cli.{module}"), name)
    return function(arguments) if verb == "train" else function


def show_overview() -> None:
    """Print every verb with the first line of its docstring."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

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
