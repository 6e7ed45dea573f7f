"""Names say what they hold: some words that say nothing are refused as identifiers."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# words that stand for anything, or that the field does not use for these things
# fmt: off
REFUSED = {
    "found", "settle", "mend", "truth", "whole", "book", "limit", "child", "turns", "climb",
    "agree", "works", "figures", "one", "given", "place", "kept", "apart", "told", "sway", "swayed",
    "finish", "claim", "pace", "NEAR", "FEW", "MOST", "SMALL",
}
# fmt: on
EXCEPTIONS = {
    "minise/grading": "the judge of exercises has its own vocabulary until it is rewritten",
    "tests/grading": "as minise/grading",
    "limit minise/train/config.py": "the option --limit, and the key of config.json",
}


def identifiers(tree):
    """Yield (name, line) of everything that a file names: functions, arguments, variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs) and node.name:
            yield node.name, node.lineno


def refused(path, text):
    """Return "path:line: name" for every refused identifier of a file that is no exception."""
    if any(path.startswith(f"{folder}/") for folder in EXCEPTIONS):
        return []
    names = [(Path(path).stem, 1), *identifiers(ast.parse(text))]
    return [
        f"{path}:{line}: {name}"
        for name, line in names
        if name.strip("_") in REFUSED and f"{name} {path}" not in EXCEPTIONS
    ]


@pytest.mark.parametrize("folder", ["minise", "tests", "tutorials"])
def test_no_identifier_is_refused(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert len(files) > 10
    lines = [line for f in files for line in refused(str(f.relative_to(ROOT)), f.read_text())]
    assert not lines, "name each by what it holds:\n" + "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "def settle(): ...",
        "class _found: ...",
        "f = lambda one: 0",
        "def f(*, given): ...",
        "place = 0",
        "x.kept = 0",
        "for apart, b in c: ...",
        "[1 for told in c]",
        "import numpy as whole",
        "NEAR: int = 3",
        "if (works := 1): ...",
        "try: ...\nexcept E as mend: ...",
        "match x:\n    case [truth]: ...",
    ],
)
def test_the_check_bites(text):
    assert len(refused("minise/x.py", text)) == 1
    assert refused("minise/grading/x.py", text) == []


def test_every_exception_is_needed():
    for exception in EXCEPTIONS:
        name, _, path = exception.rpartition(" ")
        assert (ROOT / path).exists()
        if name:
            assert name in {n for n, _ in identifiers(ast.parse((ROOT / path).read_text()))}
