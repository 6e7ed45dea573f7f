"""Speed of a GPU and of PyTorch, as targets for the kernels: rates, convolutions, training steps.

    rates           copying memory, and large matrix products in three precisions
    convolutions    3x3: forward, and gradients of input and weight: cuDNN, minise, a prototype
    steps           SE-ResNet-20 in minise and in PyTorch's fastest modes; SE-ResNet-50 in PyTorch

These measurements do not fit into the time limit of `minise bench cuda`, which compares single ops.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from minise.bench.gpu.compare import SIZEOF
from minise.bench.gpu.tensor_convolution import TILINGS, TensorConvolution, Tiling
from minise.bench.gpu_clock import Call, Clock, buffer_set_count
from minise.bench.peers import pytorch, relative_error, training_step
from minise.bench.result import Task
from minise.ops import reference
from minise.ops.cuda.backend import Backend

# images, channels, side: the stages of SE-ResNet-20, and of ResNet-50's 3x3 convolutions
CONVOLUTIONS = (
    (128, 16, 32), (128, 32, 16), (128, 64, 8),
    (32, 64, 56), (32, 128, 28), (32, 256, 14), (32, 512, 7),
)  # fmt: skip
LAYOUTS = ("contiguous_format", "channels_last")
MAX_TF32_ERROR = 1e-3  # bound on ||error|| / ||expected||
CHECKED_IMAGES = 4
BATCHES = (128, 512, 32)
NET, MATRIX_SIDE, MAX_LISTED_KERNELS = "se_resnet20", 8192, 40
IMAGENET_BATCH, IMAGENET_SIDE, IMAGENET_CLASSES = 32, 224, 1000
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


class Baselines:
    """Measurements on one device.

    Parameters
    ----------
    ops : Backend
        The cuda back end.
    clock : Clock
        Times kernels of the back end.
    device : str
        PyTorch's device.
    rounds : int
        Number of timings of each call of PyTorch; the median is reported.
    """

    def __init__(self, ops: Backend, clock: Clock, device: str = "cuda", rounds: int = 11) -> None:
        self.ops, self.clock, self.device, self.rounds = ops, clock, device, rounds

    def tasks(self) -> Iterator[Task]:
        """Yield all measurements in order."""
        yield Task("copying memory", lambda: {"gb_per_s": self.clock.copy_bandwidth()})
        for precision in pytorch.PRECISIONS:
            name = f"matrix product {MATRIX_SIDE}, {precision}"
            yield Task(name, partial(self.matrix_product, precision))
        for shape in CONVOLUTIONS:
            name = "conv3x3 {}x{}x{}x{}".format(*shape, shape[-1])
            yield Task(f"{name}, minise", partial(self.minise_convolution, *shape))
            for precision in pytorch.PRECISIONS:
                for layout in LAYOUTS:
                    run = partial(self.convolution, *shape, precision, layout)
                    yield Task(f"{name}, torch, {precision}, {layout}", run)
        for N, C, side, tiling in TILINGS:
            name = f"conv3x3 {N}x{C}x{side}x{side}, prototype, {' '.join(map(str, tiling))}"
            yield Task(name, partial(self.prototype, N, C, side, tiling))
        yield from self._steps()
        yield Task(f"kernels of a step of {NET}, minise", self.kernels)

    def _steps(self) -> Iterator[Task]:
        for batch in BATCHES:
            name = f"step of {NET}, batch {batch}"
            yield Task(f"{name}, minise", partial(self.minise_step, batch))
            for precision in pytorch.PRECISIONS:
                for graph in (True, False):
                    mode = "graph" if graph else "launched"
                    run = partial(self.step, batch, precision, graph)
                    yield Task(f"{name}, torch, {precision}, {mode}", run)
        for precision in ("tf32", "bf16"):
            name = f"step of seresnet50, batch {IMAGENET_BATCH}, torch, {precision}"
            for graph in (True, False):
                run = partial(self.imagenet_step, precision, graph)
                yield Task(f"{name}, {'graph' if graph else 'launched'}", run)
            name = f"step of {NET}, batch {BATCHES[0]}, torch, {precision}, compiled, graph"
            yield Task(name, partial(self.step, BATCHES[0], precision, True, compiled=True))

    def matrix_product(self, precision: str) -> dict[str, float]:
        """Return time and TFLOP/s of a large product; a multiply-accumulate counts as two."""
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        shape = MATRIX_SIDE, MATRIX_SIDE
        a = torch.randn(shape, device=self.device, dtype=DTYPES[precision])
        us = pytorch.time_launched([lambda: a @ a], self.rounds)
        return {"us": us, "tflop_per_s": 2 * MATRIX_SIDE**3 / us / 1e6}

    def convolution(
        self, N: int, C: int, side: int, precision: str, layout: str
    ) -> dict[str, float]:
        """Return the times in a graph of cuDNN's convolution and of both parts of its backward."""
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
        x, weight = (
            torch.randn(shape, device=self.device, dtype=DTYPES[precision]).contiguous(
                memory_format=getattr(torch, layout)
            )
            for shape in ((N, C, side, side), (C, C, 3, 3))
        )

        def forward() -> Any:
            return torch.nn.functional.conv2d(x, weight, padding=1)

        dout = forward()

        def backward(dx: bool) -> Any:
            return torch.ops.aten.convolution_backward(
                dout, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1,
                [dx, not dx, False],
            )  # fmt: skip

        calls: dict[str, Call] = {
            "forward_us": forward,
            "dx_us": partial(backward, True),
            "dweight_us": partial(backward, False),
        }
        return {name: pytorch.time_in_graph([call], self.rounds) for name, call in calls.items()}

    def minise_convolution(self, N: int, C: int, side: int) -> dict[str, float]:
        """Return the times of minise's convolution launched from Python: cuBLAS allows no graph."""
        rng = np.random.default_rng(0)
        arrays = (rng.standard_normal(shape) for shape in ((N, C, side, side), (C, C, 3, 3)))
        x, weight = (self.ops.asarray(array, np.float32) for array in arrays)
        forward, backward = self.ops.conv2d_forward, self.ops.conv2d_backward
        out, cache = forward(x, weight, padding=(1, 1))
        return {
            "forward_us": self.clock.time_launched([lambda: forward(x, weight, padding=(1, 1))]),
            "backward_us": self.clock.time_launched([lambda: backward(out, cache)]),
            "dweight_us": self.clock.time_launched([lambda: backward(out, cache, needs_dx=False)]),
        }

    def prototype(self, N: int, C: int, side: int, tiling: Tiling) -> dict[str, float]:
        """Check the convolution on tensor cores against float64, and time it in a graph."""
        launcher, rng = self.ops.launcher, np.random.default_rng(0)
        convolution = TensorConvolution(launcher, C, C, side, tiling)
        weight = rng.standard_normal((C, C, 3, 3))
        arranged = convolution.arrange(self.ops.asarray(weight, np.float32))
        images = rng.standard_normal((N, C, side, side))
        sets = buffer_set_count(2 * SIZEOF * images.size, self.clock.cache_bytes())
        inputs = [self.ops.asarray(images * (1 + k / sets), np.float32) for k in range(sets)]
        outputs = [convolution.allocate_outputs(x) for x in inputs]
        convolution.run(inputs[0], arranged, outputs[0])
        out = self.ops.asnumpy(outputs[0][0])[:CHECKED_IMAGES]
        expected, _ = reference.conv2d_forward(images[:CHECKED_IMAGES], weight, padding=(1, 1))
        error = relative_error(out, expected)
        if error > MAX_TF32_ERROR:
            raise ValueError(
                f"||error|| / ||expected|| is {error:.1e}, expected at most {MAX_TF32_ERROR}"
            )
        pairs = zip(inputs, outputs, strict=True)
        calls = [partial(convolution.run, x, arranged, out) for x, out in pairs]
        us = self.clock.time_in_graph(calls)
        rate = 2 * 9 * C * images.size / us / 1e6
        return {"us": us, "tflop_per_s": rate, "error": error, "shared_bytes": convolution.shared}

    def step(
        self, batch: int, precision: str, graph: bool, *, compiled: bool = False
    ) -> dict[str, float]:
        """Return the time of a training step in PyTorch."""
        call = pytorch.training_step(precision, batch, NET, self.device, compiled=compiled)
        return {"us": self._timed(call, graph)}

    def minise_step(self, batch: int) -> dict[str, float]:
        """Return the time of a training step in minise: in total, and in Python alone."""
        python, wall = self.clock.time_python_and_total(training_step(self.ops, batch, NET))
        return {"us": wall, "python_us": python}

    def imagenet_step(self, precision: str, graph: bool) -> dict[str, float]:
        """Return the time of a training step of timm's SE-ResNet-50 in PyTorch."""
        import timm  # optional

        net = timm.create_model("seresnet50", num_classes=IMAGENET_CLASSES).to(self.device)
        shape = IMAGENET_BATCH, 3, IMAGENET_SIDE, IMAGENET_SIDE
        call = pytorch.device_step_of(net, precision, shape, IMAGENET_CLASSES, self.device)
        return {"us": self._timed(call, graph)}

    def kernels(self) -> dict[str, Any]:
        """Return the slowest kernels of a training step of minise, and the number of launches."""
        from torch.profiler import ProfilerActivity, profile

        call = training_step(self.ops, BATCHES[0], NET)
        call()
        activity = ProfilerActivity.CUDA if self.device == "cuda" else ProfilerActivity.CPU
        with profile(activities=[activity]) as profiled:
            float(call())  # waits for the step
        rows = [(e.key, e.count, e.device_time_total) for e in profiled.key_averages()]
        rows.sort(key=lambda row: -row[2])
        totals = {"launches": sum(row[1] for row in rows), "us": sum(row[2] for row in rows)}
        return {**totals, "kernels": rows[:MAX_LISTED_KERNELS]}

    def _timed(self, call: Call, graph: bool) -> float:
        return (
            pytorch.time_in_graph([call], self.rounds, 1)
            if graph
            else pytorch.time_launched([call], self.rounds)
        )
