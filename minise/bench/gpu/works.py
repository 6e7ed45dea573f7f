"""What is timed on a GPU: shapes, and how many bytes each way of doing them has to move.

The unit is S, the bytes of x. Numbers that are not whole images are left out: there are few.

    squeeze_excite    forward    backward    in all
    simple            3          4           7
    tile              2          3           5        the least there can be
    eager PyTorch     3          10          13
    torch.compile     3          4           7

    se_block_tail     4          7           11
    eager PyTorch     10         20          30

Eager's and the compiler's are counted from the ops that PyTorch runs, one by one.
"""

from typing import NamedTuple

import numpy as np

from minise.bench.works import SE, TAIL, Work, arrays_of
from minise.ops.checks import Array

SIZEOF = 4  # float32
PASSES = {  # over arrays of x's size, forward and backward
    (SE, "simple"): (3, 4),
    (SE, "tile"): (2, 3),
    (TAIL, "fused"): (4, 7),
}
# C, H, R of SE-ResNet-20's three stages, and of SE-ResNet-50's last three
CIFAR = [(16, 32, 1), (32, 16, 2), (64, 8, 4)]
IMAGENET = [(512, 28, 32), (1024, 14, 64), (2048, 7, 128)]
CIFAR_BATCH, IMAGENET_BATCH = 128, 64


class Shape(NamedTuple):
    """One image batch with its gates."""

    N: int
    C: int
    H: int
    R: int

    @property
    def bytes(self) -> int:
        """Bytes of x."""
        return SIZEOF * self.N * self.C * self.H * self.H

    def work(self, op: str, N: int | None = None) -> Work:
        """Return an op at this shape, or at another batch."""
        size = {"C": self.C, "H": self.H, "W": self.H, "R": self.R}
        return {"kind": "op", "op": op, "N": self.N if N is None else N, **size}


def shapes() -> list[Shape]:
    """Return all shapes, small images first."""
    small = [Shape(CIFAR_BATCH, *one) for one in CIFAR]
    return small + [Shape(IMAGENET_BATCH, *one) for one in IMAGENET]


def inputs_of(work: Work) -> dict[str, Array]:
    """Return the inputs of an op and dout, with weights for which gates are half open."""
    arrays = arrays_of(work, "float32")
    for name in ("w1", "w2"):
        arrays[name] /= np.sqrt(arrays[name].shape[1], dtype=np.float32)
    return arrays


def floor_us(passes: int, size: int, gigabytes_a_second: float) -> float:
    """Return how many microseconds so many passes over size bytes take at a bandwidth.

    Examples
    --------
    >>> floor_us(5, 100_000_000, 4000)
    125.0
    """
    return passes * size / gigabytes_a_second / 1e3
