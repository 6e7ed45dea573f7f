"""What may go wrong the first time that the kernels meet a GPU, checked one by one.

Each probe returns what it found, or raises. The order is that of a first day: does anything run,
how long does a cold start take, are results reproducible and right, and then the corners: layouts,
streams, very large arrays, the limit of shared memory, graphs.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from minise import models
from minise.bench.gpu_clock import Clock
from minise.bench.peers import relative_error, training_step
from minise.bench.result import Task
from minise.checks import Array
from minise.nn import Chain
from minise.ops import reference
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.norm import row_moments
from minise.ops.cuda.squeeze_excite import tile_bytes
from minise.train import SGD, SoftmaxCrossEntropy, train_step

TOLERANCE = 1e-5  # ||error|| / ||expected|| in float32
SIDE_BEYOND_2_31 = 26755  # 3 * SIDE**2 > 2**31
MIB = 2**20


class ProbeError(Exception):
    """A result is wrong."""


class Probes:
    """The probes of one back end.

    Parameters
    ----------
    ops : Backend
        The cuda back end; its launcher's array library has CuPy's streams, graphs and memory pools.
    net, batch, size, side : str, int, int, int
        What is trained, on how many images of which side; and the side of the very large image.
    """

    def __init__(
        self,
        ops: Backend,
        *,
        net: str = "se_resnet20",
        batch: int = 128,
        size: int = 32,
        side: int = SIDE_BEYOND_2_31,
    ) -> None:
        self.ops: Any = ops
        self.xp = ops.launcher.xp
        self.net, self.batch, self.size, self.side = net, batch, size, side
        self.rng = np.random.default_rng(0)
        self.step: Callable[[], Any] | None = None

    def tasks(self) -> list[Task]:
        """Return all probes in order."""
        return [
            Task("first SE block forward and backward, compiled", self.first_block),
            Task("first training step, compiled", self.first_step),
            Task("a training step: us of Python, us in all", self.step_times),
            Task("memory pool: MiB used and held", self.memory),
            Task("three training steps twice: the same bits", self.reproducible),
            Task("dtype of where with a scalar, and of the loss", self.dtypes),
            Task("arrays that are not contiguous", self.layouts),
            Task("another stream than the default one", self.other_stream),
            Task("offsets beyond 2**31", self.large_offsets),
            Task("a tile at the limit of shared memory", self.largest_tile),
            Task("a graph of an SE block", self.block_graph),
            Task("a graph of a matrix product", self.product_graph),
            Task("a launch of too many blocks", self.too_many_blocks),
        ]

    def first_block(self) -> list[list[int]]:
        """Run one SE block forward and backward; return the shapes of the gradients."""
        x, w1, w2 = self._block(self.batch, 16, self.size)
        out, cache = self.ops.squeeze_excite_forward(x, w1, None, w2, None)
        gradients = self.ops.squeeze_excite_backward(out, cache)
        self._wait()
        return [list(gradient.shape) for gradient in gradients if gradient is not None]

    def first_step(self) -> float:
        """Take one training step; return the loss."""
        self.step = training_step(self.ops, self.batch, self.net, (self.size, self.size))
        return float(self.step())

    def step_times(self) -> dict[str, float]:
        """Time training steps: what Python takes to launch one, and what one takes in all."""
        if self.step is None:
            raise ProbeError("there was no first step")
        python, wall = Clock(self.xp, rounds=1).issued(self.step)
        return {"python_us": python, "us": wall}

    def memory(self) -> dict[str, float]:
        """Return how much memory CuPy's pool has handed out, and how much it holds."""
        pool = self.xp.get_default_memory_pool()
        return {"used": pool.used_bytes() / MIB, "held": pool.total_bytes() / MIB}

    def reproducible(self) -> list[float]:
        """Train twice from the same start; losses and parameters must have the same bits."""
        (losses, params), (again, params_again) = self._trained(), self._trained()
        if losses != again:
            raise ProbeError(f"the losses are {losses}, and the second time {again}")
        changed = [name for name, a in params.items() if not np.array_equal(a, params_again[name])]
        if changed:
            raise ProbeError(f"{changed} differ the second time")
        return losses

    def dtypes(self) -> list[str]:
        """Return the dtypes of where(x > 0, x, 0) and of a loss in float32."""
        x = self._array(4, 10)
        loss, _ = self.ops.softmax_cross_entropy_forward(x, self.ops.asarray(np.arange(4)))
        return [str(self.xp.where(x > 0, x, 0).dtype), str(loss.dtype)]

    def layouts(self) -> float:
        """Return the largest error of an SE block on arrays that are not contiguous."""
        x = self._array(3, 8, 6, 8)
        channels_last = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
        views = [x[:, ::2], channels_last, x[1:], x[:, :, 1:, 1:]]
        return max(self._block_error(view) for view in views)

    def other_stream(self) -> float:
        """Normalise on a stream of its own; return the error."""
        x = self._array(self.batch, 16, self.size, self.size)
        ones = self.ops.asarray(np.ones(16), np.float32)
        statistics = {"running_mean": ones, "running_var": ones, "training": True}
        stream = self.xp.cuda.Stream(non_blocking=True)
        self._wait()
        with stream:
            out, _ = self.ops.batch_norm2d_relu_forward(x, ones, ones, **statistics)
        stream.synchronize()
        wide = np.ones(16)
        statistics = {"running_mean": wide, "running_var": wide, "training": True}
        x = self.ops.asnumpy(x).astype(np.float64)
        expected, _ = reference.batch_norm2d_relu_forward(x, wide, wide, **statistics)
        return self._checked(self.ops.asnumpy(out), expected)

    def large_offsets(self) -> list[float]:
        """Pool and sum an image of more than 2**31 numbers, all 1 but the last, which is 3."""
        image = self.xp.empty((1, 3, self.side, self.side), np.float32)
        image[...] = 1
        image[0, 2, -1, -1] = 3
        out, _ = self.ops.max_pool2d_forward(image, kernel=(1, 1))
        last = float(out[0, 2, -1, -1])
        del out
        mean, _ = row_moments(self.ops.launcher, image)
        rise = float(mean[0, 2] - 1) * self.side**2
        if last != 3 or abs(rise - 2) > 0.5:
            raise ProbeError(f"the last number is {last}, and adds {rise} to the sum: not 3 and 2")
        return [last, rise]

    def largest_tile(self) -> int:
        """Run an SE block whose tile takes all shared memory that there is; return its bytes."""
        capacity, channels = self.ops.launcher.shared_limit(), 16
        pixels = capacity // 4 // channels // 4 * 4
        while tile_bytes(np.empty((1, channels, 1, pixels), np.float32), 1) > capacity:
            pixels -= 4
        x = self._array(3, channels, 1, pixels)
        self._block_error(x, self.ops.using(squeeze_excite="tile"))
        return int(tile_bytes(np.empty((1, channels, 1, pixels), np.float32), 1))

    def block_graph(self) -> float:
        """Replay an SE block from a graph whose memory lies in a pool of its own."""
        x, w1, w2 = self._block(self.batch, 16, self.size)
        expected = self.ops.asnumpy(self.ops.squeeze_excite_forward(x, w1, None, w2, None)[0])
        stream, pool = self.xp.cuda.Stream(non_blocking=True), self.xp.cuda.MemoryPool()
        self._wait()
        with stream, self.xp.cuda.using_allocator(pool.malloc):
            stream.begin_capture()
            try:
                out, _cache = self.ops.squeeze_excite_forward(x, w1, None, w2, None)
            finally:
                graph = stream.end_capture()
            out[...] = 0
            graph.launch(stream)
            stream.synchronize()
            return self._checked(self.ops.asnumpy(out), expected)

    def product_graph(self) -> str:
        """Tell whether a matrix product, which is cuBLAS's, can be captured."""
        a = self._array(64, 64)
        self.xp.matmul(a, a)
        stream = self.xp.cuda.Stream(non_blocking=True)
        self._wait()
        with stream:
            stream.begin_capture()
            try:
                self.xp.matmul(a, a)
            except Exception as error:
                return f"refused: {type(error).__name__}"
            finally:
                with suppress(Exception):  # a capture that was refused may be invalid
                    stream.end_capture()
        return "captured"

    def too_many_blocks(self) -> str:
        """Tell how a launch that no GPU can make is refused."""
        x = self._array(4)
        arguments = x, x, x, 0.1, 0.9, 0, 0.0, 1
        launch = self.ops.launcher.launch
        try:
            launch("sgd.cu", "sgd_update", 2**31, *arguments, dtype=np.float32)
        except (AssertionError, ValueError) as error:
            return str(error)
        raise ProbeError("it was launched")

    def _trained(self) -> tuple[list[float], dict[str, Array]]:
        net: Chain = models.build("se_resnet8", ops=self.ops)
        objective, optimiser = SoftmaxCrossEntropy(self.ops), SGD(net)
        rng, losses = np.random.default_rng(1), []
        for _ in range(3):
            images = rng.standard_normal((self.batch // 2, 3, self.size, self.size))
            batch = images.astype(np.float32), rng.integers(0, 10, len(images))
            losses.append(train_step(net, objective, optimiser, [batch], 0.1)["loss"])
        params = net.named_parameters()
        return losses, {name: self.ops.asnumpy(array) for name, array in params.items()}

    def _array(self, *shape: int) -> Any:
        return self.ops.asarray(self.rng.standard_normal(shape), np.float32)

    def _block(self, N: int, C: int, H: int) -> tuple[Any, Any, Any]:
        """Return x, w1 and w2 of an SE block."""
        return self._array(N, C, H, H), self._array(4, C) / 4, self._array(C, 4) / 2

    def _block_error(self, x: Any, ops: Any = None) -> float:
        """Return the error of an SE block's output, against float64, and run its backward."""
        ops = ops or self.ops
        w1, w2 = self._array(2, x.shape[1]) / 4, self._array(x.shape[1], 2)
        out, cache = ops.squeeze_excite_forward(x, w1, None, w2, None)
        dx, *_ = ops.squeeze_excite_backward(out, cache)
        if not np.isfinite(ops.asnumpy(dx)).all():
            raise ProbeError("dx is not finite")
        wide = [ops.asnumpy(array).astype(np.float64) for array in (x, w1, w2)]
        expected, _ = reference.squeeze_excite_forward(wide[0], wide[1], None, wide[2], None)
        return self._checked(ops.asnumpy(out), expected)

    def _checked(self, result: Array, expected: Array) -> float:
        error = relative_error(result, expected)
        if error > TOLERANCE:
            raise ProbeError(f"||error|| / ||expected|| is {error:.1e}, above {TOLERANCE}")
        return error

    def _wait(self) -> None:
        self.xp.cuda.Device().synchronize()
