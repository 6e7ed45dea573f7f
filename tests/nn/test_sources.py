"""Rules for the source of layers: back ends are typed, and classes are never compared."""

import ast
from pathlib import Path

import pytest

import minise

FOLDER = Path(minise.__file__).parent
FILES = [
    path for room in ("nn", "models", "train") for path in sorted((FOLDER / room).glob("*.py"))
]


def faults(text):
    """Return a module's duck-typed back ends, comparisons of classes, and untyped ops."""
    matches = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Name(id="hasattr" | "getattr"), args=[subject, _, *rest]) if (
                ast.unparse(subject).split(".")[-1] == "ops"
                and (ast.unparse(node.func) == "hasattr" or rest)
            ):
                matches.append(ast.unparse(node))
            case ast.Compare(left=left, comparators=others) if any(
                isinstance(side, ast.Call) and ast.unparse(side.func) == "type"
                for side in (left, *others)
            ):
                matches.append(ast.unparse(node))
            case ast.arg(arg="ops", annotation=kind) if kind is None or "Any" in ast.unparse(kind):
                matches.append(ast.unparse(node))
            case ast.AnnAssign(target=target, annotation=kind) if ast.unparse(target).split(".")[
                -1
            ] == "ops" and "Any" in ast.unparse(kind):
                matches.append(ast.unparse(node))
    return matches


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_back_ends_are_typed_and_no_class_is_compared(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "if hasattr(self.ops, 'run_conv2d'): pass",
        "f = getattr(ops, 'run_conv2d', None)",
        "if type(layer) is Conv2d: pass",
        "if Conv2d == type(layer): pass",
        "def build(name, ops: Any = reference): pass",
        "def build(name, *, ops=reference): pass",
        "class Build:\n    ops: Any",
        "self.ops: Any = ops",
    ],
)
def test_the_test_bites(line):
    assert len(faults(line)) == 1


def test_valid_code_has_no_faults():
    text = "def f(ops: Backend | str): return getattr(ops, 'x'), hasattr(os, 'fork'), type(a)"
    assert faults(text) == []
