"""Residual units: a branch, a shortcut, and a tail that adds their outputs."""

from typing import Any

from minise.checks import Array
from minise.nn.compose import Chain, Child, Composite, check_layer, described
from minise.nn.inference import Steps, Sum
from minise.nn.layer import Caches, Grads, Layer, Module, run_forward, total, under
from minise.nn.layers import BatchNorm2d
from minise.nn.squeeze_excite import SEBlock
from minise.ops.backend import Backend, in_place

REPLACED = ("op", "forward", "backward")  # attributes of a layer that a fused op does not use


class Tail(Composite):
    """The end of a residual unit: relu(before(branch) + shortcut).

    It can only be part of a Residual, because its forward takes two arrays.

    Parameters
    ----------
    *before : layer or (str, layer)
        Layers that are applied to the branch's output before the sum.
    relu : bool
        Whether a ReLU follows the sum.
    ops : back end or str, optional
        By default the back end of the first layer that has parameters.
    """

    fold = "join"

    def __init__(self, *before: Child, relu: bool = True, ops: Backend | str | None = None) -> None:
        self.before = Chain(*before, ops=ops)
        super().__init__(("", self.before), ops=ops)
        self.relu = relu

    def forward(self, y: Array, shortcut: Array, training: bool) -> tuple[Array, Any]:
        """Return relu(before(y) + shortcut)."""
        y, before = self.before.forward(y, training)
        out, add = self.ops.add_forward(y, shortcut)
        relu = None
        if self.relu:
            out, relu = self.ops.relu_forward(out)
        return out, self.caches(before, add, relu)

    def backward(self, dout: Array, cache: Any) -> tuple[Array, Array, Grads]:
        """Return dy, dshortcut and the gradients of the parameters."""
        self.check_cache(cache)
        _, add, relu = cache
        if self.relu:
            (dout,) = self.ops.relu_backward(dout, relu)
        dy, dshortcut = self.ops.add_backward(dout, add)
        del cache[1:], add, relu
        dbranch, grads = self.before.backward(dy, cache.pop())
        assert dbranch is not None  # because needs_dx is True
        return dbranch, dshortcut, grads

    def join(self, branch: Steps, shortcut: Steps) -> Sum:
        """Return the step that computes the whole residual unit in inference."""
        return Sum(self.before.steps(branch), shortcut, self.relu, self.ops)


class NormAddReLU(Tail):
    """relu(gate(norm(branch)) + shortcut) as one op.

    Parameters
    ----------
    name : str
        Name of the normalisation.
    norm : BatchNorm2d
        Normalisation of the output of the branch's last convolution.
    gate : SEBlock, optional
        SE block after the normalisation, with squeeze="avg"; its name is "se".
    """

    def __init__(self, name: str, norm: BatchNorm2d, gate: SEBlock | None = None) -> None:
        for layer, kind in ((norm, BatchNorm2d), (gate, SEBlock)):
            inherited = (getattr(type(layer), key, None) is getattr(kind, key) for key in REPLACED)
            if layer is not None and not all(inherited):
                raise TypeError(
                    f"NormAddReLU: a layer is {described(layer)}, expected a {kind.__name__}: "
                    f'its own op would not run; use Tail(("{name}", norm), …)'
                )
        if gate is not None and gate.squeeze != "avg":
            raise ValueError(
                f"NormAddReLU: the gate's squeeze is {gate.squeeze!r}, expected 'avg': use "
                f'Tail(("{name}", norm), ("se", gate))'
            )
        super().__init__((name, norm), ("se", gate))
        self.name, self.norm, self.gate = name, norm, gate
        self.fused_op = "batch_norm2d_add_relu" if gate is None else "se_block_tail"

    join = Tail.join  # defines the same function as this forward, too

    def _ops(self) -> Backend:
        """Return the back end of the last fused layer; a wrapper reports that layer's name."""
        return self.norm.ops if self.gate is None else self.gate.ops

    def forward(self, y: Array, shortcut: Array, training: bool) -> tuple[Array, Any]:
        """Return relu(gate(norm(y)) + shortcut)."""
        arrays, settings = self.norm.inputs(), self.norm.settings(training)
        if self.gate is not None:
            arrays += self.gate.inputs()
            settings["gate"] = self.gate.gate
        forward = getattr(in_place(self._ops(), training), f"{self.fused_op}_forward")
        out, cache = forward(y, *arrays, shortcut, **settings)
        self.norm.update(cache, training)
        return out, self.caches(cache)

    def backward(self, dout: Array, cache: Any) -> tuple[Array, Array, Grads]:
        """Return dy, dshortcut and the gradients of the parameters."""
        self.check_cache(cache)
        backward = getattr(self._ops(), f"{self.fused_op}_backward")
        dy, dgamma, dbeta, *dgate, dshortcut = backward(dout, cache[0])
        cache.clear()
        grads = under(self.name, self.norm.named([dgamma, dbeta]))
        if self.gate is not None:
            grads |= under("se", self.gate.named(dgate))
        return dy, dshortcut, grads


def norm_tail(name: str, norm: BatchNorm2d, gate: SEBlock | None = None) -> Tail:
    """Return the tail relu(gate(norm(branch)) + shortcut), as one op where there is one."""
    if gate is None or gate.squeeze == "avg":
        return NormAddReLU(name, norm, gate)
    return Tail((name, norm), ("se", gate))


class Residual(Composite, Layer):
    """tail(branch(x), shortcut(x)).

    Parameters
    ----------
    branch : Layer
        The residual branch.
    shortcut : Layer, optional
        By default the identity.
    tail : Tail, optional
        By default the sum of branch and shortcut, and a ReLU.
    """

    takes = Module  # layers and the tail, which is not a Layer

    def __init__(
        self, branch: Layer, shortcut: Layer | None = None, tail: Tail | None = None
    ) -> None:
        check_layer("Residual", "branch", branch)
        shortcut = Chain() if shortcut is None else shortcut
        tail = Tail() if tail is None else tail
        check_layer("Residual", "shortcut", shortcut)
        if not isinstance(tail, Tail):
            raise TypeError(
                f"Residual: tail is {described(tail)}, expected a Tail, such as "
                'Tail(("bn2", norm)) or NormAddReLU("bn2", norm)'
            )
        super().__init__(("", branch), ("", tail), ("", shortcut))
        self.branch, self.shortcut, self.tail = branch, shortcut, tail

    def forward(self, x: Array, training: bool) -> tuple[Array, Caches]:
        """Return the output of the tail."""
        shortcut, shortcut_cache = run_forward(self.shortcut, x, training)
        y, branch_cache = run_forward(self.branch, x, training)
        out, tail_cache = self.tail.forward(y, shortcut, training)
        return out, self.caches(branch_cache, shortcut_cache, tail_cache)

    def backward(
        self, dout: Array, cache: Any, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array | None, Grads]:
        """Return dx, the sum of the branch's and the shortcut's dx, and all gradients."""
        self.check_cache(cache)
        dy, dshortcut, tail_grads = self.tail.backward(dout, cache[2])
        cache.pop()
        dx, shortcut_grads = self.shortcut.backward(dshortcut, cache.pop(), plus, needs_dx)
        # why: x is read by the branch and by the shortcut, so a change of x reaches out along both,
        #      and the gradients of both routes add up.
        dx, branch_grads = self.branch.backward(dy, cache.pop(), dx, needs_dx)
        return dx, total(branch_grads, tail_grads, shortcut_grads)

    def folded(self, before: Steps) -> Steps:
        """Append the unit as one step, with the sum fused into a convolution if possible."""
        if self.tail.runs_forward():
            return super().folded(before)
        branch, shortcut = self.branch.steps(Steps()), self.shortcut.steps(Steps())
        return before.then(self.tail.join(branch, shortcut))
