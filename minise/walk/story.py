"""What the source says of a subject before its first step: title, paragraphs, derivations."""

import inspect
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from minise.nn import Branches, Chain, Residual
from minise.tracing.instrument import Instrumented
from minise.tracing.recorder import OpCall
from minise.tracing.source import code_of, notes_of, story_of, summary_of, title_of

COMPOSITES = (Chain, Residual, Branches)


class Story(NamedTuple):
    """What there is to read before the steps of a trace."""

    title: str
    paragraphs: list[str]
    joins: str = ""  # why a net adds the gradients of an array that goes two ways


def op_story(code: Instrumented) -> Story:
    """Return title and paragraphs of the file of an op's forward; of several ops its own title."""
    several = len(code.function.__globals__.get("SHAPES", ())) > 1
    title = summary_of(code.function) if several else title_of(code.file)
    return Story(title, story_of(code.file))


def net_story(net: Any) -> Story:
    """Return what the source says of a layer or a net.

    Of a net that is declared from composites that is its tree, and forward and backward of those
    composites in which an array goes two ways; of another layer, its file's docstring and its code.
    """
    kind = type(net)
    title = summary_of(kind) or kind.__name__
    if kind.forward not in {composite.forward for composite in COMPOSITES}:
        return Story(title, [*_file_story(kind), *_code(kind)], summary_of(kind.backward))
    kinds = dict.fromkeys(type(layer) for _, layer in net.layers())
    parting = [kind for kind in kinds if issubclass(kind, Residual | Branches)] or [kind]
    paragraphs = ["The net is declared from layers:", textwrap.indent(repr(net), 4 * " ")]
    for kind in parting:
        head = f"{kind.__name__}: {summary_of(kind)} Its forward and its backward:"
        paragraphs += [head, *_code(kind)]
    return Story(title, paragraphs, summary_of(parting[0].backward))


def notes_by_op(backwards: Iterable[OpCall]) -> dict[str, list[str]]:
    """Return by op what the Notes of each backward say, where it has any."""
    notes = {call.op: notes_of(call.source.function) for call in backwards}
    return {op: paragraphs for op, paragraphs in notes.items() if paragraphs}


def _code(kind: type) -> list[str]:
    return [code_of(kind.forward), code_of(kind.backward)]  # type: ignore[attr-defined]


def _file_story(kind: type) -> list[str]:
    """Return what the docstring of a class's file says, where it stands in one."""
    try:
        return story_of(Path(inspect.getsourcefile(kind) or ""))
    except (OSError, TypeError):
        return []
