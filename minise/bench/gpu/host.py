"""Measure Python's time in a training step on a GPU, on any machine, without the kernels.

Python launches kernels, and the GPU runs them meanwhile. If Python takes longer, the GPU waits. The
arrays here are NumPy's, with images so small that the few whole-array calls take little time; every
kernel and every matrix product is counted instead of launched. Times are CPU times of the thread.
"""

import time
from statistics import median
from typing import Any

import numpy as np

from minise import models
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.launcher import STATIC_SHARED_BYTES, Launcher
from minise.ops.cuda.plan import Plan
from minise.train import SGD, SoftmaxCrossEntropy, train_step

IMAGES_SHAPE = 2, 3, 8, 8
WARM_UP_STEPS = 3
LAUNCHES = 10_000  # of the measured kernel


class Zeros:
    """NumPy with arrays of zeros for empty ones, because a step with a NaN loss ends early."""

    ndarray, empty = np.ndarray, staticmethod(np.zeros)

    def __getattr__(self, name: str) -> Any:
        """Return NumPy's function."""
        return getattr(np, name)


class NoKernels(Launcher):
    """A launcher that counts launches instead of making them."""

    xp = Zeros()

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[str] = []

    def shared_limit(self) -> int:
        """Return the limit of every GPU."""
        return STATIC_SHARED_BYTES

    def address(self, array: Any) -> int:
        """Return 0: no kernel reads the array."""
        return 0

    def ready(self, array: Any) -> bool:
        """Return True if an array is C-contiguous, by one attribute, as for CuPy's arrays."""
        return bool(array.flags.c_contiguous)

    def asnumpy(self, array: Any) -> Any:
        """Return the array, which is NumPy's."""
        return array

    def run(self, plan: Plan, arrays: Any) -> None:
        """Count a launch."""
        self.kernels.append(plan.kernel)

    def multiply(self, a: Any, b: Any, out: Any, *, add: bool = False) -> None:
        """Count a product."""
        self.kernels.append("multiply")


def host_time(net: str = "se_resnet20", steps: int = 30) -> dict[str, Any]:
    """Count the launches of a training step, and measure Python's time in it.

    Parameters
    ----------
    net : str
        Name of the net.
    steps : int
        Number of measured steps.

    Returns
    -------
    dict
        "launches" in a step, "step_ms" (median over the steps) and "launch_us" (of a kernel with
        three arrays whose plan exists).
    """
    launcher = NoKernels()
    ops: Any = Backend(launcher)
    model = models.build(net, ops=ops)
    objective, optimiser = SoftmaxCrossEntropy(ops), SGD(model, momentum=0.9, weight_decay=5e-4)
    images = np.random.default_rng(0).standard_normal(IMAGES_SHAPE, np.float32)
    batch, milliseconds = (images, np.arange(len(images))), []
    for _ in range(WARM_UP_STEPS + steps):
        launcher.kernels.clear()
        start = time.thread_time()
        train_step(model, objective, optimiser, [batch], 0.1)
        milliseconds.append(1e3 * (time.thread_time() - start))
    launches = len(launcher.kernels)
    x, z = np.zeros((2, 8), np.float32), np.zeros(2, np.float32)
    start = time.thread_time()
    for _ in range(LAUNCHES):
        arrays, scalars = (x, z, x), (1, 2, 8)
        launcher.launch("squeeze_excite.cu", "scale", 1, arrays, scalars, dtype=x.dtype)
    microseconds = 1e6 * (time.thread_time() - start) / LAUNCHES
    step_ms = median(milliseconds[WARM_UP_STEPS:])
    return {"launches": launches, "step_ms": step_ms, "launch_us": microseconds}
