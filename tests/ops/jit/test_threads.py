"""The bits of no result depend on the number of threads."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from minise.ops import jit
from minise.ops.backends import backend

PROGRAM = """
import hashlib, sys
import numpy as np
from minise import models
from minise.gradcheck.cases import CASES, direction, draw
from minise.ops import jit
from minise.train import SGD

def digest(arrays):
    whole = hashlib.sha256()
    for array in arrays:
        if array is not None:
            whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()

for threads in (1, 2, 4):
    ops, found = jit.using(threads=threads), []
    for op, cases in CASES.items():
        for case in cases.values():
            rng = np.random.default_rng(0)
            inputs, keywords = draw(case, rng, np.float32)
            out, cache = getattr(ops, f"{op}_forward")(*inputs, **keywords)
            found += [out, *getattr(ops, f"{op}_backward")(direction(out, rng), cache)]
    net = models.build("se_resnet20", ops=ops)
    optimiser, rng = SGD(net, momentum=0.9), np.random.default_rng(1)
    for _ in range(3):
        x = rng.standard_normal((33, 3, 32, 32)).astype(np.float32)
        logits = net.forward(x, training=True)
        loss, cache = ops.softmax_cross_entropy_forward(logits, rng.integers(0, 10, 33))
        net.backward(ops.softmax_cross_entropy_backward(np.float32(1).reshape(()), cache)[0])
        optimiser.step(0.1)
    print(digest([*found, loss, *net.named_parameters().values()]))
"""


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="without Numba there are no threads")
def test_the_same_bits_on_one_two_and_four_threads():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4"}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    one, two, four = found.stdout.split()
    assert one == two == four
    assert len(one) == len(hashlib.sha256().hexdigest())


def test_a_view_of_the_ops_has_their_functions():
    ops = jit.using(threads=1)
    x = np.array([-1.0, 2.0])
    out, cache = ops.relu_forward(x)
    np.testing.assert_array_equal(out, [0.0, 2.0])
    np.testing.assert_array_equal(ops.relu_backward(x, cache)[0], [0.0, 2.0])
    assert ops.relu_forward.__name__ == "relu_forward"
    assert backend("jit", threads=1).relu_forward(x)[0][1] == 2
    assert backend("jit") is jit
    with pytest.raises(AttributeError):
        _ = ops.no_such_op


@pytest.mark.parametrize("threads", [0, -1, 10_000])
def test_threads_that_there_are_not(threads):
    message = "expected at least 1" if threads < 1 else r"expected at most \d+, which Numba has st"
    with pytest.raises(ValueError, match=rf"^using: threads is {threads}, {message}"):
        jit.using(threads=threads)
