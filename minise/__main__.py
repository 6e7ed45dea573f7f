"""Run the command line: `python -m minise VERB` is the same as `minise VERB`."""

import sys

from minise import signals


def main() -> int:
    """Run one command, which signals end with one line, and return its exit status."""
    signals.install()
    try:
        try:
            from minise.cli import main as run

            status = run()
        finally:
            signals.command.raises = False
    except SystemExit as stopped:  # --help
        status = stopped.code if isinstance(stopped.code, int) else 0
    except KeyboardInterrupt:  # between two statements of the command line
        status = 128 + signals.command.number
        signals.end(status, "minise: interrupted")
    signals.end(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
