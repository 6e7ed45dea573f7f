"""Test specification of softmax_cross_entropy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minise.checks import Array
from minise.contract.case import Case
from minise.contract.mistakes import Mistake, put, scaled
from minise.contract.specification import Spec
from minise.contract.strategies import cases_with_axes
from minise.ops import reference

LOGITS = dict(N=4, K=6)
PLAIN = Case("softmax_cross_entropy", LOGITS, {}, exact=False)


def _smoothed(label_smoothing: float) -> Case:
    settings = dict(label_smoothing=label_smoothing)
    return Case("softmax_cross_entropy", LOGITS, settings, exact=False)


def _magnitudes(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Bound the loss: |log-probability| is at most the range of the logits plus log(K)."""
    logits, _ = inputs
    N, K = logits.shape
    largest = 1 + math.log(K) + np.ptp(logits, axis=1, keepdims=True)
    return [largest.mean(), abs(dout) / N * np.broadcast_to(1 + largest, logits.shape), None]


def _one_hot(c: Any) -> Array:
    return np.arange(c.logprob.shape[1]) == c.labels[:, None]


MISTAKES = {
    "a sum instead of a mean": Mistake(PLAIN, scaled(0, lambda d, c: len(c.labels)), {"factor N"}),
    "divided by N twice": Mistake(PLAIN, scaled(0, lambda d, c: 1 / len(c.labels)), {"factor 1/N"}),
    "the smoothing is forgotten": Mistake(
        _smoothed(0.2),
        lambda g, d, c: reference.softmax_cross_entropy_backward(
            d, c._replace(label_smoothing=0.0)
        ),
        {"unknown", "missing mean term"},
    ),
    "the label is not subtracted": Mistake(
        PLAIN,
        lambda g, d, c: put(g, 0, np.exp(c.logprob) * d / len(c.labels)),
        {"not accumulated", "wrong mask"},
    ),
    "only the label's entry": Mistake(
        PLAIN, lambda g, d, c: put(g, 0, np.where(_one_hot(c), g[0], 0)), {"not accumulated"}
    ),
    "dout is ignored": Mistake(PLAIN, lambda g, d, c: put(g, 0, g[0] / d), {"factor"}),
}
SPECS = (
    Spec(
        op="softmax_cross_entropy",
        cases={"plain": PLAIN, "smoothing": _smoothed(0.1), "all smooth": _smoothed(1)},
        strategy=cases_with_axes(
            "softmax_cross_entropy", "NK", label_smoothing=st.sampled_from([0, 0.1, 1.0])
        ),
        magnitudes=_magnitudes,
        long_sums=(
            Case("softmax_cross_entropy", dict(N=1 << 18, K=2), dict(label_smoothing=0.25)),
            Case("softmax_cross_entropy", dict(N=2, K=1 << 18), dict(label_smoothing=0.25)),
        ),
        walk=Case("softmax_cross_entropy", dict(N=2, K=4)),
        mistakes=MISTAKES,
    ),
)
