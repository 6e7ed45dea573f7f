"""Convert a line of NumPy to a formula: MathML for the page, plain text for the terminal.

Every formula is generated from the source by the rules of this module: a sum over axes becomes a
sum sign with the letters of the axes, einsum a sum over its indices, np.where a brace with cases.
Code that only changes the layout of an array (None in an index, keepdims, .real, .reshape) is left
out, and so are terms and factors of a setting that is 0, such as label_smoothing.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minise.walk.terms import (
    ATOM,
    FUNCTION_NAMES,
    MINUS,
    POWER,
    PRODUCT,
    SPACE,
    SUM,
    SUM_SIGN,
    Term,
    at,
    called,
    indexed,
    joined,
    name_of,
    number,
    over,
    parenthesised,
    words,
)

REDUCTIONS = {"sum": SUM_SIGN, "mean": "mean", "max": "max"}
REDUCTION_FUNCTIONS = {"sum_over": "sum", "mean_over": "mean"}  # of minise.ops.reference.sums
LAYOUT_FUNCTIONS = {"asarray", "astype", "broadcast_to", "copy", "ravel", "reshape"}
COMPARED = {
    ast.LtE: "≤", ast.Lt: "<", ast.GtE: "≥", ast.Gt: ">", ast.Eq: "=", ast.NotEq: "≠"
}  # fmt: skip


class Reader(NamedTuple):
    """The context of a line that is converted to a formula."""

    evaluate: Callable[[str], Any]  # the value of an expression in the line's scope
    axes: Callable[..., tuple[str, ...]]  # rank, names in an expression -> letters of its axes
    names: Mapping[str, Term]  # terms that replace names
    call: Callable[[ast.Call, "Reader"], Term | None]  # formula of a helper function, if known
    strict: bool = False  # whether to raise Unknown for a function without a notation of its own


class Unknown(Exception):
    """An expression that has no formula in strict mode."""


def read(text: str, reader: Reader) -> Term | None:
    """Return the formula of the right side of an equation in a comment, or None if unreadable."""
    match = re.match(r"(sum|mean|max) over ([\w, ]+) of (.*)", text)
    if match and (inner := read(match[3], reader)):
        return over(REDUCTIONS[match[1]], match[2].split(", "), inner)
    if match := re.match(r"(.+) \+ (sum over .*)", text):
        first, last = read(match[1], reader), read(match[2], reader)
        if first and last:
            bare = match[1].partition("[")[0]
            return last if _is_none(bare, reader) else joined(first, "+", last, SUM)
    if match := re.fullmatch(r"(\w+) at ([\w ]+)", text):
        base, index = name_of(match[1]), words(match[2])
        return Term(text, f"<msub>{base.mathml}{index.mathml}</msub>")
    tree = _parsed(text)
    return None if tree is None else convert(tree, reader)


def _is_none(name: str, reader: Reader) -> bool:
    """Return True if the value of an optional array is None."""
    try:
        return reader.evaluate(name) is None
    except (NameError, SyntaxError):
        return False


def _parsed(text: str) -> ast.expr | None:
    """Return the longest prefix that is an expression, ending before a comma or two spaces."""
    pieces = re.split(r"(, |  +)", text)
    for end in range(len(pieces), 0, -2):
        try:
            return ast.parse("".join(pieces[:end]).strip(), mode="eval").body
        except SyntaxError:
            continue
    return None


def convert(node: ast.expr, reader: Reader) -> Term:
    """Return the formula of an expression."""
    match node:
        case ast.Name():
            return reader.names.get(node.id) or name_of(node.id)
        case ast.Constant():
            return number(node.value)
        case ast.Attribute(attr="T"):
            base = parenthesised(convert(node.value, reader), ATOM)
            return Term(f"{base.text}ᵀ", f"<msup>{base.mathml}<mo>&#x22A4;</mo></msup>")
        case ast.Attribute(attr="real"):
            return convert(node.value, reader)
        case ast.Attribute(attr="size" | "shape"):
            return number(reader.evaluate(ast.unparse(node)))
        case ast.Attribute():
            return reader.names.get(node.attr) or name_of(node.attr)
        case ast.UnaryOp(op=ast.USub()):
            return _negative(convert(node.operand, reader))
        case ast.BinOp():
            return _operation(node.op, node.left, node.right, reader)
        case ast.BoolOp() | ast.Compare():
            return _condition(node, reader)
        case ast.IfExp():
            taken = node.body if reader.evaluate(ast.unparse(node.test)) else node.orelse
            return convert(taken, reader)
        case ast.Subscript():
            return _subscript(node, reader)
        case ast.Call():
            return _call(node, reader)
    return words(ast.unparse(node))


def _negative(term: Term) -> Term:
    inner = parenthesised(term, PRODUCT)
    return Term(f"{MINUS}{inner.text}", f"<mrow><mo>{MINUS}</mo>{inner.mathml}</mrow>", PRODUCT)


def _simplified(op: ast.operator, first: ast.expr, last: ast.expr, reader: Reader) -> Term | None:
    """Return a sum with a term of 0 or a product with a factor of 0 or 1, without it, or None.

    Numbers that are written in the source stay.
    """
    left, right = convert(first, reader), convert(last, reader)
    of_left = "" if isinstance(first, ast.Constant) else left.text
    of_right = "" if isinstance(last, ast.Constant) else right.text
    match op, of_left, of_right:
        case (ast.Add(), "0", _) | (ast.Mult(), "1", _):
            return right
        case (ast.Mult(), "\N{MINUS SIGN}1", _):
            return _negative(right)
        case (ast.Add() | ast.Sub(), _, "0") | (ast.Mult() | ast.Div(), _, "1"):
            return left
        case (ast.Mult() | ast.Div(), "0", _) | (ast.Mult(), _, "0"):
            return number(0)
    return None


def _operation(op: ast.operator, first: ast.expr, last: ast.expr, reader: Reader) -> Term:
    if simple := _simplified(op, first, last, reader):
        return simple
    left, right = convert(first, reader), convert(last, reader)
    match op:
        case ast.Add() | ast.Sub():
            sign = "+" if isinstance(op, ast.Add) else MINUS
            right = parenthesised(right, SUM if sign == "+" else PRODUCT)
            return joined(left, sign, right, SUM)
        case ast.Mult():
            right = parenthesised(right, ATOM if right.text.startswith(MINUS) else PRODUCT)
            return joined(parenthesised(left, PRODUCT), "·", right, PRODUCT)
        case ast.MatMult():
            left, right = parenthesised(left, PRODUCT), parenthesised(right, PRODUCT)
            row = f"<mrow>{left.mathml}<mspace width='.25em'/>{right.mathml}</mrow>"
            return Term(f"{left.text} {right.text}", row, PRODUCT)
        case ast.Div() | ast.FloorDiv():
            text = f"{parenthesised(left, PRODUCT).text} / {parenthesised(right, POWER).text}"
            fraction = f"<mfrac><mrow>{left.mathml}</mrow><mrow>{right.mathml}</mrow></mfrac>"
            return Term(text, fraction, PRODUCT)
        case ast.Pow():
            base = parenthesised(left, ATOM)
            power = f"<msup>{base.mathml}<mrow>{right.mathml}</mrow></msup>"
            return Term(f"{base.text}^{parenthesised(right, ATOM).text}", power, POWER)
        case ast.BitOr():
            return joined(left, "or", right, SUM)
    return words(ast.unparse(ast.BinOp(first, op, last)))


def _condition(node: ast.expr, reader: Reader) -> Term:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        sign = COMPARED.get(type(node.ops[0]))
        if sign:
            left, right = convert(node.left, reader), convert(node.comparators[0], reader)
            return joined(left, sign, right, SUM)
    return words(ast.unparse(node))


def _subscript(node: ast.Subscript, reader: Reader) -> Term:
    if isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
        return number(reader.evaluate(ast.unparse(node)))
    base = convert(node.value, reader)
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    shown = [part for part in parts if not _changes_layout_only(part)]
    if not shown:
        return base
    return at(base, [convert(part, reader) for part in shown])


def _changes_layout_only(part: ast.expr) -> bool:
    """Return True if a part of an index is None, a plain colon or an ellipsis."""
    plain = isinstance(part, ast.Slice) and part.lower is part.upper is part.step is None
    return plain or (isinstance(part, ast.Constant) and part.value in (None, ...))


def _call(node: ast.Call, reader: Reader) -> Term:
    known = reader.call(node, reader)
    if known is not None:
        return known
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
    of_numpy = isinstance(function, ast.Attribute) and ast.unparse(function.value) == "np"
    if name == "einsum":
        return _einsum(node, reader)
    if name == "where" and len(node.args) == 3:
        return _cases(node, reader)
    if name == "zeros_like":
        return number(0)
    method = isinstance(function, ast.Attribute) and not of_numpy
    arguments = [function.value, *node.args] if method else list(node.args)  # type: ignore[attr-defined]
    if name in LAYOUT_FUNCTIONS:
        return convert(arguments[0], reader)
    if name == "matmul" and len(arguments) == 2:
        return _operation(ast.MatMult(), arguments[0], arguments[1], reader)
    if name in REDUCTIONS and method:
        axis = [keyword.value for keyword in node.keywords if keyword.arg == "axis"]
        return _reduction(name, arguments[0], axis or node.args[:1], reader)
    if name in REDUCTION_FUNCTIONS and len(arguments) >= 2:
        return _reduction(REDUCTION_FUNCTIONS[name], arguments[0], arguments[1:2], reader)
    if name == "sqrt":
        inner = convert(arguments[0], reader)
        return Term(f"√({inner.text})", f"<msqrt>{inner.mathml}</msqrt>")
    if reader.strict and name not in FUNCTION_NAMES:
        raise Unknown(name)
    plain = isinstance(function, ast.Name)  # constant arguments of a method are axes
    shown = [term for term in arguments if plain or not isinstance(term, ast.Constant)]
    return called(name, [convert(term, reader) for term in shown])


def _einsum(node: ast.Call, reader: Reader) -> Term:
    inputs, _, output = str(reader.evaluate(ast.unparse(node.args[0]))).partition("->")
    operands = zip(inputs.split(","), node.args[1:], strict=True)
    terms = [indexed(convert(operand, reader), letters) for letters, operand in operands]
    product = terms[0]
    for term in terms[1:]:
        product = joined(product, "·", term, PRODUCT)
    axes = [letter for letter in dict.fromkeys(inputs) if letter not in f"{output},"]
    return over(SUM_SIGN, axes, product) if axes else product


def einsum_letters(node: ast.expr) -> str:
    """Return the output indices of an einsum call, or "" for any other expression."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("einsum", "np.einsum"):
        first = node.args[0]
        if isinstance(first, ast.Constant):
            return str(first.value).partition("->")[2]
    return ""


def _cases(node: ast.Call, reader: Reader) -> Term:
    test, yes, no = (convert(argument, reader) for argument in node.args)
    rows = "".join(
        f"<mtr><mtd>{value.mathml}</mtd><mtd><mtext>{word}</mtext>{condition}</mtd></mtr>"
        for value, word, condition in (
            (yes, "where", f"{SPACE}{test.mathml}"),
            (no, "elsewhere", ""),
        )
    )
    table = f"<mtable columnalign='left left' class='cases'>{rows}</mtable>"
    text = f"{{{yes.text} where {test.text}, {no.text} elsewhere}}"
    return Term(text, f"<mrow><mo fence='true' stretchy='true'>{{</mo>{table}</mrow>", PRODUCT)


def _named(node: ast.AST) -> bool:
    return isinstance(node, ast.Name | ast.Attribute)


def _reduction(name: str, array: ast.expr, axis_nodes: Sequence[ast.expr], reader: Reader) -> Term:
    inner = convert(array, reader)
    rank = np.ndim(reader.evaluate(ast.unparse(array)))
    names = [ast.unparse(node) for node in ast.walk(array) if _named(node)]
    letters = reader.axes(rank, *(name.rpartition(".")[2] for name in names))
    axes = reader.evaluate(ast.unparse(axis_nodes[0])) if axis_nodes else tuple(range(rank))
    axes = axes if isinstance(axes, tuple) else (axes,)
    if not axes:
        return inner
    return over(REDUCTIONS[name], [letters[axis] for axis in axes], inner)
