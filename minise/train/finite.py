"""Find NaN and infinity in the arrays of a net and in the results of a run."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from minise.checks import Array
from minise.nn import Layer
from minise.nn.layer import dotted_name
from minise.ops.wrap import NonFiniteError

PARAMETER, STATISTIC = "parameter", "running statistic"


class NonFiniteLoss(FloatingPointError):
    """The loss is NaN or infinite; the message has the step and a hint."""


class NonFiniteState(FloatingPointError):
    """An array of the net or the optimiser has a NaN or an infinity.

    Attributes
    ----------
    layer : str
        Dotted name of the layer; "" for the net itself.
    kind : str
        Role of the array: "parameter", "running statistic", or of the optimiser, for example
        "velocity of parameter".
    array : str
        Name of the array in its layer, such as running_var.
    """

    def __init__(self, layer: str, kind: str, array: str, message: str) -> None:
        super().__init__(message)
        self.layer, self.kind, self.array = layer, kind, array


def check_state(net: Layer, velocity: Mapping[str, Array] | None = None, hint: str = "") -> None:
    """Check that every parameter, running statistic and array of the optimiser is finite.

    Parameters
    ----------
    net : Layer
        The net. Arrays of integers, such as counters, are not checked.
    velocity : dict of str to ndarray, optional
        Velocities by the dotted names of the parameters, or all arrays of an optimiser by the names
        of `optimiser_state`, such as "velocity/fc.weight".
    hint : str
        End of the message.

    Raises
    ------
    NonFiniteState
        For the first array that is not finite: parameters and running statistics in the order of
        the layers, then the optimiser's.
    """
    for layer, kind, name, array in _named_arrays(net, velocity or {}):
        values = np.asarray(net.ops.asnumpy(array))
        if values.dtype.kind not in "fc" or np.isfinite(values).all():
            continue
        bad = ~np.isfinite(values)
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise NonFiniteState(
            layer,
            kind,
            name,
            f"layer {layer or '(none)'}, {kind} {name}: {bad.sum()} of {values.size} numbers are "
            f"not finite, the first is {values[first]} at {first}{hint}",
        )


def _named_arrays(
    net: Layer, optimiser: Mapping[str, Array]
) -> Iterator[tuple[str, str, str, Array]]:
    """Yield (layer, kind, name, array)."""
    layers: dict[str, tuple[str, str]] = {}  # by dotted name
    for layer, module in net.layers():
        for kind, arrays in ((PARAMETER, module.params), (STATISTIC, module.state)):
            for name, array in arrays.items():
                layers.setdefault(dotted_name(layer, name), (layer, name))
                yield layer, kind, name, array
    for dotted, array in optimiser.items():
        role, _, parameter = ("velocity", "", dotted) if dotted in layers else dotted.partition("/")
        layer, name = layers.get(parameter, ("", ""))
        kind = f"{role} of parameter" if name else "optimiser's array"
        yield layer, kind, name or dotted, array


def overflow(split: str, metrics: Mapping[str, float]) -> str | None:
    """Return a message if the loss or accuracy of a net with finite arrays is not finite."""
    for name in ("loss", "accuracy"):
        if not math.isfinite(metrics.get(name, 0.0)):
            return (
                f"the {split} {name} is {metrics[name]}, although every parameter and running "
                f"statistic is finite: the {split} inputs or targets are not, or activations "
                "overflow in evaluation, so lower lr, or train longer until the running statistics "
                "have settled; `minise train --guard` names the layer"
            )
    return None


@contextmanager
def naming_the_array(net: Layer) -> Iterator[None]:
    """Append to a guard's error the first array with NaN or infinity, if in another layer.

    A fused op at the end of a residual unit runs under the name of one of its layers.
    """
    try:
        yield
    except NonFiniteError as error:
        try:
            check_state(net)
        except NonFiniteState as cause:
            if cause.layer != error.layer:
                error.args = (f"{error}; {cause}",)
        raise
