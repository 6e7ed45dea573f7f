"""Count operations and bytes of the layers of a net in a training step, by the calls of their ops.

A `Recording` is a back end around a back end of shapes (minise/ops/wrapper.py). It counts each call
after it has run and stores no array, so that arrays live as long as without it: one step gives the
operations and bytes of each layer, and the peak of memory.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from minise.nn import Layer, Scale
from minise.nn.layer import Module
from minise.ops.cost.counts import Counts, count
from minise.ops.cost.traffic import bytes_moved, tail_bytes
from minise.ops.wrapper import BACKWARD, FORWARD, Call, Wrapper, attach

KIND_BY_OP = {  # for ops that the layer's class does not name
    "add": "add",
    "relu": "ReLU",
    "batch_norm2d_relu": "BatchNorm2d, ReLU",
    "batch_norm2d_add_relu": "BatchNorm2d, add, ReLU",
    "se_block_tail": "SEBlock, add, ReLU",
}
NORM_OPS = ("batch_norm2d", "batch_norm2d_relu", "batch_norm2d_add_relu", "se_block_tail")


@dataclass
class Pass:
    """Counts of one layer in forward, or in backward."""

    operations: Counts = field(default_factory=Counter)
    moved: int = 0  # bytes
    tail_moved: int | None = None  # bytes of an SE block that is fused with other layers
    tail_saved: int = 0


@dataclass
class Row:
    """Counts of one layer."""

    shape: tuple[int, ...] = ()  # of the output, without the batch axis
    kinds: dict[str, None] = field(default_factory=dict)  # in the order of the calls
    forward: Pass = field(default_factory=Pass)
    backward: Pass = field(default_factory=Pass)
    saved: int = 0  # bytes


class Recording(Wrapper):
    """Counts the calls of a net's ops by layer, in one forward and one backward pass.

    Parameters
    ----------
    net : Layer
        This recording becomes its back end; each layer's forward is replaced by one that is
        observed.
    ops : back end
        The back end to wrap. If it computes shapes only, the bytes saved for backward are counted.

    Attributes
    ----------
    rows : dict of str to Row
        By the layer's name: layers that call an op or have parameters, in the order of forward.
    modules : dict of str to list of Module
        By name; several modules have one name if a composite gives its own to layers inside it.
    """

    def __init__(self, net: Layer, ops: Any) -> None:
        super().__init__(ops)
        self.rows: dict[str, Row] = {}
        self.modules: dict[str, list[Module]] = {}
        self.folds = Folds()
        self._ledger = getattr(ops, "ledger", None)
        self._pending: list[str | None] = []  # owners of new arrays, of the calls that run
        self._direction, self._steps = FORWARD, 0
        self._layers_by_param: dict[int, list[str]] = {}  # by its id
        self._first_names: dict[int, str] = {}  # by the id of a module
        attach(net, self)
        for name, module in net.layers():
            self.modules.setdefault(name, []).append(module)
            for array in module.params.values():
                self._layers_by_param.setdefault(id(array), []).append(name)
            first = self._first_names.setdefault(id(module), name)
            if hasattr(module, "forward") and "forward" not in vars(module):
                vars(module)["forward"] = partial(self._run, net, module, first, module.forward)

    def all_rows(self) -> dict[str, Row]:
        """Return the rows, with one for each layer with parameters that forward skips."""
        for name, modules in self.modules.items():
            if any(m.params and self._first_names[id(m)] == name for m in modules):
                self.rows.setdefault(name, Row())
        return self.rows

    def prepare(
        self,
        layer: str,
        op: str,
        direction: str,
        arrays: Sequence[Any],
        settings: Mapping[str, Any],
    ) -> None:
        """Attribute the arrays that the call makes to the layer."""
        self._enter(layer)

    def observe(self, call: Call) -> None:
        """Count a call."""
        self._leave()
        if self._steps > 1:
            return
        if self._direction == FORWARD:
            for name in self._layers_of(call):
                self.rows.setdefault(name, Row()).shape = tuple(call.results[0].shape[1:])
            kind = KIND_BY_OP.get(call.op) or class_of(self.modules[call.layer], call.op)
            self.rows[call.layer].kinds[kind] = None
            self.folds.observe(call)
        row = self.rows.setdefault(call.layer, Row())
        counted = row.forward if self._direction == FORWARD else row.backward
        counted.operations += self._operations(call)
        counted.moved += bytes_moved(call)
        if call.op == "se_block_tail":
            moved, saved = tail_bytes(call)
            counted.tail_moved = moved + (counted.tail_moved or 0)
            counted.tail_saved += saved

    def _operations(self, call: Call) -> Counts:
        counts = count(call)
        if "gate" in counts and any(isinstance(m, Scale) for m in self.modules[call.layer]):
            return Counter({"sum": counts["gate"]})  # a product with a constant is no gate
        return counts

    def _layers_of(self, call: Call) -> Iterator[str]:
        """Yield the layers whose parameters a call reads, and last the layer that calls."""
        for array in call.arrays:
            names = self._layers_by_param.get(id(array), [call.layer])
            if call.layer not in names:
                yield names[-1]
        yield call.layer

    def _run(
        self,
        net: Layer,
        module: Module,
        name: str,
        forward: Callable[..., Any],
        *arguments: Any,
        **settings: Any,
    ) -> Any:
        """Run a layer's forward, and attribute the arrays that it makes to the layer."""
        if module is net:
            self._direction, self._steps = FORWARD, self._steps + 1
        self._enter(name)
        returned = forward(*arguments, **settings)
        self._leave()
        if self._steps > 1:
            return returned
        if module.params:
            self.rows.setdefault(name, Row()).shape = tuple(returned[0].shape[1:])
        if module is net:
            self._direction = BACKWARD
            for owner, size in (self._ledger.live_by_owner if self._ledger else {}).items():
                if owner is not None and size:
                    self.rows.setdefault(owner, Row()).saved = size
        return returned

    def _enter(self, owner: str) -> None:
        if self._ledger is not None:
            self._pending.append(self._ledger.owner)
            self._ledger.owner = owner

    def _leave(self) -> None:
        if self._ledger is not None:
            self._ledger.owner = self._pending.pop()


class Folds:
    """The batch normalisations that can be folded into the convolution before.

    Attributes
    ----------
    biases : dict of int to int
        Number of biases that a convolution without bias gets, by the id of its weight.
    gone : set of int
        Ids of the gammas and betas that are folded.
    """

    def __init__(self) -> None:
        self.biases: dict[int, int] = {}
        self.gone: set[int] = set()
        self._outs: dict[int, Any] = {}  # convolution and its output, by the id of the latter

    def observe(self, call: Call) -> None:
        """Note a convolution, or fold a normalisation whose input is the output of one."""
        if call.op == "conv2d":
            out = call.results[0]
            self._outs[id(out)] = weakref.ref(out), call.arrays[1], call.arrays[2:]
        elif call.op in NORM_OPS:
            x, gamma, beta, *_ = call.arrays
            out, weight, bias = self._outs.get(id(x), (lambda: None, None, ()))
            if weight is not None and out() is x:
                self.gone |= {id(gamma), id(beta)}
                self.biases[id(weight)] = 0 if any(b is not None for b in bias) else len(weight)


def class_of(modules: list[Module], op: str | None = None) -> str:
    """Return the class name of the first module that runs an op, or that has parameters.

    Several modules share a name where a composite gives its own name to layers inside it; the
    outermost comes first.
    """
    matches = [m for m in modules if (m.params if op is None else getattr(m, "op", None) == op)]
    return type([*matches, *modules][0]).__name__
