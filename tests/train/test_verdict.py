"""The verdict about runs that have learned nothing or have diverged, by hand."""

import numpy as np
import pytest

from minise import nn
from minise.train import SGD, SoftmaxCrossEntropy, run
from minise.train.verdict import verdict
from tests.train.regression import SquaredError, net, pairs, quiet

LOWER = "lower lr (0.2) or lengthen the warmup"


def counts(labels, hits, classes=10):
    """Return a balanced confusion matrix: `hits` images of each class are predicted correctly.

    The others are spread evenly over the other classes.
    """
    matrix = np.full((classes, classes), (labels - hits) / (classes - 1))
    np.fill_diagonal(matrix, hits)
    return matrix


@pytest.mark.parametrize(
    ("losses", "matrix", "text"),
    [
        ([2.0, 1.0], counts(100, 90), None),
        ([2.0, 1.0], None, None),
        ([1.0], counts(100, 12), None),  # 12 % of 1000: noise is 2 * sqrt(0.09 / 1000) = 1.9 %
        (
            [2.0, 1.0],
            counts(100, 11),
            "the test accuracy is 11.00%, not above chance level (10.00%) by more than noise "
            f"(1.90% for 1,000 images): train for more epochs, {LOWER}",
        ),
        (
            [2.2, 2.31],
            None,
            "the training loss of the last epoch is 2.31, above ln(10) = 2.303, the loss of equal "
            f"probabilities: {LOWER}",
        ),
        ([0.5, 0.6], None, f"the training loss rose from 0.5 in the first epoch to 0.6: {LOWER}"),
        ([0.5, 9.0, 0.4], None, None),
    ],
)
def test_by_hand(losses, matrix, text):
    assert verdict(losses, 0.2, 1000, 10, matrix) == text


def test_a_run_of_few_steps_was_too_short():
    line = verdict([2.4], 0.2, 12, 10)
    assert line.endswith(": train for more epochs, because the run has only 12 steps")


@pytest.mark.parametrize(
    ("losses", "classes"), [([1e33], 10), ([1e33, 1e30], 10), ([2.4, 4.7], 10), ([2.4, 4.9], None)]
)
def test_a_loss_far_above_the_initial_one_is_due_to_the_learning_rate(losses, classes):
    assert verdict(losses, 0.2, 12, classes).endswith(f": {LOWER}")


def test_both_observations_are_one_line():
    line = verdict([2.4], 0.2, 1000, 10, counts(100, 10))
    assert line.count(";") == 1
    assert "\n" not in line
    assert line.endswith(f": {LOWER}")


def test_chance_level_of_unequal_classes():
    """Nine of ten images have label 0.

    A net that always predicts 0 has an accuracy of 90 %, and chance level is 0.9 * 1. A net with 9
    of 10 correct in both classes has 90 %, too, but chance level is 0.9 * 0.82 + 0.1 * 0.18 =
    75.6 %.
    """
    assert "is 90.00%, not above chance level (90.00%)" in verdict(
        [1.0, 0.5], 0.2, 1000, 2, np.array([[900, 0], [100, 0]])
    )
    assert verdict([1.0, 0.5], 0.2, 1000, 2, np.array([[810, 90], [10, 90]])) is None


def test_a_single_class_has_no_verdict():
    assert verdict([0.0], 0.2, 1000, 1, np.array([[50]])) is None
    assert verdict([0.5, 0.1], 0.2, 1000, 2, np.array([[50, 0], [0, 0]])) is None


def test_without_softmax_only_a_rise_of_the_loss_counts():
    assert verdict([50.0, 40.0], 0.2, 1000) is None
    assert "rose from 40 in the first epoch to 50" in verdict([40.0, 50.0], 0.2, 1000)


def shown(tmp_path, layer, objective, batches, **settings):
    """Return the printed text and metrics.jsonl of a run of three epochs."""
    console = quiet()
    more = dict(epochs=3, lr=0.05, out=tmp_path, console=console)
    result = run(layer, objective, batches, SGD(layer, momentum=0), **{**more, **settings})
    return console.file.getvalue(), (result.folder / "metrics.jsonl").read_text()


def test_a_run_reports_a_loss_that_rose(tmp_path):
    """The initial bias is at the minimum, and lr = 1.5 at a curvature of 2 diverges."""

    class Mean(SquaredError):
        def forward(self, out, targets):
            return (out**2).sum() / len(out), out

        def backward(self, out):
            return 2 * out / len(out)

    layer = nn.Linear(1, 1, rng=0, dtype=np.float64)
    layer.params["weight"][...], layer.params["bias"][...] = 0, 1e-3
    text, log = shown(tmp_path, layer, Mean(), [(np.zeros((4, 1)), np.zeros(4))], lr=1.5)
    assert "the training loss rose from " in text
    assert '"remark": "the training loss rose from ' in log.splitlines()[-1]
    text, log = shown(tmp_path, net(), SquaredError(), pairs())
    assert "loss rose" not in text
    assert "remark" not in log


def test_a_run_reports_chance_level(tmp_path):
    """Labels are independent of the images."""
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((50, 1, 4, 4)), rng.integers(0, 2, 50)) for _ in range(4)]
    data = dict(classes=["a", "b"])
    more = dict(data=data, lr=1e-6, test=batches)
    text, _ = shown(tmp_path, net(), SoftmaxCrossEntropy(), batches, **more)
    assert "not above chance level" in text
    text, _ = shown(tmp_path, net(), SoftmaxCrossEntropy(), batches, data=data, lr=1e-6)
    assert "chance level" not in text  # without a test set
