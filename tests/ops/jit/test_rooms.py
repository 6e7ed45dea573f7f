"""The rooms of jit: compiler, then vector, then convolution and normalisation, then the twins."""

import ast
from pathlib import Path

import pytest

from minise.ops import jit

PACKAGE, FOLDER = jit.__name__, Path(jit.__file__).parent
MAY_IMPORT = {
    "compiler": {"compiler"},
    "vector": {"compiler", "vector"},
    "convolution": {"compiler", "vector", "convolution"},
    "normalisation": {"compiler", "vector", "normalisation"},
}
SCRIPTS = {"compiler/ahead.py"}  # is run in a process of its own, and imported by nothing


def imported_by(path):
    """Return the files and rooms at the top of jit that a file imports; jit itself as ""."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                yield name.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def test_every_room_has_its_place_in_the_order():
    assert {path.parent.name for path in FOLDER.glob("*/__init__.py")} == MAY_IMPORT.keys()


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
