"""Parse the arguments of a verb with tyro, and shorten its usage errors to one line."""

import functools
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import tyro

from minise.checks import did_you_mean
from minise.cli.words import MISUSE, Failure

# the placeholders of values in tyro's help, without "{None}|"
KINDS = {
    "INT": "an integer",
    "FLOAT": "a number",
    "FLOAT FLOAT FLOAT": "three numbers",
    "INT INT": "two integers",
    "[INT [INT ...]]": "integers",
}


def parse(verb: Callable[..., int], name: str, arguments: Sequence[str]) -> Callable[[], int]:
    """Return the function of a verb with its arguments bound.

    Raises
    ------
    Failure
        With one line and status 2, if the arguments are wrong.
    SystemExit
        With status 0, after --help.
    """
    if name == "bench":  # its options take lists; of two lists tyro uses the last
        refuse_repeated(name, arguments)
    box = io.StringIO()
    needs_help = bool({"-h", "--help"} & {*arguments})
    try:
        with redirect_stderr(box), _unwrapped(not needs_help):
            bound: Callable[[], int] = tyro.cli(
                _deferred(verb),
                prog=f"minise {name}",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stopped:
        if stopped.code == MISUSE and box.getvalue():
            raise Failure(usage_error(name, box.getvalue()), MISUSE) from None
        raise
    if text := box.getvalue():  # standard error may be unwritable
        sys.stderr.write(text)
    return bound


def refuse_repeated(verb: str, arguments: Sequence[str]) -> None:
    """Raise Failure if an option is set twice, of which tyro would use the last values only."""
    options = [text.partition("=")[0].replace("_", "-") for text in arguments]
    for option in options:
        if option.startswith("--") and options.count(option) > 1:
            raise Failure(
                f"{verb}: {option} is set twice, expected once with all its values: "
                f"join them after one {option}",
                MISUSE,
            )


def _deferred(verb: Callable[..., int]) -> Callable[..., Callable[[], int]]:
    """Return verb as a function that only binds its arguments.

    Parsing and running are two steps because their errors have different exit statuses.
    """

    @functools.wraps(verb)
    def bind(*arguments: Any, **settings: Any) -> Callable[[], int]:
        return functools.partial(verb, *arguments, **settings)

    return bind


@contextmanager
def _unwrapped(needed: bool) -> Iterator[None]:
    """Let tyro print each paragraph of an error on one line, if needed."""
    before = os.environ.get("COLUMNS")
    if needed:
        os.environ["COLUMNS"] = "100000"
    try:
        yield
    finally:
        if needed and before is None:
            del os.environ["COLUMNS"]
        elif needed and before is not None:
            os.environ["COLUMNS"] = before


def usage_error(verb: str, box: str) -> str:
    """Return the error in a box of tyro as `<verb>: <argument> is <value>, expected <what>`.

    The first section of a box, between its title and a rule, has the error; the second one
    describes options. Other errors are returned unchanged, on one line.
    """
    error, details = _sections(box)
    described = f"minise {verb} --help describes it"
    if match := re.search(r"invalid choice '(.*)' for argument '(.*)'\. .*?\((.*)\)", error):
        value, option, quoted = match.groups()
        choices = [choice for choice in re.findall(r"'([^']*)'", quoted) if choice != "None"]
        hint = did_you_mean(value, choices, 0.4) or f": {described}"
        return f"{verb}: {option} is {value!r}, expected one of {', '.join(choices)}{hint}"
    if match := re.search(r"Unrecognized options: (\S+?)(,|$)", error):
        return f"{verb}: {_unrecognized(verb, match[1], details)}"
    if match := re.search(r"Missing value for argument '(.*)'\. Expected (\d+)", error):
        wanted = "a value" if match[2] == "1" else f"{match[2]} values"
        option = match[1].strip("(',)")  # tyro 1.0.0 prints a tuple
        return f"{verb}: {option} has too few values, expected {wanted}: {described}"
    if match := re.match(r"Missing from [^:]*: (\S+) (.*?)\.? \(required\)", error):
        name, text = match.groups()
        example = f"minise {verb} --help shows an example"
        return f"{verb}: {name} is missing, expected {text[:1].lower()}{text[1:]}: {example}"
    if match := re.match(r"Expected one of \{(.*)\}", error):
        names, hint = match[1], f"minise {verb} --help describes them"
        return f"{verb}: the subject is missing, expected one of {names}: {hint}"
    if not (match := re.match(r"Error parsing (\S+): (.*)", error)):
        return f"{verb}: {error}: minise {verb} --help shows the options"
    option, text = match.groups()
    if not option.startswith("--") or not (kind := re.search(rf"{option} (.*?)  ", details)):
        return text  # from a class of settings
    values = re.findall(r"'([^']*)'", (re.search(r"\['.*?'\]", text) or [text])[0])
    placeholder = kind[1].removeprefix("{None}|").strip("{}")
    wanted = KINDS.get(placeholder, placeholder)
    return f"{verb}: {option} is {' '.join(values)!r}, expected {wanted}: {described}"


def _unrecognized(verb: str, argument: str, details: str) -> str:
    """Return the message about an argument that tyro does not know."""
    if match := re.search(r"Available subcommands: (.*?)  ", details):
        names = match[1]
        hint = did_you_mean(argument, names.split(", ")) or f": minise {verb} --help"
        return f"{argument!r} is unknown, expected one of {names}{hint}"
    if not argument.startswith("-"):
        return (
            f"{argument!r} is one value too many, expected options such as --name value: "
            f"minise {verb} --help lists them"
        )
    similar = {*re.findall(r"--[\w-]+", details)} - {argument}
    hint = did_you_mean(argument, similar) or f": minise {verb} --help lists them"
    return f"{argument} is unknown, expected an option of minise {verb}{hint}"


def _sections(box: str) -> tuple[str, str]:
    """Return the error and the details of a box, each on one line, with two spaces after a line."""
    sections: list[list[str]] = [[]]
    for line in box.splitlines()[1:]:  # without the title
        text = line.strip(" │|")
        if len(text) > 2 and not text.strip("─-╰╯"):
            sections.append([])
        elif text:
            sections[-1].append(text)
    error, details, *_ = [*filter(None, map("  ".join, sections)), "", ""]
    return " ".join(error.split()), f"{details}  "
