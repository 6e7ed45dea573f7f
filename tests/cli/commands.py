"""What tests of the command line share: calling it, and reading its help."""

import re
import shlex

from minise.cli import main


def call(line, capsys):
    """Return exit status, standard output and standard error of one command."""
    try:
        status = main(shlex.split(line))
    except SystemExit as stopped:
        status = stopped.code
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def helped(verb, capsys):
    status, out, _ = call(f"{verb} --help", capsys)
    assert status == 0
    return out


def example(verb, capsys):
    """Return the example of a verb's help, from "minise" to the paragraph's end."""
    text = re.search(r"Example:\s+minise\s+(.*?)(?:\n\s*\n|\n╭|$)", helped(verb, capsys), re.DOTALL)
    return " ".join(text.group(1).split())
