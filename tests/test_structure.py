"""The order of subpackages for imports, no import cycle, and the length of files."""

import ast
from graphlib import CycleError, TopologicalSorter

from tests.import_graph import FOLDER, graph, imports, module_of

# a subpackage imports only earlier ones
ORDER = [
    "moved",
    "checks",
    "ops",
    "files",
    "nn",
    "gradcheck",
    "data",
    "models",
    "contract",
    "analysis",
]
ORDER += ["analysis", "train", "tracing", "grading", "walk", "lessons", "bench", "cli", "__main__"]
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
    pairs = [
        (importer, imported, importer.split(".")[1], imported.split(".")[1])
        for importer, others in edges.items()
        if "." in importer
        for imported in others
        if "." in imported
    ]
    unknown = {
        f"{package} is not in ORDER"
        for *_, a, b in pairs
        for package in (a, b)
        if package not in order
    }
    return sorted(unknown) or [
        f"{importer} imports {imported}, but {a} is before {b} in ORDER"
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
    long = {name: count for name, count in counts.items() if count > MAX_LINES}
    assert {name: count for name, count in long.items() if REASON not in heads[name]} == {}


def test_the_tests_bite():
    edges = {"minise.nn.layer": {"minise.nn.layers"}, "minise.nn.layers": {"minise.nn.layer"}}
    assert cycle(edges) in (
        "minise.nn.layer -> minise.nn.layers -> minise.nn.layer",
        "minise.nn.layers -> minise.nn.layer -> minise.nn.layers",
    )
    assert upwards({"minise.ops.wrap": {"minise.nn.layer"}}, ["ops", "nn"]) == [
        "minise.ops.wrap imports minise.nn.layer, but ops is before nn in ORDER"
    ]
    assert upwards({"minise.new.a": {"minise.ops.b"}}, ["ops"]) == ["new is not in ORDER"]
    edges = {"minise.a.b.c": {"minise.a.d.e"}, "minise.a.d.f": {"minise.a.b.g"}}
    assert cycle(siblings(edges))
    text = "def f():\n    from minise import nn\n    import minise.ops.jit\n"
    assert imports(text, {"minise.nn", "minise.ops.jit", "minise"}) == {
        "minise.nn",
        "minise.ops.jit",
    }
