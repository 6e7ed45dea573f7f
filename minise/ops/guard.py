"""A back end that raises an error at the first NaN or infinity of a wrapped back end."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minise.ops.backend import copies, sgd_updates
from minise.ops.shapes import positional_names
from minise.ops.wrapper import BACKWARD, Call, View, Wrapper, unwrapped

RUN = "run"  # a step of inference, which has no backward
UPDATE = "update"  # of the parameters, by SGD
INPUT, RESULT, NEW = "input", "result", "new"  # roles of an array in a call


@dataclass(frozen=True)
class NonFinite:
    """The first number of an array that is NaN or infinite, and the call that has the array."""

    layer: str  # dotted name, or "" for a call outside a net
    op: str
    direction: str  # "forward", "backward", "run" (inference) or "update" (of the parameters)
    role: str  # "input", "result" or "new" (a running statistic after a forward)
    array: str  # such as x, dweight, running_var, velocity of weight
    index: tuple[int, ...]
    value: str  # nan, inf or -inf
    count: int  # numbers of the array that are not finite
    size: int  # numbers of the array

    def __str__(self) -> str:
        """Return a message of one line."""
        function = f"{self.op}_{self.direction}"
        if self.direction == RUN:
            function = f"{RUN}_{self.op}"
        return (
            f"layer {self.layer or '(none)'}, {function}: its {self.role} {self.array} has "
            f"{self.count} of {self.size} numbers not finite, first at {self.index}: {self.value}"
        )


class NonFiniteError(FloatingPointError):
    """A NaN or an infinity in an array of a back end's call.

    Attributes
    ----------
    nonfinite : NonFinite
        The number, the array and the call.
    layer, op, direction, array, index, value
        As in NonFinite.
    inputs : dict of str to ndarray
        The input arrays of the call by name, for a backward also the arrays of its cache.
    batches : sequence of (inputs, targets)
        The batches of the training step or the evaluation; empty outside of them.
    lr : float or None
        The learning rate of the training step.
    remedy : str
        End of the message: the file with what is needed to repeat the call.
    """

    def __init__(self, nonfinite: NonFinite, inputs: Mapping[str, Any]) -> None:
        super().__init__(str(nonfinite))
        self.nonfinite, self.inputs = nonfinite, dict(inputs)
        self.layer, self.op, self.direction = nonfinite.layer, nonfinite.op, nonfinite.direction
        self.array, self.index, self.value = nonfinite.array, nonfinite.index, nonfinite.value
        self.batches: Sequence[tuple[Any, Any]] = ()
        self.lr: float | None = None
        self.remedy = ""


class Guard(Wrapper):
    """Raises NonFiniteError at the first NaN or infinity, with its layer, op and array.

    A step of inference, run_conv2d or run_batch_norm2d, has the name of its first layer; a NaN in
    an array that was folded into the step, such as gamma, appears in the step's result. An update
    of the parameters from or to a NaN or an infinity leaves all of them unchanged.
    """

    def wrapped(self, layer: str, name: str) -> Any:
        """Return a function of the back end that checks its arrays; includes run_conv2d etc."""
        if name == "sgd_updates":
            return self._update
        if name == "sgd_update":
            return self._update_one
        function = super().wrapped(layer, name)
        if not name.startswith(f"{RUN}_"):
            return function
        return partial(self._run, layer, name.removeprefix(f"{RUN}_"), function)

    def _run(
        self,
        layer: str,
        op: str,
        function: Callable[..., Any],
        prepared: Any,
        *arrays: Any,
        **keywords: Any,
    ) -> Any:
        inputs = dict(zip(("x", "shortcut"), arrays, strict=False)) | keywords
        check_finite((layer, op, RUN, INPUT), inputs, inputs)
        out = function(prepared, *arrays, **keywords)
        check_finite((layer, op, RUN, RESULT), {"out": out}, inputs)
        return out

    def prepare(
        self,
        layer: str,
        op: str,
        direction: str,
        arrays: Sequence[Any],
        settings: Mapping[str, Any],
    ) -> None:
        """Raise NonFiniteError if an input is not finite: an earlier op is the cause."""
        inputs = self._inputs(op, direction, arrays, settings)
        check_finite((layer, op, direction, INPUT), inputs, inputs)

    def observe(self, call: Call) -> None:
        """Raise NonFiniteError if a result of finite inputs is not finite: this op is the cause."""
        inputs = self._inputs(call.op, call.direction, call.arrays, call.settings)
        where = call.layer, call.op, call.direction
        if call.direction == BACKWARD:
            names = [f"d{name}" for name in _names(self.ops, call.op, len(call.results))]
            results = dict(zip(names, call.results, strict=True))
            check_finite((*where, RESULT), results, {**inputs, **_arrays_in(call.cache)})
            return
        check_finite((*where, RESULT), {"out": call.results[0]}, inputs)
        names = ["running_mean", "running_var"]
        statistics = {name: getattr(call.cache, name, None) for name in names}
        check_finite((*where, NEW), statistics, inputs)

    def _inputs(
        self, op: str, direction: str, arrays: Sequence[Any], settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the arrays of a call by name, those of keyword arguments last."""
        names = ["dout"] if direction == BACKWARD else _names(self.ops, op, len(arrays))
        keyword_arrays = {k: value for k, value in settings.items() if hasattr(value, "dtype")}
        return {**dict(zip(names, arrays, strict=True)), **keyword_arrays}

    def _update(
        self,
        params: Sequence[Any],
        grads: Sequence[Any],
        velocities: Sequence[Any],
        *,
        weight_decays: Sequence[float],
        **settings: Any,
    ) -> None:
        arrays = list(zip(self._names_of(params), params, grads, velocities, strict=True))
        for (layer, name), param, grad, velocity in arrays:
            inputs = {name: param, f"gradient of {name}": grad, f"velocity of {name}": velocity}
            check_finite((layer, "sgd", UPDATE, INPUT), inputs, inputs)
        updated = [*params, *velocities]
        saved = copies(self.ops, updated)
        sgd_updates(self.ops, params, grads, velocities, weight_decays=weight_decays, **settings)
        try:
            for k, ((layer, name), param, grad, velocity) in enumerate(arrays):
                before = saved[k], grad, saved[k + len(params)]
                titles = name, f"gradient of {name}", f"velocity of {name}"
                results = {f"velocity of {name}": velocity, name: param}  # as computed
                inputs = dict(zip(titles, before, strict=True))
                check_finite((layer, "sgd", UPDATE, RESULT), results, inputs)
        except NonFiniteError:
            for array, values in zip(updated, saved, strict=True):
                array[...] = values
            raise

    def _update_one(
        self, param: Any, grad: Any, velocity: Any, *, weight_decay: float, **settings: Any
    ) -> None:
        self._update([param], [grad], [velocity], weight_decays=[weight_decay], **settings)

    def _names_of(self, params: Sequence[Any]) -> list[tuple[str, str]]:
        """Return each parameter's layer and name there, or its number if no net is attached."""
        net = None if self.net is None else self.net()
        names: dict[int, tuple[str, str]] = {}
        for layer, module in [] if net is None else net.layers():
            for name, array in module.params.items():
                names.setdefault(id(array), (layer, name))
        return [names.get(id(param), ("", f"parameter {k}")) for k, param in enumerate(params)]


def unguarded(ops: Any) -> Any:
    """Return the back end that a guard, or a layer's view of a guard, wraps; or else ops itself."""
    wrapper = ops.wrapper if isinstance(ops, View) else ops
    return wrapper.ops if isinstance(wrapper, Guard) else ops


def _names(ops: Any, op: str, count: int) -> list[str]:
    """Return the names of an op's positional arrays, from its forward's signature."""
    function = getattr(unwrapped(ops), f"{op}_forward")
    return positional_names(inspect.signature(function), count)


def _arrays_in(cache: Any) -> dict[str, Any]:
    """Return the arrays of a cache, and of the caches in it, by the names of their fields."""
    arrays: dict[str, Any] = {}
    for name, value in getattr(cache, "_asdict", dict)().items():
        arrays |= {name: value} if hasattr(value, "dtype") else _arrays_in(value)
    return arrays


def check_finite(
    where: tuple[str, str, str, str], arrays: Mapping[str, Any], inputs: Mapping[str, Any]
) -> None:
    """Raise NonFiniteError for the first array that is not finite.

    Parameters
    ----------
    where : tuple of 4 str
        Layer, op, direction and role, as in NonFinite.
    arrays : dict of str to ndarray or None
        The arrays to check; those of integers are finite.
    inputs : dict of str to ndarray or None
        The inputs of the call, for the error.
    """
    for name, array in arrays.items():
        if array is None or array.dtype.kind not in "fc" or np.isfinite(array).all():
            continue
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        value, count = str(array[index].item()), int((~np.isfinite(array)).sum())
        present = {name: array for name, array in inputs.items() if array is not None}
        raise NonFiniteError(NonFinite(*where, name, index, value, count, array.size), present)
