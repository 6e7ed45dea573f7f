"""PyTorch implementations of each workload on a CPU and on a GPU, and timing on a GPU.

On a CPU: eager in both memory layouts, and compiled. PyTorch's convolutions are fastest on a CPU in
channels_last, so torch.compile gets that layout. On a GPU: eager, eager in a CUDA graph, and
compiled.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from statistics import median
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

from minise import models
from minise.bench.gpu_clock import MIN_CALLS, Call, calls_on_buffers
from minise.bench.net_settings import CompareSettings
from minise.bench.peers.twins import block_twin_of, twin_of
from minise.bench.workloads import (
    EPS,
    IMAGE_SIZE,
    LR,
    MOMENTUM,
    NORM,
    SE,
    TAIL,
    WEIGHT_DECAY,
    Workload,
    arrays_of,
    batch_of,
    build_block,
    conv_settings,
    gated_arrays_of,
)

WARM_UP_CALLS = 3  # before a capture, on a side stream, as PyTorch requires
PRECISIONS = ("fp32", "tf32", "bf16")


def make(name: str, workload: Workload, settings: CompareSettings) -> Call:
    """Return a function that runs a workload once on the CPU, with a PyTorch implementation."""
    torch.set_num_threads(settings.threads)
    layout = torch.contiguous_format if name == "torch" else torch.channels_last
    if workload["kind"] == "op":
        return _op(layout, workload, settings)
    if workload["kind"] == "block":
        return _block(layout, workload, settings)
    net_of_minise = settings.build()
    twin = twin_of(net_of_minise)
    twin.to(memory_format=layout)
    net: Any = torch.compile(twin) if name == "torch-compile" else twin
    batch = batch_of(net_of_minise, settings.batch, settings.size)
    images, labels = (torch.from_numpy(array) for array in batch)
    images = images.contiguous(memory_format=layout)
    if workload["kind"] == "forward":
        twin.eval()

        def forward() -> Any:
            with torch.inference_mode():
                return net(images)

        return forward
    step = training_step_of(net, images, labels)
    return lambda: float(step())


def training_step_of(net: Any, images: Any, labels: Any, precision: str = "fp32") -> Call:
    """Return a function that takes one training step and returns the loss as a tensor."""
    optimiser = torch.optim.SGD(
        net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    device = images.device.type

    def step() -> Any:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext():
            loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def _block(layout: Any, workload: Workload, settings: CompareSettings) -> Call:
    """Return a function that runs a block forward and backward, with autograd."""
    arrays = arrays_of(workload, settings.dtype).values()
    x, dout = (torch.from_numpy(a).contiguous(memory_format=layout) for a in arrays)
    twin: Any = block_twin_of(build_block(workload["block"], dtype=settings.dtype))
    twin.to(memory_format=layout)
    return _with_gradients(twin, [x], dout, twin.parameters())


def _op(layout: Any, workload: Workload, settings: CompareSettings) -> Call:
    """Return a function that runs one op forward and backward, with autograd, or one pass of it."""
    if "pass" in workload:
        return _one_pass(layout, workload, settings)
    arrays = {name: torch.from_numpy(a) for name, a in arrays_of(workload, settings.dtype).items()}
    for name in ("x", "dout"):
        arrays[name] = arrays[name].contiguous(memory_format=layout)
    dout = arrays.pop("dout")
    return _with_gradients(function_of(workload, settings.dtype), [*arrays.values()], dout)


def _one_pass(layout: Any, workload: Workload, settings: CompareSettings) -> Call:
    """Return a function that runs one pass of a convolution, without autograd."""
    arrays = arrays_of(workload, settings.dtype).items()
    tensors = {k: torch.from_numpy(a).contiguous(memory_format=layout) for k, a in arrays}
    x, weight, dout = (tensors[name] for name in ("x", "weight", "dout"))
    stride, padding, groups = conv_settings(workload).values()
    needs_dx = workload["needs_dx"]

    def forward() -> Any:
        with torch.inference_mode():
            return F.conv2d(x, weight, None, stride, padding, 1, groups)

    def backward() -> Any:
        dx, dweight, _ = torch.ops.aten.convolution_backward(
            dout, x, weight, None, stride, padding, (1, 1), False, (0, 0), groups,
            (needs_dx, True, False),
        )  # fmt: skip
        return {"dx": dx, "dweight": dweight}

    return forward if workload["pass"] == "forward" else backward


def _with_gradients(
    function: Any, inputs: list[Any], dout: Any, parameters: Iterable[Any] = ()
) -> Call:
    """Return a function that calls another and computes the gradients of inputs and parameters."""
    leaves = [*(tensor.requires_grad_() for tensor in inputs), *parameters]

    def run() -> Any:
        out = function(*inputs)
        torch.autograd.grad(out, leaves, dout)
        return out.detach()

    return run


def function_of(workload: Workload, dtype: str) -> Callable[..., Any]:
    """Return the forward of an op, as a function of tensors in the order of arrays_of."""
    if workload["op"] == "conv2d":
        keywords = conv_settings(workload)
        return lambda x, weight: F.conv2d(x, weight, **keywords)

    def squeeze_excite(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        h = torch.relu(F.linear(x.mean((2, 3)), w1, b1))
        return x * torch.sigmoid(F.linear(h, w2, b2))[:, :, None, None]

    C, torch_dtype = workload["C"], getattr(torch, dtype)
    mean, var = torch.zeros(C, dtype=torch_dtype), torch.ones(C, dtype=torch_dtype)

    def norm(x: Any, gamma: Any, beta: Any) -> Any:
        return F.batch_norm(x, mean, var, gamma, beta, training=True, eps=EPS)

    def norm_relu(*arrays: Any) -> Any:
        return torch.relu(norm(*arrays))

    def tail(*arrays: Any) -> Any:
        x, gamma, beta, *gates, shortcut = arrays
        return torch.relu(squeeze_excite(norm(x, gamma, beta), *gates) + shortcut)

    return {SE: squeeze_excite, NORM: norm_relu, TAIL: tail}[workload["op"]]


class Timing(NamedTuple):
    """The time of an op on a GPU, in microseconds."""

    forward: float
    both: float  # forward and backward together


def op_times(name: str, workload: Workload, sets: int, rounds: int) -> Timing:
    """Return the time of an op on a GPU with a PyTorch implementation, cycling through buffers."""
    forward, forward_backward = op_calls(name, workload, sets, "cuda")
    timer = time_in_graph if name == "torch-graph" else time_launched
    with torch.no_grad():
        forward_us = timer(forward, rounds)
    return Timing(forward_us, timer(forward_backward, rounds))


def op_calls(
    name: str, workload: Workload, sets: int, device: str
) -> tuple[list[Call], list[Call]]:
    """Return calls of an op forward, and forward and backward, each on its own buffers."""
    arrays = {key: torch.from_numpy(a).to(device) for key, a in gated_arrays_of(workload).items()}
    with torch.device(device):
        function: Any = function_of(workload, "float32")
    if name == "torch-compile":
        function = torch.compile(function)

    def forward_backward(inputs: list[Any], dout: Any) -> tuple[Any, Any]:
        out = function(*inputs)
        return out.detach(), torch.autograd.grad(out, inputs, dout)

    def leaf(tensor: Any) -> Any:
        return tensor.detach().clone().requires_grad_()

    return calls_on_buffers(arrays, sets, function, forward_backward, leaf)


def step_time(precision: str, graph: bool, batch: int, rounds: int, net: str) -> float:
    """Return the time of one training step on a GPU in microseconds, in channels_last."""
    step = training_step(precision, batch, net, "cuda")
    return time_in_graph([step], rounds, 1) if graph else time_launched([step], rounds)


def training_step(
    precision: str, batch: int, net: str, device: str, *, compiled: bool = False
) -> Call:
    """Return a function that takes one training step on images in the memory of a device."""
    twin: Any = twin_of(models.build(net)).to(device)
    if compiled:
        twin = torch.compile(twin, mode="max-autotune-no-cudagraphs")
    return device_step_of(twin, precision, (batch, 3, *IMAGE_SIZE), 10, device)


def device_step_of(
    net: Any, precision: str, shape: tuple[int, ...], classes: int, device: str
) -> Call:
    """Return a function that takes one training step of a PyTorch net, in channels_last."""
    allow_tf32 = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow_tf32
    torch.backends.cudnn.benchmark = True
    net.to(memory_format=torch.channels_last)
    images = torch.randn(shape, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(classes, (len(images),), device=device)
    return training_step_of(net, images, labels, precision)


def time_launched(calls: Sequence[Call], rounds: int) -> float:
    """Return the mean time in us of a call launched from Python, cycling through calls."""
    for _ in range(WARM_UP_CALLS):  # compiles, selects algorithms, and fills the memory pool
        for call in calls:
            call()
    count = max(MIN_CALLS, len(calls))

    def several() -> None:
        for k in range(count):
            calls[k % len(calls)]()

    return _timed(several, rounds) / count


def time_in_graph(calls: Sequence[Call], rounds: int, min_calls: int = MIN_CALLS) -> float:
    """Return the mean time in us of a call in a CUDA graph that cycles through calls."""
    count = max(min_calls, len(calls))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            for call in calls:
                call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for k in range(count):
            calls[k % len(calls)]()
    return _timed(graph.replay, rounds) / count


def _timed(call: Call, rounds: int) -> float:
    """Return the median time in us of a call that enqueues kernels in PyTorch's stream."""
    call()
    torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(1000 * start.elapsed_time(end))
    return median(times)
