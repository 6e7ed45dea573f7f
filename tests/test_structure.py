"""The plan of the house: which room may import which, no circle, and no file too long to read."""

import ast
from graphlib import CycleError, TopologicalSorter

from tests.import_graph import FOLDER, graph, imports, module_of

# a room imports those that stand before it
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
LONGEST = 400  # lines, unless the file's first paragraphs give the reason in this form:
REASON = "Longer than 400 lines"


def circle(edges):
    """Return a circle, such as "a -> b -> a", or ""."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


def upwards(edges, order):
    """Return each import of a room that stands later, and each room that has no place."""
    rooms = [
        (name, one, name.split(".")[1], one.split(".")[1])
        for name, others in edges.items()
        if "." in name
        for one in others
        if "." in one
    ]
    unknown = {
        f"{room} has no place in ORDER"
        for *_, a, b in rooms
        for room in (a, b)
        if room not in order
    }
    return sorted(unknown) or [
        f"{name} imports {one}, but {a} stands before {b} in ORDER"
        for name, one, a, b in rooms
        if order.index(b) > order.index(a)
    ]


def siblings(edges):
    """Return by folder inside a room the folders beside it that its files import."""
    found = {}
    for name, others in edges.items():
        for other in others:
            mine, theirs = name.split("."), other.split(".")
            for depth in range(2, min(len(mine), len(theirs)) - 1):
                if mine[:depth] == theirs[:depth] and mine[depth] != theirs[depth]:
                    a, b = (".".join(parts[: depth + 1]) for parts in (mine, theirs))
                    found.setdefault(a, set()).add(b)
    return found


def test_no_file_is_in_a_circle():
    assert circle(graph()) == ""


def test_rooms_import_downwards_only():
    assert upwards(graph(), ORDER) == []


def test_no_folder_inside_a_room_is_in_a_circle():
    assert circle(siblings(graph())) == ""


def test_no_file_is_too_long():
    texts = {module_of(path): path.read_text() for path in FOLDER.rglob("*.py")}
    heads = {name: ast.get_docstring(ast.parse(text)) or "" for name, text in texts.items()}
    counts = {name: len(text.splitlines()) for name, text in texts.items()}
    long = {name: count for name, count in counts.items() if count > LONGEST}
    assert {name: count for name, count in long.items() if REASON not in heads[name]} == {}


def test_the_tests_bite():
    edges = {"minise.nn.layer": {"minise.nn.layers"}, "minise.nn.layers": {"minise.nn.layer"}}
    assert circle(edges) in (
        "minise.nn.layer -> minise.nn.layers -> minise.nn.layer",
        "minise.nn.layers -> minise.nn.layer -> minise.nn.layers",
    )
    assert upwards({"minise.ops.wrap": {"minise.nn.layer"}}, ["ops", "nn"]) == [
        "minise.ops.wrap imports minise.nn.layer, but ops stands before nn in ORDER"
    ]
    assert upwards({"minise.new.a": {"minise.ops.b"}}, ["ops"]) == ["new has no place in ORDER"]
    edges = {"minise.a.b.c": {"minise.a.d.e"}, "minise.a.d.f": {"minise.a.b.g"}}
    assert circle(siblings(edges))
    text = "def f():\n    from minise import nn\n    import minise.ops.jit\n"
    assert imports(text, {"minise.nn", "minise.ops.jit", "minise"}) == {
        "minise.nn",
        "minise.ops.jit",
    }
