"""Views of the ops (jit.using): the bits for different threads, and the algorithm setting."""

import hashlib
import os
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest

from minise.ops import jit, reference
from minise.ops.backend import backend
from minise.ops.jit.convolution import winograd, winograd_dweight
from minise.ops.jit.convolution.algorithm import ALGORITHMS, current_algorithm, rule_of_auto
from minise.ops.jit.vector.simd import lanes_of
from tests.ops.cases import Case, draw

PROGRAM = """
import hashlib, sys
import numpy as np
from minise import models
from minise.contract.case import direction, draw
from minise.contract.spec import CASES
from minise.ops import jit
from minise.train import SGD, SoftmaxCrossEntropy, train_step

def digest(arrays):
    sha = hashlib.sha256()
    for array in arrays:
        if array is not None:
            sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()

for threads in (1, 2, 4):
    ops, results = jit.using(threads=threads), []
    for op, cases in CASES.items():
        for case in cases.values():
            rng = np.random.default_rng(0)
            inputs, keywords = draw(case, rng, np.float32)
            out, cache = getattr(ops, f"{op}_forward")(*inputs, **keywords)
            results += [out, *getattr(ops, f"{op}_backward")(direction(out, rng), cache)]
    net = models.build("se_resnet20", ops=ops)
    optimiser, rng = SGD(net, momentum=0.9), np.random.default_rng(1)
    for _ in range(3):
        x = rng.standard_normal((33, 3, 32, 32)).astype(np.float32)
        batch = x, rng.integers(0, 10, 33)
        loss = train_step(net, SoftmaxCrossEntropy(ops), optimiser, [batch], 0.1)["loss"]
    print(digest([*results, np.float64(loss), *net.named_parameters().values()]))
"""


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="without Numba there are no threads")
def test_the_same_bits_on_one_two_and_four_threads():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4"}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    digest, *others = run.stdout.split()
    assert others == [digest] * 2
    assert len(digest) == len(hashlib.sha256().hexdigest())


def test_a_view_of_the_ops_has_their_functions():
    ops = jit.using(threads=1)
    x = np.array([-1.0, 2.0])
    out, cache = ops.relu_forward(x)
    np.testing.assert_array_equal(out, [0.0, 2.0])
    np.testing.assert_array_equal(ops.relu_backward(x, cache)[0], [0.0, 2.0])
    assert ops.relu_forward.__name__ == "relu_forward"
    assert backend("jit", threads=1).relu_forward(x)[0][1] == 2
    assert backend("jit") is jit
    assert ops.folds is True
    with pytest.raises(AttributeError):
        _ = ops.no_such_op


@pytest.mark.parametrize("threads", [0, -1, 10_000])
def test_invalid_numbers_of_threads(threads):
    message = "expected at least 1" if threads < 1 else r"expected at most \d+, which Numba has st"
    for ops in (jit, jit.using(threads=1)):
        with pytest.raises(ValueError, match=rf"^using: threads is {threads}, {message}"):
            ops.using(threads=threads)


def test_unknown_algorithms():
    for name in ("fft", "", "Direct"):
        message = f"^using: algorithm is '{name}', expected one of auto, direct, winograd"
        for ops in (jit, jit.using(algorithm="direct")):
            with pytest.raises(ValueError, match=message):
                ops.using(algorithm=name)


@pytest.fixture
def current_settings(monkeypatch):
    """Return a function that returns the threads and the algorithm in force in a call of ops.

    relu_forward is replaced by a function that returns them, and fails if its input is None.
    """

    def relu_forward(x):
        in_force = numba.get_num_threads(), current_algorithm.get()
        return in_force if x is not None else [][0]

    monkeypatch.setattr(jit, "relu_forward", relu_forward)
    return lambda ops: ops.relu_forward(0)


def test_settings_that_are_none_are_unchanged(current_settings):
    all_threads = numba.get_num_threads()
    assert current_settings(jit) == current_settings(jit.using()) == (all_threads, "auto")
    assert current_settings(jit.using(threads=1)) == (1, "auto")
    assert current_settings(jit.using(algorithm="winograd")) == (all_threads, "winograd")
    both = jit.using(threads=1, algorithm="direct")
    assert current_settings(both) == (1, "direct")
    assert current_settings(both.using()) == (1, "direct")
    assert current_settings(both.using(threads=all_threads)) == (all_threads, "direct")
    assert current_settings(both.using(algorithm="auto")) == (1, "auto")
    assert current_settings(jit) == (all_threads, "auto")


def test_settings_are_restored_after_an_error(current_settings):
    before = current_settings(jit)
    with pytest.raises(IndexError):
        jit.using(threads=1, algorithm="direct").relu_forward(None)
    assert current_settings(jit) == before


def test_settings_belong_to_one_python_thread(current_settings):
    """During a call, another Python thread has its own setting."""
    algorithms = []

    def other(x):
        thread = threading.Thread(target=lambda: algorithms.append(current_algorithm.get()))
        thread.start()
        thread.join()
        algorithms.append(current_algorithm.get())

    ops = jit.using(algorithm="direct")
    ops._bound(other)(0)
    assert algorithms == ["auto", "direct"]


WINOGRAD_FUNCTIONS = {
    "correlate": winograd,
    "image_gradient": winograd,
    "weight_gradient": winograd_dweight,
}
ALL = list(WINOGRAD_FUNCTIONS)  # out, dx, dweight


@pytest.fixture
def by_winograd(monkeypatch):
    """Return a list to which each call of a function of Winograd's appends the function's name."""
    calls = []
    for name, module in WINOGRAD_FUNCTIONS.items():
        function = getattr(module, name)

        def noted(*arrays, function=function, name=name, **settings):
            calls.append(name)
            return function(*arrays, **settings)

        monkeypatch.setattr(module, name, noted)
    return calls


LANES = lanes_of(np.dtype(np.float32))
FULL_VECTORS = dict(N=1, C=LANES, H=5, W=6, K=2 * LANES, KH=3, KW=3)


@pytest.mark.parametrize(
    ("sizes", "settings", "dtype", "auto"),
    [
        ({}, {}, np.float32, True),
        ({}, {"padding": (2, 1)}, np.float32, True),
        pytest.param({}, {}, np.float64, False, marks=pytest.mark.slow),
        ({"C": LANES + 1}, {}, np.float32, None),
        ({"K": LANES // 2}, {}, np.float32, None),
        ({"KH": 1}, {}, np.float32, None),
        ({"KW": 5}, {}, np.float32, None),
        ({}, {"stride": (1, 2)}, np.float32, None),
        ({}, {"dilation": (2, 1)}, np.float32, None),
        ({"C": 2 * LANES}, {"groups": 2}, np.float32, False),
        ({"C": 2 * LANES, "H": 32, "W": 32}, {"groups": 2}, np.float32, True),
        ({"C": 4 * LANES, "H": 32, "W": 32}, {"groups": 2 * LANES}, np.float32, True),  # merged
        ({"K": LANES}, {"groups": LANES}, np.float32, None),
        ({}, {"padding": (1, 3)}, np.float32, None),
    ],
    ids=str,
)
def test_the_rule_of_auto(by_winograd, sizes, settings, dtype, auto):
    """auto: True if "auto" chooses Winograd's, False if only "winograd" does, None if neither."""
    rng = np.random.default_rng(0)
    inputs, keywords = draw(Case("conv2d", {**FULL_VECTORS, **sizes}, settings), rng, dtype)
    calls = {}
    for name in ALGORITHMS:
        by_winograd.clear()
        ops = jit.using(algorithm=name)
        out, cache = ops.conv2d_forward(*inputs, **keywords)
        ops.conv2d_backward(out, cache)
        calls[name] = sorted(by_winograd)
    assert calls["direct"] == []
    assert calls["winograd"] == (ALL if auto is not None else [])
    assert calls["auto"] == (ALL if auto else [])


@pytest.mark.parametrize("algorithm", ["auto", "direct"])
def test_float64_uses_winograds_only_on_request(by_winograd, algorithm):
    """The quick part of the float64 case of test_the_rule_of_auto, without "winograd"."""
    inputs, keywords = draw(Case("conv2d", FULL_VECTORS, {}), np.random.default_rng(0), np.float64)
    ops = jit.using(algorithm=algorithm)
    out, cache = ops.conv2d_forward(*inputs, **keywords)
    ops.conv2d_backward(out, cache)
    assert by_winograd == []


def test_a_prepared_convolution_uses_the_setting():
    """Also if it has run with another algorithm before."""
    rng = np.random.default_rng(0)
    (x, weight, bias), _ = draw(Case("conv2d", FULL_VECTORS), rng, np.float32)
    prepared, outs = jit.prepare_conv2d(weight, bias), {}
    for name in ("auto", "direct", "winograd", "direct"):
        ops = jit.using(algorithm=name)
        outs[name] = ops.run_conv2d(prepared, x)
        np.testing.assert_array_equal(outs[name], ops.conv2d_forward(x, weight, bias)[0])
    assert not np.array_equal(outs["direct"], outs["winograd"])


def test_the_back_end_of_the_command_line():
    x, weight = np.ones((1, LANES, 3, 3), np.float32), np.ones((LANES, LANES, 3, 3), np.float32)
    out, _ = backend("jit", algorithm="direct").conv2d_forward(x, weight)
    assert (out == 9 * LANES).all()
    assert backend("reference", threads=3, algorithm="auto") is reference
    with pytest.raises(ValueError, match="^ops 'reference' has one algorithm only, but algorithm"):
        backend("reference", algorithm="direct")
    with pytest.raises(ValueError, match="algorithm is 'fft', expected one of auto, direct, win"):
        backend("jit", algorithm="fft")
    assert str(LANES) in rule_of_auto()
