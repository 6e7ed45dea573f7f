"""A line of NumPy as mathematics: as MathML for the page, as plain text for the terminal.

Every formula is made from the source, by this one rule book: a sum over axes becomes a sum sign
with the axes' letters, einsum its own indices, where a brace with cases, and what only tells NumPy
how to lay arrays out (None in an index, keepdims, .real, .reshape) is left out.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minise.walk.terms import (
    ATOM,
    MINUS,
    NAMES,
    POWER,
    PRODUCT,
    SPACE,
    SUM,
    SUM_SIGN,
    Term,
    at,
    called,
    held,
    indexed,
    joined,
    name_of,
    number,
    over,
    words,
)

REDUCTIONS = {"sum": SUM_SIGN, "mean": "mean", "max": "max"}
OVER = {"sum_over": "sum", "mean_over": "mean"}  # functions of minise.ops.reference.sums
SAME = {"asarray", "reshape", "astype", "copy", "ravel"}  # change how an array is held, no number
COMPARED = {
    ast.LtE: "≤", ast.Lt: "<", ast.GtE: "≥", ast.Gt: ">", ast.Eq: "==", ast.NotEq: "≠"
}  # fmt: skip


class Reader(NamedTuple):
    """What a formula needs to know of the line that it is read from."""

    evaluate: Callable[[str], Any]  # an expression of the line's scope
    axes: Callable[..., tuple[str, ...]]  # letters of the axes of an array: rank, names it is of
    names: Mapping[str, Term]  # what names stand for, where not for themselves
    call: Callable[[ast.Call, "Reader"], Term | None]  # a helper's formula in place of its call
    strict: bool = False  # whether a function that has no sign of its own is Unknown


class Unknown(Exception):
    """Says that an expression is more code than formula."""


def read(text: str, reader: Reader) -> Term | None:
    """Return the formula of a right side, or None if it is neither an expression nor a sum."""
    found = re.match(r"(sum|mean|max) over ([\w, ]+) of (.*)", text)
    if found and (inner := read(found[3], reader)):
        return over(REDUCTIONS[found[1]], found[2].split(", "), inner)
    if found := re.match(r"(.+) \+ (sum over .*)", text):
        first, last = read(found[1], reader), read(found[2], reader)
        if first and last:
            bare = found[1].partition("[")[0]
            return last if _is_none(bare, reader) else joined(first, "+", last, SUM)
    if found := re.fullmatch(r"(\w+) at ([\w ]+)", text):
        base, place = name_of(found[1]), words(found[2])
        return Term(text, f"<msub>{base.mathml}{place.mathml}</msub>")
    tree = _parsed(text)
    return None if tree is None else convert(tree, reader)


def _is_none(name: str, reader: Reader) -> bool:
    """Tell whether an optional array is not there."""
    try:
        return reader.evaluate(name) is None
    except (NameError, SyntaxError):
        return False


def _parsed(text: str) -> ast.expr | None:
    """Return the longest beginning that is an expression, up to a comma or a gap."""
    pieces = re.split(r"(, |  +)", text)
    for end in range(len(pieces), 0, -2):
        try:
            return ast.parse("".join(pieces[:end]).strip(), mode="eval").body
        except SyntaxError:
            continue
    return None


def convert(node: ast.expr, reader: Reader) -> Term:
    """Return an expression as a formula."""
    match node:
        case ast.Name():
            return reader.names.get(node.id) or name_of(node.id)
        case ast.Constant():
            return number(node.value)
        case ast.Attribute(attr="T"):
            base = held(convert(node.value, reader), ATOM)
            return Term(f"{base.text}ᵀ", f"<msup>{base.mathml}<mo>&#x22A4;</mo></msup>")
        case ast.Attribute(attr="real"):
            return convert(node.value, reader)
        case ast.Attribute(attr="size" | "shape"):
            return number(reader.evaluate(ast.unparse(node)))
        case ast.Attribute():
            return reader.names.get(node.attr) or name_of(node.attr)
        case ast.UnaryOp(op=ast.USub()):
            inner = held(convert(node.operand, reader), PRODUCT)
            row = f"<mrow><mo>{MINUS}</mo>{inner.mathml}</mrow>"
            return Term(f"{MINUS}{inner.text}", row, PRODUCT)
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


def _operation(op: ast.operator, first: ast.expr, last: ast.expr, reader: Reader) -> Term:
    left, right = convert(first, reader), convert(last, reader)
    match op:
        case ast.Add() | ast.Sub():
            sign = "+" if isinstance(op, ast.Add) else MINUS
            right = held(right, SUM if sign == "+" else PRODUCT)
            return joined(left, sign, right, SUM)
        case ast.Mult():
            right = held(right, ATOM if right.text.startswith(MINUS) else PRODUCT)
            return joined(held(left, PRODUCT), "·", right, PRODUCT)
        case ast.MatMult():
            left, right = held(left, PRODUCT), held(right, PRODUCT)
            row = f"<mrow>{left.mathml}<mspace width='.25em'/>{right.mathml}</mrow>"
            return Term(f"{left.text} {right.text}", row, PRODUCT)
        case ast.Div() | ast.FloorDiv():
            text = f"{held(left, PRODUCT).text} / {held(right, POWER).text}"
            fraction = f"<mfrac><mrow>{left.mathml}</mrow><mrow>{right.mathml}</mrow></mfrac>"
            return Term(text, fraction, PRODUCT)
        case ast.Pow():
            base = held(left, ATOM)
            power = f"<msup>{base.mathml}<mrow>{right.mathml}</mrow></msup>"
            return Term(f"{base.text}^{held(right, ATOM).text}", power, POWER)
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
    base = convert(node.value, reader)
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    shown = [part for part in parts if not _lays_out(part)]
    if not shown:
        return base
    return at(base, [convert(part, reader) for part in shown])


def _lays_out(part: ast.expr) -> bool:
    """Tell whether a part of an index is None, a plain colon or an ellipsis."""
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
    if name in SAME:
        return convert(arguments[0], reader)
    if name == "matmul" and len(arguments) == 2:
        return _operation(ast.MatMult(), arguments[0], arguments[1], reader)
    if name in REDUCTIONS and method:
        given = [word.value for word in node.keywords if word.arg == "axis"] or node.args[:1]
        return _reduction(name, arguments[0], given, reader)
    if name in OVER and len(arguments) >= 2:
        return _reduction(OVER[name], arguments[0], arguments[1:2], reader)
    if name == "sqrt":
        inner = convert(arguments[0], reader)
        return Term(f"√({inner.text})", f"<msqrt>{inner.mathml}</msqrt>")
    if reader.strict and name not in NAMES:
        raise Unknown(name)
    plain = isinstance(function, ast.Name)  # of a method, numbers are axes
    shown = [one for one in arguments if plain or not isinstance(one, ast.Constant)]
    terms = [convert(one, reader) for one in shown]
    return called(name, terms)


def _einsum(node: ast.Call, reader: Reader) -> Term:
    inputs, _, output = str(reader.evaluate(ast.unparse(node.args[0]))).partition("->")
    operands = zip(inputs.split(","), node.args[1:], strict=True)
    terms = [indexed(convert(one, reader), letters) for letters, one in operands]
    product = terms[0]
    for term in terms[1:]:
        product = joined(product, "·", term, PRODUCT)
    axes = [letter for letter in dict.fromkeys(inputs) if letter not in f"{output},"]
    return over(SUM_SIGN, axes, product) if axes else product


def einsum_letters(node: ast.expr) -> str:
    """Return the indices of what an einsum gives, or ""."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("einsum", "np.einsum"):
        first = node.args[0]
        if isinstance(first, ast.Constant):
            return str(first.value).partition("->")[2]
    return ""


def _cases(node: ast.Call, reader: Reader) -> Term:
    test, yes, no = (convert(one, reader) for one in node.args)
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


def _reduction(name: str, array: ast.expr, given: Sequence[ast.expr], reader: Reader) -> Term:
    inner = convert(array, reader)
    rank = np.ndim(reader.evaluate(ast.unparse(array)))
    of = [ast.unparse(one) for one in ast.walk(array) if _named(one)]
    letters = reader.axes(rank, *(name.rpartition(".")[2] for name in of))
    axis = reader.evaluate(ast.unparse(given[0])) if given else tuple(range(rank))
    axis = axis if isinstance(axis, tuple) else (axis,)
    if not axis:
        return inner
    return over(REDUCTIONS[name], [letters[one] for one in axis], inner)
