"""The order of subpackages for imports, no import cycle, and the length of files."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.import_graph import FOLDER, graph, imports, module_of

# a subpackage imports only earlier ones
ORDER = [
    "moved",
    "signals",
    "checks",
    "ops",
    "atomic",
    "files",
    "nn",
    "gradcheck",
    "data",
    "models",
    "contract",
    "analysis",
    "train",
    "tracing",
    "grading",
    "walk",
    "pictures",
    "lessons",
    "site",
    "bench",
    "cli",
    "__main__",
]
MAX_LINES = 400  # per file, unless its docstring gives a reason in this form:
REASON = "Longer than 400 lines"


def cycle(edges):
    """Return an import cycle, such as "a -> b -> a", or ""."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


def upwards(edges, order):
    """Return a message for each import of a later subpackage, or for each one not in the order."""
    packages = {name.split(".")[1] for name in edges if "." in name}
    if unknown := sorted(packages - set(order)):
        return [f"{', '.join(unknown)}: add each to ORDER in tests/test_structure.py"]
    pairs = [
        (importer, imported, importer.split(".")[1], imported.split(".")[1])
        for importer, others in edges.items()
        if "." in importer
        for imported in others
        if "." in imported
    ]
    return [
        f"{importer} imports {imported}, but {a} comes before {b} in the order of subpackages: "
        f"move what both need into {a} or below"
        for importer, imported, a, b in pairs
        if order.index(b) > order.index(a)
    ]


def siblings(edges):
    """Return for each nested folder the sibling folders that its files import."""
    imported = {}
    for name, others in edges.items():
        for other in others:
            mine, theirs = name.split("."), other.split(".")
            for depth in range(2, min(len(mine), len(theirs)) - 1):
                if mine[:depth] == theirs[:depth] and mine[depth] != theirs[depth]:
                    a, b = (".".join(parts[: depth + 1]) for parts in (mine, theirs))
                    imported.setdefault(a, set()).add(b)
    return imported


def test_no_file_is_in_a_cycle():
    assert cycle(graph()) == ""


def test_subpackages_import_only_earlier_ones():
    assert upwards(graph(), ORDER) == []


def test_no_nested_folder_is_in_a_cycle():
    assert cycle(siblings(graph())) == ""


def test_no_file_is_too_long():
    texts = {module_of(path): path.read_text() for path in FOLDER.rglob("*.py")}
    heads = {name: ast.get_docstring(ast.parse(text)) or "" for name, text in texts.items()}
    counts = {name: len(text.splitlines()) for name, text in texts.items()}
    assert [
        f"{name} has {count} lines, expected at most {MAX_LINES}: split it by subject, or give the "
        f"reason in its docstring, which then says {REASON!r}"
        for name, count in counts.items()
        if count > MAX_LINES and REASON not in heads[name]
    ] == []


def test_the_tests_bite():
    edges = {"minise.nn.layer": {"minise.nn.layers"}, "minise.nn.layers": {"minise.nn.layer"}}
    assert cycle(edges) in (
        "minise.nn.layer -> minise.nn.layers -> minise.nn.layer",
        "minise.nn.layers -> minise.nn.layer -> minise.nn.layers",
    )
    edges = {"minise.ops.wrap": {"minise.nn.layer"}, "minise.nn.layer": set()}
    (line,) = upwards(edges, ["ops", "nn"])
    assert line.startswith(
        "minise.ops.wrap imports minise.nn.layer, but ops comes before nn in the"
    )
    (line,) = upwards({"minise.new.a": set()}, ["ops"])
    assert line == "new: add each to ORDER in tests/test_structure.py"
    edges = {"minise.a.b.c": {"minise.a.d.e"}, "minise.a.d.f": {"minise.a.b.g"}}
    assert cycle(siblings(edges))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from minise import nn", {"minise.nn"}),
        ("def f():\n    import minise.nn.init", {"minise.nn.init"}),
        ("from minise.nn import Linear", {"minise.nn"}),
        ("from minise.nn import init", {"minise.nn.init"}),
        ("from minise.nn import Linear, init", {"minise.nn", "minise.nn.init"}),
        ("import minise\nminise.nn.Linear(2, 3)", {"minise", "minise.nn"}),
        ("importlib.import_module('minise.nn')", {"minise.nn"}),
        ("if TYPE_CHECKING:\n    from minise.nn.init import constant", {"minise.nn.init"}),
    ],
)
def test_every_form_of_import_is_read(text, expected):
    assert imports(text, {"minise", "minise.nn", "minise.nn.init"}) == expected
