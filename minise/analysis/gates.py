"""What the gates of a trained net do: their values by block, and how far they follow the class.

For a block, s has one gate for each image and channel, (N, C). The class of an image explains a
share of the variance of a channel's gates::

    eta^2 = sum over classes k of n_k (mean of s in class k - mean of s)^2
            / sum over images of (s - mean of s)^2

A finite sample has eta^2 > 0 even if the gates ignore the class. So `null_shares` computes the same
number with permuted labels, many times: what lies above these values is not chance.

Source: the question is that of Hu et al., "Squeeze-and-Excitation Networks", arXiv:1709.01507,
section 7.2, who compare the mean gates of four classes by eye.
"""

import copy
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array, check_integer
from minise.nn import Layer
from minise.ops.wrap import FORWARD, Call, Wrapper, attach

OPEN, CLOSED = 0.95, 0.05  # a gate beyond is saturated: its slope s (1 - s) is below 0.05


class BlockGates(NamedTuple):
    """The gates of an SE block, and its hidden units."""

    s: Array  # (N, C)
    h: Array  # (N, R)


class _Collector(Wrapper):
    """Keeps gates and hidden units of every call with gates, by layer."""

    def __init__(self, ops: Any) -> None:
        super().__init__(ops)
        self.blocks: dict[str, list[BlockGates]] = {}

    def observe(self, call: Call) -> None:
        """Keep the gates of a forward call."""
        gates = getattr(call.cache, "gates", None)
        if gates is None or call.direction != FORWARD:
            return
        s, h = (self.ops.asnumpy(array) for array in (gates.s, gates.h))
        if s.shape[2:] != (1, 1):
            raise ValueError(
                f"gates_of: the gates of {call.layer} have shape {s.shape}, expected one gate per "
                'image and channel: use a net with squeeze "avg" or "max"'
            )
        self.blocks.setdefault(call.layer, []).append(BlockGates(s[:, :, 0, 0], h[:, :, 0, 0]))


def gates_of(net: Layer, images: Array, batch_size: int = 250) -> dict[str, BlockGates]:
    """Return the gates of every SE block of a net, by the block's name, in evaluation mode.

    Parameters
    ----------
    net : Layer
        A net, which is not changed.
    images : ndarray of shape (N, 3, H, W)
        Normalised images, in the dtype of the net.
    batch_size : int
        Images of a forward pass.

    Raises
    ------
    ValueError
        If the net has no SE block, or gates per pixel (squeeze="none").
    """
    check_integer("gates_of", "batch_size", batch_size, 1)
    twin = copy.deepcopy(net)
    collector = _Collector(net.ops)
    attach(twin, collector)
    for start in range(0, len(images), batch_size):
        twin.forward(net.ops.asarray(images[start : start + batch_size]), training=False)
    if not collector.blocks:
        raise ValueError("gates_of: net has no SE block, expected one: build it with se=SE()")
    return {
        layer: BlockGates(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
        for layer, parts in collector.blocks.items()
    }


def class_means(s: Array, labels: Array) -> Array:
    """Return the mean gates of each class, (classes, C), for labels 0..classes-1."""
    members = labels == np.arange(labels.max() + 1)[:, None]
    means: Array = members.astype(float) @ s / members.sum(axis=1, keepdims=True)
    return means


def class_share(s: Array, labels: Array) -> Array:
    """Return eta^2 of every channel, (C,): the share of the gates' variance between classes.

    Parameters
    ----------
    s : ndarray of shape (N, C)
        Gates.
    labels : ndarray of shape (N,)
        Classes 0..classes-1, each with at least one image.

    Examples
    --------
    >>> s = np.array([[0.2, 0.4], [0.2, 0.6], [0.8, 0.4], [0.8, 0.6]])
    >>> class_share(s, np.array([0, 0, 1, 1])).round(6).tolist()
    [1.0, 0.0]
    """
    centred = s - s.mean(axis=0, dtype=float)
    return _shares(centred, (centred**2).sum(axis=0), labels)


def _shares(centred: Array, total: Array, labels: Array) -> Array:
    between = np.bincount(labels) @ class_means(centred, labels) ** 2
    share: Array = np.divide(between, total, out=np.zeros_like(between), where=total > 0)
    return share


def null_shares(
    s: Array, labels: Array, rng: np.random.Generator, permutations: int = 200
) -> Array:
    """Return the median eta^2 over channels for each of many permutations of the labels."""
    centred = s - s.mean(axis=0, dtype=float)
    total = (centred**2).sum(axis=0)
    shares = (_shares(centred, total, rng.permutation(labels)) for _ in range(permutations))
    return np.array([np.median(share) for share in shares])
