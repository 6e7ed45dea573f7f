"""minise's nets and blocks in PyTorch, with the same parameters.

The twin of a net is read off the shapes and names of its parameters; there are twins of ResNets
with normalised projections (option B) and of pre-activation nets, SE blocks at the standard site
with a sigmoid.
"""

from typing import Any

import torch
from torch import nn

from minise.nn import Chain, Conv2d, Layer, SEBlock

Shapes = dict[str, tuple[int, ...]]  # of parameters, by name
RESNET = ["conv1", "bn1", "layer1", "layer2", "layer3", "avgpool", "fc"]
PREACT = ["conv1", "layer1", "layer2", "layer3", "bn1", "avgpool", "fc"]


def twin_of(net: Layer) -> nn.Module:
    """Return the PyTorch twin of a net, with a copy of its parameters and running statistics.

    Raises
    ------
    ValueError
        If there is no twin of such a net.
    """
    names = [name for name, _ in net.children()]
    if names not in (RESNET, PREACT):
        raise ValueError("twins: this net has no twin here, expected a ResNet for small images")
    se = [layer.se for _, layer in net.layers() if isinstance(layer, SEBlock)]
    if any((s.site, s.squeeze, s.gate) != ("standard", "avg", "sigmoid") for s in se):
        raise ValueError("twins: an SE block of another site or kind has no twin here")
    arrays = {name: net.ops.asnumpy(array) for name, array in net.named_parameters().items()}
    state = {name: net.ops.asnumpy(array) for name, array in net.named_state().items()}
    twin: nn.Module = Twin({name: a.shape for name, a in arrays.items()}, names == RESNET)
    twin.to(getattr(torch, str(next(iter(arrays.values())).dtype)))
    wanted = {name for name in twin.state_dict() if not name.endswith("num_batches_tracked")}
    if wanted != arrays.keys() | state.keys():
        raise ValueError("twins: this net has no twin here, expected projections (option B)")
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
            where: Any = dict(padding=layer.padding, groups=layer.groups)
            layers.append(nn.Conv2d(C * layer.groups, K, KH, bias=False, **where))
        else:
            layers += [nn.BatchNorm2d(len(weight)), nn.ReLU()]
    arrays = [block.ops.asnumpy(array) for array in block.named_parameters().values()]
    twin = nn.Sequential(*layers).to(getattr(torch, str(arrays[0].dtype)))
    for parameter, array in zip(twin.parameters(), arrays, strict=True):
        parameter.data.copy_(torch.from_numpy(array))
    return twin


class Twin(nn.Module):
    """The whole net: a convolution, three stages, a mean, a linear layer."""

    def __init__(self, shapes: Shapes, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first  # ResNets; the others normalise behind their stages
        self.conv1 = _conv(shapes, "conv1")
        self.bn1 = nn.BatchNorm2d(*shapes["bn1.weight"])
        unit = PostUnit if norm_first else PreUnit
        for stage in ("layer1", "layer2", "layer3"):
            count = len({name.split(".")[1] for name in shapes if name.startswith(f"{stage}.")})
            units = [
                unit(_below(shapes, f"{stage}.{i}."), 2 if i == 0 and stage != "layer1" else 1)
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


class PostUnit(nn.Module):
    """Two convolutions, each normalised; a ReLU behind the sum."""

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


class PreUnit(nn.Module):
    """Two or three convolutions, each behind a normalisation and a ReLU."""

    def __init__(self, shapes: Shapes, stride: int) -> None:
        super().__init__()
        self.count = 3 if "conv3.weight" in shapes else 2
        strided = self.count - 1  # the first 3x3 convolution: of a bottleneck the second one
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


class Gate(nn.Module):
    """Squeeze by the mean, two linear layers, a sigmoid."""

    def __init__(self, channels: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=bias),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x: Any) -> Any:
        """Return x, every channel scaled by its gate."""
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


def _se(shapes: Shapes) -> nn.Module:
    if "se.fc.0.weight" not in shapes:
        return nn.Identity()
    hidden, channels = shapes["se.fc.0.weight"]
    return Gate(channels, hidden, "se.fc.0.bias" in shapes)


def _conv(shapes: Shapes, name: str, stride: int = 1) -> nn.Conv2d:
    K, C, KH, _ = shapes[f"{name}.weight"]
    return nn.Conv2d(C, K, KH, stride, KH // 2, bias=False)


def _below(shapes: Shapes, prefix: str) -> Shapes:
    return {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }
