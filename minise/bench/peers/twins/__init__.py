"""minise's nets and blocks in PyTorch, with the same parameters and running statistics.

    cifar         ResNets and pre-activation nets for small images
    resnet        ResNet and ResNeXt for large images
    senet         SENet-154
    vgg, inception, mobilenet, shufflenet, densenet
    squeeze       the SE block of all of them

A twin is a torch.nn.Module, written from the paper, whose parameters and buffers have the names of
the net's. The tests of minise.models compare both in float64; the benchmarks time both. SE blocks
are supported at the standard site, with average pooling and a sigmoid.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from minise.bench.peers.twins.cifar import SmallResNet
from minise.bench.peers.twins.densenet import DenseNet121
from minise.bench.peers.twins.inception import BNInception
from minise.bench.peers.twins.mobilenet import MobileNet
from minise.bench.peers.twins.resnet import Basic, ResNet, resnext, v1
from minise.bench.peers.twins.senet import SENet
from minise.bench.peers.twins.shufflenet import ShuffleNet
from minise.bench.peers.twins.vgg import VGG16
from minise.models import Net
from minise.nn import Chain, Conv2d, Dropout, Layer, SEBlock

RESNET = ["conv1", "bn1", "layer1", "layer2", "layer3", "avgpool", "fc"]
PREACT = ["conv1", "layer1", "layer2", "layer3", "bn1", "avgpool", "fc"]
COUNTS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# by name: twin(classes=…, reduction=…) of a net with default settings
TWINS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": partial(ResNet, Basic, COUNTS[18], 64, expansion=1),
    "resnet34": partial(ResNet, Basic, COUNTS[50], 64, expansion=1),
    **{f"resnet{depth}": partial(ResNet, v1, COUNTS[depth], 64) for depth in (50, 101, 152)},
    **{
        f"resnext{depth}_32x4d": partial(ResNet, resnext(32), COUNTS[depth], 64)
        for depth in (50, 101)
    },
    "senet154": partial(SENet, 64),
    "bn_inception": partial(BNInception, 1),
    "mobilenet": partial(MobileNet, 1),
    "shufflenet": partial(ShuffleNet, 1),
    "densenet121": partial(DenseNet121, 1),
}


def twin_of(net: Layer) -> nn.Module:
    """Return the PyTorch twin of a net, with a copy of its parameters and running statistics.

    Raises
    ------
    ValueError
        If the architecture of the net is not supported.
    """
    gates = [layer.se for _, layer in net.layers() if isinstance(layer, SEBlock)]
    if any((s.site, s.squeeze, s.gate) != ("standard", "avg", "sigmoid") for s in gates):
        raise ValueError(
            "no twin: the net has SE blocks with other settings, expected site='standard', "
            "squeeze='avg', gate='sigmoid'"
        )
    arrays = {name: net.ops.asnumpy(array) for name, array in net.named_parameters().items()}
    twin = _architecture(net, arrays, gates[0].reduction if gates else None)
    for name, layer in net.named_layers().items():
        if isinstance(layer, Dropout):
            twin.get_submodule(name).p = layer.p
    state = {name: net.ops.asnumpy(array) for name, array in _statistics(net).items()}
    _copy_into(twin, arrays | state)
    return twin


def _architecture(net: Layer, arrays: dict[str, Any], reduction: int | None) -> nn.Module:
    """Return a twin with parameters of its own."""
    names = [name for name, _ in net.children()]
    if names in (RESNET, PREACT):
        return SmallResNet({name: a.shape for name, a in arrays.items()}, names == RESNET)
    name = net.name.removeprefix("se_") if isinstance(net, Net) else ""
    classes = len(next(reversed(arrays.values()), ()))
    if isinstance(net, Net) and name == "vgg16":
        rows, columns = (size - size % 32 for size in net.size)  # those that the pools read
        return VGG16(1, classes, rows * columns, reduction)
    if name in TWINS:
        return TWINS[name](classes=classes, reduction=reduction)
    layers = ", ".join(names)
    raise ValueError(f"no twin of {name or f'a net of layers {layers}'} is implemented in PyTorch")


def _statistics(net: Layer) -> dict[str, Any]:
    """Return the state of a net without the counters of its random masks."""
    drops = [name for name, layer in net.named_layers().items() if isinstance(layer, Dropout)]
    counters = {f"{name}.{key}" for name in drops for key in ("seed", "draws")}
    return {name: array for name, array in net.named_state().items() if name not in counters}


def _copy_into(twin: nn.Module, arrays: dict[str, Any]) -> None:
    """Copy arrays into the parameters and buffers of the same names; raise if they differ."""
    twin.to(getattr(torch, str(next(iter(arrays.values())).dtype)))
    own = {
        name: tuple(tensor.shape)
        for name, tensor in twin.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    if own != {name: array.shape for name, array in arrays.items()}:
        raise ValueError(
            "no twin: the net has other parameters, expected the default settings of a net of "
            "models.names(), such as projections (shortcut='B')"
        )
    copies = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    twin.load_state_dict(copies, strict=False)


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
