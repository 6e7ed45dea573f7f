"""The picture of softmax and cross-entropy: from the logits of an image to its loss and back."""

import inspect
import re

import numpy as np

from minise.checks import Array
from minise.ops.reference import loss
from minise.ops.reference.loss import (
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from minise.pictures.svg import Canvas, Picture

LOGITS = (2.0, 1.0, -0.5, 0.5)  # softmax with two decimals sums to 1
LABEL = 1
LEFT, CLASS_STEP, BAR_WIDTH = 108, 88, 48  # x of the first class, distance of classes


def run() -> dict[str, Array]:
    """Return the values of a forward and a backward of one image, each (K,), and its loss."""
    logits, labels = np.array([LOGITS]), np.array([LABEL])
    value, cache = softmax_cross_entropy_forward(logits, labels)
    dlogits, _ = softmax_cross_entropy_backward(np.asarray(1.0), cache)
    target = np.eye(len(LOGITS))[LABEL]
    softmax = np.exp(cache.logprob[0])
    return {
        "logits": logits[0],
        "softmax": softmax,
        "target": target,
        "dlogits": dlogits[0],
        "loss": value,
    }


def gradient() -> str:
    """Return the formula of the gradient in the docstring of the op's module."""
    match = re.search(r"``(dlogits = .*?)``", inspect.getdoc(loss) or "")
    assert match
    return match[1]


def softmax_cross_entropy() -> Picture:
    """Return the picture of the logits, the probabilities, the loss and the gradient."""
    values = run()
    canvas = Canvas(740)
    canvas.box(LEFT + CLASS_STEP * LABEL, 12, CLASS_STEP, 650, "panel", "none")
    canvas.text(22, 36, "class", "soft")
    for k in range(len(LOGITS)):
        text, role = (f"label {k}", "ink strong") if k == LABEL else (f"{k}", "soft")
        canvas.text(_middle(k), 36, text, role, anchor="middle")
    _row(canvas, 160, "logits", values["logits"], "forward", 46, 1)
    canvas.arrow([(44, 176), (44, 318)])
    canvas.text(56, 240, "exp,", "soft")
    canvas.text(56, 262, "sum 1", "soft")
    _row(canvas, 340, "softmax", values["softmax"], "forward", 110)
    p, value = values["softmax"][LABEL], values["loss"]
    canvas.text(22, 382, f"loss = -log({p:.2f}) = {value:.2f}", "forward strong code")
    _row(canvas, 480, "target", values["target"], "soft", 52, 0)
    _row(canvas, 574, "dlogits", values["dlogits"], "backward", 80)
    canvas.text(22, 690, gradient(), "backward code")
    canvas.text(22, 718, "here N = 1 and dout = 1; a row of dlogits sums to 0", "soft")
    return canvas.picture(
        "Softmax and cross-entropy, forward and backward",
        f"Bars of four classes. The logits {_list(values['logits'])} become the probabilities "
        f"{_list(values['softmax'])}. The label is {LABEL}, so the loss is minus the logarithm of "
        f"{p:.2f}, {value:.2f}. The gradient is softmax minus target, {_list(values['dlogits'])}: "
        "above 0 for the wrong classes, whose logits fall, and below 0 for the label.",
    )


def _middle(k: int) -> float:
    return LEFT + CLASS_STEP * (k + 0.5)


def _list(numbers: Array) -> str:
    return ", ".join(f"{number:.2f}" for number in numbers)


def _row(
    canvas: Canvas,
    y: float,
    name: str,
    numbers: Array,
    role: str,
    unit: float,
    decimals: int = 2,
) -> None:
    """Draw numbers as bars on a line at y, unit high for 1."""
    canvas.text(22, y + 5, name, f"{role} strong code")
    canvas.arrow([(LEFT, y), (LEFT + CLASS_STEP * len(numbers), y)], "soft", head=False, thick=1)
    for k, number in enumerate(numbers.tolist()):
        high = abs(number) * unit
        top = y - max(0, number) * unit
        left = _middle(k) - BAR_WIDTH / 2
        canvas.box(left, top, BAR_WIDTH, high, role, "none", radius=2, opacity=0.75)
        baseline = y + high + 20 if number < 0 else y - high - 8
        text = f"{number:.{decimals}f}".replace("-", "\N{MINUS SIGN}")
        canvas.text(_middle(k), baseline, text, anchor="middle")
