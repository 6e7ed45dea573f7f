"""The import order in jit: compiler, vector, convolution and normalisation, top-level files."""

from pathlib import Path

import pytest

from minise.ops import jit
from tests.import_graph import graph, module_of

PACKAGE, FOLDER = jit.__name__, Path(jit.__file__).parent
MAY_IMPORT = {
    "compiler": {"compiler"},
    "vector": {"compiler", "vector"},
    "convolution": {"compiler", "vector", "convolution"},
    "normalisation": {"compiler", "vector", "normalisation"},
}
IMPORTS = graph()
SCRIPTS = {"ahead/__main__.py"}  # runs in a process of its own; nothing imports it


def imported_by(path):
    """Yield the top-level modules and packages of jit that a file imports; jit itself as ""."""
    for name in IMPORTS[module_of(path)]:
        if name == PACKAGE or name.startswith(f"{PACKAGE}."):
            yield name.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def test_every_room_has_its_place_in_the_order():
    scripts = {name.partition("/")[0] for name in SCRIPTS}
    assert {
        path.parent.name for path in FOLDER.glob("*/__init__.py")
    } == MAY_IMPORT.keys() | scripts


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_none_that_comes_later_and_no_twin(room):
    for path in sorted((FOLDER / room).glob("*.py")):
        if str(path.relative_to(FOLDER)) not in SCRIPTS:
            assert set(imported_by(path)) <= MAY_IMPORT[room], path.name


def test_the_check_sees_the_twins_that_a_script_imports():
    (script,) = SCRIPTS
    assert "" in set(imported_by(FOLDER / script))


def test_files_at_the_top_are_twins_of_the_references():
    twins = {path.name for path in FOLDER.glob("*.py")}
    assert twins <= {path.name for path in (FOLDER.parent / "reference").glob("*.py")}
