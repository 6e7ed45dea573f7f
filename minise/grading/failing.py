"""What a line that fails was given: the shapes on both sides of an @ that do not go together."""

import ast
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType

import numpy as np

from minise.grading.lines import call_of, first_line, tree_of
from minise.tracing.instrument import Instrumented


def shapes_of(error: BaseException, code: Instrumented) -> str:
    """Return the shapes that an @ of the reader's line had, as text, or nothing."""
    call = call_of(error, code)
    if call is None or not isinstance(error, ValueError):
        return ""
    frame = call.tb_frame
    for node in _products(code, call.tb_lineno):
        left, right = _shape(node.left, frame), _shape(node.right, frame)
        if left and right and left[-1] != right[max(0, len(right) - 2)]:
            text = (
                f"; here {ast.unparse(node.left)} is {left}, {ast.unparse(node.right)} is {right}"
            )
            if max(len(left), len(right)) > 2:
                text += ": @ multiplies the last two axes, so use np.einsum, or rows such as (N, C)"
            return text
    return ""


def _products(code: Instrumented, number: int) -> Iterator[ast.BinOp]:
    """Yield what a line multiplies by @."""
    number -= first_line(code) - 1
    for node in ast.walk(tree_of(code)):
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.MatMult):
            continue
        if node.lineno <= number <= (node.end_lineno or node.lineno):
            yield node


def _shape(node: ast.expr, frame: FrameType) -> tuple[int, ...]:
    """Return the shape of an operand, or nothing if it fails itself."""
    text = compile(ast.Expression(node), "<operand>", "eval")
    with suppress(Exception):
        return np.shape(eval(text, frame.f_globals, frame.f_locals))
    return ()
