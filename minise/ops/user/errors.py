"""An error in a user's file, as one line: `my_ops.py:12: TypeError: … (in relu_backward)`."""

import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

LONGEST = 300  # characters of another library's message


class OpsError(RuntimeError):
    """An op of a user's file failed; the message begins with the file and the line."""


def located(error: BaseException, file: Path, function: Callable[..., Any] | None = None) -> str:
    """Return one line that says what went wrong, and where in the user's code.

    Parameters
    ----------
    error : BaseException
        What was raised.
    file : Path
        The user's file, absolute; modules in the same folder count as his own too.
    function : callable, optional
        What was called: its definition is named where no line of the user's was running.
    """
    kind = type(error).__name__
    if isinstance(error, SyntaxError) and _is_own(error.filename, file):
        at = f"{Path(str(error.filename)).name}:{error.lineno or 1}"
        return f"{at}: {kind}: {plain(error.msg)}"
    frames = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _is_own(frame.f_code.co_filename, file)
    ]
    words = _words(error)
    text = f"{kind}: {words}" if words else kind
    if not frames:
        called = getattr(function, "__name__", "")
        name = f" (in {called})" if called else ""
        return f"{place_of(function, file)}: {text}{name}"
    code, number = frames[-1]
    name = "" if code.co_name == "<module>" else f" (in {code.co_name})"
    return f"{Path(code.co_filename).name}:{number}: {text}{name}"


def _words(error: BaseException) -> str:
    """Return what an error says, or nothing if it fails to say it."""
    try:
        return plain(str(error))
    except Exception:
        return ""


@contextmanager
def user_errors(file: Path | None) -> Iterator[None]:
    """Turn an error that a line of a user's file raised into OpsError; others pass as they are."""
    try:
        yield
    except (KeyboardInterrupt, OpsError):
        raise
    except BaseException as error:
        for one in (error, error.__cause__):  # what a generator turns into a RuntimeError
            frames = traceback.walk_tb(one.__traceback__ if one else None)
            if file and any(_is_own(frame.f_code.co_filename, file) for frame, _ in frames):
                raise OpsError(located(one or error, file)) from error
        raise


def place_of(function: Callable[..., Any] | None, file: Path) -> str:
    """Return the file and the line where a function is defined, or the file alone."""
    inner = inspect.unwrap(getattr(function, "func", function)) if function is not None else None
    code = getattr(getattr(inner, "py_func", inner), "__code__", None)
    if code is None:
        return file.name
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"


def run(
    function: Callable[..., Any],
    file: Path,
    arguments: Sequence[Any],
    settings: dict[str, Any],
    hooked: Callable[..., Any] | None = None,
) -> Any:
    """Call a user's function; what it raises becomes an OpsError with his file and line."""
    try:
        with np.errstate(all="ignore"):  # what is not finite is told by whoever finds it
            return (hooked or function)(*arguments, **settings)
    except (KeyboardInterrupt, OpsError):
        raise
    except BaseException as error:  # sys.exit too: a status of 0 would say that all is well
        raise OpsError(located(error, file, function)) from error


def described(value: Any, *, sized: bool = True) -> str:
    """Return what a value is, in words, of a tuple or list also how long unless sized is False."""
    if value is None:
        return "None"
    if type(value) in (tuple, list):
        return f"a {type(value).__name__}" + (f" of {len(value)}" if sized else "")
    if isinstance(value, np.ndarray) and value.dtype.kind not in "fciub":
        return f"an array of {value.dtype}"
    plain_array = type(value) is np.ndarray or isinstance(value, np.generic)
    kind = "array" if plain_array else plain(type(value).__name__)
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def plain(text: str) -> str:
    """Return text from outside on one line, without control characters, of a bounded length."""
    words = " ".join(text.split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def _is_own(name: str | None, file: Path) -> bool:
    if not name:
        return False
    path = Path(name)
    return path == file or path.parent == file.parent
