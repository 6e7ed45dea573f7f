"""Report an error in a user's file as one line: `my_ops.py:12: TypeError: … (in relu_backward)`."""

import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from minise.checks import escaped

MAX_CHARACTERS = 300  # of a message from outside


class OpsError(RuntimeError):
    """An op of a user's file failed; the message begins with the file and the line."""


def format_error(
    error: BaseException, file: Path, function: Callable[..., Any] | None = None
) -> str:
    """Return a message of one line: file and line of the user's code, error class, message.

    Parameters
    ----------
    error : BaseException
        The exception.
    file : Path
        The user's file, absolute; modules in the same folder count as the user's too.
    function : callable, optional
        The function called: its definition is reported if no line of the user's code raised.
    """
    kind = type(error).__name__
    if isinstance(error, SyntaxError) and _is_own(error.filename, file):
        location = f"{Path(str(error.filename)).name}:{error.lineno or 1}"
        return f"{location}: {kind}: {one_line(error.msg)}"
    frames = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _is_own(frame.f_code.co_filename, file)
    ]
    message = _message(error)
    text = f"{kind}: {message}" if message else kind
    if not frames:
        called = getattr(function, "__name__", "")
        name = f" (in {called})" if called else ""
        return f"{location_of(function, file)}: {text}{name}"
    code, number = frames[-1]
    name = "" if code.co_name == "<module>" else f" (in {code.co_name})"
    return f"{Path(code.co_filename).name}:{number}: {text}{name}"


def _message(error: BaseException) -> str:
    """Return the message of an error, or "" if its __str__ raises."""
    try:
        return one_line(str(error))
    except Exception:
        return ""


@contextmanager
def user_errors(file: Path | None) -> Iterator[None]:
    """Raise OpsError for an error raised in a user's file; other errors pass unchanged."""
    try:
        yield
    except (KeyboardInterrupt, OpsError):
        raise
    except BaseException as error:
        for cause in (error, error.__cause__):  # a generator wraps StopIteration in a RuntimeError
            frames = traceback.walk_tb(cause.__traceback__ if cause else None)
            if file and any(_is_own(frame.f_code.co_filename, file) for frame, _ in frames):
                raise OpsError(format_error(cause or error, file)) from error
        raise


def location_of(function: Callable[..., Any] | None, file: Path) -> str:
    """Return file and line of a function's definition, or the file name if unknown."""
    inner = inspect.unwrap(getattr(function, "func", function)) if function is not None else None
    code = getattr(getattr(inner, "py_func", inner), "__code__", None)
    if code is None:
        return file.name
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"


def call_user(
    function: Callable[..., Any],
    file: Path,
    arguments: Sequence[Any],
    settings: dict[str, Any],
    hooked: Callable[..., Any] | None = None,
) -> Any:
    """Call a user's function (or hooked in its place); raise OpsError for any exception."""
    try:
        with np.errstate(all="ignore"):  # callers report values that are not finite
            return (hooked or function)(*arguments, **settings)
    except (KeyboardInterrupt, OpsError):
        raise
    except BaseException as error:  # sys.exit too: status 0 would read as success
        raise OpsError(format_error(error, file, function)) from error


def describe(value: Any, *, sized: bool = True) -> str:
    """Return a value's kind for a message, such as "a tuple of 2" ("a tuple" if not sized)."""
    if value is None:
        return "None"
    if type(value) in (tuple, list):
        return f"a {type(value).__name__}" + (f" of {len(value)}" if sized else "")
    if isinstance(value, np.ndarray) and value.dtype.kind not in "fciub":
        return f"an array of {value.dtype}"
    is_array = type(value) is np.ndarray or isinstance(value, np.generic)
    kind = "array" if is_array else one_line(type(value).__name__)
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def one_line(text: str) -> str:
    """Return text from outside on one line, with control characters escaped, shortened if long."""
    words = " ".join(text.split())
    shown = escaped(words)
    return shown if len(shown) <= MAX_CHARACTERS else shown[: MAX_CHARACTERS - 1] + "…"


def _is_own(name: str | None, file: Path) -> bool:
    if not name:
        return False
    path = Path(name)
    return path == file or path.parent == file.parent
