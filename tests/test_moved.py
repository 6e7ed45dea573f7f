"""Old names of modules: each import works, with a warning that gives the new name."""

import importlib
import subprocess
import sys

import pytest

import minise
from minise.moved import MOVED


@pytest.mark.parametrize("old", [old for old, new in MOVED.items() if " or " not in new])
def test_an_old_name_gives_the_module(old, monkeypatch):
    module = importlib.import_module(MOVED[old])
    spec = module.__spec__
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(FutureWarning, match=f"{old} has moved: import {MOVED[old]}"):
        assert importlib.import_module(old) is module
    assert module.__spec__ is spec
    assert (module.__name__, spec.name) == (MOVED[old], MOVED[old])


def test_a_module_that_was_split_gives_both_parts(monkeypatch):
    from minise import checks
    from minise.ops import shapes

    monkeypatch.delitem(sys.modules, "minise.ops.checks", raising=False)
    with pytest.warns(FutureWarning, match="import minise.checks or minise.ops.shapes"):
        from minise.ops.checks import Array, check_arrays, check_choice
    assert (Array, check_choice) == (checks.Array, checks.check_choice)
    assert check_arrays is shapes.check_arrays


def test_the_warning_is_seen_where_the_name_is_used(tmp_path):
    script = tmp_path / "old.py"
    script.write_text("from minise.gradcheck import exercise\nprint(exercise.__name__)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "minise.grading.exercise\n"
    assert f"{script}:1: FutureWarning: minise.gradcheck.exercise has moved" in done.stderr


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="No module named 'minise.gradcheck.nothing'"):
        importlib.import_module("minise.gradcheck.nothing")


def test_subpackages_are_imported_on_first_use():
    code = "import minise, sys; print('numpy' in sys.modules); print(minise.nn.Linear.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nLinear\n"
    assert all(name in dir(minise) for name in minise.SUBPACKAGES)
    with pytest.raises(AttributeError, match="minise has no 'layers', expected one of analysis"):
        _ = minise.layers
