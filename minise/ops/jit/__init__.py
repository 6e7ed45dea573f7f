"""The ops compiled by Numba: same names, same signatures, same caches, fast on a CPU."""

from minise.ops.jit.activation import (
    hard_sigmoid_backward,
    hard_sigmoid_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    tanh_backward,
    tanh_forward,
)
from minise.ops.jit.arrays import (
    asarray,
    asnumpy,
    sgd_update,
)
from minise.ops.jit.combine import (
    add_backward,
    add_forward,
    channel_scale_backward,
    channel_scale_forward,
    channel_shuffle_backward,
    channel_shuffle_forward,
    concat_backward,
    concat_forward,
    dropout_backward,
    dropout_forward,
)
from minise.ops.jit.compile import on_compile as on_compile
from minise.ops.jit.conv import (
    conv2d_backward,
    conv2d_forward,
)
from minise.ops.jit.fused import (
    batch_norm2d_add_relu_backward,
    batch_norm2d_add_relu_forward,
    batch_norm2d_relu_backward,
    batch_norm2d_relu_forward,
    se_block_tail_backward,
    se_block_tail_forward,
)
from minise.ops.jit.inference import (
    fold_batch_norm2d,
    prepare_batch_norm2d,
    prepare_conv2d,
    run_batch_norm2d,
    run_conv2d,
)
from minise.ops.jit.linear import (
    linear_backward,
    linear_forward,
)
from minise.ops.jit.loss import (
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from minise.ops.jit.norm import (
    batch_norm2d_backward,
    batch_norm2d_forward,
)
from minise.ops.jit.pool import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_backward,
    global_avg_pool2d_forward,
    global_max_pool2d_backward,
    global_max_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
)
from minise.ops.jit.shape import (
    flatten_backward,
    flatten_forward,
)
from minise.ops.jit.squeeze_excite import (
    squeeze_excite_backward,
    squeeze_excite_forward,
)
from minise.ops.jit.using import using as using
from minise.ops.reference.activation import (
    hard_sigmoid_branches,
    relu_branches,
)
from minise.ops.reference.fused import (
    batch_norm2d_add_relu_branches,
    batch_norm2d_relu_branches,
    se_block_tail_branches,
)
from minise.ops.reference.pool import (
    global_max_pool2d_branches,
    max_pool2d_branches,
)
from minise.ops.reference.squeeze_excite import (
    squeeze_excite_branches,
)
from minise.ops.reference.using import require as require

folds = True  # nets predict by the functions for inference

__all__ = [
    "add_backward",
    "add_forward",
    "asarray",
    "asnumpy",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "batch_norm2d_add_relu_backward",
    "batch_norm2d_add_relu_branches",
    "batch_norm2d_add_relu_forward",
    "batch_norm2d_backward",
    "batch_norm2d_forward",
    "batch_norm2d_relu_backward",
    "batch_norm2d_relu_branches",
    "batch_norm2d_relu_forward",
    "channel_scale_backward",
    "channel_scale_forward",
    "channel_shuffle_backward",
    "channel_shuffle_forward",
    "concat_backward",
    "concat_forward",
    "conv2d_backward",
    "conv2d_forward",
    "dropout_backward",
    "dropout_forward",
    "flatten_backward",
    "flatten_forward",
    "fold_batch_norm2d",
    "global_avg_pool2d_backward",
    "global_avg_pool2d_forward",
    "global_max_pool2d_backward",
    "global_max_pool2d_branches",
    "global_max_pool2d_forward",
    "hard_sigmoid_backward",
    "hard_sigmoid_branches",
    "hard_sigmoid_forward",
    "linear_backward",
    "linear_forward",
    "max_pool2d_backward",
    "max_pool2d_branches",
    "max_pool2d_forward",
    "prepare_batch_norm2d",
    "prepare_conv2d",
    "relu_backward",
    "relu_branches",
    "relu_forward",
    "run_batch_norm2d",
    "run_conv2d",
    "se_block_tail_backward",
    "se_block_tail_branches",
    "se_block_tail_forward",
    "sgd_update",
    "sigmoid_backward",
    "sigmoid_forward",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
    "squeeze_excite_backward",
    "squeeze_excite_branches",
    "squeeze_excite_forward",
    "tanh_backward",
    "tanh_forward",
]
