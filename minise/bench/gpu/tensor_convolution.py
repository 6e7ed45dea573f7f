"""A prototype of a 3x3 convolution on tensor cores, without im2col (tensor_convolution.cu).

It is timed against the convolutions of cuDNN and minise, to decide whether to add it to the cuda
back end. TF32 operands keep 10 of the 23 mantissa bits of float32; sums are float32.
"""

from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from minise.ops.cuda.launcher import Launcher, blocks_of
from minise.ops.cuda.sources import Source

FILE, THREADS, WARPS = "tensor_convolution.cu", 128, 4


class Tiling(NamedTuple):
    """Distribution of the computation over thread blocks."""

    rows: int  # rows of an image computed by a block
    chunk: int  # input channels in shared memory at a time
    outputs: int  # output channels computed by a block
    min_blocks: int = 1  # resident blocks per multiprocessor, which limits the registers


# images, channels, side, and the tilings to compare
TILINGS = (
    (128, 16, 32, Tiling(8, 16, 16)), (128, 16, 32, Tiling(8, 16, 16, 5)),
    (128, 16, 32, Tiling(16, 16, 16, 3)), (128, 32, 16, Tiling(8, 32, 32, 3)),
    (128, 32, 16, Tiling(16, 16, 32, 2)), (128, 64, 8, Tiling(8, 32, 32, 3)),
    (128, 64, 8, Tiling(8, 16, 64, 2)), (32, 64, 56, Tiling(4, 16, 64, 2)),
    (32, 64, 56, Tiling(2, 32, 64, 2)), (32, 128, 28, Tiling(4, 16, 64, 3)),
)  # fmt: skip


class TensorConvolution:
    """conv2d(x, weight, padding=1) for one shape; x (N, C, side, side), weight (K, C, 3, 3).

    Parameters
    ----------
    launcher : Launcher
        Compiles and launches the kernels.
    C, K, side : int
        Input and output channels; rows and columns, a multiple of 4.
    tiling : Tiling
        Its rows must divide side, its chunk must divide C, and its outputs must divide K.
    """

    def __init__(self, launcher: Launcher, C: int, K: int, side: int, tiling: Tiling) -> None:
        self.launcher, self.tiling, self.K, self.side = launcher, tiling, K, side
        rows, chunk, outputs, min_blocks = tiling
        sizes = {
            "CHANNELS_IN": C, "CHANNELS_OUT": K, "HEIGHT": side, "WIDTH": side,
            "TILE_ROWS": rows, "CHUNK": chunk, "KB": outputs, "NORMALISE": 0,
        }  # fmt: skip
        defines = ("-DREAL=float", *(f"-D{name}={size}" for name, size in sizes.items()))
        common = (files("minise.ops.cuda") / "common.cuh").read_text()
        text = (files("minise.bench.gpu") / FILE).read_text()
        # the launcher does not expand macros in launch bounds
        text = text.replace("MIN_BLOCKS", str(min_blocks))
        self.source = Source(f"{FILE} {min_blocks}", f"{common}\n{text}", defines)
        plane = ((rows + 2) * (side + 8) + 15) // 16 * 16 + 8
        self.shared = 4 * (9 * chunk * outputs + chunk * plane + 2 * WARPS * outputs)
        self.unused = launcher.asarray(np.zeros(C), np.float32)  # scale and shift

    def arrange(self, weight: Any) -> Any:
        """Return a weight rounded to TF32, in the order in which the lanes of a warp read it."""
        arranged = self.launcher.xp.empty(weight.shape, np.float32)
        sizes = 0, weight.size  # 0: forward; 1: gradient of the input
        arrays, blocks = (weight, arranged), blocks_of(weight.size)
        self._launch("arrange_weights", blocks, arrays, sizes)
        return arranged

    def allocate_outputs(self, x: Any) -> list[Any]:
        """Return empty arrays: out, and its mean and centred squares (N, row groups, K)."""
        empty, moments = self.launcher.xp.empty, (len(x), self.side // self.tiling.rows, self.K)
        out = empty((len(x), self.K, self.side, self.side), np.float32)
        return [out, empty(moments, np.float64), empty(moments, np.float64)]

    def run(self, x: Any, arranged: Any, outputs: list[Any]) -> None:
        """Launch the convolution of x, which fills outputs."""
        blocks = self.side // self.tiling.rows, self.K // self.tiling.outputs, len(x)
        arrays = x, arranged, self.unused, self.unused, *outputs
        self._launch("conv3x3", blocks, arrays, threads=THREADS, shared=self.shared)

    def _launch(
        self,
        kernel: str,
        blocks: int | tuple[int, ...],
        arrays: tuple[Any, ...],
        scalars: tuple[int, ...] = (),
        **settings: int,
    ) -> None:
        launch = self.launcher.launch
        launch(self.source, kernel, blocks, arrays, scalars, dtype=np.float32, **settings)
