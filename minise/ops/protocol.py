"""The protocol of a back end: every function that nets, training and checks call, with its types.

A back end is a module, or any object, with these functions: `minise.ops.reference` and
`minise.ops.jit` are modules, the others objects. The function of the same name in
minise/ops/reference documents behaviour, shapes and errors; minise/ops/__init__ states the common
rules. Caches and prepared steps of inference are private to a back end: their type is Any.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeAlias

from minise.checks import Array, Pair

Algorithm: TypeAlias = Literal["auto", "direct", "winograd"]  # of convolutions
Listener: TypeAlias = Callable[[str, int, int], None]  # kernel, number compiled so far, total


class Backend(Protocol):
    """The ops, the array functions, and the settings of a back end.

    Attributes
    ----------
    folds : bool
        True if nets predict with the functions for inference. If False, nets predict with the ops
        used in training, and the functions for inference may be missing.

    Notes
    -----
    Where a call is expensive, as on a GPU, a back end may have three more attributes, which
    training uses instead of many calls: `in_place`, the same back end whose normalisations in
    training write the updated statistics into running_mean and running_var; `copies(arrays)`, a
    copy of each array; and `sgd_updates(params, grads, velocities, *, rate, momentum, nesterov,
    weight_decays)`, which does what sgd_update does for each parameter. A back end that computes
    shapes only (minise/ops/cost) has `shaped(shape, dtype)`, which layers call instead of drawing
    initial values.
    """

    @property
    def folds(self) -> bool: ...

    # Configuration

    def require(self) -> None:
        """Raise ImportError if the ops cannot run here; the message names the missing part."""

    def using(self, *, threads: int | None = None, algorithm: str | None = None) -> "Backend":
        """Return the same ops with other settings; None keeps the current value.

        Parameters
        ----------
        threads : int, optional
            Number of threads; ignored by a back end without its own threads.
        algorithm : {"auto", "direct", "winograd"}, optional
            Algorithm of convolutions; only "auto" for a back end with a single algorithm.

        Raises
        ------
        ValueError
            If there are fewer threads, or the back end does not have this algorithm.
        """

    def on_compile(self, listener: Listener) -> AbstractContextManager[None]:
        """Call listener for every kernel that is compiled; some back ends compile none."""

    # Arrays: create, copy to the host, update in place

    def asarray(self, values: Any, dtype: Any = None) -> Array: ...

    def asnumpy(self, array: Array) -> Array: ...

    def sgd_update(
        self,
        param: Array,
        grad: Array,
        velocity: Array,
        *,
        rate: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None: ...

    # Ops: forward and backward, and branches for ops with kinks

    def conv2d_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> tuple[Array, Any]: ...

    def conv2d_backward(
        self, dout: Array, cache: Any, *, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array | None, ...]: ...

    def linear_forward(
        self, x: Array, weight: Array, bias: Array | None = None
    ) -> tuple[Array, Any]: ...

    def linear_backward(self, dout: Array, cache: Any) -> tuple[Array | None, ...]: ...

    def batch_norm2d_forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        *,
        running_mean: Array,
        running_var: Array,
        training: bool,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> tuple[Array, Any]: ...

    def batch_norm2d_backward(self, dout: Array, cache: Any) -> tuple[Array, ...]: ...

    def squeeze_excite_forward(
        self,
        x: Array,
        w1: Array,
        b1: Array | None,
        w2: Array,
        b2: Array | None,
        *,
        squeeze: str = "avg",
        gate: str = "sigmoid",
    ) -> tuple[Array, Any]: ...

    def squeeze_excite_backward(self, dout: Array, cache: Any) -> tuple[Array | None, ...]: ...

    def squeeze_excite_branches(self, cache: Any) -> Array: ...

    def batch_norm2d_relu_forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        *,
        running_mean: Array,
        running_var: Array,
        training: bool,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> tuple[Array, Any]: ...

    def batch_norm2d_relu_backward(self, dout: Array, cache: Any) -> tuple[Array, ...]: ...

    def batch_norm2d_relu_branches(self, cache: Any) -> Array: ...

    def batch_norm2d_add_relu_forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        shortcut: Array,
        *,
        running_mean: Array,
        running_var: Array,
        training: bool,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> tuple[Array, Any]: ...

    def batch_norm2d_add_relu_backward(self, dout: Array, cache: Any) -> tuple[Array, ...]: ...

    def batch_norm2d_add_relu_branches(self, cache: Any) -> Array: ...

    def se_block_tail_forward(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        w1: Array,
        b1: Array | None,
        w2: Array,
        b2: Array | None,
        shortcut: Array,
        *,
        running_mean: Array,
        running_var: Array,
        training: bool,
        gate: str = "sigmoid",
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> tuple[Array, Any]: ...

    def se_block_tail_backward(self, dout: Array, cache: Any) -> tuple[Array | None, ...]: ...

    def se_block_tail_branches(self, cache: Any) -> Array: ...

    def relu_forward(self, x: Array) -> tuple[Array, Any]: ...

    def relu_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...

    def relu_branches(self, cache: Any) -> Array: ...

    def sigmoid_forward(self, x: Array) -> tuple[Array, Any]: ...

    def sigmoid_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...

    def tanh_forward(self, x: Array) -> tuple[Array, Any]: ...

    def tanh_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...

    def hard_sigmoid_forward(self, x: Array) -> tuple[Array, Any]: ...

    def hard_sigmoid_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...

    def hard_sigmoid_branches(self, cache: Any) -> Array: ...

    def silu_forward(self, x: Array) -> tuple[Array, Any]: ...

    def silu_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...

    def max_pool2d_forward(
        self,
        x: Array,
        *,
        kernel: Pair,
        stride: Pair | None = None,
        padding: Pair = (0, 0),
        ceil_mode: bool = False,
    ) -> tuple[Array, Any]: ...

    def max_pool2d_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...

    def max_pool2d_branches(self, cache: Any) -> Array: ...

    def avg_pool2d_forward(
        self,
        x: Array,
        *,
        kernel: Pair,
        stride: Pair | None = None,
        padding: Pair = (0, 0),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> tuple[Array, Any]: ...

    def avg_pool2d_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...

    def global_avg_pool2d_forward(self, x: Array) -> tuple[Array, Any]: ...

    def global_avg_pool2d_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...

    def global_max_pool2d_forward(self, x: Array) -> tuple[Array, Any]: ...

    def global_max_pool2d_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...

    def global_max_pool2d_branches(self, cache: Any) -> Array: ...

    def add_forward(self, a: Array, b: Array) -> tuple[Array, Any]: ...

    def add_backward(self, dout: Array, cache: Any) -> tuple[Array, Array]: ...

    def concat_forward(self, *xs: Array) -> tuple[Array, Any]: ...

    def concat_backward(self, dout: Array, cache: Any) -> tuple[Array, ...]: ...

    def channel_scale_forward(self, x: Array, s: Array) -> tuple[Array, Any]: ...

    def channel_scale_backward(self, dout: Array, cache: Any) -> tuple[Array, Array]: ...

    def channel_shuffle_forward(self, x: Array, *, groups: int) -> tuple[Array, Any]: ...

    def channel_shuffle_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...

    def dropout_forward(self, x: Array, mask: Array, *, p: float) -> tuple[Array, Any]: ...

    def dropout_backward(self, dout: Array, cache: Any) -> tuple[Array, None]: ...

    def shake_forward(
        self, x1: Array, x2: Array, *, alpha: Array, beta: Array
    ) -> tuple[Array, Any]: ...

    def shake_backward(self, dout: Array, cache: Any) -> tuple[Array, Array]: ...

    def flatten_forward(self, x: Array) -> tuple[Array, Any]: ...

    def flatten_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...

    def softmax_cross_entropy_forward(
        self, logits: Array, labels: Array, *, label_smoothing: float = 0.0
    ) -> tuple[Array, Any]: ...

    def softmax_cross_entropy_backward(self, dout: Array, cache: Any) -> tuple[Array, None]: ...

    # Inference: forward only

    def fold_batch_norm2d(
        self,
        weight: Array,
        bias: Array | None,
        gamma: Array,
        beta: Array,
        *,
        running_mean: Array,
        running_var: Array,
        eps: float = 1e-5,
    ) -> tuple[Array, Array]: ...

    def prepare_conv2d(
        self,
        weight: Array,
        bias: Array | None = None,
        w1: Array | None = None,
        b1: Array | None = None,
        w2: Array | None = None,
        b2: Array | None = None,
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        squeeze: str = "avg",
        gate: str = "sigmoid",
        relu: bool = False,
    ) -> Any: ...

    def run_conv2d(self, prepared: Any, x: Array, shortcut: Array | None = None) -> Array: ...

    def prepare_batch_norm2d(
        self,
        gamma: Array,
        beta: Array,
        *,
        running_mean: Array,
        running_var: Array,
        eps: float = 1e-5,
        relu: bool = False,
    ) -> Any: ...

    def run_batch_norm2d(self, prepared: Any, x: Array) -> Array: ...


CONFIGURATION = frozenset({"require", "using", "on_compile"})
FUNCTIONS: list[str] = sorted(  # ops, array functions, inference
    name
    for name, value in vars(Backend).items()
    if inspect.isfunction(value) and name[0] != "_" and name not in CONFIGURATION
)
