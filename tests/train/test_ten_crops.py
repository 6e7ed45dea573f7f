"""Averages over ten crops, and errors among the five largest logits, by hand."""

import numpy as np
import pytest

from minise import nn
from minise.ops import reference
from minise.train import Confusion, SoftmaxCrossEntropy, evaluate, ten_crop_logits


class Corner:
    """A net whose two logits are the logarithms of the top left pixel, and of the rest to 1."""

    ops = reference

    def inference(self):
        return lambda x: np.log(np.stack([x[:, 0, 0, 0], 1 - x[:, 0, 0, 0]], axis=1))


def test_probabilities_are_averaged():
    images = np.arange(1, 10).reshape(1, 1, 3, 3) / 10
    probability = np.mean([0.1, 0.2, 0.4, 0.5, 0.1, 0.2, 0.3, 0.5, 0.6, 0.2])
    logits = ten_crop_logits(Corner(), 2, 2)(images)
    np.testing.assert_allclose(np.exp(logits), [[probability, 1 - probability]], rtol=1e-14)
    result = evaluate(
        Corner(),
        [(images, np.array([0]))],
        SoftmaxCrossEntropy(),
        predict=ten_crop_logits(Corner(), 2, 2),
    )
    assert result == {"loss": pytest.approx(-np.log(probability)), "accuracy": 0.0}


def test_a_constant_added_to_the_logits_of_a_crop_has_no_effect():
    """Logits are of each crop's own scale, also where exp would overflow."""
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 6))
    net = nn.Chain(nn.Flatten(), nn.Linear(24, 4, rng=0, dtype=np.float64))
    expected = ten_crop_logits(net, 2, 4)(x)
    net.named_parameters()["1.bias"][...] += 1000
    np.testing.assert_allclose(ten_crop_logits(net, 2, 4)(x), expected, rtol=1e-10)
    assert ten_crop_logits(net, 2, 4)(x).dtype == np.float64


def test_crops_are_smaller_than_the_images():
    with pytest.raises(ValueError, match=r"ten_crops: size is 4 x 4 and images have shape \(1, 1,"):
        ten_crop_logits(Corner(), 4, 4)(np.ones((1, 1, 3, 3)))


def test_errors_among_the_largest_logits():
    confusion = Confusion(4)
    logits = np.array([[4, 3, 2, 1], [4, 3, 2, 1], [1, 1, 1, 1], [1, 2, 2, 0]], np.float32)
    confusion(logits[:2], np.array([0, 3], np.uint8))
    confusion(logits[2:], np.array([2, 2]))  # of equal logits, the first counts as the largest
    assert confusion.ranks.tolist() == [1, 1, 1, 1]
    assert [confusion.top_error(k) for k in (1, 2, 3, 4)] == [0.75, 0.5, 0.25, 0]
    assert confusion.top_error(1) == 1 - np.trace(confusion.counts) / 4
    with pytest.raises(ValueError, match="top_error: count is 5, expected at most 4: there are no"):
        confusion.top_error(5)
