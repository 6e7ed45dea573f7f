"""Run the folded steps of inference on the GPU, as a sequence of ops.

The reference's functions prepare the steps, with arrays on the GPU. Folding a normalisation into
the filters of a convolution saves a pass over the images; gates, sum and ReLU are separate ops.
"""

from typing import Any

from minise.checks import Array
from minise.ops import reference
from minise.ops.cuda.conv import conv2d_forward
from minise.ops.cuda.launcher import Launcher
from minise.ops.cuda.norm import batch_norm2d_forward
from minise.ops.cuda.squeeze_excite import squeeze_excite_forward
from minise.ops.reference.inference import IMAGES, OUT, check_images
from minise.ops.shapes import check_arrays


def run_conv2d(gpu: Launcher, prepared: Any, x: Array, shortcut: Array | None = None) -> Array:
    """See minise.ops.reference.run_conv2d."""
    check_images(prepared, x)
    y, _ = conv2d_forward(gpu, x, prepared.weight, prepared.bias, **prepared.settings)
    if prepared.gates is not None:
        y, _ = squeeze_excite_forward(gpu, y, *prepared.gates, **prepared.se_settings)
    if shortcut is not None:
        check_arrays("run_conv2d", OUT, y, shortcut)
        y, _ = reference.add_forward(y, shortcut)
    return reference.relu_forward(y)[0] if prepared.relu else y


def run_batch_norm2d(gpu: Launcher, prepared: Any, x: Array) -> Array:
    """See minise.ops.reference.run_batch_norm2d."""
    check_arrays("run_batch_norm2d", IMAGES, x, prepared.arrays[0])
    y, _ = batch_norm2d_forward(gpu, x, *prepared.arrays, **prepared.settings)
    return reference.relu_forward(y)[0] if prepared.relu else y
