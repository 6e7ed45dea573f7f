"""minise's nets and blocks in PyTorch, with the same parameters.

A PyTorch twin is built from the names and shapes of a net's parameters. Supported are ResNets with
normalised projections (option B) and pre-activation nets, with or without SE blocks; SE blocks at
the standard site, with average pooling and a sigmoid.
"""

from typing import Any

import torch
from torch import nn

from minise.nn import Chain, Conv2d, Layer, SEBlock

Shapes = dict[str, tuple[int, ...]]  # of parameters by name
RESNET = ["conv1", "bn1", "layer1", "layer2", "layer3", "avgpool", "fc"]
PREACT = ["conv1", "layer1", "layer2", "layer3", "bn1", "avgpool", "fc"]


def twin_of(net: Layer) -> nn.Module:
    """Return the PyTorch twin of a net, with a copy of its parameters and running statistics.

    Raises
    ------
    ValueError
        If the architecture of the net is not supported.
    """
    names = [name for name, _ in net.children()]
    if names not in (RESNET, PREACT):
        raise ValueError(
            f"twins: the layers of the net are {', '.join(names)}, expected a ResNet for small "
            "images: no twin of other nets is implemented"
        )
    se = [layer.se for _, layer in net.layers() if isinstance(layer, SEBlock)]
    if any((s.site, s.squeeze, s.gate) != ("standard", "avg", "sigmoid") for s in se):
        raise ValueError(
            "twins: the net has SE blocks with other settings, expected site='standard', "
            "squeeze='avg', gate='sigmoid': no twin of others is implemented"
        )
    arrays = {name: net.ops.asnumpy(array) for name, array in net.named_parameters().items()}
    state = {name: net.ops.asnumpy(array) for name, array in net.named_state().items()}
    twin: nn.Module = Twin({name: a.shape for name, a in arrays.items()}, names == RESNET)
    twin.to(getattr(torch, str(next(iter(arrays.values())).dtype)))
    expected = {name for name in twin.state_dict() if not name.endswith("num_batches_tracked")}
    if expected != arrays.keys() | state.keys():
        raise ValueError(
            "twins: the net has other shortcuts, expected projections (shortcut='B'): "
            "no twin of others is implemented"
        )
    copies = {name: torch.from_numpy(array.copy()) for name, array in (arrays | state).items()}
    twin.load_state_dict(copies, strict=False)
    return twin


def block_twin_of(block: Chain) -> nn.Sequential:
    """Return the PyTorch twin of a block of minise.bench.workloads, with its parameters."""
    layers: list[Any] = []
    for _, layer in block.children():
        weight = layer.params["weight"]
        if isinstance(layer, Conv2d):
            K, C, KH, _ = weight.shape
            padding: Any = layer.padding
            channels, groups = C * layer.groups, layer.groups
            layers.append(nn.Conv2d(channels, K, KH, padding=padding, groups=groups, bias=False))
        else:
            layers += [nn.BatchNorm2d(len(weight)), nn.ReLU()]
    arrays = [block.ops.asnumpy(array) for array in block.named_parameters().values()]
    twin = nn.Sequential(*layers).to(getattr(torch, str(arrays[0].dtype)))
    for parameter, array in zip(twin.parameters(), arrays, strict=True):
        parameter.data.copy_(torch.from_numpy(array))
    return twin


class Twin(nn.Module):
    """A ResNet: a convolution, three stages, global average pooling, a linear layer."""

    def __init__(self, shapes: Shapes, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first  # False in pre-activation nets: norm after the stages
        self.conv1 = _conv(shapes, "conv1")
        self.bn1 = nn.BatchNorm2d(*shapes["bn1.weight"])
        unit = PostActivationUnit if norm_first else PreActivationUnit
        for stage in ("layer1", "layer2", "layer3"):
            count = len({name.split(".")[1] for name in shapes if name.startswith(f"{stage}.")})
            units = [
                unit(
                    _strip_prefix(shapes, f"{stage}.{i}."), 2 if i == 0 and stage != "layer1" else 1
                )
                for i in range(count)
            ]
            setattr(self, stage, nn.Sequential(*units))
        classes, width = shapes["fc.weight"]
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Any) -> Any:
        """Return logits."""
        y = self.conv1(x)
        if self.norm_first:
            y = torch.relu(self.bn1(y))
        y = self.layer3(self.layer2(self.layer1(y)))
        if not self.norm_first:
            y = torch.relu(self.bn1(y))
        return self.fc(y.mean((2, 3)))


class PostActivationUnit(nn.Module):
    """A residual unit: two convolutions, each followed by norm; a ReLU after the addition."""

    def __init__(self, shapes: Shapes, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(shapes, "conv1", stride)
        self.bn1 = nn.BatchNorm2d(*shapes["bn1.weight"])
        self.conv2 = _conv(shapes, "conv2")
        self.bn2 = nn.BatchNorm2d(*shapes["bn2.weight"])
        self.se = _se(shapes)
        self.downsample = nn.Sequential()
        if "downsample.0.weight" in shapes:
            channels = shapes["bn2.weight"][0]
            self.downsample = nn.Sequential(
                _conv(shapes, "downsample.0", stride), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Any) -> Any:
        """Return the unit's output."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.se(self.bn2(self.conv2(y)))
        return torch.relu(y + self.downsample(x))


class PreActivationUnit(nn.Module):
    """A pre-activation unit: two or three convolutions, each preceded by norm and ReLU."""

    def __init__(self, shapes: Shapes, stride: int) -> None:
        super().__init__()
        self.count = 3 if "conv3.weight" in shapes else 2
        strided = self.count - 1  # the first 3x3 convolution; in a bottleneck, the second one
        for k in range(1, self.count + 1):
            setattr(self, f"bn{k}", nn.BatchNorm2d(*shapes[f"bn{k}.weight"]))
            setattr(self, f"conv{k}", _conv(shapes, f"conv{k}", stride if k == strided else 1))
        self.se = _se(shapes)
        self.projects = "downsample.0.weight" in shapes
        projection = [_conv(shapes, "downsample.0", stride)] if self.projects else []
        self.downsample = nn.Sequential(*projection)

    def forward(self, x: Any) -> Any:
        """Return the unit's output."""
        y = first = torch.relu(self.bn1(x))
        for k in range(1, self.count + 1):
            y = y if k == 1 else torch.relu(getattr(self, f"bn{k}")(y))
            y = getattr(self, f"conv{k}")(y)
        return self.se(y) + self.downsample(first if self.projects else x)


class SqueezeExcite(nn.Module):
    """An SE block: global average pooling, two linear layers, a sigmoid, a product."""

    def __init__(self, channels: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=bias),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x: Any) -> Any:
        """Return x with every channel scaled by its gate."""
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


def _se(shapes: Shapes) -> nn.Module:
    if "se.fc.0.weight" not in shapes:
        return nn.Identity()
    hidden, channels = shapes["se.fc.0.weight"]
    return SqueezeExcite(channels, hidden, "se.fc.0.bias" in shapes)


def _conv(shapes: Shapes, name: str, stride: int = 1) -> nn.Conv2d:
    K, C, KH, _ = shapes[f"{name}.weight"]
    return nn.Conv2d(C, K, KH, stride, KH // 2, bias=False)


def _strip_prefix(shapes: Shapes, prefix: str) -> Shapes:
    return {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }
