"""The command line: `minise VERB`; tyro parses the arguments of each verb, a typed function.

Exit status: 0 done, 1 a failed run or check, 2 misuse, 130 or 143 interrupted: a run of train that
has begun then leaves a checkpoint, or says that there is none. A failure is one line on standard
error; only an error of minise's own has a traceback.
"""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from minise.cli.verbs import VERBS, function_of, show_overview
from minise.cli.words import FAILED, INTERRUPTED, Failure, misuse, text_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    from minise.ops.user.errors import OpsError

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_output()
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of a pipe, such as head, has ended
        _discard_output()
        return FAILED  # as rich does
    except (Failure, OpsError, MemoryError, KeyboardInterrupt, OSError) as error:
        failure = _failure(error, arguments[0] if arguments else "--help")
        print(f"minise: {failure}", file=sys.stderr)
        return failure.status


def _prepare_output() -> None:
    """Let the command print where standard output is closed, or its encoding lacks a character."""
    if sys.stdout is None:  # closed by the caller, as by `>&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, for the rest of the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Let Python end without a second error when it flushes standard output."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failure(error: BaseException, verb: str) -> Failure:
    """Return the line and the exit status of an error."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Failure(f"{verb}: interrupted before the end", INTERRUPTED)
    if isinstance(error, MemoryError):
        from minise.train.memory import lack_of_memory

        return Failure(lack_of_memory(verb, error), FAILED)
    if isinstance(error, OSError):  # such as a full disk
        try:
            sys.stdout.flush()
        except OSError:
            _discard_output()
        return Failure(f"{verb}: {text_of(error)}", FAILED)
    return Failure(str(error), FAILED)  # in a user's file; it begins with the file and the line


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
    return int(command())
