"""The layers: each owns its parameters and calls one op.

`rng`, where a layer draws random numbers, is a numpy.random.Generator, an integer seed, or None:
the layer then has a stream of its own, which `nn.seed` restarts (minise/nn/streams.py).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minise.nn.init import LINEAR, RELU, constant, he_normal, pair
from minise.nn.layer import Layer
from minise.nn.streams import Rng, generator
from minise.ops import reference
from minise.ops.checks import Array, Pair

Op = Callable[..., Any]


class Conv2d(Layer):
    """Convolution; kernel, stride, padding and dilation are pairs (rows, columns) or one number.

    Parameters are `weight` (channels_out, channels_in // groups, KH, KW), He normal for a ReLU
    behind it, and with bias=True `bias` (channels_out,), 0.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | Pair,
        *,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = False,
        ops: Any = reference,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(ops)
        shape = (channels_out, channels_in // groups, *pair(kernel))
        rng = generator("Conv2d", rng)
        self.params["weight"] = he_normal(shape, RELU, ops, rng, dtype)
        if bias:
            self.params["bias"] = constant(0, channels_out, ops, dtype)
        self.stride, self.padding = pair(stride), pair(padding)
        self.dilation, self.groups = pair(dilation), groups

    def forward(self, x: Array, training: bool) -> Array:
        """Return (N, channels_out, OH, OW)."""
        out, cache = self.ops.conv2d_forward(
            x,
            self.params["weight"],
            self.params.get("bias"),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        self._remember(cache)
        return out

    def backward(self, dout: Array, plus: Array | None = None) -> Array:
        """Return dx, with plus, a gradient that reaches x by another way, added to it.

        While finds_dx is False, dx may be None.
        """
        dx, dweight, dbias = self._gradients(dout, plus)
        self.grads["weight"] = dweight
        if dbias is not None:
            self.grads["bias"] = dbias
        return dx

    def _gradients(self, dout: Array, plus: Array | None) -> tuple[Any, ...]:
        """Return dx, which may be None while finds_dx is False, dweight and dbias."""
        gradients = self.ops.conv2d_backward(
            dout, self._recall(), plus=plus, needs_dx=self.finds_dx
        )
        return tuple(gradients)


class Linear(Layer):
    """Dense layer. Parameters are `weight` (outputs, inputs) and, unless bias=False, `bias`.

    No ReLU is expected behind it (it is a net's last layer), so its variance is 1 / inputs.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: bool = True,
        ops: Any = reference,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(ops)
        rng = generator("Linear", rng)
        self.params["weight"] = he_normal((outputs, inputs), LINEAR, ops, rng, dtype)
        if bias:
            self.params["bias"] = constant(0, outputs, ops, dtype)

    def forward(self, x: Array, training: bool) -> Array:
        """Return (N, outputs)."""
        weight, bias = self.params["weight"], self.params.get("bias")
        out, cache = self.ops.linear_forward(x, weight, bias)
        self._remember(cache)
        return out

    def backward(self, dout: Array) -> Array:
        """Return dx."""
        dx, dweight, dbias = self.ops.linear_backward(dout, self._recall())
        self.grads["weight"] = dweight
        if dbias is not None:
            self.grads["bias"] = dbias
        return dx


class BatchNorm2d(Layer):
    """Batch normalisation.

    Parameters are `weight` (gamma, 1) and `bias` (beta, 0), named as PyTorch names them; state is
    `running_mean` (0) and `running_var` (1), updated by each forward in training.

    What often follows it can be had with it as one op, which moves less memory: each of
    `forward`, `forward_relu` and `forward_add_relu` is undone by the backward of its own name.
    """

    def __init__(
        self,
        channels: int,
        *,
        momentum: float = 0.1,
        eps: float = 1e-5,
        ops: Any = reference,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(ops)
        self.params["weight"] = constant(1, channels, ops, dtype)
        self.params["bias"] = constant(0, channels, ops, dtype)
        self.state["running_mean"] = constant(0, channels, ops, dtype)
        self.state["running_var"] = constant(1, channels, ops, dtype)
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Array, training: bool) -> Array:
        """Return (N, channels, H, W)."""
        return self._run(self.ops.batch_norm2d_forward, training, x)

    def backward(self, dout: Array) -> Array:
        """Return dx."""
        (dx,) = self._undo(self.ops.batch_norm2d_backward, dout)
        return dx

    def forward_relu(self, x: Array, training: bool) -> Array:
        """Return max(forward(x), 0)."""
        return self._run(self.ops.batch_norm2d_relu_forward, training, x)

    def backward_relu(self, dout: Array) -> Array:
        """Return dx."""
        (dx,) = self._undo(self.ops.batch_norm2d_relu_backward, dout)
        return dx

    def forward_add_relu(self, x: Array, shortcut: Array, training: bool) -> Array:
        """Return max(forward(x) + shortcut, 0)."""
        return self._run(self.ops.batch_norm2d_add_relu_forward, training, x, shortcut)

    def backward_add_relu(self, dout: Array) -> tuple[Array, Array]:
        """Return dx and dshortcut."""
        dx, dshortcut = self._undo(self.ops.batch_norm2d_add_relu_backward, dout)
        return dx, dshortcut

    def settings(self, training: bool) -> dict[str, Any]:
        """Return what an op that normalises takes by keyword."""
        return dict(
            running_mean=self.state["running_mean"],
            running_var=self.state["running_var"],
            training=training,
            momentum=self.momentum,
            eps=self.eps,
        )

    def update(self, cache: Any) -> None:
        """Take the running statistics over from the cache of an op that normalised in training."""
        if cache.training:
            self.state["running_mean"][...] = cache.running_mean
            self.state["running_var"][...] = cache.running_var

    def _run(self, forward: Op, training: bool, x: Array, *more: Array) -> Array:
        gamma, beta = self.params["weight"], self.params["bias"]
        out, cache = forward(x, gamma, beta, *more, **self.settings(training))
        self.update(cache)
        self._remember(cache)
        return out

    def _undo(self, backward: Op, dout: Array) -> tuple[Array, ...]:
        dx, dgamma, dbeta, *more = backward(dout, self._recall())
        self.grads["weight"], self.grads["bias"] = dgamma, dbeta
        return dx, *more


class ReLU(Layer):
    """max(x, 0)."""

    def __init__(self, *, ops: Any = reference) -> None:
        super().__init__(ops)

    def forward(self, x: Array, training: bool) -> Array:
        """Return an array of the shape of x."""
        out, cache = self.ops.relu_forward(x)
        self._remember(cache)
        return out

    def backward(self, dout: Array) -> Array:
        """Return dx."""
        (dx,) = self.ops.relu_backward(dout, self._recall())
        return dx


class _Pool2d(Layer):
    """What both pools over windows share: where the windows lie."""

    def __init__(
        self,
        kernel: int | Pair,
        *,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
        ops: Any = reference,
    ) -> None:
        super().__init__(ops)
        self.kernel, self.padding, self.ceil_mode = pair(kernel), pair(padding), ceil_mode
        self.stride = self.kernel if stride is None else pair(stride)


class MaxPool2d(_Pool2d):
    """Maximum over windows; kernel, stride and padding are pairs (rows, columns) or one number."""

    def forward(self, x: Array, training: bool) -> Array:
        """Return (N, C, OH, OW)."""
        out, cache = self.ops.max_pool2d_forward(
            x,
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
        )
        self._remember(cache)
        return out

    def backward(self, dout: Array) -> Array:
        """Return dx."""
        (dx,) = self.ops.max_pool2d_backward(dout, self._recall())
        return dx


class AvgPool2d(_Pool2d):
    """Mean over windows; kernel, stride and padding are pairs (rows, columns) or one number."""

    def __init__(
        self,
        kernel: int | Pair,
        *,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        ops: Any = reference,
    ) -> None:
        super().__init__(kernel, stride=stride, padding=padding, ceil_mode=ceil_mode, ops=ops)
        self.count_include_pad = count_include_pad

    def forward(self, x: Array, training: bool) -> Array:
        """Return (N, C, OH, OW)."""
        out, cache = self.ops.avg_pool2d_forward(
            x,
            kernel=self.kernel,
            stride=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )
        self._remember(cache)
        return out

    def backward(self, dout: Array) -> Array:
        """Return dx."""
        (dx,) = self.ops.avg_pool2d_backward(dout, self._recall())
        return dx


class GlobalAvgPool2d(Layer):
    """Mean over the whole image: (N, C, H, W) to (N, C)."""

    def __init__(self, *, ops: Any = reference) -> None:
        super().__init__(ops)

    def forward(self, x: Array, training: bool) -> Array:
        """Return (N, C)."""
        out, cache = self.ops.global_avg_pool2d_forward(x)
        self._remember(cache)
        return out

    def backward(self, dout: Array) -> Array:
        """Return dx."""
        (dx,) = self.ops.global_avg_pool2d_backward(dout, self._recall())
        return dx


class Dropout(Layer):
    """Drops each number with probability p in training; does nothing in evaluation.

    Every forward in training draws the next mask from the layer's generator.
    """

    def __init__(self, p: float, *, ops: Any = reference, rng: Rng = None) -> None:
        super().__init__(ops)
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p is {p!r}, expected a number from 0 to below 1")
        self.p = p
        self.rng = generator("Dropout", rng)

    def forward(self, x: Array, training: bool) -> Array:
        """Return an array of the shape of x."""
        p = self.p if training else 0.0
        mask = self.ops.asarray(self.rng.random(x.shape) >= p if p else np.ones(x.shape, bool))
        out, cache = self.ops.dropout_forward(x, mask, p=p)
        self._remember(cache)
        return out

    def backward(self, dout: Array) -> Array:
        """Return dx."""
        dx, _ = self.ops.dropout_backward(dout, self._recall())
        return dx


class Sequential(Layer):
    """One layer after the other; with none, the identity. Sublayers are named "0", "1", …."""

    def __init__(self, *layers: Layer, ops: Any = reference) -> None:
        super().__init__(ops)
        self.layers = layers

    def first(self) -> Layer | None:
        """Return the first layer, or that layer's first."""
        return (self.layers[0].first() or self.layers[0]) if self.layers else None

    def sublayers(self) -> Iterator[tuple[str, Layer]]:
        """Yield the layers by their place."""
        for i, layer in enumerate(self.layers):
            yield str(i), layer

    def forward(self, x: Array, training: bool) -> Array:
        """Return what the last layer returns."""
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    def backward(self, dout: Array) -> Array:
        """Return dx."""
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return dout
