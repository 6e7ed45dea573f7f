"""Residual units: a branch of convolutions, a shortcut past it, and at most one SE block.

Each unit spells its forward out, and below it its backward: the same lines, last one first. The
SE block may stand at any of the paper's five sites (nn/squeeze_excite.py); `_gate` applies it
where the site is right and does nothing elsewhere, so that the plain net is the same code. A
normalisation and the ReLU behind it are one op, and so is a unit's end (`_tail`).

Source: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385. Units with
pre-activation stand in nn/preactivation.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from minise.nn.inference import convolution, identity
from minise.nn.layer import Inference, Layer
from minise.nn.layers import BatchNorm2d, Conv2d, Sequential
from minise.nn.squeeze_excite import SE, SEBlock
from minise.nn.streams import Rng, generator
from minise.ops import reference
from minise.ops.checks import Array


@dataclass(frozen=True)
class Build:
    """What every layer of a net is built with: back end, random numbers, dtype, SE settings.

    `rng` is a numpy.random.Generator, an integer seed, or None for a stream that no other layer
    has. SE blocks draw from a stream of their own, se_rng or a child of rng, so that a net and its
    SE twin share all else.
    """

    ops: Any = reference
    rng: Rng = None
    dtype: Any = np.float32
    se: SE | None = None
    se_rng: Rng = None

    def __post_init__(self) -> None:
        """Make generators of seeds and None, once: layers that share a seed would be equal."""
        rng = generator("Build", self.rng)
        se_rng = rng.spawn(1)[0] if self.se_rng is None else generator("Build", self.se_rng)
        object.__setattr__(self, "rng", rng)
        object.__setattr__(self, "se_rng", se_rng)

    def conv(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> Conv2d:
        """Return a convolution without bias, padded so that stride 1 keeps the size."""
        return Conv2d(
            channels_in,
            channels_out,
            kernel,
            stride=stride,
            padding=kernel // 2,
            ops=self.ops,
            rng=self.rng,
            dtype=self.dtype,
        )

    def norm(self, channels: int) -> BatchNorm2d:
        """Return a batch normalisation."""
        return BatchNorm2d(channels, ops=self.ops, dtype=self.dtype)


class PaddedShortcut(Layer):
    """Option A of He et al.: every stride-th pixel, and zeros for the channels that are missing."""

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, *, ops: Any = reference
    ) -> None:
        super().__init__(ops)
        self.stride = (stride, stride)
        self.missing = channels_out - channels_in
        if self.missing < 1:
            raise ValueError(
                f"PaddedShortcut: channels_out is {channels_out}, expected above channels_in = "
                f"{channels_in}: where they are equal, nothing is to be padded"
            )

    def forward(self, x: Array, training: bool) -> Array:
        """Return (N, channels_out, ceil(H / stride), ceil(W / stride))."""
        # a mean over windows of one pixel is that pixel
        pixels, pool_cache = self.ops.avg_pool2d_forward(x, kernel=(1, 1), stride=self.stride)
        N, _, OH, OW = pixels.shape
        zeros = self.ops.asarray(np.zeros((N, self.missing, OH, OW)), pixels.dtype)
        out, concat_cache = self.ops.concat_forward(pixels, zeros)
        self._remember((pool_cache, concat_cache))
        return out

    def backward(self, dout: Array) -> Array:
        """Return dx."""
        pool_cache, concat_cache = self._recall()
        dpixels, _ = self.ops.concat_backward(dout, concat_cache)
        (dx,) = self.ops.avg_pool2d_backward(dpixels, pool_cache)
        return dx


class ResidualUnit(Layer):
    """What residual units share: the SE block at its site, their end, the sum of two gradients."""

    def __init__(self, build: Build) -> None:
        super().__init__(build.ops)
        self.site = None if build.se is None else build.se.site

    def _add_se(self, build: Build, before: int, inside: int, after: int) -> None:
        """Add the SE block, for the channels before, inside or after the branch by its site."""
        if build.se is not None:
            channels = {"pre": before, "3x3": inside}.get(build.se.site, after)
            self.se = SEBlock(
                channels, build.se, ops=build.ops, rng=build.se_rng, dtype=build.dtype
            )

    def _gate(self, site: str, x: Array, training: bool) -> Array:
        return self.se.forward(x, training) if site == self.site else x

    def _gate_backward(self, site: str, dout: Array) -> Array:
        return self.se.backward(dout) if site == self.site else dout

    def _tail(self, norm: BatchNorm2d, x: Array, shortcut: Array, training: bool) -> Array:
        """Return max(norm(x) + shortcut, 0), with the SE block before the sum where it stands."""
        if self.site != "standard":
            return norm.forward_add_relu(x, shortcut, training)
        if self.se.settings.squeeze == "avg":
            return self.se.forward_tail(norm, x, shortcut, training)
        y = norm.forward(x, training)
        y = self.se.forward(y, training)
        y, add_cache = self.ops.add_forward(y, shortcut)
        y, relu_cache = self.ops.relu_forward(y)
        self._remember((add_cache, relu_cache))
        return y

    def _tail_backward(self, norm: BatchNorm2d, dout: Array) -> tuple[Array, Array]:
        """Return dx and dshortcut."""
        if self.site != "standard":
            return norm.backward_add_relu(dout)
        if self.se.settings.squeeze == "avg":
            return self.se.backward_tail(norm, dout)
        add_cache, relu_cache = self._recall()
        (dy,) = self.ops.relu_backward(dout, relu_cache)
        dy, dshortcut = self.ops.add_backward(dy, add_cache)
        dy = self.se.backward(dy)
        return norm.backward(dy), dshortcut

    def _gated(self, site: str) -> Inference:
        """Return the SE block's inference where it stands at a site, else the identity."""
        return self.se.inference() if site == self.site else identity

    def _end(self, conv: Layer, norm: Layer | None, *, relu: bool) -> Inference:
        """Return conv, norm, the SE block where it stands before the sum, the sum, and ReLU."""
        se = self.se if self.site == "standard" else None
        return convolution(conv, norm, se, relu=relu)

    def _both_ways(self, conv: Conv2d, dout: Array, dshortcut: Array) -> Array:
        """Return dx: what comes through the branch, whose first convolution this is, and past it.

        Only the SE block before the branch stands between that convolution and the sum.
        """
        if self.site == "pre":
            return self._sum(self.se.backward(conv.backward(dout)), dshortcut)
        return conv.backward(dout, plus=dshortcut)

    def _sum(self, a: Array, b: Array) -> Array:
        return self.ops.add_forward(a, b)[0]


class BasicBlock(ResidualUnit):
    """Two 3x3 convolutions, each normalised; the sum with the shortcut goes through a ReLU."""

    def __init__(
        self, channels_in: int, channels: int, stride: int, shortcut: str, build: Build
    ) -> None:
        super().__init__(build)
        self.conv1 = build.conv(channels_in, channels, 3, stride)
        self.bn1 = build.norm(channels)
        self.conv2 = build.conv(channels, channels, 3)
        self.bn2 = build.norm(channels)
        self._add_se(build, channels_in, channels, channels)
        self.downsample = _shortcut(channels_in, channels, stride, shortcut, build)

    def forward(self, x: Array, training: bool) -> Array:
        """Return (N, channels, ceil(H / stride), ceil(W / stride))."""
        shortcut = self.downsample.forward(x, training)
        shortcut = self._gate("identity", shortcut, training)
        y = self._gate("pre", x, training)
        y = self.conv1.forward(y, training)
        y = self.bn1.forward_relu(y, training)
        y = self._gate("3x3", y, training)
        y = self.conv2.forward(y, training)
        y = self._tail(self.bn2, y, shortcut, training)
        return self._gate("post", y, training)

    def backward(self, dout: Array) -> Array:
        """Return dx: what comes through the branch and through the shortcut, added."""
        dy = self._gate_backward("post", dout)
        dy, dshortcut = self._tail_backward(self.bn2, dy)
        dy = self.conv2.backward(dy)
        dy = self._gate_backward("3x3", dy)
        dy = self.bn1.backward_relu(dy)
        dshortcut = self._gate_backward("identity", dshortcut)
        dshortcut = self.downsample.backward(dshortcut)
        return self._both_ways(self.conv1, dy, dshortcut)

    def folded(self) -> Inference:
        """Return forward's lines; each convolution has the normalisation behind it in itself."""
        downsample, identity_gate = self.downsample.inference(), self._gated("identity")
        before, inside, after = (self._gated(site) for site in ("pre", "3x3", "post"))
        conv1 = convolution(self.conv1, self.bn1, relu=True)
        conv2 = self._end(self.conv2, self.bn2, relu=True)

        def run(x: Array) -> Array:
            shortcut = identity_gate(downsample(x))
            y = inside(conv1(before(x)))
            return after(conv2(y, shortcut))

        return run


def _shortcut(channels_in: int, channels: int, stride: int, shortcut: str, build: Build) -> Layer:
    """Return the identity, or where the shape changes option A or B (a normalised projection)."""
    if stride == 1 and channels_in == channels:
        return Sequential(ops=build.ops)
    if shortcut == "A":
        return PaddedShortcut(channels_in, channels, stride, ops=build.ops)
    projection = build.conv(channels_in, channels, 1, stride)
    return Sequential(projection, build.norm(channels), ops=build.ops)
