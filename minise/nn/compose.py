"""Composites: layers built from layers, whose forward and backward follow from their children.

    Chain       layers in sequence
    Residual    tail(branch(x), shortcut(x)), in residual.py
    Branches    several layers with the same input, and a join of their outputs, in joins.py

Each child has a name, which prefixes its parameters: "name.weight". The name "" adds no prefix. A
composite's cache is a list of its children's caches; backward pops each when it is used, to free
memory as early as possible.
"""

import copy
from typing import Any, ClassVar, Literal

from minise.checks import Array, check_choice
from minise.nn.inference import Parallel, Steps
from minise.nn.joins import JOINS, Join
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

Child = Module | tuple[str, Module | None]


class Composite(Module):
    """A module with named children.

    Parameters
    ----------
    *children : layer or (str, layer)
        In the order of forward; a layer without a name is named by its index. A pair (name, None)
        is skipped.
    ops : back end or str, optional
        By default the back end of the first child that has parameters.

    Raises
    ------
    TypeError, ValueError
        If a child is not a layer, or two arrays have the same name.
    """

    takes: ClassVar[type[Module]] = Layer

    def __init__(self, *children: Child, ops: Backend | str | None = None) -> None:
        self._children = self._named_children(children)
        own = (layer.ops for _, layer in self._children if any(layer.names("params")))
        first = next(own, self._children[0][1].ops if self._children else reference)
        super().__init__(first if ops is None else ops)
        for _, layer in self._children:
            below = [module for _, module in layer.layers()]
            # an identity or a bare sum was built without a layer to take its back end from
            if all(isinstance(module, Composite) for module in below):
                for module in below:
                    module.ops = self.ops
        self.named_arrays()  # raises if two arrays have the same name

    def _named_children(self, children: tuple[Child, ...]) -> list[tuple[str, Any]]:
        where, named = type(self).__name__, []
        for k, item in enumerate(children):
            paired = isinstance(item, tuple) and len(item) == 2 and not isinstance(item[0], Module)
            pair: Any = item if paired else (str(k), item)
            name, layer = pair
            if layer is None and paired:
                continue
            if not isinstance(layer, self.takes):
                check_layer(where, f"child {k}", layer)
            if not isinstance(name, str):
                raise TypeError(
                    f"{where}: child {k} has the name {name!r}, expected a string, such as "
                    f"('{name}', layer)"
                )
            named.append((name, layer))
        return named

    def children(self) -> list[tuple[str, Module]]:
        """Return the children with their names."""
        return list(self._children)

    def caches(self, *caches: Any) -> Caches:
        """Return the cache for this composite's backward."""
        return Caches(self, caches)

    def check_cache(self, cache: Any) -> None:
        """Raise ValueError if a cache is another net's, or a backward has emptied it."""
        where = type(self).__name__
        if not isinstance(cache, Caches) or cache.owner is not self:
            kind = "another net's" if isinstance(cache, Caches) else described(cache)
            raise ValueError(
                f"{where}: cache is {kind}, expected the cache that this net's forward returned"
            )
        if len(cache) != cache.size:
            raise ValueError(
                f"{where}: the cache is used up, because backward empties it: call forward again"
            )


class Chain(Composite, Layer):
    """Layers in sequence; without layers, the identity."""

    def forward(self, x: Array, training: bool) -> tuple[Array, Caches]:
        """Return the last layer's output, and the caches of all layers."""
        caches = []
        for _, layer in self._children:
            x, cache = run_forward(layer, x, training)
            caches.append(cache)
        return x, self.caches(*caches)

    def backward(
        self, dout: Array, cache: Any, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array | None, Grads]:
        """Return dx and all gradients.

        A layer computes its dx only if the caller needs dx or an earlier layer has parameters.
        Layers before the first with parameters are not called if the caller needs no dx.
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
        indices = (k for k, (_, layer) in enumerate(self._children) if any(layer.names("params")))
        return next(indices, len(self._children))

    def folded(self, before: Steps) -> Steps:
        """Append the steps of all layers, each folded into the step before where possible."""
        for _, layer in self._children:
            before = layer.steps(before)
        return before


Sequential = Chain


class Branches(Composite, Layer):
    """Several layers with the same input, whose outputs are merged.

    Parameters
    ----------
    *children : layer or (str, layer)
        At least one.
    merge : {"concat", "add"} or Join
        Concatenate the outputs along channels, add them, or merge them by a join such as
        `Shake()`, whose state is named "merge.seed" and so on.
    ops : back end or str, optional
        By default the back end of the first layer that has parameters.

    Raises
    ------
    TypeError, ValueError
        If there is no layer, a child is not a layer, or merge is not one of these or a join of
        another number of arrays.
    """

    def __init__(
        self,
        *children: Child,
        merge: Literal["concat", "add"] | Join = "concat",
        ops: Backend | str | None = None,
    ) -> None:
        super().__init__(*children, ops=ops)
        if not self._children:
            raise ValueError("Branches: the number of layers is 0, expected at least one: pass one")
        self._branches = tuple(self._children)
        self.merge = merge
        check_join(merge, len(self._branches))
        if isinstance(merge, Join):
            self._children.append(("merge", merge))
            self.named_arrays()  # raises if two arrays have the same name

    @property
    def join(self) -> Join:
        """The join of the outputs."""
        return self.merge if isinstance(self.merge, Join) else JOINS[self.merge](self.ops)

    def forward(self, x: Array, training: bool) -> tuple[Array, Caches]:
        """Return the merged outputs."""
        pairs = (run_forward(layer, x, training) for _, layer in self._branches)
        outs, caches = zip(*pairs, strict=True)
        out, cache = self.join.forward(outs, training)
        return out, self.caches(*caches, cache)

    def backward(
        self, dout: Array, cache: Any, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array | None, Grads]:
        """Return dx, the sum of the branches' dx, and all gradients."""
        self.check_cache(cache)
        douts = self.join.backward(dout, cache[-1])
        grads: Grads = {}
        for k in range(len(self._branches) - 1, -1, -1):
            name, layer = self._branches[k]
            # why: Every branch reads the same x, so a change of x reaches out along all of them,
            #      and their gradients add up.
            plus, own = layer.backward(douts[k], cache[k], plus, needs_dx)
            del cache[k:]
            grads = total(under(name, own), grads)
        return plus, grads

    def folded(self, before: Steps) -> Steps:
        """Append one step for all branches, each of them folded."""
        branches = tuple(layer.steps(Steps()) for _, layer in self._branches)
        join = copy.deepcopy(self.join)  # keeps state and back end if this layer's are replaced
        return before.then(Parallel(branches, lambda *outs: join.forward(outs, False)[0]))


def check_join(merge: Any, count: int) -> None:
    """Raise TypeError or ValueError unless merge names a join, or is one, of `count` arrays."""
    if isinstance(merge, str):
        check_choice("Branches", "merge", merge, tuple(JOINS))
    elif not isinstance(merge, Join):
        raise TypeError(
            f"Branches: merge is {described(merge)}, expected {' or '.join(map(repr, JOINS))} or a "
            "join, such as nn.Shake(): derive a class of your own from nn.Join"
        )
    elif merge.count not in (None, count):
        raise ValueError(
            f"Branches: the number of layers is {count}, expected {merge.count}, because "
            f"{type(merge).__name__} merges {merge.count} outputs: change the layers, or the join"
        )
    elif names := [name for name, _ in merge.names("params")]:
        raise ValueError(
            f"Branches: merge has the parameters {', '.join(names)}, expected a join without "
            "parameters, because its backward returns no gradients of them: put a layer with them "
            "before or after the join"
        )


def check_layer(where: str, what: str, value: Any) -> None:
    """Raise TypeError, with a hint, if a value is not a layer."""
    if isinstance(value, Layer):
        return
    if isinstance(value, list | tuple):
        hint = f"write {'Chain' if where == 'Residual' else where}(*layers)"
    elif isinstance(value, type):
        hint = f"write {value.__name__}(…), an instance"
    elif isinstance(value, Module):
        hint = "a tail takes two arrays, so pass it to Residual(branch, shortcut, tail)"
    else:
        hint = "pass layers, or pairs of a name and a layer"
    raise TypeError(f"{where}: {what} is {described(value)}, expected a layer: {hint}")


def described(value: Any) -> str:
    """Describe a value of the wrong type, for a message."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
