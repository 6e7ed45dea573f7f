"""Composites: layers made of layers, whose forward, backward and inference follow from the parts.

    Chain       one layer after another
    Residual    tail(branch(x), shortcut(x)), in residual.py
    Branches    several layers that take the same x, their outputs side by side

A child has a name, and its parameters are called "name.weight" and so on. The name "" gives a
child's names to its parent. The cache of a composite is a list of its children's caches, which its
backward empties from the end, so that memory is returned while backward goes on.
"""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from minise.nn.inference import Parallel, Steps
from minise.nn.layer import (
    Caches,
    Grads,
    Layer,
    Module,
    run_forward,
    total,
    under,
)
from minise.ops import reference
from minise.ops.backend import Backend
from minise.ops.checks import Array, check_choice

Child = Module | tuple[str, Module | None]


class Composite(Module):
    """A module that has children by name.

    Parameters
    ----------
    *children : layer or (str, layer)
        In the order of forward; a layer without a name is named by its position. None is left out.
    ops : back end or str, optional
        By default that of the first child.

    Raises
    ------
    TypeError, ValueError
        If a child is no layer, or two arrays have one name.
    """

    takes: ClassVar[type[Module]] = Layer

    def __init__(self, *children: Child, ops: Backend | str | None = None) -> None:
        self._children = self._named_children(children)
        own = (child.ops for _, child in self._children if any(child.names("params")))
        first = next(own, self._children[0][1].ops if self._children else reference)
        super().__init__(first if ops is None else ops)
        for _, child in self._children:
            below = [module for _, module in child.layers()]
            # an identity or a bare sum was built without a layer to take its back end from
            if all(isinstance(module, Composite) for module in below):
                for module in below:
                    module.ops = self.ops
        self.named_arrays()  # refuses two arrays of one name

    def _named_children(self, children: tuple[Child, ...]) -> list[tuple[str, Any]]:
        where, named = type(self).__name__, []
        for position, child in enumerate(children):
            paired = (
                isinstance(child, tuple) and len(child) == 2 and not isinstance(child[0], Module)
            )
            pair: Any = child if paired else (str(position), child)
            name, layer = pair
            if layer is None and paired:
                continue
            if not isinstance(layer, self.takes):
                check_layer(where, f"child {position}", layer)
            if not isinstance(name, str):
                raise TypeError(
                    f"{where}: child {position} has the name {name!r}, expected a string, such as "
                    f"('{name}', layer)"
                )
            named.append((name, layer))
        return named

    def children(self) -> list[tuple[str, Module]]:
        """Return the children with their names."""
        return list(self._children)

    def caches(self, *caches: Any) -> Caches:
        """Return what this composite's backward takes."""
        return Caches(self, caches)

    def check_cache(self, cache: Any) -> None:
        """Refuse a cache that is not this composite's, or that a backward has used up."""
        where = type(self).__name__
        if not isinstance(cache, Caches) or cache.owner is not self:
            kind = "another net's" if isinstance(cache, Caches) else described(cache)
            raise ValueError(
                f"{where}: cache is {kind}, expected the one that this net's forward returned"
            )
        if len(cache) != cache.size:
            raise ValueError(
                f"{where}: the cache is used up, for backward empties it: call forward again"
            )


class Chain(Composite, Layer):
    """One layer after another; with none, the identity."""

    def forward(self, x: Array, training: bool) -> tuple[Array, Caches]:
        """Return what the last layer returns."""
        caches = []
        for _, layer in self._children:
            x, cache = run_forward(layer, x, training)
            caches.append(cache)
        return x, self.caches(*caches)

    def backward(
        self, dout: Array, cache: Any, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array | None, Grads]:
        """Return dx and all gradients.

        A layer finds its dx if the caller asks for it or an earlier layer has parameters; layers
        without parameters whose dx nobody needs are not called.
        """
        self.check_cache(cache)
        first = 0 if needs_dx else self._first_with_parameters()
        dx: Any = dout
        grads: Grads = {}
        for k in range(len(self._children) - 1, first - 1, -1):
            name, layer = self._children[k]
            dx, own = layer.backward(dx, cache[k], None if k else plus, needs_dx or k > first)
            cache.pop()
            grads = total(grads, under(name, own))
        cache.clear()
        if not self._children and dx is not None:
            dx = self.add(dx, plus)
        return (dx if needs_dx else None), grads

    def _first_with_parameters(self) -> int:
        have = (k for k, (_, layer) in enumerate(self._children) if any(layer.names("params")))
        return next(have, len(self._children))

    def folded(self, before: Steps) -> Steps:
        """Return the steps of all layers."""
        for _, layer in self._children:
            before = layer.steps(before)
        return before


Sequential = Chain


class Branches(Composite, Layer):
    """Layers that take the same x; their outputs are merged.

    Parameters
    ----------
    *children : layer or (str, layer)
        At least one.
    merge : {"concat", "add"}
        Channels side by side, or the sum.
    ops : back end or str, optional
        By default that of the first layer.
    """

    def __init__(
        self,
        *children: Child,
        merge: Literal["concat", "add"] = "concat",
        ops: Backend | str | None = None,
    ) -> None:
        super().__init__(*children, ops=ops)
        check_choice("Branches", "merge", merge, ("concat", "add"))
        if not self._children:
            raise ValueError("Branches: no layer came, expected at least one")
        self.merge = merge

    def forward(self, x: Array, training: bool) -> tuple[Array, Caches]:
        """Return the merged outputs."""
        pairs = (run_forward(layer, x, training) for _, layer in self._children)
        outs, caches = zip(*pairs, strict=True)
        out, cache = self._merged(outs)
        return out, self.caches(*caches, cache)

    def backward(
        self, dout: Array, cache: Any, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array | None, Grads]:
        """Return dx, to which each branch adds its own, and all gradients."""
        self.check_cache(cache)
        douts = self._split(dout, cache[-1])
        grads: Grads = {}
        for k in range(len(self._children) - 1, -1, -1):
            name, layer = self._children[k]
            plus, own = layer.backward(douts[k], cache[k], plus, needs_dx)
            del cache[k:]
            grads = total(under(name, own), grads)
        return plus, grads

    def _merged(self, outs: Sequence[Array]) -> tuple[Array, Any]:
        if self.merge == "concat":
            return self.ops.concat_forward(*outs)
        out, caches = outs[0], []
        for other in outs[1:]:
            out, cache = self.ops.add_forward(out, other)
            caches.append(cache)
        return out, caches

    def _split(self, dout: Array, cache: Any) -> list[Array]:
        """Return each branch's dout."""
        if self.merge == "concat":
            return list(self.ops.concat_backward(dout, cache))
        douts = []
        for add in reversed(cache):
            dout, other = self.ops.add_backward(dout, add)
            douts.append(other)
        return [dout, *reversed(douts)]

    def folded(self, before: Steps) -> Steps:
        """Return all branches, each folded."""
        branches = tuple(layer.steps(Steps()) for _, layer in self._children)
        same = copy.copy(self)  # with the back end of now
        return before.then(Parallel(branches, lambda *outs: same._merged(outs)[0]))


def check_layer(where: str, what: str, value: Any) -> None:
    """Check that a value is a layer."""
    if isinstance(value, Layer):
        return
    if isinstance(value, list | tuple):
        hint = f"write {'Chain' if where == 'Residual' else where}(*layers)"
    elif isinstance(value, type):
        hint = f"write {value.__name__}(…), an instance"
    elif isinstance(value, Module):
        hint = "a tail takes two arrays and stands in Residual(branch, shortcut, tail)"
    else:
        hint = "pass layers, or pairs of a name and a layer"
    raise TypeError(f"{where}: {what} is {described(value)}, expected a layer: {hint}")


def described(value: Any) -> str:
    """Return what came, for a message."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
