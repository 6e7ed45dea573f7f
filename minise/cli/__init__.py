"""The command line: `minise VERB`, each verb a typed function that tyro reads.

Exit status: 0 done, 1 a failed run, 2 misuse, 130 or 143 interrupted with a checkpoint written.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

DESCRIPTION = "Squeeze-and-excitation CNNs whose every gradient is written out by hand."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    import tyro

    from minise.cli.data import data
    from minise.cli.doctor import doctor
    from minise.cli.inspect import evaluate_run, summary
    from minise.cli.train import quickstart, train
    from minise.cli.words import Failure

    verbs: dict[str, Callable[..., Any]] = {
        "quickstart": quickstart,
        "data": data,
        "train": train,
        "eval": evaluate_run,
        "summary": summary,
        "doctor": doctor,
    }
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(
            tyro.extras.subcommand_cli_from_dict(
                verbs,
                prog="minise",
                description=DESCRIPTION,
                args=given or ["--help"],
                config=(tyro.conf.OmitArgPrefixes,),
            )
        )
    except Failure as failure:
        print(f"minise: {failure}", file=sys.stderr)
        return failure.status
