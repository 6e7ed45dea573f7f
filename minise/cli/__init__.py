"""The command line: `minise VERB`; tyro parses the arguments of each verb, a typed function.

Exit status: 0 done, 1 a failed run or check, 2 misuse, 130 or 143 interrupted with a checkpoint
written, 141 stopped because the reader of its output, such as head, has ended.
"""

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from minise.cli.verbs import VERBS, function_of, show_overview
from minise.cli.words import FAILED, Failure, misuse

CLOSED_PIPE = 141  # the shells' convention: 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed before the start
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    try:
        try:
            with _plain_warnings():
                return _status(list(sys.argv[1:] if arguments is None else arguments))
        finally:
            sys.stdout.flush()  # at the end of Python, an error would be a traceback
    except BrokenPipeError:
        return _closed_pipe()
    except SystemExit as stopped:
        if isinstance(stopped.__context__, BrokenPipeError):  # rich converts it to SystemExit
            return _closed_pipe()
        raise


def _status(arguments: list[str]) -> int:
    """Run one command and return its exit status; print a failure as one line."""
    from minise.ops.user.errors import OpsError

    try:
        return _run(arguments)
    except Failure as failure:
        print(f"minise: {failure}", file=sys.stderr)
        return failure.status
    except OpsError as error:  # in a user's file; the message begins with the file and the line
        print(f"minise: {error}", file=sys.stderr)
        return FAILED


def _closed_pipe() -> int:
    """Discard what is still to be written to a pipe without reader; return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return CLOSED_PIPE


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print the warnings of minise as one line each, without file and source line."""
    with warnings.catch_warnings():
        show_others = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **file: Any) -> None:
            if category.__module__.startswith("minise."):
                print(f"minise: {message}", file=sys.stderr)
            else:
                show_others(message, category, *where, **file)

        warnings.showwarning = show
        yield


def _run(arguments: list[str]) -> int:
    """Run the verb that the first argument names; without one show the verbs."""
    verb, *rest = arguments or ["--help"]
    if verb in ("-h", "--help"):
        show_overview()
        return 0
    if verb == "--version":
        from minise import __version__

        print(f"minise {__version__}")
        return 0
    with misuse():
        from minise.checks import did_you_mean

        if verb not in VERBS:
            hint = did_you_mean(verb, [*VERBS, "--help", "--version"])
            raise ValueError(
                f"verb is {verb!r}, expected one of {', '.join(VERBS)}"
                f"{hint or ': minise --help describes them'}"
            )
        import tyro

        if verb == "train":
            from minise.cli.train import with_current_flags

            rest = with_current_flags(rest)
        command = tyro.cli(
            _deferred(function_of(verb, rest)),
            prog=f"minise {verb}",
            args=rest,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    return int(command())


def _deferred(verb: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """Return verb as a function that only binds its arguments.

    Parsing and running are two steps because their errors have different exit statuses.
    """

    @functools.wraps(verb)
    def bind(*arguments: Any, **settings: Any) -> Callable[[], int]:
        return functools.partial(verb, *arguments, **settings)

    return bind
