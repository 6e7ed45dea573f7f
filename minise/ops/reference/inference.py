"""Inference: forward only, with everything that does not depend on x computed once.

In evaluation a batch normalisation is an affine map of each channel, and after a convolution it can
be folded into the filters and the bias:

    scale = gamma / sqrt(running_var + eps)                                       (C,)
    gamma * xhat + beta = scale * (conv(x, weight) + bias - running_mean) + beta
                        = conv(x, scale * weight) + scale * (bias - running_mean) + beta

So inference runs fewer and larger steps than training. There are two kinds:

    conv2d           out = relu(squeeze_excite(conv2d(x)) + shortcut)
    batch_norm2d     out = relu(batch_norm2d(x)), if no convolution precedes it

The SE block, the shortcut and the ReLU are optional. `prepare_<step>` copies the parameters into an
object of the back end's choice, so that the parameters may change afterwards. `run_<step>` takes
this object and x; it must come from the same back end.

These functions have no backward and no cache, so they are not ops; the contract's rules for names,
signatures, dtypes, strides, checks, purity and NaN apply.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minise.checks import (
    Array,
    Pair,
    check_choice,
    check_divisor,
    check_flag,
    check_integer,
    check_number,
    check_pair,
)
from minise.ops.reference.conv import SHAPES, conv2d_forward
from minise.ops.reference.gates import GATES
from minise.ops.reference.norm import batch_norm2d_forward
from minise.ops.reference.squeeze_excite import squeeze_excite_forward
from minise.ops.reference.squeezes import SQUEEZES
from minise.ops.shapes import check_arrays, check_window

FOLDED = "weight: K _ KH KW, bias?: K, gamma: K, beta: K; running_mean: K, running_var: K"
CONV2D = "weight: K _ KH KW, bias?: K, w1?: R K, b1?: R, w2?: K R, b2?: K"
BATCH_NORM2D = "gamma: C, beta: C; running_mean: C, running_var: C"
EPS = "a small number above 0, such as 1e-5"
IMAGES = "x: N C H W, gamma: C"
OUT = "out: N K OH OW, shortcut: N K OH OW"


class PreparedConv2d(NamedTuple):
    """A convolution with an optional SE block and ReLU; all arrays are copies."""

    weight: Array  # (K, C / groups, KH, KW)
    bias: Array | None  # (K,)
    gates: tuple[Any, ...] | None  # w1, b1, w2, b2 of the SE block
    settings: dict[str, Any]  # of conv2d
    se_settings: dict[str, Any]  # of squeeze_excite
    relu: bool


class PreparedBatchNorm2d(NamedTuple):
    """A batch normalisation in evaluation; all arrays are copies."""

    arrays: tuple[Array, ...]  # gamma, beta (C,)
    settings: dict[str, Any]  # of batch_norm2d, with running statistics (C,)
    relu: bool


def fold_batch_norm2d(
    weight: Array,
    bias: Array | None,
    gamma: Array,
    beta: Array,
    *,
    running_mean: Array,
    running_var: Array,
    eps: float = 1e-5,
) -> tuple[Array, Array]:
    """Return weight and bias of a convolution with batch normalisation in evaluation folded in.

    Parameters
    ----------
    weight, bias : ndarray of shape (K, C / groups, KH, KW), (K,)
        Of the convolution; the bias may be None.
    gamma, beta, running_mean, running_var : ndarray of shape (K,)
        Of the normalisation after the convolution.
    eps : float
        Added to the variance, above 0.

    Returns
    -------
    weight, bias : ndarray of shape (K, C / groups, KH, KW), (K,)
        New arrays, computed in double precision and rounded once.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree, or eps is wrong.
    """
    arrays = weight, bias, gamma, beta, running_mean, running_var
    check_arrays("fold_batch_norm2d", FOLDED, *arrays)
    eps = check_number("fold_batch_norm2d", "eps", eps, EPS, 1e-300, 1)
    scale = gamma / np.sqrt(running_var.astype(float) + eps)
    centre = -running_mean.astype(float) if bias is None else bias.astype(float) - running_mean
    folded_weight = scale[:, None, None, None] * weight
    folded_bias = scale * centre + beta
    return folded_weight.astype(weight.dtype), folded_bias.astype(weight.dtype)


def prepare_conv2d(
    weight: Array,
    bias: Array | None = None,
    w1: Array | None = None,
    b1: Array | None = None,
    w2: Array | None = None,
    b2: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    squeeze: str = "avg",
    gate: str = "sigmoid",
    relu: bool = False,
) -> Any:
    """Prepare a convolution, with an optional SE block and ReLU, for run_conv2d.

    Parameters
    ----------
    weight, bias : ndarray of shape (K, C / groups, KH, KW), (K,)
        Filters, and the term added to each filter's results; the bias may be None.
    w1, b1, w2, b2 : ndarray of shape (R, K), (R,), (K, R), (K,)
        Of the SE block after the convolution; all are None without it. A bias may be None.
    stride, padding, dilation : (int, int)
        Rows and columns, as in conv2d.
    groups : int
        As in conv2d.
    squeeze, gate : str
        As in squeeze_excite.
    relu : bool
        Apply a ReLU last.

    Returns
    -------
    prepared
        For run_conv2d of the same back end. It holds copies.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree, or a setting is wrong.
    """
    settings = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    se_settings = dict(squeeze=squeeze, gate=gate)
    arrays = weight, bias, w1, b1, w2, b2
    _check_conv2d(arrays, settings, se_settings, relu)
    own_bias, *gates = [None if a is None else a.copy() for a in arrays[1:]]
    with_gates = None if w1 is None else tuple(gates)
    return PreparedConv2d(weight.copy(), own_bias, with_gates, settings, se_settings, bool(relu))


def _check_conv2d(arrays: Sequence[Any], settings: Any, se_settings: Any, relu: bool) -> None:
    op = "prepare_conv2d"
    check_arrays(op, CONV2D, *arrays)
    weight, _, w1, b1, w2, b2 = arrays
    present = [a is not None for a in (w1, b1, w2, b2)]
    if present[0] != present[2] or (any(present) and not present[0]):
        raise ValueError(f"{op}: some of w1, b1, w2, b2 are None, expected w1 and w2, or no array")
    for name, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
        check_pair(op, name, settings[name], least)
    check_integer(op, "groups", settings["groups"], 1)
    check_divisor(op, "groups", settings["groups"], "K", len(weight))
    check_choice(op, "squeeze", se_settings["squeeze"], SQUEEZES)
    check_choice(op, "gate", se_settings["gate"], GATES)
    check_flag(op, "relu", relu)


def run_conv2d(prepared: Any, x: Array, shortcut: Array | None = None) -> Array:
    """Return relu(squeeze_excite(conv2d(x)) + shortcut), without the steps that were not prepared.

    Parameters
    ----------
    prepared
        From prepare_conv2d.
    x : ndarray of shape (N, C, H, W)
        Images, or feature maps.
    shortcut : ndarray of shape (N, K, OH, OW), optional
        Added before the ReLU.

    Returns
    -------
    out : ndarray of shape (N, K, OH, OW)
        A new array, in the dtype of x.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree.
    """
    check_images(prepared, x)
    y, _ = conv2d_forward(x, prepared.weight, prepared.bias, **prepared.settings)
    gated = _gated(y, prepared)
    total = _sum(gated, shortcut)
    return np.where(total <= 0, 0, total) if prepared.relu else total


def _gated(y: Array, prepared: PreparedConv2d) -> Array:
    if prepared.gates is None:
        return y
    return squeeze_excite_forward(y, *prepared.gates, **prepared.se_settings)[0]


def _sum(y: Array, shortcut: Array | None) -> Array:
    if shortcut is None:
        return y
    check_arrays("run_conv2d", OUT, y, shortcut)
    return y + shortcut


def check_images(prepared: PreparedConv2d, x: Array) -> None:
    """Check that x fits a prepared convolution."""
    groups, dilation = prepared.settings["groups"], prepared.settings["dilation"]
    check_arrays("run_conv2d", SHAPES["conv2d"], x, prepared.weight, prepared.bias, groups=groups)
    rows, columns = (
        d * (size - 1) + 1 for d, size in zip(dilation, prepared.weight.shape[2:], strict=True)
    )
    check_window("run_conv2d", x.shape[2:], prepared.settings["padding"], (rows, columns))


def prepare_batch_norm2d(
    gamma: Array,
    beta: Array,
    *,
    running_mean: Array,
    running_var: Array,
    eps: float = 1e-5,
    relu: bool = False,
) -> Any:
    """Prepare a batch normalisation in evaluation for run_batch_norm2d.

    Parameters
    ----------
    gamma, beta, running_mean, running_var : ndarray of shape (C,)
        As in batch_norm2d.
    eps : float
        Added to the variance, above 0.
    relu : bool
        Apply a ReLU last.

    Returns
    -------
    prepared
        For run_batch_norm2d of the same back end. It holds copies.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree, or a setting is wrong.
    """
    op = "prepare_batch_norm2d"
    check_arrays(op, BATCH_NORM2D, gamma, beta, running_mean, running_var)
    check_flag(op, "relu", relu)
    eps = check_number(op, "eps", eps, EPS, 1e-300, 1)
    state = dict(running_mean=running_mean.copy(), running_var=running_var.copy())
    settings = dict(training=False, eps=eps, **state)
    return PreparedBatchNorm2d((gamma.copy(), beta.copy()), settings, bool(relu))


def run_batch_norm2d(prepared: Any, x: Array) -> Array:
    """Return batch_norm2d(x), or the ReLU of it if prepared with relu=True.

    Parameters
    ----------
    prepared
        From prepare_batch_norm2d.
    x : ndarray of shape (N, C, H, W)
        Feature maps.

    Returns
    -------
    out : ndarray of shape (N, C, H, W)
        A new array, in the dtype of x.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree.
    """
    check_arrays("run_batch_norm2d", IMAGES, x, prepared.arrays[0])
    y, _ = batch_norm2d_forward(x, *prepared.arrays, **prepared.settings)
    return np.where(y <= 0, 0, y) if prepared.relu else y
