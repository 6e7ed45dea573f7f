"""The ops compiled by Numba: same names, same signatures, same caches, fast on a CPU.

A line for each function says which file has it. What is not compiled, as it only tells or renames
what is there, is the reference's.
"""

from typing import TYPE_CHECKING

from minise.ops import reference
from minise.ops.jit.activation import hard_sigmoid_backward as hard_sigmoid_backward
from minise.ops.jit.activation import hard_sigmoid_forward as hard_sigmoid_forward
from minise.ops.jit.activation import relu_backward as relu_backward
from minise.ops.jit.activation import relu_forward as relu_forward
from minise.ops.jit.activation import sigmoid_backward as sigmoid_backward
from minise.ops.jit.activation import sigmoid_forward as sigmoid_forward
from minise.ops.jit.activation import tanh_backward as tanh_backward
from minise.ops.jit.activation import tanh_forward as tanh_forward
from minise.ops.jit.arrays import sgd_update as sgd_update
from minise.ops.jit.combine import add_forward as add_forward
from minise.ops.jit.combine import channel_scale_backward as channel_scale_backward
from minise.ops.jit.combine import channel_scale_forward as channel_scale_forward
from minise.ops.jit.combine import channel_shuffle_backward as channel_shuffle_backward
from minise.ops.jit.combine import channel_shuffle_forward as channel_shuffle_forward
from minise.ops.jit.combine import concat_forward as concat_forward
from minise.ops.jit.combine import dropout_backward as dropout_backward
from minise.ops.jit.combine import dropout_forward as dropout_forward
from minise.ops.jit.compiler.compile import on_compile as on_compile
from minise.ops.jit.conv import conv2d_backward as conv2d_backward
from minise.ops.jit.conv import conv2d_forward as conv2d_forward
from minise.ops.jit.fused import batch_norm2d_add_relu_backward as batch_norm2d_add_relu_backward
from minise.ops.jit.fused import batch_norm2d_add_relu_forward as batch_norm2d_add_relu_forward
from minise.ops.jit.fused import batch_norm2d_relu_backward as batch_norm2d_relu_backward
from minise.ops.jit.fused import batch_norm2d_relu_forward as batch_norm2d_relu_forward
from minise.ops.jit.fused import se_block_tail_backward as se_block_tail_backward
from minise.ops.jit.fused import se_block_tail_forward as se_block_tail_forward
from minise.ops.jit.inference import prepare_batch_norm2d as prepare_batch_norm2d
from minise.ops.jit.inference import prepare_conv2d as prepare_conv2d
from minise.ops.jit.inference import run_batch_norm2d as run_batch_norm2d
from minise.ops.jit.inference import run_conv2d as run_conv2d
from minise.ops.jit.linear import linear_backward as linear_backward
from minise.ops.jit.linear import linear_forward as linear_forward
from minise.ops.jit.loss import softmax_cross_entropy_backward as softmax_cross_entropy_backward
from minise.ops.jit.loss import softmax_cross_entropy_forward as softmax_cross_entropy_forward
from minise.ops.jit.norm import batch_norm2d_backward as batch_norm2d_backward
from minise.ops.jit.norm import batch_norm2d_forward as batch_norm2d_forward
from minise.ops.jit.pool import avg_pool2d_backward as avg_pool2d_backward
from minise.ops.jit.pool import avg_pool2d_forward as avg_pool2d_forward
from minise.ops.jit.pool import global_avg_pool2d_forward as global_avg_pool2d_forward
from minise.ops.jit.pool import global_max_pool2d_backward as global_max_pool2d_backward
from minise.ops.jit.pool import global_max_pool2d_forward as global_max_pool2d_forward
from minise.ops.jit.pool import max_pool2d_backward as max_pool2d_backward
from minise.ops.jit.pool import max_pool2d_forward as max_pool2d_forward
from minise.ops.jit.shape import flatten_backward as flatten_backward
from minise.ops.jit.shape import flatten_forward as flatten_forward
from minise.ops.jit.squeeze_excite import squeeze_excite_backward as squeeze_excite_backward
from minise.ops.jit.squeeze_excite import squeeze_excite_forward as squeeze_excite_forward
from minise.ops.jit.using import using as using
from minise.ops.reference import add_backward as add_backward
from minise.ops.reference import asarray as asarray
from minise.ops.reference import asnumpy as asnumpy
from minise.ops.reference import batch_norm2d_add_relu_branches as batch_norm2d_add_relu_branches
from minise.ops.reference import batch_norm2d_relu_branches as batch_norm2d_relu_branches
from minise.ops.reference import concat_backward as concat_backward
from minise.ops.reference import fold_batch_norm2d as fold_batch_norm2d
from minise.ops.reference import global_avg_pool2d_backward as global_avg_pool2d_backward
from minise.ops.reference import global_max_pool2d_branches as global_max_pool2d_branches
from minise.ops.reference import hard_sigmoid_branches as hard_sigmoid_branches
from minise.ops.reference import max_pool2d_branches as max_pool2d_branches
from minise.ops.reference import relu_branches as relu_branches
from minise.ops.reference import require as require
from minise.ops.reference import se_block_tail_branches as se_block_tail_branches
from minise.ops.reference import squeeze_excite_branches as squeeze_excite_branches

folds = True  # nets predict by the functions for inference

if not TYPE_CHECKING:  # type checkers go by the lines above
    __all__ = reference.FUNCTIONS
