"""The contract of a layer: an op with parameters.

    out, cache = layer.forward(x, training)
    dx, grads  = layer.backward(dout, cache)

A layer owns its parameters and its state (running statistics, the counter of random masks) and
keeps nothing else: whoever calls forward holds the cache. So a layer may stand at two places of a
net, several threads may evaluate it, `predict` may run between another call's forward and backward,
and gradients of several uses or micro-batches are added as the dicts that they are. A net is a
layer too (minise/nn/compose.py).
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
from minise.nn.inference import Evaluated, Inference, Steps
from minise.ops import reference
from minise.ops.backend import Backend, load_ops

Grads: TypeAlias = dict[str, Array]  # by the dotted names of the parameters
HOOKS = {"forward", "op", "arrays", "keywords", "inputs", "settings", "with_relu"}  # see OpLayer


class Module:
    """Parameters, state and children with names; the base of layers and of residual tails.

    Parameters
    ----------
    ops : back end or str
        The functions that this module calls, such as the module minise.ops.jit, or the name of one.

    Attributes
    ----------
    params, state : dict of str to ndarray
        Its own arrays, without those of its children. They are updated in place, so each keeps its
        identity: optimisers and CUDA graphs rely on it.
    """

    fold: ClassVar[str] = "folded"  # the method that stands for forward in inference

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
        """Say what is missing where a subclass forgot to call __init__ of this class."""
        kind = type(self).__name__
        hint = ": call super().__init__() first" if name in ("ops", "params", "state") else ""
        raise AttributeError(f"{kind} has no attribute {name}{hint}")

    def children(self) -> list[tuple[str, "Module"]]:
        """Return the modules directly below with their names: those held as attributes.

        Of an attribute that is a list, tuple or dict of modules each one is called "blocks.0" or
        "blocks.key". The name "" gives a child's names to its parent.
        """
        found: list[tuple[str, Module]] = []
        for name, value in vars(self).items():
            if isinstance(value, Module):
                found.append((name, value))
            elif isinstance(value, list | tuple | dict):
                items = value.items() if isinstance(value, dict) else enumerate(value)
                found += [(f"{name}.{k}", one) for k, one in items if isinstance(one, Module)]
        return found

    def layers(self, path: str = "") -> Iterator[tuple[str, "Module"]]:
        """Yield (dotted name, module) for this module and every one below it."""
        yield path, self
        for name, child in self.children():
            yield from child.layers(joined(path, name))

    def named_layers(self) -> dict[str, "Module"]:
        """Return modules by dotted name, this one as ""; of several with one name the outermost."""
        named: dict[str, Module] = {}
        for name, module in self.layers():
            named.setdefault(name, module)
        return named

    def __getitem__(self, name: str | int) -> "Module":
        """Return the module of a dotted name, or the child at a position."""
        if not isinstance(name, str):
            children = self.children()
            place = operator.index(name)
            if not -len(children) <= place < len(children):
                raise IndexError(f"{type(self).__name__} has {len(children)} children, not {name}")
            return children[place][1]
        named = self.named_layers()
        if name not in named:
            near = difflib.get_close_matches(name, named, 3) or list(named)[1:4]
            hint = f"did you mean {', '.join(near)}?" if near else "it has no layers below"
            raise KeyError(f"{type(self).__name__} has no layer {name!r}: {hint}")
        return named[name]

    def named_parameters(self) -> dict[str, Array]:
        """Return every parameter by its dotted name; one that has several is under its first."""
        return self._named("params")

    def named_state(self) -> dict[str, Array]:
        """Return running statistics and counters by dotted name."""
        return self._named("state")

    def names(self, kind: str) -> Iterator[tuple[str, Array]]:
        """Yield (dotted name, array) of "params" or "state"; a shared array under all its names."""
        for path, module in self.layers():
            for name, array in getattr(module, kind).items():
                yield joined(path, name), array

    def first_names(self, kind: str = "params") -> dict[str, str]:
        """Return for each dotted name the first name of its array, which may have several."""
        first: dict[int, str] = {}
        return {name: first.setdefault(id(array), name) for name, array in self.names(kind)}

    def named_arrays(self) -> dict[str, Array]:
        """Return all that a file of this module holds: parameters and state by dotted name."""
        return self._named("params", "state")

    def _named(self, *kinds: str) -> dict[str, Array]:
        seen: dict[str, Array] = {}
        first: dict[int, str] = {}
        for name, array in (pair for kind in kinds for pair in self.names(kind)):
            first.setdefault(id(array), name)
            if seen.setdefault(name, array) is not array:
                raise ValueError(
                    f"{type(self).__name__}: two arrays are called {name}: give the layers "
                    'different names, such as Chain(("name", layer))'
                )
        return {name: seen[name] for name in first.values()}

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned; running statistics do not count."""
        return sum(array.size for array in self.named_parameters().values())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy with arrays of its own that calls the same back end."""
        memo[id(self.ops)] = self.ops
        same = memo[id(self)] = object.__new__(type(self))
        vars(same).update(copy.deepcopy(vars(self), memo))
        return same

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes for pickle, a back end that is a module by its name."""
        named = {"ops": self.ops.__name__} if isinstance(self.ops, ModuleType) else {}
        return {**vars(self), **named}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        """Take the attributes over."""
        vars(self).update(attributes)
        if isinstance(self.ops, str):
            self.ops = cast(Backend, importlib.import_module(self.ops))

    def evaluated(self) -> bool:
        """Tell whether inference runs forward, which changed after `fold` was written."""
        kinds = [vars(kind) for kind in type(self).__mro__ if kind is not Layer]  # it folds nothing
        if not any(self.fold in kind for kind in kinds):
            return False
        newest = next(kind for kind in kinds if {*HOOKS, self.fold} & kind.keys())
        return bool(vars(self).keys() & HOOKS) or self.fold not in newest

    def settings_text(self) -> str:
        """Return the settings that a repr shows in brackets."""
        return ""

    def __repr__(self) -> str:
        """Return the tree of modules with the shapes of their parameters."""
        remark = "evaluated by its own forward" if self.evaluated() else ""
        own = f"{type(self).__name__}({', '.join(filter(None, (self.settings_text(), remark)))})"
        shapes = ", ".join(f"{name} {tuple(a.shape)}" for name, a in self.params.items())
        lines = [f"{own}  {shapes}".rstrip()]
        roles = {id(value): f"({key})" for key, value in vars(self).items()}
        for name, child in self.children():
            title = name or roles.get(id(child))
            title = f"{title}: {child!r}" if title else repr(child)
            lines += [f"  {line}" for line in title.splitlines()]
        return "\n".join(lines)


class Caches(list[Any]):
    """The caches of a composite's children, in forward's order."""

    def __init__(self, owner: Module, caches: Iterable[Any]) -> None:
        super().__init__(caches)
        self.owner, self.size = owner, len(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Caches":
        """Return a copy for a second backward of the same net."""
        same = Caches(self.owner, copy.deepcopy(list(self), memo))
        same.size = self.size
        return same


class Layer(Module):
    """A differentiable function of one array.

    A subclass defines forward(x, training) and backward(dout, cache), which may take plus and
    needs_dx, too; where it does not, plus is added to its dx. Without a `folded` of its own it is
    evaluated in inference as it is, also where its base class would be folded.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Complete a class whose backward takes neither plus nor needs_dx."""
        super().__init_subclass__(**kwargs)
        if len(inspect.signature(cls.backward).parameters) == 3:
            cls.backward = adding(cls.backward)  # type: ignore[method-assign]

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Return out and the cache for backward; in training the state is updated.

        Parameters
        ----------
        x : ndarray
            Images (N, C, H, W) or vectors (N, features), as the layer takes them.
        training : bool
            Whether the batch's own statistics normalise and dropout drops.
        """
        kind = type(self).__name__
        raise NotImplementedError(f"{kind} has no forward(x, training) -> (out, cache): define it")

    def backward(
        self, dout: Array, cache: Any, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array | None, Grads]:
        """Return dx and the gradients of the parameters, one for each, by their dotted names.

        Parameters
        ----------
        dout : ndarray
            Gradient of the loss with respect to out.
        cache
            As forward returned it. Lists in it may be emptied; no array is written.
        plus : ndarray of the shape of x, optional
            A gradient that reaches x by another way; it is added to dx.
        needs_dx : bool
            Where it is False dx may be None.
        """
        kind = type(self).__name__
        raise NotImplementedError(f"{kind} has no backward(dout, cache) -> (dx, grads): define it")

    def predict(self, x: Array) -> Array:
        """Return the output in evaluation mode."""
        return run_forward(self, x, False)[0]

    def inference(self) -> Inference:
        """Return a function from x to what predict returns but for rounding, made to be fast.

        It is a snapshot: it has copies of parameters and running statistics, so that what is
        learned afterwards does not change it. All that does not depend on x is done here, above all
        normalisations are folded into the convolutions before them. It pays from a few batches on.
        """
        return self.steps(Steps()).ready()

    def steps(self, before: Steps) -> Steps:
        """Return the steps that make x, and this layer after them, folded where its class is known.

        A subclass that changes what forward does is evaluated as it is.
        """
        return before.then(Evaluated(self)) if self.evaluated() else self.folded(before)

    def folded(self, before: Steps) -> Steps:
        """Return the steps that make x, and this layer after them, folded where that can be.

        A class defines it beside its forward, for which it holds.
        """
        return before.then(Evaluated(self))

    def add(self, dx: Array, plus: Array | None) -> Array:
        """Return dx + plus, or dx where nothing reaches x by another way."""
        if plus is None:
            return dx
        if plus.shape != dx.shape:
            kind = type(self).__name__
            raise ValueError(f"{kind}: plus has shape {plus.shape}, expected that of x, {dx.shape}")
        return self.ops.add_forward(dx, plus)[0]


def adding(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a backward(self, dout, cache) as one that takes plus, and needs_dx."""

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
    """Return what a layer's forward returns, which must be out and the cache."""
    returned = layer.forward(x, training)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(
            f"{type(layer).__name__}.forward returns a {type(returned).__name__}, expected "
            "(out, cache): what backward needs from forward, or None"
        )
    return returned


def joined(path: str, name: str) -> str:
    """Return a dotted name, where either part may be ""."""
    return f"{path}.{name}" if path and name else path or name


def under(name: str, grads: Grads) -> Grads:
    """Return the gradients of a child by their names in its parent."""
    return {joined(name, key): array for key, array in grads.items()}


def total(*several: Grads) -> Grads:
    """Return the sums of gradients by name: of several uses of a layer, or of micro-batches."""
    sums: Grads = {}
    for grads in several:
        for name, array in grads.items():
            sums[name] = sums[name] + array if name in sums else array
    return sums
