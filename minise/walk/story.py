"""Title, paragraphs and derivations of a trace, taken from the docstrings of its source."""

import inspect
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from minise.models import Net
from minise.nn import Branches, Chain, Residual
from minise.tracing.instrument import Instrumented
from minise.tracing.recorder import OpCall
from minise.tracing.source import (
    code_of,
    notes_of,
    reason_in,
    story_of,
    summary_of,
    title_of,
)

COMPOSITES = (Chain, Net, Residual, Branches)
JOINS = (
    "The net reads this array at more than one place, and a change of it reaches the loss through "
    "each: the gradients of all its uses add up."
)
SHARED = (
    "Several layers use this one array, and a change of it reaches the loss through each of them: "
    "the gradients of all its uses add up."
)


class Story(NamedTuple):
    """The text shown before the steps of a trace."""

    title: str
    paragraphs: list[str]
    joins: str = JOINS  # why a net adds the gradients of an array that it reads twice


def op_story(code: Instrumented) -> Story:
    """Return the title and paragraphs of the file of an op's forward.

    If the file defines several ops, the title is the first line of this op's docstring.
    """
    several = len(code.function.__globals__.get("SHAPES", ())) > 1
    title = summary_of(code.function) if several else title_of(code.file)
    return Story(title, story_of(code.file))


def net_story(net: Any) -> Story:
    """Return the title and paragraphs of a layer or a net.

    For a net declared from composites: its tree of layers, and the code of the composites in which
    an array has two uses. For any other layer: its file's docstring and its own code.
    """
    kind = type(net)
    title = summary_of(kind) or kind.__name__
    if kind.forward not in {composite.forward for composite in COMPOSITES}:
        return Story(title, [*_file_story(kind), *_code(kind)], _joins(kind))
    kinds = dict.fromkeys(type(layer) for _, layer in net.layers())
    forking = [kind for kind in kinds if issubclass(kind, Residual | Branches)] or [kind]
    paragraphs = ["The net is declared from layers:", textwrap.indent(repr(net), 4 * " ")]
    for kind in forking:
        head = f"{kind.__name__}: {summary_of(kind)} Its forward and its backward:"
        paragraphs += [head, *_code(kind)]
    return Story(title, paragraphs, _joins(forking[0]))


def notes_by_op(backwards: Iterable[OpCall]) -> dict[str, list[str]]:
    """Return the Notes of the backward docstrings by op, without ops that have no Notes."""
    notes = {call.op: notes_of(call.source.function) for call in backwards}
    return {op: paragraphs for op, paragraphs in notes.items() if paragraphs}


def _joins(kind: type) -> str:
    """Return the reason in the comment of a composite's backward, else a general one."""
    try:
        return reason_in(kind.backward) or JOINS  # type: ignore[attr-defined]
    except (OSError, TypeError):
        return JOINS


def _code(kind: type) -> list[str]:
    return [code_of(kind.forward), code_of(kind.backward)]  # type: ignore[attr-defined]


def _file_story(kind: type) -> list[str]:
    """Return the paragraphs of the docstring of the file that defines a class, or none."""
    try:
        return story_of(Path(inspect.getsourcefile(kind) or ""))
    except (OSError, TypeError):
        return []
