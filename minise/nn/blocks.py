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
from typing import Literal, get_args

from minise.checks import check_choice, check_integer
from minise.nn.build import Build
from minise.nn.compose import Chain, Child
from minise.nn.layer import Layer
from minise.nn.layers import PadChannels
from minise.nn.pooling import AvgPool2d
from minise.nn.residual import Residual, Tail, norm_tail

StrideIn = Literal["3x3", "1x1"]
EXPANSION = 4  # output channels of a bottleneck / its inner channels
Unit = Callable[[int, int, int, "Build"], Layer]  # channels_in, channels, stride, build


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
    width_in: int | None = None,
    shortcut: str = "B",
    projection: int = 1,
    stride_in: StrideIn = "3x3",
) -> Chain:
    """Return a unit to (N, 4 * channels, H / stride, W / stride).

    The first 1x1 convolution has `width_in` output channels, by default `width`; the 3x3 has
    `width`, by default `channels`, in `groups` groups. The 3x3 has the stride, or with
    stride_in="1x1" the first 1x1, as in He et al.'s nets ("v1"; the other is known as "v1.5").
    `projection` is the kernel of shortcut B's convolution where the stride is above 1.
    """
    channels_in, channels = _sizes("bottleneck", channels_in, channels)
    check_choice("bottleneck", "stride_in", stride_in, get_args(StrideIn))
    first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
    inner = channels if width is None else check_integer("bottleneck", "width", width, 1)
    reduced = inner if width_in is None else check_integer("bottleneck", "width_in", width_in, 1)
    outer = EXPANSION * channels
    branch = build.chain(
        ("se", build.se_at("pre", channels_in)),
        ("conv1", build.conv(channels_in, reduced, 1, first)),
        ("bn1", build.norm_relu(reduced)),
        ("conv2", build.conv(reduced, inner, 3, second, groups)),
        ("bn2", build.norm_relu(inner)),
        ("se", build.se_at("3x3", inner)),
        ("conv3", build.conv(inner, outer, 1)),
    )
    return _unit(branch, "bn3", channels_in, outer, stride, build, shortcut, projection)


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

    The first unit of each stage but the first has stride 2. For `se.stages`, layer1 is stage 2, as
    in the papers, where stage 1 is the stem.
    """
    named = []
    for k, (count, width) in enumerate(zip(counts, widths, strict=True)):
        units, at_stage = [], build.at_stage(k + 2)
        for i in range(count):
            units.append(unit(channels_in, width, 2 if k and not i else 1, at_stage))
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
    projection: int = 1,
) -> Chain:
    """Return the residual unit for a branch that ends in a convolution without normalisation."""
    tail = norm_tail(norm, build.norm(channels), build.se_at("standard", channels))
    downsample = _downsample(channels_in, channels, stride, build, shortcut, projection)
    skip = build.chain(("downsample", downsample), ("se", build.se_at("identity", channels)))
    return build.chain(("", Residual(branch, skip, tail)), ("se", build.se_at("post", channels)))


def _downsample(
    channels_in: int, channels: int, stride: int, build: Build, shortcut: str, projection: int
) -> Chain | None:
    """Return the shortcut of a unit that changes the shape, option A or B of He et al., else None.

    A takes every stride-th pixel (average pooling with a 1x1 window) and appends channels of zeros;
    B is a normalised convolution: 1x1, or with the kernel `projection` if the stride is above 1.
    """
    check_choice("residual unit", "shortcut", shortcut, ("A", "B"))
    if stride == 1 and channels_in == channels:
        return None
    if shortcut == "B":
        kernel = 1 if stride == 1 else projection
        return build.chain(build.conv(channels_in, channels, kernel, stride), build.norm(channels))
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
