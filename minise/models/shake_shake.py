"""Shake-Shake nets for 32x32 images: residual units with two branches, mixed by random shares.

    stage 1    conv 3x3, 16 channels - norm
    stage 2    4 units of d channels, 32x32        d is 32, 64 or 96
    stage 3    4 units of 2 d channels, 16x16      the first unit has stride 2
    stage 4    4 units of 4 d channels,  8x8       the first unit has stride 2
               ReLU - global mean - linear

    unit      relu(x) - two branches - mix, sum with the shortcut; no ReLU follows the sum
    branch    conv 3x3, norm, ReLU, conv 3x3, norm, SE at site "standard"
    mix       alpha * branch1 + (1 - alpha) * branch2, SE at site "mix"

In training every image of a batch has its own random alpha, which backward replaces by another
random share beta (minise.nn.Shake): the two branches cannot rely on each other, and no gradient
tells a branch how large its share of the output was. In evaluation both shares are 1/2.

A unit that changes the number of channels has a shortcut of two 1x1 convolutions, each to half of
them, whose second reads the image moved by one pixel: with stride 2 they see different pixels.

Source: Gastaldi, "Shake-Shake regularization", arXiv:1705.07485, and the author's code. The SE
paper does not say where its SE blocks are; "standard" is as in the paper's other residual nets.
"""

from functools import partial
from typing import Any

import numpy as np

from minise.checks import Array
from minise.models.architecture import Architecture
from minise.nn import Branches, Build, Chain, GlobalAvgPool2d, Layer, ReLU, Residual, Shake, stages
from minise.nn.layer import Grads
from minise.nn.residual import Tail

UNITS, STEM = (4, 4, 4), 16  # depth 26 = 2 * (4 + 4 + 4) + 2


def shake_shake(channels: int, num_classes: int, build: Build) -> Chain:
    """Return a net of depth 26 from images (N, 3, H, W) to logits (N, num_classes).

    Parameters
    ----------
    channels : int
        Channels of the first stage, the paper's d.
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype, width and SE settings.
    """
    stem, *widths = build.scaled(STEM, channels, 2 * channels, 4 * channels)
    return build.chain(
        ("conv1", build.conv(3, stem, 3)),
        ("bn1", build.norm(stem)),
        *stages(shake_unit, UNITS, widths, stem, build),
        ("relu", ReLU(ops=build.ops)),
        ("avgpool", GlobalAvgPool2d(ops=build.ops)),
        ("fc", build.linear(widths[-1], num_classes)),
    )


def shake_unit(channels_in: int, channels: int, stride: int, build: Build) -> Chain:
    """Return a unit from (N, channels_in, H, W) to (N, channels, H / stride, W / stride)."""
    relu, tail = ("relu", ReLU(ops=build.ops)), Tail(relu=False, ops=build.ops)
    branches = ((f"branch{k}", _branch(channels_in, channels, stride, build)) for k in (1, 2))
    shaken = Branches(*branches, merge=Shake(ops=build.ops, rng=build.rng))
    mixed = build.chain(("", shaken), ("se", build.se_at("mix", channels)))
    if channels_in == channels:  # then the stride is 1
        return build.chain(("", Residual(build.chain(relu, ("", mixed)), tail=tail)))
    skip = build.chain(("downsample", _downsample(channels_in, channels, stride, build)))
    return build.chain(relu, ("", Residual(mixed, skip, tail)))  # all paths start with the ReLU


def _branch(channels_in: int, channels: int, stride: int, build: Build) -> Chain:
    return build.chain(
        ("conv1", build.conv(channels_in, channels, 3, stride)),
        ("bn1", build.norm_relu(channels)),
        ("conv2", build.conv(channels, channels, 3)),
        ("bn2", build.norm(channels)),
        ("se", build.se_at("standard", channels)),
    )


def _downsample(channels_in: int, channels: int, stride: int, build: Build) -> Chain:
    """Return the shortcut; its average pooling with a 1x1 window is the convolutions' stride."""
    half = channels // 2
    straight = build.chain(("conv1", build.conv(channels_in, half, 1, stride)))
    conv2 = build.conv(channels_in, channels - half, 1, stride)
    return build.chain(
        ("", Branches(("", straight), ("", build.chain(Shift(build.ops), ("conv2", conv2))))),
        ("bn", build.norm(channels)),
    )


class Shift(Layer):
    """Images (N, C, H, W) moved down and to the right by one pixel, with zeros at the top and left.

    out[i, j] = x[i - 1, j - 1], so that a 1x1 convolution with stride s reads the rows s * i - 1 of
    x for all i below ceil(H / s): as many rows as without the shift, for even and for odd H. With
    s = 2 these are row -1, of zeros, and rows 1, 3, …; without the shift they are 0, 2, 4, …. Of an
    even H, row H - 1 is not read. A 1x1 convolution with padding 1 would read the same rows and one
    more, at the bottom, because ops pad both sides alike; so this layer moves the image first.
    """

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Return the moved images."""
        out: Array = np.zeros_like(x)
        out[:, :, 1:, 1:] = x[:, :, :-1, :-1]
        return out, None

    def backward(self, dout: Array, cache: Any) -> tuple[Array, Grads]:  # type: ignore[override]
        """Return dx: every pixel's gradient is at the place where forward moved the pixel."""
        dx: Array = np.zeros_like(dout)
        dx[:, :, :-1, :-1] = dout[:, :, 1:, 1:]
        return dx, {}


NETS = {
    f"shake_shake26_2x{d}d": Architecture(
        partial(shake_shake, d), f"Shake-Shake 26 2x{d}d", 32, 10, ("standard", "mix"), (2, 3, 4)
    )
    for d in (32, 64, 96)
}
