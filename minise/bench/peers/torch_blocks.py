"""The blocks of minise.bench.blocks in PyTorch, with the same numbers."""

from typing import Any

import torch
from torch import nn

from minise.nn import Chain, Conv2d


def twin_of(block: Chain) -> nn.Sequential:
    """Return the PyTorch twin of a block, with a copy of its parameters."""
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
