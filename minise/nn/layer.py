"""A layer: parameters, running statistics, and what the last forward left for backward.

Layers hold state and call ops; they do no arithmetic of their own. A composite layer spells out
its forward, and below it its backward: the same lines upside down.
"""

from collections.abc import Callable, Iterator
from typing import Any

from minise.ops.checks import Array

Inference = Callable[..., Array]  # of x, and for some of a shortcut too


class Layer:
    """What all layers and nets share.

    Attributes
    ----------
    ops : back end
        The functions that this layer calls, such as the module minise.ops.reference.
    params, grads, state : dict of str to ndarray
        Its own arrays, without those of its sublayers: what is learned, the gradients that the
        last backward left, and running statistics. An array keeps its identity while it is
        updated.
    """

    def __init__(self, ops: Any) -> None:
        self.ops = ops
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.state: dict[str, Array] = {}
        self.keeps_cache = True
        self.finds_dx = True
        self._cache: Any = None

    def forward(self, x: Array, training: bool) -> Array:
        """Return the layer's output and keep what backward needs."""
        raise NotImplementedError

    def backward(self, dout: Array) -> Array:
        """Return dx, leave the gradients of the parameters in grads, and drop the cache."""
        raise NotImplementedError

    def first(self) -> "Layer | None":
        """Return the layer that x goes into, and nowhere else, where a net knows of one."""
        return None

    def backward_params(self, dout: Array) -> None:
        """Leave the gradients of the parameters as backward does, for training: it needs no dx.

        A net whose first layer is a convolution saves the time that dx would take.
        """
        first: Any = self.first() or self
        first.finds_dx = False
        try:
            self.backward(dout)
        finally:
            first.finds_dx = True

    def predict(self, x: Array) -> Array:
        """Return the output in evaluation mode and keep nothing for backward."""
        layers = self.named_layers().values()
        for layer in layers:
            layer.keeps_cache = False
        try:
            return self.forward(x, training=False)
        finally:
            for layer in layers:
                layer.keeps_cache = True

    def inference(self) -> Inference:
        """Return a function from x to what predict returns but for rounding, made to be fast.

        It is a snapshot: it has copies of parameters and running statistics, so that what is
        learned afterwards does not change it; to see that, ask again. It keeps nothing for
        backward, and shares no array with the layer.

        All that does not depend on x is done here, above all normalisations are folded into the
        convolutions before them (see minise/nn/inference.py). It pays from a few batches on.
        """
        from minise.nn.inference import inference_of

        return inference_of(self)

    def folded(self) -> Inference:
        """Return what inference returns, by the folded forms of this layer's sublayers.

        A layer that defines its own forward may define this beside it; one that does not is copied
        and run as it is.
        """
        raise NotImplementedError

    def sublayers(self) -> Iterator[tuple[str, "Layer"]]:
        """Yield the layers held as attributes, by name, in the order in which they were set."""
        for name, value in vars(self).items():
            if isinstance(value, Layer):
                yield name, value

    def named_layers(self) -> dict[str, "Layer"]:
        """Return this layer, named "", and all below it by dotted names."""
        found: dict[str, Layer] = {}
        self._name_layers("", found)
        return found

    def _name_layers(self, path: str, found: dict[str, "Layer"]) -> None:
        found[path] = self
        for name, layer in self.sublayers():
            layer._name_layers(f"{path}.{name}" if path else name, found)

    def named_parameters(self) -> dict[str, Array]:
        """Return every parameter by its dotted name."""
        return self._named("params")

    def named_grads(self) -> dict[str, Array]:
        """Return every gradient that the last backward left, named as its parameter."""
        return self._named("grads")

    def named_state(self) -> dict[str, Array]:
        """Return every running statistic by its dotted name."""
        return self._named("state")

    def _named(self, kind: str) -> dict[str, Array]:
        return {
            f"{path}.{name}".removeprefix("."): array
            for path, layer in self.named_layers().items()
            for name, array in getattr(layer, kind).items()
        }

    def _remember(self, cache: Any) -> None:
        """Keep what backward needs, unless predict runs."""
        self._cache = cache if self.keeps_cache else None

    def _recall(self) -> Any:
        """Hand out what forward kept, once."""
        if self._cache is None:
            raise RuntimeError(
                f"{type(self).__name__}: backward has no cache, expected one forward before each "
                "backward: call forward(x, training) again (predict keeps nothing)"
            )
        cache, self._cache = self._cache, None
        return cache
