"""How a command speaks, and how it fails: in one line, with an exit status."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

MISUSE, FAILED = 2, 1
INTERRUPTED = 130  # as shells have it: 128 + SIGINT


class Failure(Exception):
    """Ends a command with one line on standard error."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(" ".join(message.split()))
        self.status = status


def say(console: Console, text: str) -> None:
    """Print plain text: wrapped between words in a terminal, line by line as it is elsewhere."""
    console.print(text, highlight=False, markup=False, soft_wrap=not console.is_terminal)


@contextmanager
def misuse() -> Iterator[None]:
    """Turn what a user can get wrong into one line and exit status 2.

    Only preparations run in it (reading settings and files, building a net): an error while
    training is ours, and keeps its traceback.
    """
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise Failure(str(error), MISUSE) from error
