"""Build Inception modules from tables of their branches.

    BRANCHES = (
        [(64, 1)],
        [(96, 1), (128, 3, 2)],
        [AVERAGE, (32, 1)],
    )

A module has several branches with the same input and concatenates their outputs. Each line is a
branch, a sequence of parts; a part is one of

    (channels, kernel, stride, padding)   convolution, normalisation, ReLU; by default stride is 1
                                          and padding keeps the size at stride 1
    AVERAGE                               a function of `ops` that returns a pool

Numbers of channels are the paper's; `build.width` multiplies them.

Source: Szegedy et al., "Going deeper with convolutions", arXiv:1409.4842.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minise import nn

Part = tuple[Any, ...] | Callable[..., nn.Layer]
Branches = Sequence[Sequence[Part]]


def sequence(channels: int, parts: Iterable[Part], build: nn.Build) -> tuple[list[nn.Layer], int]:
    """Return the layers of a sequence of parts, and the number of output channels.

    Parameters
    ----------
    channels : int
        Channels of the input.
    parts : iterable
        Convolutions and pools.
    build : Build
        Settings of all layers.
    """
    layers: list[nn.Layer] = []
    for part in parts:
        if callable(part):
            layers.append(part(ops=build.ops))
        else:
            outputs, padding = build.scale(part[0]), part[3] if len(part) == 4 else None
            layers.append(build.conv_norm(channels, outputs, *part[1:3], padding=padding))
            channels = outputs
    return layers, channels


def inception_branches(
    channels: int, branches: Branches, build: nn.Build, *, first: int
) -> tuple[nn.Branches, int]:
    """Return a module for inputs (N, channels, H, W), and its number of output channels.

    Branches are named by index, from f"branch{first}" on; a branch without parts is left out, but
    its index counts. A branch with several parts is a Chain, one with a single part is this layer.
    """
    named, outputs = [], 0
    for k, parts in enumerate(branches, first):
        layers, own = sequence(channels, parts, build)
        if layers:
            named.append((f"branch{k}", layers[0] if len(layers) == 1 else build.chain(*layers)))
            outputs += own
    return nn.Branches(*named, ops=build.ops), outputs
