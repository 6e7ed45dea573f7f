"""Layers, each of which owns its parameters and calls one op.

The argument `rng` of layers that draw random numbers is a numpy.random.Generator, an integer seed,
or None for the layer's own stream, which `nn.seed` restarts (minise/nn/streams.py). `ops` is a back
end, or its name.
"""

import math
from typing import Any, ClassVar, Literal

import numpy as np

from minise.checks import (
    Array,
    Pair,
    check_choice,
    check_divisor,
    check_flag,
    check_integer,
    check_number,
)
from minise.nn.inference import Convolution, Normalisation, Steps
from minise.nn.init import LINEAR_GAIN, RELU_GAIN, constant, he_normal
from minise.nn.layer import Grads
from minise.nn.op_layer import OpLayer, check_cache
from minise.nn.streams import Rng, draws_from, generator, next_draw
from minise.ops import reference
from minise.ops.backend import Backend, shaped
from minise.ops.shapes import check_arrays

Padding = int | Pair | Literal["same", "valid"]


class Conv2d(OpLayer):
    """Convolution; kernel, stride, padding and dilation are pairs (rows, columns) or one number.

    Parameters are `weight` (channels_out, channels_in // groups, KH, KW), initially He normal for a
    following ReLU, and with bias=True `bias` (channels_out,), initially 0. padding="same" keeps the
    size of the image (for stride 1 and odd kernels), "valid" is no padding, as in PyTorch.
    """

    op, arrays = "conv2d", ("weight", "bias")
    keywords = ("stride", "padding", "dilation", "groups")
    defaults: ClassVar[dict[str, Any]] = {
        "stride": (1, 1),
        "padding": (0, 0),
        "dilation": (1, 1),
        "groups": 1,
    }

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: Padding = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = False,
        ops: Backend | str = reference,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(ops)
        channels_in = check_integer("Conv2d", "channels_in", channels_in, 1)
        channels_out = check_integer("Conv2d", "channels_out", channels_out, 1)
        self.kernel = pair("Conv2d", "kernel", kernel, 1)
        self.stride = pair("Conv2d", "stride", stride, 1)
        self.dilation = pair("Conv2d", "dilation", dilation, 1)
        self.padding = self._padding(padding)
        self.groups = groups = check_integer("Conv2d", "groups", groups, 1)
        check_flag("Conv2d", "bias", bias)
        check_divisor("Conv2d", "groups", groups, "channels_in", channels_in)
        check_divisor("Conv2d", "groups", groups, "channels_out", channels_out)
        shape = (channels_out, channels_in // groups, *self.kernel)
        self.params["weight"] = he_normal(
            shape, RELU_GAIN, self.ops, generator("Conv2d", rng), dtype
        )
        if bias:
            self.params["bias"] = constant(0, channels_out, self.ops, dtype)

    def _padding(self, padding: Padding) -> Pair:
        """Return rows and columns of zeros on each side."""
        if padding == "valid":
            return 0, 0
        if isinstance(padding, str):
            choices = ("same", "valid", "a number of rows and columns")
            check_choice("Conv2d", "padding", padding, choices)
        if padding != "same":
            return pair("Conv2d", "padding", padding, 0)
        if self.stride != (1, 1):
            raise ValueError(
                f"Conv2d: padding is 'same' at stride {self.stride}, expected stride 1: at other "
                "strides pass the number of rows and columns, such as padding=1"
            )
        spans = [d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True)]
        if any(span % 2 for span in spans):
            raise ValueError(
                f"Conv2d: padding is 'same' with kernel {self.kernel}, which needs more zeros on "
                "one side than on the other: use an odd kernel, or padding=(rows, columns)"
            )
        return spans[0] // 2, spans[1] // 2

    def backward(
        self, dout: Array, cache: Any, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array | None, Grads]:
        """Return dx and the gradients; the op adds plus, and skips dx unless needs_dx."""
        check_cache(self.op, cache)
        dx, *rest = self.ops.conv2d_backward(dout, cache, plus=plus, needs_dx=needs_dx)
        return dx, self.named(rest)

    def folded(self, before: Steps) -> Steps:
        """Append a convolution, into which a normalisation, a gate, a sum and a ReLU can fuse."""
        return before.then(Convolution(conv=self)) if self.ops.folds else super().folded(before)


class Linear(OpLayer):
    """Dense layer. Parameters are `weight` (outputs, inputs) and, unless bias=False, `bias`.

    The weight's initial variance is 1 / inputs, because usually no ReLU follows: Linear is a net's
    last layer.
    """

    op, arrays = "linear", ("weight", "bias")

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: bool = True,
        ops: Backend | str = reference,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(ops)
        inputs = check_integer("Linear", "inputs", inputs, 1)
        outputs = check_integer("Linear", "outputs", outputs, 1)
        check_flag("Linear", "bias", bias)
        rng = generator("Linear", rng)
        self.params["weight"] = he_normal((outputs, inputs), LINEAR_GAIN, self.ops, rng, dtype)
        if bias:
            self.params["bias"] = constant(0, outputs, self.ops, dtype)


class BatchNorm2d(OpLayer):
    """Batch normalisation.

    Parameters are `weight` (gamma, initially 1) and `bias` (beta, initially 0), the names in
    PyTorch; state is `running_mean` (initially 0) and `running_var` (initially 1), updated by each
    forward in training.
    """

    op, arrays = "batch_norm2d", ("weight", "bias")
    with_relu = False  # whether a ReLU is part of the op

    def __init__(
        self,
        channels: int,
        *,
        momentum: float = 0.1,
        eps: float = 1e-5,
        ops: Backend | str = reference,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(ops)
        where = type(self).__name__
        channels = check_integer(where, "channels", channels, 1)
        check_number(where, "momentum", momentum, "a number from 0 to 1", 0, 1)
        check_number(where, "eps", eps, "a small number above 0, such as 1e-5", 1e-300, 1)
        self.params["weight"] = constant(1, channels, self.ops, dtype)
        self.params["bias"] = constant(0, channels, self.ops, dtype)
        self.state["running_mean"] = constant(0, channels, self.ops, dtype)
        self.state["running_var"] = constant(1, channels, self.ops, dtype)
        self.momentum, self.eps = momentum, eps

    def settings(self, training: bool) -> dict[str, Any]:
        """Return the keyword arguments of every op that normalises."""
        return dict(self.statistics(), training=training, momentum=self.momentum)

    def statistics(self) -> dict[str, Any]:
        """Return the running statistics and eps, which normalise in evaluation."""
        return dict(self.state, eps=self.eps)

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Return (N, channels, H, W) and the cache; in training, update the running statistics."""
        out, cache = super().forward(x, training)
        self.update(cache, training)
        return out, cache

    def update(self, cache: Any, training: bool) -> None:
        """Copy the running statistics from the cache of an op that normalised in training.

        A back end that updates them in place returns the arrays themselves.
        """
        if training:
            for name, array in self.state.items():
                if (updated := getattr(cache, name)) is not array:
                    array[...] = updated

    def folded(self, before: Steps) -> Steps:
        """Fuse with the convolution before, or append a normalisation."""
        if not self.ops.folds:
            return super().folded(before)
        parts: dict[str, Any] = {"norm": self, "relu": self.with_relu}
        return before.fused(**parts) or before.then(Normalisation(**parts))


class NormReLU(BatchNorm2d):
    """Batch normalisation and ReLU as one op, with BatchNorm2d's parameters and state."""

    op, with_relu = "batch_norm2d_relu", True
    folded = BatchNorm2d.folded  # defines the same function as this forward, too


class ReLU(OpLayer):
    """max(x, 0)."""

    op = "relu"

    def folded(self, before: Steps) -> Steps:
        """Fuse with the convolution or the normalisation before."""
        return before.fused(relu=True) or super().folded(before)


class Sigmoid(OpLayer):
    """1 / (1 + exp(-x))."""

    op = "sigmoid"


class Tanh(OpLayer):
    """Hyperbolic tangent."""

    op = "tanh"


class HardSigmoid(OpLayer):
    """relu6(x + 3) / 6."""

    op = "hard_sigmoid"


class SiLU(OpLayer):
    """x * sigmoid(x), also called swish."""

    op = "silu"


class Flatten(OpLayer):
    """(N, C, H, W) to (N, C * H * W)."""

    op = "flatten"


class ChannelShuffle(OpLayer):
    """Channel shuffle: channel g * C / groups + k moves to k * groups + g."""

    op, keywords = "channel_shuffle", ("groups",)

    def __init__(self, groups: int, *, ops: Backend | str = reference) -> None:
        super().__init__(ops)
        self.groups = check_integer("ChannelShuffle", "groups", groups, 1)


class Scale(OpLayer):
    """factor * x, for a constant factor, such as that of a residual branch (N, C, H, W)."""

    op, keywords = "channel_scale", ("factor",)

    def __init__(self, factor: float, *, ops: Backend | str = reference) -> None:
        super().__init__(ops)
        self.factor = check_number("Scale", "factor", factor, "a finite number", -1e300, 1e300)

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Return factor * x and the cache."""
        check_arrays("Scale", "x: N C H W", x, complex_step=True)
        factors = self.ops.asarray(np.full(x.shape[:2], self.factor), x.dtype)
        out, cache = self.ops.channel_scale_forward(x, factors)
        return out, cache


class PadChannels(OpLayer):
    """Channels of zeros after those of x: (N, C, H, W) to (N, C + channels, H, W)."""

    op = "concat"

    def __init__(self, channels: int, *, ops: Backend | str = reference) -> None:
        super().__init__(ops)
        self.channels = check_integer("PadChannels", "channels", channels, 1)

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Return x with the zeros appended, and the cache."""
        check_arrays("PadChannels", "x: N C H W", x, complex_step=True)
        N, _, H, W = x.shape
        zeros = self.ops.asarray(np.zeros((N, self.channels, H, W)), x.dtype)
        out, cache = self.ops.concat_forward(x, zeros)
        return out, cache


class Dropout(OpLayer):
    """Dropout: in training, set each value to 0 with probability p and divide the others by 1 - p.

    In evaluation it is the identity. A mask depends on `state["seed"]`, which rng draws, and on
    `state["draws"]`, the number of masks drawn before. Every checkpoint contains both, so a net
    that is built with another seed continues with the masks of the saved one.
    """

    op, keywords, added_state = "dropout", ("p",), ("seed",)

    def __init__(self, p: float, *, ops: Backend | str = reference, rng: Rng = None) -> None:
        super().__init__(ops)
        below_1 = math.nextafter(1, 0)
        self.p = check_number("Dropout", "p", p, "a number from 0 to below 1", 0, below_1)
        self.state.update(draws_from("Dropout", rng, self.ops))

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Return an array of the shape of x, and the cache."""
        p = self.p if training else 0.0
        if (undrawn := shaped(self.ops, x.shape, bool)) is not None:
            return self.ops.dropout_forward(x, undrawn, p=p)
        keep = np.ones(x.shape, bool)
        if p:
            keep = next_draw(self).random(x.shape) >= p
        out, cache = self.ops.dropout_forward(x, self.ops.asarray(keep), p=p)
        return out, cache

    def folded(self, before: Steps) -> Steps:
        """Skip this layer: in evaluation, dropout is the identity."""
        return before


def pair(where: str, name: str, value: int | Pair, least: int) -> Pair:
    """Return (rows, columns) from a pair, or from one number for both."""
    both = value if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2:
        number = both[0] if both else least
        raise TypeError(
            f"{where}: {name} is {value!r}, expected a pair (rows, columns): pass {number} or "
            f"({number}, {number})"
        )
    for number in both:
        check_integer(where, name, number, least)
    return int(both[0]), int(both[1])
