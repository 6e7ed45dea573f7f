"""Back ends by name, module and file; files are imported from their folder and completed."""

import os
import sys

import numpy as np
import pytest

from minise import models
from minise.contract.case import functions
from minise.contract.conform import conform
from minise.gradcheck import check
from minise.ops import reference
from minise.ops.backend import backend, load_ops, on_compile
from minise.ops.jit.compiler import compile as compiling
from minise.ops.user import composed
from minise.ops.user.errors import OpsError

RELU = """
import numpy as np
def relu_forward(x):
    return np.maximum(x, 0), x
def relu_backward(dout, x):
    return dout * (x > 0)
"""
X = np.array([-1.0, 2.0])


@pytest.fixture(autouse=True)
def _path_as_before(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("minise.ops.user.load._folders", [])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith("/tmp"):
            del sys.modules[name]


def loaded(folder, text=RELU, name="my_ops_of_tests.py"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return load_ops(str(folder / name))


def test_the_folder_comes_first_and_the_module_is_known(tmp_path):
    ops = loaded(tmp_path)
    assert sys.path[0] == str(tmp_path)
    assert sys.modules["my_ops_of_tests"] is ops.module
    assert ops.module.__name__ == "my_ops_of_tests"
    assert not (tmp_path / "__pycache__").exists()


def test_a_relative_path_and_a_link(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    loaded(tmp_path / "real")
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "my_ops_of_tests.py")
    monkeypatch.chdir(tmp_path)
    assert load_ops("link.py").file == tmp_path / "real" / "my_ops_of_tests.py"


def test_an_edit_of_the_same_size_is_seen_at_once(tmp_path):
    assert loaded(tmp_path).relu_forward(X)[0].tolist() == [0, 2]
    assert loaded(tmp_path, RELU.replace("maximum", "minimum")).relu_forward(X)[0].tolist() == [
        -1,
        0,
    ]


def test_siblings_also_those_imported_by_a_call(tmp_path):
    (tmp_path / "helper_of_tests.py").write_text("SLOPE = 3.0\n")
    lazy = RELU.replace(
        "    return np.max", "    import helper_of_tests as h\n    return h.SLOPE * np.max"
    )
    ops = loaded(tmp_path, lazy)
    other = loaded(tmp_path / "other")
    assert ops.relu_forward(X)[0].tolist() == [0, 6]
    assert other.relu_forward(X)[0].tolist() == [0, 2]


def test_two_folders_may_have_siblings_of_one_name(tmp_path):
    text = (
        RELU.replace("np.maximum(x, 0)", "S * np.maximum(x, 0)")
        + "from sibling_of_tests import S\n"
    )
    results = []
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sibling_of_tests.py").write_text(f"S = {number + 2}\n")
        results.append(loaded(tmp_path / folder, text))
    assert [ops.relu_forward(X)[0][1] for ops in results] == [4, 6]


def test_a_dataclass_and_a_main_block(tmp_path):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n" + RELU
    text += "@dataclass\nclass S:\n    a: int = 1\n"
    text += 'if __name__ == "__main__":\n    raise SystemExit("it ran")\n'
    assert loaded(tmp_path, text).ops == ["relu"]


@pytest.mark.parametrize("stem", ["random", "types", "code", "__main__", "test"])
def test_a_file_may_be_named_as_a_module_of_pythons(stem, tmp_path):
    before = sys.modules.get(stem)
    ops = loaded(
        tmp_path,
        "import dataclasses\n" + RELU + "@dataclasses.dataclass\nclass A:\n  x: int\n",
        f"{stem}.py",
    )
    assert ops.relu_forward(X)[0].tolist() == [0, 2]
    assert sys.modules.get(stem, before) is not ops.module
    assert before is None or sys.modules[stem] is before


@pytest.mark.parametrize("stem", ["numpy", "minise", "hypothesis", "numba", "pytest"])
def test_a_file_may_not_be_named_as_an_installed_package(stem, tmp_path):
    with pytest.raises(ValueError, match=f"{stem}.py has the name of .*rename it, .*my_{stem}.py"):
        loaded(tmp_path, RELU, f"{stem}.py")


def test_a_name_with_a_dash(tmp_path):
    assert loaded(tmp_path, RELU, "my-ops.py").ops == ["relu"]


def test_a_failed_import_restores_path_and_modules(tmp_path):
    path = list(sys.path)
    with pytest.raises(ValueError, match=r"my_ops_of_tests.py:1: NameError"):
        loaded(tmp_path, "nope\n")
    assert sys.path == path
    assert "my_ops_of_tests" not in sys.modules


def test_ctrl_c_at_import_passes(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        loaded(tmp_path, "raise KeyboardInterrupt\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py", r"ops '.*nowhere.py' does not exist, expected a Python file with ops$"),
        ("my_op.py", r"did you mean my_ops.py\?"),
        ("folder.py", "is a folder, expected a Python file"),
        ("folder", "is a folder, expected a Python file"),
        ("my_ops", r"is unknown, .* did you mean .*my_ops.py\?"),
        ("/dev/null/x.py", "does not exist"),
    ],
)
def test_paths_that_are_not_files(name, message, tmp_path):
    (tmp_path / "my_ops.py").write_text(RELU)
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=message):
        load_ops(name if name[0] == "/" else str(tmp_path / name))


def test_a_named_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(ValueError, match="is not a regular file"):
        load_ops(str(tmp_path / "pipe.py"))


def test_a_module_by_its_dotted_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pack_of_tests").mkdir()
    (tmp_path / "pack_of_tests" / "ops.py").write_text(RELU)
    (tmp_path / "pack_of_tests" / "bad.py").write_text("import nonesuch\n")
    assert load_ops("pack_of_tests.ops").ops == ["relu"]
    with pytest.raises(ValueError, match=r"^bad.py:1: ModuleNotFoundError: .*'nonesuch'"):
        load_ops("pack_of_tests.bad")
    with pytest.raises(ValueError, match="is unknown, .* the module json has no op"):
        load_ops("json")


# Completed by the reference


def test_the_reference_supplies_missing_functions_except_for_inference(tmp_path):
    ops = loaded(tmp_path)
    missing = [name for name in reference.__all__ if not hasattr(ops, name)]
    assert {name.partition("_")[0] for name in missing} == {"fold", "prepare", "run", "batch", "se"}
    assert all(name.endswith("_branches") for name in missing if name[0] in "bs")
    assert ops.linear_forward is reference.linear_forward
    assert ops.asarray is reference.asarray


CONV = """
from minise.ops import reference
CALLS = []
def conv2d_forward(x, weight, bias=None, stride=(1, 1), padding=(0, 0)):
    return reference.conv2d_forward(x, weight, bias, stride=stride, padding=padding)
def conv2d_backward(dout, cache):
    CALLS.append({})
    return reference.conv2d_backward(dout, cache)
"""
WITH_PLUS = CONV.replace(
    "cache):\n    CALLS.append({}", "cache, plus=None):\n    CALLS.append(plus"
)
WITH_PLUS = WITH_PLUS.replace("(dout, cache)", "(dout, cache, plus=plus)")
WITH_BOTH = CONV.replace("dout, cache)", "dout, cache, **more)").replace("{}", "more")


@pytest.mark.parametrize("text", [CONV, WITH_PLUS, WITH_BOTH], ids=["neither", "plus", "any"])
def test_missing_settings_of_a_backward_are_emulated(text, tmp_path):
    ops = loaded(tmp_path, text)
    rng = np.random.default_rng(0)
    x, weight, plus = (rng.standard_normal(s) for s in ((2, 3, 4, 5), (2, 3, 3, 3), (2, 3, 4, 5)))
    out, cache = ops.conv2d_forward(x, weight, None, padding=(1, 1))
    dx, dweight, _ = ops.conv2d_backward(out, cache)
    for settings, expected in (
        (dict(plus=plus), dx + plus),
        (dict(plus=plus, needs_dx=True), dx + plus),
        (dict(plus=None), dx),
        (dict(needs_dx=False), None),
        (dict(plus=plus, needs_dx=False), None),
    ):
        first, second, third = ops.conv2d_backward(out, cache, **settings)
        np.testing.assert_array_equal(second, dweight)
        assert third is None
        if expected is not None:
            np.testing.assert_array_equal(first, expected)
        assert first is not None or text is WITH_BOTH
    with pytest.raises(ValueError, match=r"^conv2d: plus has shape \(2,\), expected .* as x"):
        ops.conv2d_backward(out, cache, plus=np.ones(2))
    (result,) = conform(ops, cases=20)
    assert result.problem == ""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("plus=plus)", ")", "dx with plus has an error"),
        ("plus=plus)", "plus=None if plus is None else 2 * plus)", "dx with plus has an error"),
    ],
)
def test_plus_of_a_users_backward_is_checked(old, new, problem, tmp_path):
    (result,) = conform(loaded(tmp_path, WITH_PLUS.replace(old, new)), cases=20)
    assert result.problem.startswith(f"rule 6, plus: {problem}")


def test_other_gradients_without_dx_are_checked(tmp_path):
    wrong = "dx, dw, db = reference.conv2d_backward(dout, cache, **more)\n"
    wrong += "    return (dx, dw, db) if more.get('needs_dx', True) else (None, 2 * dw, db)"
    text = WITH_BOTH.replace("return reference.conv2d_backward(dout, cache, **more)", wrong)
    (result,) = conform(loaded(tmp_path, text), cases=20)
    assert result.problem == "rule 6, needs_dx: needs_dx=False changes dweight"


def test_a_net_calls_the_users_op_also_within_fused_ops(tmp_path):
    text = RELU + "CALLS = []\n" + RELU.replace("return np", "CALLS.append(x.shape)\n    return np")
    ops = loaded(tmp_path, text)
    x = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    nets = [
        models.build("se_resnet8", ops=back_end, rng=np.random.default_rng(1))
        for back_end in (ops, reference)
    ]
    outs, caches = zip(*(net.forward(x, training=True) for net in nets), strict=True)
    assert len(ops.module.CALLS) == 7
    np.testing.assert_array_equal(*outs)
    dout = np.ones_like(outs[0]) * np.arange(10, dtype=np.float32)
    pairs = zip(nets, caches, strict=True)
    ours, theirs = (net.backward(dout, cache)[1] for net, cache in pairs)
    assert ours.keys() == theirs.keys()
    for name, grad in ours.items():
        np.testing.assert_allclose(grad, theirs[name], rtol=1e-4, atol=1e-5)
    for array, expected in zip(*(net.named_state().values() for net in nets), strict=True):
        np.testing.assert_array_equal(array, expected)
    ops.module.CALLS.clear()
    np.testing.assert_allclose(*(net.inference()(x) for net in nets), rtol=1e-3, atol=1e-4)
    assert len(ops.module.CALLS) == 7


@pytest.mark.parametrize("op", composed.PARTS)
def test_composed_ops_have_right_gradients(op, tmp_path):
    ops = loaded(tmp_path)
    rng = np.random.default_rng(0)
    x, gamma, beta, shortcut = (rng.standard_normal(s) for s in ((2, 3, 2, 4), 3, 3, (2, 3, 2, 4)))
    w1, b1, w2, b2 = (rng.standard_normal(s) for s in ((2, 3), 2, (3, 2), 3))
    inputs = {
        "batch_norm2d_relu": [x, gamma, beta],
        "batch_norm2d_add_relu": [x, gamma, beta, shortcut],
        "se_block_tail": [x, gamma, beta, w1, b1, w2, b2, shortcut],
    }[op]
    settings = dict(running_mean=np.zeros(3), running_var=np.ones(3), training=True)
    forward, backward, _ = functions(ops, op, settings)
    assert check(forward, backward, inputs).ok
    expected, _ = getattr(reference, f"{op}_forward")(*inputs, **settings)
    np.testing.assert_allclose(forward(*inputs)[0], expected)


def test_a_batch_norm_without_running_statistics_still_trains(tmp_path):
    text = """
import numpy as np
def batch_norm2d_forward(x, gamma, beta, training=True, running_mean=0, running_var=1, eps=1e-5):
    mean = x.mean((0, 2, 3)) if training else running_mean
    rstd = 1 / np.sqrt((x.var((0, 2, 3)) if training else running_var) + eps)
    xhat = (x - mean[:, None, None]) * rstd[:, None, None]
    return gamma[:, None, None] * xhat + beta[:, None, None], (xhat, gamma, rstd, training)
def batch_norm2d_backward(dout, cache):
    xhat, gamma, rstd, training = cache
    dgamma, dbeta = (dout * xhat).sum((0, 2, 3)), dout.sum((0, 2, 3))
    M = dout.size / dout.shape[1]
    d = dout - (dbeta[:, None, None] + xhat * dgamma[:, None, None]) / M if training else dout
    return (gamma * rstd)[:, None, None] * d, dgamma, dbeta
"""
    ops = loaded(tmp_path, text)
    (result,) = conform(ops, cases=40)
    assert result.problem == ""
    x = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    nets = [
        models.build("resnet8", ops=back_end, rng=np.random.default_rng(1))
        for back_end in (ops, reference)
    ]
    for net in nets:
        net.forward(x, training=True)
    for array, expected in zip(*(net.named_state().values() for net in nets), strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "folds"),
    [
        ("from minise.ops.reference import *\n" + RELU, False),
        (RELU + "def run_conv2d(*arrays):\n    return arrays\n", False),
        ("from minise.ops.reference import *\ndef run_conv2d(*arrays):\n    return 1\n", True),
    ],
)
def test_functions_for_inference_are_the_users_or_none(text, folds, tmp_path):
    ops = loaded(tmp_path, text)
    assert hasattr(ops, "run_conv2d") is ops.folds is folds


# Configuration


def test_a_back_end_by_name_is_its_module_unless_it_is_configured():
    assert backend("reference") is backend("reference", threads=3) is reference
    assert load_ops("minise.bench.peers.im2col", threads=2).__name__.endswith("im2col")
    assert backend("jit", threads=1).folds is True
    with pytest.raises(ValueError, match="^ops 'numpy' is unknown, expected one of reference, jit"):
        backend("numpy")


def test_a_back_end_with_one_algorithm_refuses_a_choice(tmp_path):
    message = "^ops '{}' has one algorithm only, but algorithm is 'direct': leave it out, or cho"
    with pytest.raises(ValueError, match=message.format("reference")):
        load_ops("reference", algorithm="direct")
    ops = loaded(tmp_path)
    assert ops.using(threads=2, algorithm="auto") is ops
    with pytest.raises(ValueError, match=message.format("my_ops_of_tests.py")):
        load_ops(str(ops.file), algorithm="direct")


def test_a_users_choice_of_threads_and_algorithm(tmp_path):
    text = RELU + "def using(**settings):\n    return settings\n"
    file = str(loaded(tmp_path, text).file)
    assert load_ops(file, 2) == {"threads": 2}
    assert load_ops(file, 2, "direct") == {"threads": 2, "algorithm": "direct"}
    assert load_ops(file).ops == ["relu"]
    text = RELU + "def using(threads):\n    return 1 // 0\n"
    with pytest.raises(
        OpsError, match=r"^my_ops_of_tests.py:8: ZeroDivisionError: .* \(in using\)"
    ):
        loaded(tmp_path, text).using(threads=2)


def test_listeners_are_called_for_compiled_kernels(monkeypatch):
    calls = []
    with on_compile(lambda *kernel: calls.append(kernel)):
        for listener in compiling._listeners:
            listener("a kernel", 1, 2)
    assert calls == [("a kernel", 1, 2)]
    assert not compiling._listeners
    monkeypatch.setitem(sys.modules, "minise.ops.jit", None)
    with on_compile(calls.append):
        pass
