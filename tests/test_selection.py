"""`pytest --of=NAME`, and the summary at the end of a run."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import conftest
from tests.conftest import MAX_WORKERS, pytest_xdist_auto_num_workers
from tests.selection import pattern

ROOT = Path(__file__).parents[1]
TESTS = {
    "ops/test_activation.py": """
import pytest
def test_of_the_family(): pass
@pytest.mark.slow
def test_slow(): pass
@pytest.mark.long
@pytest.mark.parametrize("k", range(2))
def test_long(k): pass
""",
    "ops/test_all.py": """
import pytest
@pytest.mark.parametrize("op", ["relu", "batch_norm2d_relu", "relu_backward"])
def test_op(op): pytest.skip("needs luck")
""",
    "ops/test_module.py": "import pytest; pytest.importorskip('nothing', reason='needs more')",
    "nn/test_other.py": "def test_that_fails(): assert False",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function that runs pytest on a few tests, with the settings of this project."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (folder / "conftest.py").write_text("from tests.conftest import *")
    for name, text in TESTS.items():
        path = folder / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(*arguments):
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, check=False
        )

    return run


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_the_last_lines_say_what_did_not_run(run, workers):
    done = run("--of=relu", "-n", workers)
    *_, left_out, tests, file, result = done.stdout.splitlines()
    assert left_out == "left out: 2 long tests (.ci/long), 1 slow tests (pytest -m slow)"
    assert tests == "skipped: 2 tests: needs luck"
    assert file == "skipped: 1 file: needs more"
    assert "1 passed" in result
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_other_choices_leave_nothing_out(run):
    done = run("-n", "0", "-m", "long", "-k", "activation", "-v")
    assert "left out" not in done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "single"),
    [
        ([__file__], True),
        ([f"{__file__}::test_belongs", f"{__file__}::test_does_not_belong"], True),
        ([__file__, str(ROOT / "tests" / "test_readme.py")], False),
        (["tests"], False),
    ],
)
def test_a_single_file_runs_in_one_process(arguments, single, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    workers = pytest_xdist_auto_num_workers(SimpleNamespace(args=arguments))
    assert workers == 0 if single else 1 <= workers <= MAX_WORKERS


@pytest.mark.slow
def test_an_unknown_name_is_refused(run):
    done = run("-n", "0", "--of=rellu")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--of is 'rellu', expected an op, a subpackage or a lesson: try relu" in done.stderr


def test_several_names(run):
    done = run("-n", "0", "--of=relu", "--of=nn")
    assert "1 failed, 1 passed, 4 skipped" in done.stdout


def test_a_specification_that_cannot_be_imported_is_one_message(monkeypatch):
    def broken(name):
        raise TypeError("Spec.__init__() got an unexpected keyword argument 'kink'")

    monkeypatch.setattr(conftest, "pattern", broken)
    config = SimpleNamespace(stash={}, option=SimpleNamespace(of=["relu"]))
    with pytest.raises(pytest.UsageError, match=r"test_selection.py:\d+: TypeError: Spec\..*k'$"):
        conftest.pytest_configure(config)


def test_an_op_that_is_not_complete_is_told_before_its_tests_run(monkeypatch):
    monkeypatch.setattr(conftest, "incomplete_ops", lambda: ["op cube: a.py lacks it", "op b: c"])
    config = SimpleNamespace(stash={}, option=SimpleNamespace(of=["relu"]))
    with pytest.raises(pytest.UsageError, match="^op cube: a.py lacks it\nop b: c$"):
        conftest.pytest_configure(config)


@pytest.mark.parametrize(
    ("name", "node_id"),
    [
        ("relu", "tests/ops/test_activation.py::test_by_hand"),
        ("relu", "tests/ops/test_contract.py::test_nan[full-jit-relu]"),
        ("relu", "tests/walk/test_trace.py::test_reads[relu_backward]"),
        ("relu", "tests/ops/cuda/test_kernels.py::test_close[seed0-relu {'N': 1}]"),
        ("se", "tests/ops/test_gradients.py::test_x[squeeze_excite-avg]"),
        ("nn", "tests/nn/test_files.py::test_x"),
        ("nn", "minise/nn/streams.py::minise.nn.streams.Seeds"),
        ("jit", "tests/ops/jit/test_tile.py::test_x"),
        ("ops", "tests/ops/jit/test_tile.py::test_x"),
        ("5", "tests/tutorials/test_lessons.py::test_links[05_batch_norm]"),
        ("lesson5", "tests/tutorials/test_attempts.py::test_x[05-dout]"),
        ("05_batch_norm", "tests/tutorials/test_attempts.py::test_x[blank-05-dout]"),
    ],
)
def test_belongs(name, node_id):
    assert re.search(pattern(name), node_id)
    assert re.search(pattern(name.upper()), node_id)


@pytest.mark.parametrize(
    ("name", "node_id"),
    [
        ("relu", "tests/ops/test_contract.py::test_nan[full-jit-batch_norm2d_relu-evaluation]"),
        ("relu", "tests/ops/jit/test_activation.py::test_x"),
        ("se", "tests/ops/test_fused.py::test_x[se_block_tail]"),
        ("nn", "tests/ops/test_conv.py::test_x[nn]"),
        ("ops", "tests/gradcheck/test_user_ops.py::test_x"),
        ("5", "tests/tutorials/test_lessons.py::test_links[10_seven_loops_to_winograd]"),
        ("5", "tests/ops/test_pool.py::test_x[05]"),
    ],
)
def test_does_not_belong(name, node_id):
    assert not re.search(pattern(name), node_id)


@pytest.mark.parametrize("name", ["", "relu.*", "lesson99", "ops/"])
def test_a_name_is_not_a_pattern(name):
    with pytest.raises(ValueError, match="expected an op, a subpackage or a lesson: try "):
        pattern(name)
