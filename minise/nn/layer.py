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
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeAlias

from minise.nn.inference import Evaluated, Inference, Steps
from minise.ops import reference
from minise.ops.backend import Backend, load_ops
from minise.ops.checks import Array

Grads: TypeAlias = dict[str, Array]  # by the dotted names of the parameters


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

    def __init__(self, ops: Backend | str = reference) -> None:
        self.ops: Backend = load_ops(ops) if isinstance(ops, str) else ops
        self.params: dict[str, Array] = {}
        self.state: dict[str, Array] = {}

    def children(self) -> list[tuple[str, "Module"]]:
        """Return the modules directly below with their names, by default those held as attributes.

        The name "" gives a child's names to its parent.
        """
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Module)]

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
        if isinstance(name, int):
            return self.children()[name][1]
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

    def _named(self, kind: str) -> dict[str, Array]:
        first: dict[int, str] = {}
        for name, array in self.names(kind):
            first.setdefault(id(array), name)
        return {name: array for name, array in self.names(kind) if first[id(array)] == name}

    @property
    def parameter_count(self) -> int:
        """How many numbers are learned; running statistics do not count."""
        return sum(array.size for array in self.named_parameters().values())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy with arrays of its own that calls the same back end."""
        memo[id(self.ops)] = self.ops
        same = memo[id(self)] = copy.copy(self)
        vars(same).update(copy.deepcopy(vars(self), memo))
        return same

    def evaluated(self) -> bool:
        """Tell whether inference runs forward, although a base class would be folded."""
        return False

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


class Layer(Module):
    """A differentiable function of one array.

    A subclass defines forward(x, training) and backward(dout, cache), which may take plus and
    needs_dx, too; where it does not, plus is added to its dx. Without a `folded` of its own it is
    evaluated in inference as it is, also where its base class would be folded.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Complete a class that has a forward or a backward of its own."""
        super().__init_subclass__(**kwargs)
        if own_forward(cls, "folded"):
            cls.folded = Layer.folded  # type: ignore[method-assign]
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
        raise NotImplementedError

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
        raise NotImplementedError

    def predict(self, x: Array) -> Array:
        """Return the output in evaluation mode."""
        return self.forward(x, training=False)[0]

    def inference(self) -> Inference:
        """Return a function from x to what predict returns but for rounding, made to be fast.

        It is a snapshot: it has copies of parameters and running statistics, so that what is
        learned afterwards does not change it. All that does not depend on x is done here, above all
        normalisations are folded into the convolutions before them. It pays from a few batches on.
        """
        return self.folded(Steps()).ready()

    def folded(self, before: Steps) -> Steps:
        """Return the steps that make x, and this layer after them, folded where that can be."""
        return before.then(Evaluated(self))

    def evaluated(self) -> bool:
        """Tell whether inference runs forward, although a base class would be folded."""
        folds = any(vars(kind).get("folded", plain) is not plain for kind in type(self).__mro__)
        return folds and type(self).folded is plain

    def add(self, dx: Array, plus: Array | None) -> Array:
        """Return dx + plus, or dx where nothing reaches x by another way."""
        return dx if plus is None else self.ops.add_forward(dx, plus)[0]


plain = Layer.folded


def adding(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return a backward(self, dout, cache) as one that takes plus, and needs_dx."""

    @functools.wraps(backward)
    def run(
        self: Layer, dout: Array, cache: Any, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array, Grads]:
        dx, grads = backward(self, dout, cache)
        return self.add(dx, plus), grads

    run.__signature__ = inspect.signature(Layer.backward)  # type: ignore[attr-defined]
    return run


def own_forward(kind: type, fold: str) -> bool:
    """Tell whether a class's forward is newer than its method `fold`, and so unknown to it."""
    newest = next(vars(k) for k in kind.__mro__ if {"forward", fold} & vars(k).keys())
    return fold not in newest


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
