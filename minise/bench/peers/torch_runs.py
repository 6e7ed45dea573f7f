"""How PyTorch does each work: eager in both layouts, and compiled.

channels_last is the layout its convolutions are quickest in on a CPU, and the one that
torch.compile is given.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from minise import models
from minise.bench import blocks
from minise.bench.peers import torch_blocks
from minise.bench.peers.torch_net import twin_of
from minise.bench.settings import Settings
from minise.bench.works import (
    EPS,
    MOMENTUM,
    NORM,
    RATE,
    SE,
    TAIL,
    WEIGHT_DECAY,
    Work,
    arrays_of,
    conv_settings,
    images_of,
)

Run = Callable[[], Any]


def make(name: str, work: Work, settings: Settings) -> Run:
    """Return a function that does a work once, as one of PyTorch's contestants does it."""
    torch.set_num_threads(settings.threads)
    layout = torch.contiguous_format if name == "torch" else torch.channels_last
    if work["kind"] == "op":
        return _op(layout, work, settings)
    if work["kind"] == "block":
        return _block(layout, work, settings)
    twin = twin_of(models.build(settings.net, **settings.net_settings)).to(memory_format=layout)
    net: Any = torch.compile(twin) if name == "torch-compile" else twin
    images, labels = (torch.from_numpy(array) for array in images_of(settings))
    images = images.contiguous(memory_format=layout)
    if work["kind"] == "forward":
        twin.eval()

        def forward() -> Any:
            with torch.inference_mode():
                return net(images)

        return forward
    optimiser = torch.optim.SGD(
        twin.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )

    def step() -> float:
        optimiser.zero_grad(set_to_none=True)
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def _block(layout: Any, work: Work, settings: Settings) -> Run:
    """Return a function that does a block forward and backward, through autograd."""
    arrays = arrays_of(work, settings.dtype).values()
    x, dout = (torch.from_numpy(a).contiguous(memory_format=layout) for a in arrays)
    twin: Any = torch_blocks.twin_of(blocks.build(work["block"], dtype=settings.dtype))
    twin.to(memory_format=layout)
    inputs = [x.requires_grad_(), *twin.parameters()]

    def run() -> Any:
        out = twin(x)
        torch.autograd.grad(out, inputs, dout)
        return out.detach()

    return run


def _op(layout: Any, work: Work, settings: Settings) -> Run:
    """Return a function that does one op forward and backward, through autograd."""
    arrays = {name: torch.from_numpy(a) for name, a in arrays_of(work, settings.dtype).items()}
    for name in ("x", "dout"):
        arrays[name] = arrays[name].contiguous(memory_format=layout)
    dout, inputs = arrays.pop("dout"), [array.requires_grad_() for array in arrays.values()]
    function = function_of(work, settings.dtype)

    def run() -> Any:
        out = function(*inputs)
        torch.autograd.grad(out, inputs, dout)
        return out.detach()

    return run


def function_of(work: Work, dtype: str) -> Callable[..., Any]:
    """Return an op's forward, as a function of the tensors that arrays_of lists before dout."""
    if work["op"] == "conv2d":
        keywords = conv_settings(work)
        return lambda x, weight: F.conv2d(x, weight, **keywords)

    def squeeze_excite(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        h = torch.relu(F.linear(x.mean((2, 3)), w1, b1))
        return x * torch.sigmoid(F.linear(h, w2, b2))[:, :, None, None]

    kind = getattr(torch, dtype)
    mean, var = torch.zeros(work["C"], dtype=kind), torch.ones(work["C"], dtype=kind)

    def norm(x: Any, gamma: Any, beta: Any) -> Any:
        return F.batch_norm(x, mean, var, gamma, beta, training=True, eps=EPS)

    def norm_relu(*arrays: Any) -> Any:
        return torch.relu(norm(*arrays))

    def tail(*arrays: Any) -> Any:
        x, gamma, beta, *gates, shortcut = arrays
        return torch.relu(squeeze_excite(norm(x, gamma, beta), *gates) + shortcut)

    return {SE: squeeze_excite, NORM: norm_relu, TAIL: tail}[work["op"]]
