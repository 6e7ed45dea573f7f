"""The command line: `minise VERB`; tyro parses the arguments of each verb, a typed function.

Exit status: 0 done, 1 a failed run or check, 2 misuse, 130 or 143 interrupted with a checkpoint
written.
"""

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from minise.cli.verbs import VERBS, function_of, show_overview
from minise.cli.words import FAILED, Failure, misuse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    from minise.ops.user.errors import OpsError

    try:
        status = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return status
    except Failure as failure:
        print(f"minise: {failure}", file=sys.stderr)
        return failure.status
    except OpsError as error:  # in a user's file; the message begins with the file and the line
        print(f"minise: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader of a pipe, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED  # as rich does


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
