"""The ops in NumPy: the specification, written to be read.

A line for each function says which file has it.
"""

import inspect
from typing import TYPE_CHECKING

from minise.ops.reference.activation import hard_sigmoid_backward as hard_sigmoid_backward
from minise.ops.reference.activation import hard_sigmoid_branches as hard_sigmoid_branches
from minise.ops.reference.activation import hard_sigmoid_forward as hard_sigmoid_forward
from minise.ops.reference.activation import relu_backward as relu_backward
from minise.ops.reference.activation import relu_branches as relu_branches
from minise.ops.reference.activation import relu_forward as relu_forward
from minise.ops.reference.activation import sigmoid_backward as sigmoid_backward
from minise.ops.reference.activation import sigmoid_forward as sigmoid_forward
from minise.ops.reference.activation import tanh_backward as tanh_backward
from minise.ops.reference.activation import tanh_forward as tanh_forward
from minise.ops.reference.arrays import asarray as asarray
from minise.ops.reference.arrays import asnumpy as asnumpy
from minise.ops.reference.arrays import sgd_update as sgd_update
from minise.ops.reference.combine import add_backward as add_backward
from minise.ops.reference.combine import add_forward as add_forward
from minise.ops.reference.combine import channel_scale_backward as channel_scale_backward
from minise.ops.reference.combine import channel_scale_forward as channel_scale_forward
from minise.ops.reference.combine import channel_shuffle_backward as channel_shuffle_backward
from minise.ops.reference.combine import channel_shuffle_forward as channel_shuffle_forward
from minise.ops.reference.combine import concat_backward as concat_backward
from minise.ops.reference.combine import concat_forward as concat_forward
from minise.ops.reference.combine import dropout_backward as dropout_backward
from minise.ops.reference.combine import dropout_forward as dropout_forward
from minise.ops.reference.conv import conv2d_backward as conv2d_backward
from minise.ops.reference.conv import conv2d_forward as conv2d_forward
from minise.ops.reference.fused import (
    batch_norm2d_add_relu_backward as batch_norm2d_add_relu_backward,
)
from minise.ops.reference.fused import (
    batch_norm2d_add_relu_branches as batch_norm2d_add_relu_branches,
)
from minise.ops.reference.fused import (
    batch_norm2d_add_relu_forward as batch_norm2d_add_relu_forward,
)
from minise.ops.reference.fused import batch_norm2d_relu_backward as batch_norm2d_relu_backward
from minise.ops.reference.fused import batch_norm2d_relu_branches as batch_norm2d_relu_branches
from minise.ops.reference.fused import batch_norm2d_relu_forward as batch_norm2d_relu_forward
from minise.ops.reference.fused import se_block_tail_backward as se_block_tail_backward
from minise.ops.reference.fused import se_block_tail_branches as se_block_tail_branches
from minise.ops.reference.fused import se_block_tail_forward as se_block_tail_forward
from minise.ops.reference.inference import fold_batch_norm2d as fold_batch_norm2d
from minise.ops.reference.inference import prepare_batch_norm2d as prepare_batch_norm2d
from minise.ops.reference.inference import prepare_conv2d as prepare_conv2d
from minise.ops.reference.inference import run_batch_norm2d as run_batch_norm2d
from minise.ops.reference.inference import run_conv2d as run_conv2d
from minise.ops.reference.linear import linear_backward as linear_backward
from minise.ops.reference.linear import linear_forward as linear_forward
from minise.ops.reference.loss import (
    softmax_cross_entropy_backward as softmax_cross_entropy_backward,
)
from minise.ops.reference.loss import softmax_cross_entropy_forward as softmax_cross_entropy_forward
from minise.ops.reference.norm import batch_norm2d_backward as batch_norm2d_backward
from minise.ops.reference.norm import batch_norm2d_forward as batch_norm2d_forward
from minise.ops.reference.pool import avg_pool2d_backward as avg_pool2d_backward
from minise.ops.reference.pool import avg_pool2d_forward as avg_pool2d_forward
from minise.ops.reference.pool import global_avg_pool2d_backward as global_avg_pool2d_backward
from minise.ops.reference.pool import global_avg_pool2d_forward as global_avg_pool2d_forward
from minise.ops.reference.pool import global_max_pool2d_backward as global_max_pool2d_backward
from minise.ops.reference.pool import global_max_pool2d_branches as global_max_pool2d_branches
from minise.ops.reference.pool import global_max_pool2d_forward as global_max_pool2d_forward
from minise.ops.reference.pool import max_pool2d_backward as max_pool2d_backward
from minise.ops.reference.pool import max_pool2d_branches as max_pool2d_branches
from minise.ops.reference.pool import max_pool2d_forward as max_pool2d_forward
from minise.ops.reference.shape import flatten_backward as flatten_backward
from minise.ops.reference.shape import flatten_forward as flatten_forward
from minise.ops.reference.squeeze_excite import squeeze_excite_backward as squeeze_excite_backward
from minise.ops.reference.squeeze_excite import squeeze_excite_branches as squeeze_excite_branches
from minise.ops.reference.squeeze_excite import squeeze_excite_forward as squeeze_excite_forward
from minise.ops.reference.using import on_compile as on_compile
from minise.ops.reference.using import require as require
from minise.ops.reference.using import using as using

folds = True  # nets predict by the functions for inference

FUNCTIONS: list[str] = sorted(  # of the contract: all but those that say how the ops are run
    name
    for name, value in globals().items()
    if inspect.isfunction(value) and value.__module__ != using.__module__
)
if not TYPE_CHECKING:  # type checkers go by the lines above
    __all__ = FUNCTIONS
