"""The contract of a layer: an op with parameters.

    out, cache = layer.forward(x, training)
    dx, grads  = layer.backward(dout, cache)

A layer owns its parameters and its state (running statistics, seed and counter of random masks) and
nothing else: the caller of forward holds the cache. Therefore one layer may occur twice in a net,
several threads may evaluate it, `predict` may run between another call's forward and backward, and
gradients of several uses or micro-batches are summed as plain dicts. A net is a layer, too
(minise/nn/compose.py).
"""

import copy
import difflib
import functools
import importlib
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, ClassVar, Self, TypeAlias, cast

from minise.checks import Array
from minise.nn.inference import Inference, Steps, Unfolded
from minise.ops import reference
from minise.ops.backend import Backend, load_ops

Grads: TypeAlias = dict[str, Array]  # by the dotted names of the parameters
# attributes that define forward; see OpLayer
FORWARD_PARTS = {"forward", "op", "arrays", "keywords", "inputs", "settings", "with_relu"}


class Module:
    """A tree of named parameters and state: the base class of layers and of residual tails.

    Parameters
    ----------
    ops : back end or str
        Back end whose ops this module calls, such as the module minise.ops.jit, or its name.

    Attributes
    ----------
    params, state : dict of str to ndarray
        The module's own arrays, without its children's. They are updated in place, because
        optimisers and CUDA graphs rely on their identity.
    added_state : tuple of str
        Names in `state` that older files lack; a net that reads such a file keeps its own values.
    """

    fold: ClassVar[str] = "folded"  # name of the method that replaces forward in inference
    added_state: ClassVar[tuple[str, ...]] = ()

    def __init__(self, ops: Backend | str = reference) -> None:
        self.ops: Backend = load_ops(ops) if isinstance(ops, str) else ops
        try:
            _ = self.ops.relu_forward
        except AttributeError:
            raise TypeError(
                f"{type(self).__name__}: ops is {ops!r}, expected a back end, such as "
                "minise.ops.jit, or its name"
            ) from None
        self.params: dict[str, Array] = {}
        self.state: dict[str, Array] = {}

    def __getattr__(self, name: str) -> Any:
        """Raise AttributeError, with a hint if a subclass did not call super().__init__()."""
        kind = type(self).__name__
        hint = ": call super().__init__() first" if name in ("ops", "params", "state") else ""
        raise AttributeError(f"{kind} has no attribute {name}{hint}")

    def children(self) -> list[tuple[str, "Module"]]:
        """Return (name, module) for each direct child, that is, each module in an attribute.

        Modules in a list, tuple or dict are called "blocks.0" or "blocks.key". The name "" adds no
        prefix to the names of the child's parameters.
        """
        named: list[tuple[str, Module]] = []
        for name, value in vars(self).items():
            if isinstance(value, Module):
                named.append((name, value))
            elif isinstance(value, list | tuple | dict):
                items = value.items() if isinstance(value, dict) else enumerate(value)
                named += [(f"{name}.{k}", item) for k, item in items if isinstance(item, Module)]
        return named

    def layers(self, path: str = "") -> Iterator[tuple[str, "Module"]]:
        """Yield (dotted name, module) for this module and all modules below it."""
        pending = [(path, self)]
        while pending:  # iterative, for speed: every training step traverses its net
            path, module = pending.pop()
            yield path, module
            children = reversed(module.children())
            pending += [(dotted_name(path, name), inner) for name, inner in children]

    def named_layers(self) -> dict[str, "Module"]:
        """Return all modules by dotted name, this one as ""; of equal names, the outermost."""
        named: dict[str, Module] = {}
        for name, module in self.layers():
            named.setdefault(name, module)
        return named

    def __getitem__(self, name: str | int) -> "Module":
        """Return the module with a dotted name, or the child with an index."""
        if not isinstance(name, str):
            children = self.children()
            index = operator.index(name)
            if not -len(children) <= index < len(children):
                raise IndexError(f"{type(self).__name__} has {len(children)} children, not {name}")
            return children[index][1]
        named = self.named_layers()
        if name not in named:
            close = difflib.get_close_matches(name, named, 3) or list(named)[1:4]
            hint = f"did you mean {', '.join(close)}?" if close else "it has no layers below"
            raise KeyError(f"{type(self).__name__} has no layer {name!r}: {hint}")
        return named[name]

    def named_parameters(self) -> dict[str, Array]:
        """Return all parameters by dotted name; a shared one only under the first of its names."""
        return self._named("params")

    def named_state(self) -> dict[str, Array]:
        """Return running statistics, seeds and counters by dotted name."""
        return self._named("state")

    def names(self, kind: str) -> Iterator[tuple[str, Array]]:
        """Yield (dotted name, array) of "params" or "state"; a shared array under all its names."""
        for path, module in self.layers():
            for name, array in getattr(module, kind).items():
                yield dotted_name(path, name), array

    def first_names(self, kind: str = "params") -> dict[str, str]:
        """Map each dotted name to the first name of the same array; shared arrays have several."""
        first: dict[int, str] = {}
        return {name: first.setdefault(id(array), name) for name, array in self.names(kind)}

    def parameters_and_names(self) -> tuple[dict[str, Array], dict[str, str]]:
        """Return named_parameters() and first_names() from a single traversal."""
        pairs = list(self.names("params"))
        first: dict[int, str] = {}
        names = {name: first.setdefault(id(array), name) for name, array in pairs}
        return self._unique(pairs), names

    def named_arrays(self) -> dict[str, Array]:
        """Return parameters and state by dotted name, which is what a saved file contains."""
        return self._named("params", "state")

    def _named(self, *kinds: str) -> dict[str, Array]:
        return self._unique(pair for kind in kinds for pair in self.names(kind))

    def _unique(self, pairs: Iterable[tuple[str, Array]]) -> dict[str, Array]:
        """Return each array under its first name; raise if two arrays have the same name."""
        seen: dict[str, Array] = {}
        first: dict[int, str] = {}
        for name, array in pairs:
            first.setdefault(id(array), name)
            if seen.setdefault(name, array) is not array:
                raise ValueError(
                    f"{type(self).__name__}: two arrays are called {name}: give the layers "
                    'different names, such as Chain(("name", layer))'
                )
        return {name: seen[name] for name in first.values()}

    @property
    def parameter_count(self) -> int:
        """Return the number of trainable values; running statistics do not count."""
        return sum(array.size for array in self.named_parameters().values())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy with copied arrays and the same back end."""
        memo[id(self.ops)] = self.ops
        module = memo[id(self)] = object.__new__(type(self))
        vars(module).update(copy.deepcopy(vars(self), memo))
        return module

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes for pickle, with a back-end module replaced by its name."""
        named = {"ops": self.ops.__name__} if isinstance(self.ops, ModuleType) else {}
        return {**vars(self), **named}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        """Restore the attributes from pickle; import a back end that was saved by name."""
        vars(self).update(attributes)
        if isinstance(self.ops, str):
            self.ops = cast(Backend, importlib.import_module(self.ops))

    def runs_forward(self) -> bool:
        """Return True if inference must run forward.

        It must if a subclass or an instance overrides a part of forward, but not the method that
        `fold` names.
        """
        kinds = [vars(kind) for kind in type(self).__mro__ if kind is not Layer]  # folds nothing
        if not any(self.fold in kind for kind in kinds):
            return False
        newest = next(kind for kind in kinds if {*FORWARD_PARTS, self.fold} & kind.keys())
        return bool(vars(self).keys() & FORWARD_PARTS) or self.fold not in newest

    def settings_text(self) -> str:
        """Return the settings that repr shows in parentheses."""
        return ""

    def __repr__(self) -> str:
        """Return the tree of modules with the shapes of their parameters."""
        remark = "evaluated by its own forward" if self.runs_forward() else ""
        own = f"{type(self).__name__}({', '.join(filter(None, (self.settings_text(), remark)))})"
        shapes = ", ".join(f"{name} {tuple(a.shape)}" for name, a in self.params.items())
        lines = [f"{own}  {shapes}".rstrip()]
        roles = {id(value): f"({key})" for key, value in vars(self).items()}
        for name, module in self.children():
            title = name or roles.get(id(module))
            title = f"{title}: {module!r}" if title else repr(module)
            lines += [f"  {line}" for line in title.splitlines()]
        return "\n".join(lines)


class Caches(list[Any]):
    """The caches of a composite's children, in forward's order."""

    def __init__(self, owner: Module, caches: Iterable[Any]) -> None:
        super().__init__(caches)
        self.owner, self.size = owner, len(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Caches":
        """Return a copy, for a second backward through the same net."""
        caches = Caches(self.owner, copy.deepcopy(list(self), memo))
        caches.size = self.size
        return caches


class Layer(Module):
    """A differentiable function of one array.

    A subclass defines forward(x, training) and backward(dout, cache). If its backward does not
    accept plus and needs_dx, plus is added to the dx that it returns. A subclass that overrides
    forward but not `folded` runs its forward in inference, even if its base class is folded.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Wrap a backward that accepts neither plus nor needs_dx."""
        super().__init_subclass__(**kwargs)
        if len(inspect.signature(cls.backward).parameters) == 3:
            cls.backward = accept_plus(cls.backward)  # type: ignore[method-assign]

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Return out and the cache for backward; in training, update the state.

        Parameters
        ----------
        x : ndarray
            Images (N, C, H, W) or vectors (N, features), as the layer expects.
        training : bool
            True normalises with batch statistics and applies dropout; False normalises with running
            statistics.
        """
        kind = type(self).__name__
        raise NotImplementedError(f"{kind} has no forward(x, training) -> (out, cache): define it")

    def backward(
        self, dout: Array, cache: Any, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array | None, Grads]:
        """Return dx and the gradient of each parameter by dotted name.

        Parameters
        ----------
        dout : ndarray
            Gradient of the loss with respect to out.
        cache
            The cache that forward returned. Its lists may be emptied; no array is written.
        plus : ndarray of the shape of x, optional
            Gradient of the loss with respect to x along other paths; it is added to dx.
        needs_dx : bool
            If False, dx may be None.
        """
        kind = type(self).__name__
        raise NotImplementedError(f"{kind} has no backward(dout, cache) -> (dx, grads): define it")

    def predict(self, x: Array) -> Array:
        """Return the output in evaluation mode."""
        return run_forward(self, x, False)[0]

    def inference(self) -> Inference:
        """Return a fast function of x that computes what predict returns, up to rounding.

        The function is a snapshot: it copies parameters and running statistics, so later training
        does not change it. Everything that does not depend on x is computed here; in particular,
        normalisations are folded into the convolutions before them. This pays off after a few
        batches.
        """
        return self.steps(Steps()).prepare()

    def steps(self, before: Steps) -> Steps:
        """Return the steps before this layer, which compute x, followed by this layer.

        The layer is folded unless a subclass overrides its forward.
        """
        return before.then(Unfolded(self)) if self.runs_forward() else self.folded(before)

    def folded(self, before: Steps) -> Steps:
        """Return the steps before this layer, which compute x, with this layer folded in.

        A class that overrides it must define the same function as its forward.
        """
        return before.then(Unfolded(self))

    def add(self, dx: Array, plus: Array | None) -> Array:
        """Return dx + plus, or dx if plus is None."""
        if plus is None:
            return dx
        if plus.shape != dx.shape:
            kind = type(self).__name__
            raise ValueError(f"{kind}: plus has shape {plus.shape}, expected {dx.shape}, as x has")
        return self.ops.add_forward(dx, plus)[0]


def accept_plus(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap backward(self, dout, cache) so that it also accepts plus and needs_dx."""

    @functools.wraps(backward)
    def run(
        self: Layer, dout: Array, cache: Any, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array, Grads]:
        returned = backward(self, dout, cache)
        pair = isinstance(returned, tuple) and len(returned) == 2
        if not pair or not isinstance(returned[1], dict):
            raise TypeError(
                f"{type(self).__name__}.backward returns a {type(returned).__name__}, expected "
                "(dx, grads): grads is a dict from names of parameters to gradients, or {}"
            )
        dx, grads = returned
        return self.add(dx, plus), grads

    run.__signature__ = inspect.signature(Layer.backward)  # type: ignore[attr-defined]
    return run


def run_forward(layer: Any, x: Array, training: bool) -> tuple[Array, Any]:
    """Run a layer's forward; check that it returns a pair, out and the cache."""
    returned = layer.forward(x, training)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(
            f"{type(layer).__name__}.forward returns a {type(returned).__name__}, expected "
            "(out, cache): the cache holds what backward needs, or is None"
        )
    return returned


def dotted_name(path: str, name: str) -> str:
    """Return path.name, or one of them if the other is ""."""
    return f"{path}.{name}" if path and name else path or name


def under(name: str, grads: Grads) -> Grads:
    """Prefix the names of a child's gradients with the child's name."""
    return {dotted_name(name, key): array for key, array in grads.items()}


def total(*terms: Grads) -> Grads:
    """Sum gradients by name, over several uses of a layer or over micro-batches."""
    sums: Grads = {}
    for grads in terms:
        for name, array in grads.items():
            sums[name] = sums[name] + array if name in sums else array
    return sums
