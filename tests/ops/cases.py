"""Back ends, cases and comparisons for the tests of all ops."""

import os

import numpy as np
import pytest
from hypothesis import settings

from minise.contract.bounds import count_of
from minise.contract.case import (
    OPS,
    Case,
    direction,
    draw,
    forward_of,
    functions,
    line,
    optional,
)
from minise.contract.spec import CASES, STRATEGIES, magnitudes
from minise.contract.strategies import SEEDS, without
from minise.ops import jit, reference
from tests.ops.cuda.hosted import emulated, on_gpu

__all__ = [
    "BACKENDS",
    "CASES",
    "EPS",
    "OPS",
    "SEEDS",
    "STRATEGIES",
    "Case",
    "all_close",
    "all_equal",
    "count_of",
    "direction",
    "draw",
    "few",
    "forward_of",
    "functions",
    "line",
    "magnitudes",
    "optional",
    "without",
]

BACKENDS = {
    "reference": reference,
    "jit": jit,
    "cuda": emulated,
    "gpu": pytest.param(on_gpu, marks=pytest.mark.gpu),
}
EPS = float(np.finfo(np.float64).eps)

# MINISE_EXAMPLES sets another number: fewer where the same tests run on another kind of processor,
# more in .ci/long
few = settings(max_examples=int(os.environ.get("MINISE_EXAMPLES", "30")))


def all_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        if b is None:
            assert a is None
        else:
            np.testing.assert_array_equal(a, b)


def all_close(ours, theirs, terms, count, dtype=np.float64):
    """Assert that arrays differ only by rounding.

    Both sides sum the same terms in different orders. No sum has more than count terms, so the
    error of each side is at most count roundings of the terms' magnitude.
    """
    for a, b, magnitude in zip(ours, theirs, terms, strict=True):
        if b is None:
            assert a is None
        else:
            assert np.shape(a) == np.shape(b)
            bound = 2 * count * np.finfo(dtype).eps * np.asarray(magnitude)
            assert (abs(np.asarray(a) - np.asarray(b)) <= bound).all()
