"""The command line: `minise VERB`, each verb a typed function that tyro reads.

Exit status: 0 done, 1 a failed run or check, 2 misuse, 130 or 143 interrupted with a checkpoint
written.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

DESCRIPTION = "Squeeze-and-excitation CNNs whose every gradient is written out by hand."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    import tyro

    from minise.cli.bench import bench
    from minise.cli.check import check
    from minise.cli.data import data
    from minise.cli.doctor import doctor
    from minise.cli.inspect import evaluate_run, summary
    from minise.cli.profile import profile
    from minise.cli.train import quickstart, train_verb, with_current_flags
    from minise.cli.walk import walk
    from minise.cli.words import FAILED, Failure, misuse
    from minise.ops.user.errors import OpsError

    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["train"]:
        given = with_current_flags(given)
    verbs: dict[str, Callable[..., Any]] = {
        "quickstart": quickstart,
        "data": data,
        "train": train_verb(given),
        "eval": evaluate_run,
        "summary": summary,
        "check": check,
        "walk": walk,
        "bench": bench,
        "profile": profile,
        "doctor": doctor,
    }
    try:
        with misuse():
            command = tyro.extras.subcommand_cli_from_dict(
                {name: _deferred(verb) for name, verb in verbs.items()},
                prog="minise",
                description=DESCRIPTION,
                args=given or ["--help"],
                config=(tyro.conf.OmitArgPrefixes,),
            )
        return int(command())
    except Failure as failure:
        print(f"minise: {failure}", file=sys.stderr)
        return failure.status
    except OpsError as error:  # of a user's file: it begins with the file and the line
        print(f"minise: {error}", file=sys.stderr)
        return FAILED


def _deferred(verb: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """Return verb with its arguments bound, not yet run: parsing and running fail differently."""

    @functools.wraps(verb)
    def bind(*arguments: Any, **settings: Any) -> Callable[[], int]:
        return functools.partial(verb, *arguments, **settings)

    return bind
