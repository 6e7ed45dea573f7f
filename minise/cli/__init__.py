"""The command line: `minise VERB`; tyro parses the arguments of each verb, a typed function.

Exit status: 0 done, 1 a failed run or check, 2 misuse, 129, 130 or 143 interrupted, 141 stopped
because the reader of the output, such as head, closed the pipe. A failure prints one line on
standard error, for a run of train with the checkpoint that remains; only a fault of minise prints a
traceback.
"""

import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from minise import signals
from minise.checks import escaped
from minise.cli.verbs import VERBS, function_of, show_overview
from minise.cli.words import FAILED, INTERRUPTED, MISUSE, Failure, misuse, text_of

GPU_MODULES = "cupy", "minise.ops.cuda"  # of the classes of errors of a GPU
CLOSED_PIPE = 141  # the shells' convention: 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed before the start
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):  # names from files may not be encodable
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _plain_warnings():
            return _status(list(sys.argv[1:] if arguments is None else arguments))
    except BrokenPipeError:
        return _closed_pipe()
    except SystemExit as stopped:
        if isinstance(stopped.__context__, BrokenPipeError):  # rich converts it to SystemExit
            return _closed_pipe()
        raise


def _status(arguments: list[str]) -> int:
    """Run one command and return its exit status; print a failure as one line."""
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # at interpreter exit, an error would print a traceback
    except BaseException as error:
        verb = arguments[0] if arguments else "--help"
        failure = _interruption(error, verb) or _failure(error, verb)
        if failure is None:
            raise
    signals.end(failure.status, f"minise: {failure}")
    return failure.status


def _interruption(error: BaseException, verb: str) -> Failure | None:
    """Return the Failure of a command that a signal has ended, or None.

    A Stop that is raised in an import or in code written in C may arrive as another exception, and
    Ctrl-C or a closed terminal may also end the reader of the output.
    """
    command = signals.command
    number = command.number or signal.SIGINT
    failure = next((e for e in (error, error.__context__) if isinstance(e, Failure)), None)
    if failure is not None and failure.status > 128:
        failure.status = 128 + number if failure.status == INTERRUPTED else failure.status
        _discard_unwritable()
        return failure
    cause = error.__cause__ if isinstance(error, Failure) else error
    no_reader = isinstance(cause, OSError) and cause.errno in (errno.EPIPE, errno.EIO)
    other = not isinstance(cause, OSError | MemoryError)
    disguised = other if failure is None else failure.status == MISUSE
    stopped = isinstance(error, KeyboardInterrupt) or (command.raised and disguised)
    if not stopped and not (command.number and no_reader):
        return None
    _discard_unwritable()
    return Failure(f"{verb}: interrupted before the end", 128 + number)


def _failure(error: BaseException, verb: str) -> Failure | None:
    """Return an error as a Failure, with its message and exit status, or None if it has none."""
    from minise.ops.user.errors import OpsError

    if isinstance(error, Failure):
        return error
    if isinstance(error, MemoryError):
        from minise.train.memory import lack_of_memory

        return Failure(lack_of_memory(verb, error), FAILED)
    if isinstance(error, BrokenPipeError):
        return None
    if isinstance(error, OSError):  # such as a full disk
        _discard_unwritable()
        return Failure(f"{verb}: {text_of(error)}", FAILED)
    if isinstance(error, OpsError):  # in a user's file; the message starts with file and line
        return Failure(str(error), FAILED)
    if isinstance(error, RuntimeError) and type(error).__module__.startswith(GPU_MODULES):
        hint = "nvidia-smi shows the state of the GPU, and MINISE_CUDA_SYNC=1 names the kernel"
        return Failure(f"{verb}: the GPU failed ({error}): {hint}", FAILED)
    return None  # a fault of minise


def _closed_pipe() -> int:
    """Discard buffered output for pipes without a reader, and return the exit status."""
    _discard_unwritable()
    return CLOSED_PIPE


def _discard_unwritable() -> None:
    """Discard buffered output that cannot be written, so that interpreter exit does not fail."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print the warnings of minise as one line each, without file and source line."""
    with warnings.catch_warnings():
        show_others = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **file: Any) -> None:
            if category.__module__.startswith("minise."):
                print(f"minise: {escaped(' '.join(str(message).split()))}", file=sys.stderr)
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
        from minise.cli.parse import parse

        if verb == "train":
            from minise.cli.train import with_current_flags

            rest = with_current_flags(rest)
        command = parse(function_of(verb, rest), verb, rest)
    signals.begin()
    return int(command())
