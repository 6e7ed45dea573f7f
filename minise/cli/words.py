"""How a command prints text, and how it fails: with one line and an exit status."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from minise.checks import escaped

MISUSE, FAILED = 2, 1
INTERRUPTED = 130  # the shells' convention: 128 + SIGINT


class Failure(Exception):
    """Ends a command with one line on standard error."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(escaped(re.sub(r"\s*\n\s*", " ", message.strip())))
        self.status = status


def say(console: Console, text: str) -> None:
    """Print plain text, wrapped between words in a terminal and unchanged in a file or pipe."""
    console.print(text, highlight=False, markup=False, soft_wrap=not console.is_terminal)


@contextmanager
def misuse() -> Iterator[None]:
    """Turn an error of the user's into one line and exit status 2.

    It encloses preparations only (reading settings and files, building a net). An error in training
    is a fault of minise and keeps its traceback. Every DataWarning is shown, also a repeated one.
    """
    from minise.data import DataWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", DataWarning)
            yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failure(text_of(error), MISUSE) from error
    except (ValueError, TypeError, ImportError) as error:
        raise Failure(str(error), MISUSE) from error


def text_of(error: OSError) -> str:
    """Return the message of an OSError; a system error gets the likely fix."""
    if not error.errno:
        return str(error)
    if error.filename is None:
        return f"writing failed ({error.strerror}): check the disk, and where the output goes"
    return (
        f"{error.filename} cannot be read or written ({error.strerror}): check the path, its "
        "permissions and the disk"
    )
