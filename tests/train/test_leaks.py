"""A long training does not grow: memory after 2,000 more steps, in a process of its own."""

import subprocess
import sys

import pytest

from minise.ops.jit.vector.simd import AS_LOOPS

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc/self/statm"
)
OPS = [
    pytest.param("reference", marks=pytest.mark.slow),
    pytest.param("jit", marks=pytest.mark.long),
]
STEPS = 2000
# The heap may grow by a few blocks; a leak of one batch of inputs (6 kB) a step would be 12 MB.
BOUND_BYTES = 2e6

PROGRAM = """
import gc, resource, sys
from pathlib import Path
import numpy as np
from minise import nn
from minise.train import SGD, SoftmaxCrossEntropy, train_step

ops, leaks, steps = sys.argv[1], sys.argv[2] == "leaks", int(sys.argv[3])
net = nn.Chain(
    nn.Conv2d(3, 8, 3, ops=ops, rng=0), nn.BatchNorm2d(8, ops=ops), nn.ReLU(ops=ops),
    nn.SEBlock(8, 4, ops=ops, rng=0), nn.Dropout(0.1, ops=ops, rng=0),
    nn.GlobalAvgPool2d(ops=ops), nn.Linear(8, 4, ops=ops, rng=0),
)
optimiser, objective = SGD(net), SoftmaxCrossEntropy(ops)
x = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
labels, lost = np.arange(8) % 4, []

def take(count):
    for _ in range(count):
        train_step(net, objective, optimiser, [(x, labels)], 0.01)
        net.predict(x)
        if leaks:
            lost.append(x.copy())
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize(), len(gc.get_objects())

(before, objects), (after, more) = take(500), take(steps)
print(after - before, more - objects)
"""


def growth(ops, leaks=False):
    """Return the growth of resident bytes and of the number of Python's objects."""
    command = [sys.executable, "-c", PROGRAM, ops, "leaks" if leaks else "", str(STEPS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return map(int, done.stdout.split())


@pytest.mark.parametrize("ops", OPS)
def test_2000_steps_leak_nothing(ops):
    if ops == "jit" and AS_LOOPS:
        pytest.skip("too slow for kernels that run as Python")
    grown, objects = growth(ops)
    assert grown < BOUND_BYTES
    assert objects < STEPS / 10  # not even one object in ten steps


@pytest.mark.long
def test_a_leak_is_noticed():
    grown, objects = growth("reference", leaks=True)
    assert grown > 4 * BOUND_BYTES
    assert abs(objects) < STEPS / 10  # the collector does not track arrays of numbers
