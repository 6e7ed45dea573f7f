"""Checks of typical failures when the kernels run on a GPU for the first time.

Each probe returns its measurement, or raises. The first probes check that kernels run, the time of
a cold start, and that results are reproducible and correct; the others cover edge cases: layouts,
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

MAX_ERROR = 1e-5  # bound on ||error|| / ||expected|| in float32
SIDE_BEYOND_2_31 = 26755  # 3 * SIDE**2 > 2**31
HIDDEN_UNITS = 2  # of the SE blocks that are compared with float64
MIB = 2**20


class ProbeError(Exception):
    """A probe failed: a result is wrong."""


class Probes:
    """The probes of one back end.

    Parameters
    ----------
    ops : Backend
        The cuda back end; its launcher's array library has CuPy's streams, graphs and memory pools.
    net, batch, size : str, int, int
        Net to train, number of images, and their rows and columns.
    side : int
        Rows and columns of the very large image.
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
            Task("training step: us in Python, us in total", self.step_times),
            Task("memory pool: MiB used and held", self.memory),
            Task("three training steps, repeated: bit-identical", self.reproducible),
            Task("dtype of where with a scalar, and of the loss", self.dtypes),
            Task("non-contiguous arrays", self.layouts),
            Task("non-default stream", self.other_stream),
            Task("offsets beyond 2**31", self.large_offsets),
            Task("tile at the limit of shared memory", self.largest_tile),
            Task("graph of an SE block", self.block_graph),
            Task("graph of a matrix product", self.product_graph),
            Task("launch of too many blocks", self.too_many_blocks),
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
        """Return the time of a training step until Python has launched it, and its total time."""
        if self.step is None:
            raise ProbeError("the first training step failed")
        python, wall = Clock(self.xp, rounds=1).time_python_and_total(self.step)
        return {"python_us": python, "us": wall}

    def memory(self) -> dict[str, float]:
        """Return the MiB of CuPy's memory pool that are in use, and that the pool holds."""
        pool = self.xp.get_default_memory_pool()
        return {"used": pool.used_bytes() / MIB, "held": pool.total_bytes() / MIB}

    def reproducible(self) -> list[float]:
        """Train twice from the same seed; losses and parameters must be bit-identical."""
        (losses, params), (losses_again, params_again) = self._train(), self._train()
        if losses != losses_again:
            raise ProbeError(f"the losses of the second run are {losses_again}, expected {losses}")
        changed = [name for name, a in params.items() if not np.array_equal(a, params_again[name])]
        if changed:
            raise ProbeError(f"parameters {changed} differ in the second run")
        return losses

    def dtypes(self) -> list[str]:
        """Return the dtypes of where(x > 0, x, 0) and of a loss, for x in float32."""
        x = self._array(4, 10)
        loss, _ = self.ops.softmax_cross_entropy_forward(x, self.ops.asarray(np.arange(4)))
        return [str(self.xp.where(x > 0, x, 0).dtype), str(loss.dtype)]

    def layouts(self) -> float:
        """Return the largest error of an SE block on non-contiguous arrays."""
        x = self._array(3, 8, 6, 8)
        channels_last = x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
        views = [x[:, ::2], channels_last, x[1:], x[:, :, 1:, 1:]]
        return max(self._block_error(view) for view in views)

    def other_stream(self) -> float:
        """Run batch norm and ReLU on a non-default stream; return the error."""
        x = self._array(self.batch, 16, self.size, self.size)
        ones = self.ops.asarray(np.ones(16), np.float32)
        statistics = {"running_mean": ones, "running_var": ones, "training": True}
        stream = self.xp.cuda.Stream(non_blocking=True)
        self._wait()
        with stream:
            out, _ = self.ops.batch_norm2d_relu_forward(x, ones, ones, **statistics)
        stream.synchronize()
        ones64 = np.ones(16)
        statistics = {"running_mean": ones64, "running_var": ones64, "training": True}
        x = self.ops.asnumpy(x).astype(np.float64)
        expected, _ = reference.batch_norm2d_relu_forward(x, ones64, ones64, **statistics)
        return self._checked_error(self.ops.asnumpy(out), expected)

    def large_offsets(self) -> list[float]:
        """Pool and sum an image of more than 2**31 elements, all 1 except the last, which is 3."""
        image = self.xp.empty((1, 3, self.side, self.side), np.float32)
        image[...] = 1
        image[0, 2, -1, -1] = 3
        out, _ = self.ops.max_pool2d_forward(image, kernel=(1, 1))
        last = float(out[0, 2, -1, -1])
        del out
        mean, _ = row_moments(self.ops.launcher, image)
        excess = float(mean[0, 2] - 1) * self.side**2  # excess of the plane's sum over that of ones
        if last != 3 or abs(excess - 2) > 0.5:
            raise ProbeError(
                f"the last element is {last}, expected 3, and adds {excess} to a sum of ones, "
                "expected 2"
            )
        return [last, excess]

    def largest_tile(self) -> int:
        """Run an SE block with the largest tile that fits into shared memory; return its bytes."""
        capacity, channels = self.ops.launcher.shared_limit(), 16
        pixels = capacity // 4 // channels // 4 * 4

        def size() -> int:
            return tile_bytes(np.empty((1, channels, 1, pixels), np.float32), HIDDEN_UNITS)

        while size() > capacity:
            pixels -= 4
        x = self._array(3, channels, 1, pixels)
        self._block_error(x, self.ops.using(squeeze_excite="tile"))
        return size()

    def block_graph(self) -> float:
        """Replay an SE block from a graph with its own memory pool; return the error."""
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
            return self._checked_error(self.ops.asnumpy(out), expected)

    def product_graph(self) -> str:
        """Return "captured" if a graph can capture a matrix product of cuBLAS, or the refusal."""
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
                with suppress(Exception):  # a refused capture may be invalid
                    stream.end_capture()
        return "captured"

    def too_many_blocks(self) -> str:
        """Return the message that refuses a launch with more blocks than any GPU supports."""
        x = self._array(4)
        launch = self.ops.launcher.launch
        try:
            launch("squeeze_excite.cu", "squeeze", 2**31, (x, x), (1, 1, 4), dtype=np.float32)
        except ValueError as error:
            return str(error)
        raise ProbeError("a launch of 2**31 blocks was not refused")

    def _train(self) -> tuple[list[float], dict[str, Array]]:
        """Return the losses of three training steps from a fixed seed, and the parameters."""
        net: Chain = models.build("se_resnet8", ops=self.ops)
        objective, optimiser = SoftmaxCrossEntropy(self.ops), SGD(net)
        rng, losses = np.random.default_rng(1), []
        for _ in range(3):
            images = rng.standard_normal((self.batch // 2, 3, self.size, self.size))
            batch = images.astype(np.float32), rng.integers(0, 10, len(images))
            losses.append(float(train_step(net, objective, optimiser, [batch], 0.1)["loss"]))
        params = net.named_parameters()
        return losses, {name: self.ops.asnumpy(array) for name, array in params.items()}

    def _array(self, *shape: int) -> Any:
        return self.ops.asarray(self.rng.standard_normal(shape), np.float32)

    def _block(self, N: int, C: int, H: int) -> tuple[Any, Any, Any]:
        """Return x, w1 and w2 of an SE block."""
        return self._array(N, C, H, H), self._array(4, C) / 4, self._array(C, 4) / 2

    def _block_error(self, x: Any, ops: Any = None) -> float:
        """Run an SE block forward and backward; return the error of its output against float64."""
        ops = ops or self.ops
        w1 = self._array(HIDDEN_UNITS, x.shape[1]) / 4
        w2 = self._array(x.shape[1], HIDDEN_UNITS)
        out, cache = ops.squeeze_excite_forward(x, w1, None, w2, None)
        dx, *_ = ops.squeeze_excite_backward(out, cache)
        if not np.isfinite(ops.asnumpy(dx)).all():
            raise ProbeError("dx is not finite")
        x64, w1, w2 = (ops.asnumpy(array).astype(np.float64) for array in (x, w1, w2))
        expected, _ = reference.squeeze_excite_forward(x64, w1, None, w2, None)
        return self._checked_error(ops.asnumpy(out), expected)

    def _checked_error(self, result: Array, expected: Array) -> float:
        """Return ||result - expected|| / ||expected||; raise ProbeError if it is too large."""
        error = relative_error(result, expected)
        if error > MAX_ERROR:
            message = f"||error|| / ||expected|| is {error:.1e}, expected at most {MAX_ERROR}"
            raise ProbeError(message)
        return error

    def _wait(self) -> None:
        self.xp.cuda.Device().synchronize()
