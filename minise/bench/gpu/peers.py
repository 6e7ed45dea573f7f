"""PyTorch's ways of doing what is timed: eager, eager in a CUDA graph, and compiled."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from minise import models
from minise.bench.gpu.clock import LEAST_CALLS
from minise.bench.gpu.works import inputs_of
from minise.bench.peers.torch_net import twin_of
from minise.bench.peers.torch_runs import function_of
from minise.bench.works import MOMENTUM, RATE, SIZE, WEIGHT_DECAY, Work

Call = Callable[[], Any]
WARM_UP = 3  # calls before a capture, on a stream of their own, as PyTorch asks for
PRECISIONS = ("fp32", "tf32", "bf16")


class Timing(NamedTuple):
    """What a way takes, in microseconds."""

    forward: float
    both: float  # forward and backward


def op_times(name: str, work: Work, sets: int, rounds: int) -> Timing:
    """Return what an op takes in one of PyTorch's ways, on buffers that take turns."""
    forward, both = op_calls(name, work, sets, "cuda")
    clock = graphed if name == "torch-graph" else launched
    with torch.no_grad():
        forward_us = clock(forward, rounds)
    return Timing(forward_us, clock(both, rounds))


def op_calls(name: str, work: Work, sets: int, device: str) -> tuple[list[Call], list[Call]]:
    """Return calls that do an op forward, and forward and backward, each on its own buffers."""
    arrays = {key: torch.from_numpy(a).to(device) for key, a in inputs_of(work).items()}
    dout = arrays.pop("dout")
    with torch.device(device):
        function: Any = function_of(work, "float32")
    if name == "torch-compile":
        function = torch.compile(function)

    results: list[Any] = [None] * sets  # each lives until its turn comes again, as inputs do

    def of_set(k: int) -> tuple[Call, Call]:
        images = {key: a * (1 + k / sets) for key, a in arrays.items() if a.ndim == 4}
        inputs = [a.detach().clone().requires_grad_() for a in (arrays | images).values()]
        own_dout = dout * (1 + k / sets)

        def first() -> Any:
            results[k] = function(*inputs)
            return results[k]

        def both() -> Any:
            out = function(*inputs)
            results[k] = out.detach(), torch.autograd.grad(out, inputs, own_dout)
            return results[k][1]

        return first, both

    pairs = [of_set(k) for k in range(sets)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def step_time(precision: str, graph: bool, batch: int, rounds: int, net: str) -> float:
    """Return how many microseconds one training step takes, channels last."""
    step = training_step(precision, batch, net, "cuda")
    return graphed([step], rounds, 1) if graph else launched([step], rounds)


def training_step(
    precision: str, batch: int, net: str, device: str, *, compiled: bool = False
) -> Call:
    """Return a call that takes one step of training on images that are on the device."""
    twin: Any = twin_of(models.build(net)).to(device)
    if compiled:
        twin = torch.compile(twin, mode="max-autotune-no-cudagraphs")
    return step_of(twin, precision, (batch, 3, *SIZE), 10, device)


def step_of(net: Any, precision: str, shape: tuple[int, ...], classes: int, device: str) -> Call:
    """Return a call that takes one step of training of a PyTorch net, channels last."""
    lower = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = lower
    torch.backends.cudnn.benchmark = True
    net.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        net.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    images = torch.randn(shape, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(classes, (len(images),), device=device)

    def step() -> Any:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def launched(calls: Sequence[Call], rounds: int) -> float:
    """Return how long one of calls takes, which take turns, as Python launches it."""
    for _ in range(WARM_UP):  # compiles, chooses algorithms, and fills the memory pool
        for call in calls:
            call()
    count = max(LEAST_CALLS, len(calls))

    def several() -> None:
        for k in range(count):
            calls[k % len(calls)]()

    return _timed(several, rounds) / count


def graphed(calls: Sequence[Call], rounds: int, least: int = LEAST_CALLS) -> float:
    """Return how long one of calls takes in a CUDA graph of several."""
    count = max(least, len(calls))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            for call in calls:
                call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for k in range(count):
            calls[k % len(calls)]()
    return _timed(graph.replay, rounds) / count


def _timed(call: Call, rounds: int) -> float:
    """Return the median time of a call that puts work into PyTorch's stream."""
    call()
    torch.cuda.synchronize()
    found = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        found.append(1000 * start.elapsed_time(end))
    return median(found)
