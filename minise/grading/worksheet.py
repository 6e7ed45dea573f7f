"""An exercise as a page to read: the function with its blanks, and for each blank folded hints."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from minise.grading.lines import base_of, parts_of, targets_of

PRE = "overflow-x:auto;font-size:.9em;line-height:1.45;padding:.6em .8em;border:1px solid #8886"
MARK = "background:#ffd54a;color:#222;padding:0 .3em;border-radius:3px"


def source_of(function: Callable[..., Any]) -> str:
    """Return the source of a function from its `def` on, or "" if it is not available."""
    try:
        source = textwrap.dedent(inspect.getsource(function)).strip()
    except (OSError, TypeError):
        return ""
    lines = source.splitlines()
    starts = (k for k, line in enumerate(lines) if line.startswith(("def ", "class ")))
    return "\n".join(lines[next(starts, 0) :])


def blanks_in(source: str) -> dict[int, str]:
    r"""Return the lines `name = ...`, by line number from 1: the name that each line assigns.

    Examples
    --------
    >>> blanks_in("i, j = ...\ndx[i, j] += ...\ny = 1")
    {1: 'i', 2: 'dx'}
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return {}
    lines = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            value = node.value
            if isinstance(value, ast.Constant) and value.value is ...:
                lines[node.lineno] = base_of(parts_of(targets_of(node)[0])[0])
    return dict(sorted(lines.items()))


def hints_html(hints: Sequence[str], *, label: str = "hint") -> str:
    """Return hints that unfold one inside the other, without a script; the last one is code."""
    html = ""
    for k, text in reversed(list(enumerate(hints, start=1))):
        body = f"<div>{escape(text)}</div>"
        if k == len(hints):
            pre = f"{PRE};margin:.2em 0;white-space:pre"
            body = f"<pre style='{pre}'><code>{escape(text)}</code></pre>"
        html = (
            f"<details style='margin:.1em 0 0 1em'><summary style='cursor:pointer;padding:.3em 0'>"
            f"{label} {k} of {len(hints)}</summary>"
            f"<div style='margin:.2em 1em'>{body}</div>{html}</details>"
        )
    return html


def worksheet(source: str, hints: Mapping[str, Sequence[str]]) -> str:
    """Return the HTML of a function with marked blanks, and below it the hints of each blank.

    Parameters
    ----------
    source : str
        The function; each blank is a line `name = ...`.
    hints : mapping of str to sequence of str
        By the name that a blank assigns; the last hint is the solution.
    """
    blanks = blanks_in(source)
    lines = []
    for number, line in enumerate(source.splitlines(), start=1):
        text = escape(line)
        if number in blanks:
            text = text.removesuffix("...") + f"<mark style='{MARK}'>...</mark>"
        lines.append(text)
    parts = [f"<pre style='{PRE}'><code>{chr(10).join(lines)}</code></pre>"]
    for number, name in blanks.items():
        if hints.get(name):
            title = f"<b>line {number}</b>, <code>{escape(name)}</code>"
            parts.append(f"<div style='margin:.4em 0'>{title}{hints_html(hints[name])}</div>")
    return f"<div>{''.join(parts)}</div>"
