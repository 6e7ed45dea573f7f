"""Residual units of the papers, built from composites, with an optional SE block at any site.

    basic_block          conv 3x3, norm, ReLU, conv 3x3, norm; sum with the shortcut, ReLU
    bottleneck           1x1, norm, ReLU, 3x3, norm, ReLU, 1x1 to four times the channels, norm; …
    preact_block         norm, ReLU, 3x3, norm, ReLU, 3x3; sum with the shortcut
    preact_bottleneck    norm, ReLU, 1x1, norm, ReLU, 3x3, norm, ReLU, 1x1; sum with the shortcut

Plain and SE units share one declaration: `Build.se_at` returns an SE block at the chosen site and
None elsewhere, and composites skip None. After a convolution, units use a fused op where there is
one.

Sources: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385; the same,
"Identity Mappings in Deep Residual Networks", arXiv:1603.05027, for pre-activation; Hu et al.,
"Squeeze-and-Excitation Networks", arXiv:1709.01507, section 6, for the sites.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minise.checks import check_choice, check_integer
from minise.nn.compose import Chain, Child
from minise.nn.layer import Layer
from minise.nn.layers import AvgPool2d, BatchNorm2d, Conv2d, Linear, NormReLU, PadChannels
from minise.nn.residual import NormAddReLU, Residual, Tail
from minise.nn.squeeze_excite import SE, SEBlock
from minise.nn.streams import Rng, generator
from minise.ops import reference
from minise.ops.backend import Backend

EXPANSION = 4  # output channels of a bottleneck / its inner channels
Unit = Callable[[int, int, int, "Build"], Layer]  # channels_in, channels, stride, build


@dataclass(frozen=True)
class Build:
    """Settings shared by all layers of a net: back end, random generators, dtype, SE settings.

    `rng` is a numpy.random.Generator, an integer seed, or None for a stream that no other layer
    uses. SE blocks draw from a separate stream, se_rng or one spawned from rng, so that a net and
    its SE twin have equal weights in all other layers.
    """

    ops: Backend = reference
    rng: Rng = None
    dtype: Any = np.float32
    se: SE | None = None
    se_rng: Rng = None

    def __post_init__(self) -> None:
        """Replace seeds and None by generators, once: layers built from one seed would be equal."""
        if self.se is not None and not isinstance(self.se, SE):
            raise TypeError(f"Build: se is {self.se!r}, expected SE(reduction=…) or None")
        rng = generator("Build", self.rng)
        se_rng = rng.spawn(1)[0] if self.se_rng is None else generator("Build", self.se_rng)
        object.__setattr__(self, "rng", rng)
        object.__setattr__(self, "se_rng", se_rng)

    def conv(
        self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> Conv2d:
        """Return a convolution without bias, padded so that stride 1 keeps the size."""
        shape: dict[str, Any] = {"stride": stride, "padding": kernel // 2, "groups": groups}
        return Conv2d(channels_in, channels, kernel, **shape, rng=self.rng, **self._options())

    def norm(self, channels: int) -> BatchNorm2d:
        """Return a batch normalisation."""
        return BatchNorm2d(channels, **self._options())

    def norm_relu(self, channels: int) -> NormReLU:
        """Return a batch normalisation fused with a ReLU."""
        return NormReLU(channels, **self._options())

    def linear(self, inputs: int, outputs: int) -> Linear:
        """Return a dense layer with a bias."""
        return Linear(inputs, outputs, rng=self.rng, **self._options())

    def se_at(self, site: str, channels: int) -> SEBlock | None:
        """Return an SE block if `site` is the chosen site, else None."""
        if self.se is None or self.se.site != site:
            return None
        return SEBlock(channels, self.se, rng=self.se_rng, **self._options())

    def _options(self) -> dict[str, Any]:
        return {"ops": self.ops, "dtype": self.dtype}

    def chain(self, *children: Child) -> Chain:
        """Return a chain of layers; without layers, the identity."""
        return Chain(*children, ops=self.ops)


def basic_block(
    channels_in: int, channels: int, stride: int, build: Build, *, shortcut: str = "B"
) -> Chain:
    """Return a unit from (N, channels_in, H, W) to (N, channels, H / stride, W / stride)."""
    channels_in, channels = _sizes("basic_block", channels_in, channels)
    branch = build.chain(
        ("se", build.se_at("pre", channels_in)),
        ("conv1", build.conv(channels_in, channels, 3, stride)),
        ("bn1", build.norm_relu(channels)),
        ("se", build.se_at("3x3", channels)),
        ("conv2", build.conv(channels, channels, 3)),
    )
    return _unit(branch, "bn2", channels_in, channels, stride, build, shortcut)


def bottleneck(
    channels_in: int,
    channels: int,
    stride: int,
    build: Build,
    *,
    groups: int = 1,
    width: int | None = None,
    shortcut: str = "B",
) -> Chain:
    """Return a unit to (N, 4 * channels, H / stride, W / stride); conv 3x3 has the stride.

    The inner convolutions have `width` channels, by default `channels`; the 3x3 convolution has
    `groups` groups.
    """
    channels_in, channels = _sizes("bottleneck", channels_in, channels)
    inner = channels if width is None else check_integer("bottleneck", "width", width, 1)
    outer = EXPANSION * channels
    branch = build.chain(
        ("se", build.se_at("pre", channels_in)),
        ("conv1", build.conv(channels_in, inner, 1)),
        ("bn1", build.norm_relu(inner)),
        ("conv2", build.conv(inner, inner, 3, stride, groups=groups)),
        ("bn2", build.norm_relu(inner)),
        ("se", build.se_at("3x3", inner)),
        ("conv3", build.conv(inner, outer, 1)),
    )
    return _unit(branch, "bn3", channels_in, outer, stride, build, shortcut)


def preact_block(channels_in: int, channels: int, stride: int, build: Build) -> Chain:
    """Return a pre-activation unit to (N, channels, H / stride, W / stride)."""
    channels_in, channels = _sizes("preact_block", channels_in, channels)
    inner = (
        ("se", build.se_at("pre", channels_in)),
        ("conv1", build.conv(channels_in, channels, 3, stride)),
        ("bn2", build.norm_relu(channels)),
        ("se", build.se_at("3x3", channels)),
        ("conv2", build.conv(channels, channels, 3)),
    )
    return _preact_unit(inner, channels_in, channels, stride, build)


def preact_bottleneck(channels_in: int, channels: int, stride: int, build: Build) -> Chain:
    """Return a pre-activation unit to (N, 4 * channels, H / stride, W / stride)."""
    channels_in, channels = _sizes("preact_bottleneck", channels_in, channels)
    outer = EXPANSION * channels
    inner = (
        ("se", build.se_at("pre", channels_in)),
        ("conv1", build.conv(channels_in, channels, 1)),
        ("bn2", build.norm_relu(channels)),
        ("conv2", build.conv(channels, channels, 3, stride)),
        ("bn3", build.norm_relu(channels)),
        ("se", build.se_at("3x3", channels)),
        ("conv3", build.conv(channels, outer, 1)),
    )
    return _preact_unit(inner, channels_in, outer, stride, build)


def _sizes(where: str, channels_in: int, channels: int) -> tuple[int, int]:
    """Return both as Python's integers, which do not overflow."""
    channels_in = check_integer(where, "channels_in", channels_in, 1)
    return channels_in, check_integer(where, "channels", channels, 1)


def stages(
    unit: Unit,
    counts: Sequence[int],
    widths: Sequence[int],
    channels_in: int,
    build: Build,
    *,
    expansion: int = 1,
) -> list[tuple[str, Chain]]:
    """Return pairs (name, chain) for layer1, layer2, …: counts[k] units of widths[k] channels each.

    The first unit of each stage but the first has stride 2.
    """
    named = []
    for k, (count, width) in enumerate(zip(counts, widths, strict=True)):
        units = []
        for i in range(count):
            units.append(unit(channels_in, width, 2 if k and not i else 1, build))
            channels_in = expansion * width
        named.append((f"layer{k + 1}", build.chain(*units)))
    return named


def _unit(
    branch: Chain,
    norm: str,
    channels_in: int,
    channels: int,
    stride: int,
    build: Build,
    shortcut: str,
) -> Chain:
    """Return the residual unit for a branch that ends in a convolution without normalisation."""
    gate = build.se_at("standard", channels)
    if gate is None or gate.squeeze == "avg":
        tail: Tail = NormAddReLU(norm, build.norm(channels), gate)
    else:
        tail = Tail((norm, build.norm(channels)), ("se", gate))
    skip = build.chain(
        ("downsample", _downsample(channels_in, channels, stride, build, shortcut)),
        ("se", build.se_at("identity", channels)),
    )
    return build.chain(("", Residual(branch, skip, tail)), ("se", build.se_at("post", channels)))


def _downsample(
    channels_in: int, channels: int, stride: int, build: Build, shortcut: str
) -> Chain | None:
    """Return the shortcut of a unit that changes the shape, option A or B of He et al., else None.

    A takes every stride-th pixel (average pooling with a 1x1 window) and appends channels of zeros;
    B is a normalised 1x1 convolution.
    """
    check_choice("residual unit", "shortcut", shortcut, ("A", "B"))
    if stride == 1 and channels_in == channels:
        return None
    if shortcut == "B":
        return build.chain(build.conv(channels_in, channels, 1, stride), build.norm(channels))
    if channels < channels_in:
        raise ValueError(
            f"residual unit: channels is {channels}, expected at least channels_in = {channels_in} "
            "with shortcut 'A', which only adds channels: use shortcut 'B'"
        )
    more = channels - channels_in
    zeros = PadChannels(more, ops=build.ops) if more else None
    return build.chain(("", AvgPool2d(1, stride=stride, ops=build.ops)), ("", zeros))


def _preact_unit(
    inner: Sequence[Child], channels_in: int, channels: int, stride: int, build: Build
) -> Chain:
    """Return the unit; if it changes the shape, its shortcut is a convolution of relu(norm(x))."""
    projects = stride != 1 or channels_in != channels
    activated = ("bn1", build.norm_relu(channels_in))
    projection = build.chain(build.conv(channels_in, channels, 1, stride)) if projects else None
    skip = build.chain(("downsample", projection), ("se", build.se_at("identity", channels)))
    tail = Tail(("se", build.se_at("standard", channels)), relu=False, ops=build.ops)
    post = ("se", build.se_at("post", channels))
    if projects:
        return build.chain(activated, ("", Residual(build.chain(*inner), skip, tail)), post)
    return build.chain(("", Residual(build.chain(activated, *inner), skip, tail)), post)
