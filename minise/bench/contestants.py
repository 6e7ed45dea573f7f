"""Who does the work. Each contestant turns a work into a function that does it once.

    make(work, settings) -> run        and run() returns the loss of a training step, else None

All start from one net's parameters and draw the same inputs, so that first losses must agree.
"""

import importlib.util
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from minise import models
from minise.bench.settings import Settings
from minise.bench.threads import ops_with
from minise.bench.works import NORM, SE, TAIL, Work, arrays_of, images_of
from minise.train import SGD

Run = Callable[[], float | None]
RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4
EPS = 1e-5  # of batch norm, in both libraries
NUMPY_OPS = {"numpy-im2col": "minise.bench.peers.im2col"}
COMPILERS = ("c++", "g++", "clang++")  # any of them serves torch.compile


def missing(name: str) -> str:
    """Return why a contestant cannot run here, or nothing."""
    if name.startswith("torch") and importlib.util.find_spec("torch") is None:
        return "not installed (pip install -e '.[oracle]')"
    if name == "torch-compile" and not any(map(shutil.which, COMPILERS)):
        return "needs a C++ compiler, such as g++"
    return ""


def takes_part(name: str, work: Work) -> bool:
    """Return whether a contestant does such a work.

    Of single ops torch-compile does none, and numpy-im2col only its own, the convolution.
    """
    if work["kind"] != "op" or name in ("minise", "torch", "torch-channels-last"):
        return True
    return name in NUMPY_OPS and work["op"] == "conv2d"


def make(name: str, work: Work, settings: Settings) -> Run:
    """Return a function that does a work once, as a contestant does it."""
    if name.startswith("torch"):
        return _torch(name, work, settings)
    ops = ops_with(NUMPY_OPS.get(name, settings.ops), settings.threads)
    if work["kind"] == "op":
        return _op(ops, work, settings)
    net: Any = models.build(settings.net, ops=ops, **settings.net_settings)
    if work["kind"] == "forward":
        images = ops.asarray(images_of(settings)[0])
        return lambda: _nothing(net.predict(images))
    return step_of(net, ops, settings)


def step_of(net: Any, ops: Any, settings: Settings) -> Run:
    """Return a function that does one training step of minise and returns the loss.

    The net has a back end of its own; ops computes the loss.
    """
    images, labels = (ops.asarray(array) for array in images_of(settings))
    optimiser = SGD(net, MOMENTUM, weight_decay=WEIGHT_DECAY, decay_all=True)
    one = ops.asarray(np.ones((), settings.dtype))

    def step() -> float:
        logits = net.forward(images, training=True)
        loss, cache = ops.softmax_cross_entropy_forward(logits, labels)
        dlogits, _ = ops.softmax_cross_entropy_backward(one, cache)
        net.backward(dlogits)
        optimiser.step(RATE)
        return float(loss)

    return step


def _op(ops: Any, work: Work, settings: Settings) -> Run:
    """Return a function that does one op forward and backward."""
    arrays = {name: ops.asarray(a) for name, a in arrays_of(work, settings.dtype).items()}
    dout, inputs = arrays.pop("dout"), list(arrays.values())
    op = work["op"]
    keywords: dict[str, Any] = {}
    if op == "conv2d":
        inputs.append(None)  # no bias
        keywords = {key: tuple(work[key]) for key in ("stride", "padding")}
    elif op != SE:
        C = work["C"]
        running = {"running_mean": np.zeros(C), "running_var": np.ones(C)}
        keywords = {key: ops.asarray(a.astype(settings.dtype)) for key, a in running.items()}
        keywords |= {"training": True, "eps": EPS}
    forward, backward = getattr(ops, f"{op}_forward"), getattr(ops, f"{op}_backward")

    def run() -> None:
        _, cache = forward(*inputs, **keywords)
        backward(dout, cache)

    return run


def _nothing(_: Any) -> None:
    """Drop a result."""


# PyTorch. channels_last is the layout its convolutions are quickest in on a CPU, and the one that
# torch.compile is given.


def _torch(name: str, work: Work, settings: Settings) -> Run:
    import torch

    torch.set_num_threads(settings.threads)
    layout = torch.contiguous_format if name == "torch" else torch.channels_last
    if work["kind"] == "op":
        return _torch_op(layout, work, settings)
    from minise.bench.peers.torch_net import twin_of

    twin = twin_of(models.build(settings.net, **settings.net_settings)).to(memory_format=layout)
    net: Any = torch.compile(twin) if name == "torch-compile" else twin
    images, labels = (torch.from_numpy(array) for array in images_of(settings))
    images = images.contiguous(memory_format=layout)
    if work["kind"] == "forward":
        twin.eval()

        def forward() -> None:
            with torch.inference_mode():
                net(images)

        return forward
    optimiser = torch.optim.SGD(
        twin.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )

    def step() -> float:
        optimiser.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def _torch_op(layout: Any, work: Work, settings: Settings) -> Run:
    """Return a function that does one op forward and backward, through autograd."""
    import torch

    arrays = {name: torch.from_numpy(a) for name, a in arrays_of(work, settings.dtype).items()}
    for name in ("x", "dout"):
        arrays[name] = arrays[name].contiguous(memory_format=layout)
    dout, inputs = arrays.pop("dout"), [array.requires_grad_() for array in arrays.values()]
    function = _torch_function(work, settings.dtype)

    def run() -> None:
        torch.autograd.grad(function(*inputs), inputs, dout)

    return run


def _torch_function(work: Work, dtype: str) -> Callable[..., Any]:
    import torch
    from torch.nn import functional as F

    if work["op"] == "conv2d":
        keywords = {key: tuple(work[key]) for key in ("stride", "padding")}
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
