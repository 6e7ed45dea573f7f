"""The ledger of a net: parameters, operations and bytes of every layer, and their totals.

All numbers come from one training step on shapes (minise/ops/cost), so they describe the code that
trains. minise/ops/cost/counts.py has the rules for operations, traffic.py those for bytes.
"""

import copy
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Any, NamedTuple

from minise.analysis.inputs import Size, batch_on, input_shape, on_shapes, size_of
from minise.analysis.ledger import Folds, Recording, Row, class_of
from minise.analysis.memory import Memory, memory_on
from minise.checks import check_integer
from minise.models import Net
from minise.nn import Chain, Layer, SEBlock
from minise.nn.layer import Module
from minise.ops import cost
from minise.ops.cost.counts import SE_KINDS, Convention, Counts, operations


class Excitation(NamedTuple):
    """The part of SE blocks in the costs of a layer or a net."""

    weights: int  # parameters of both dense layers
    biases: int
    formula: Fraction  # the paper's number of weights, 2 / r * C**2; the net rounds C / r down
    moved_forward: int  # bytes
    moved_backward: int  # bytes
    saved: int  # bytes


class LayerCost(NamedTuple):
    """One row of the table: a layer that calls an op or has parameters."""

    layer: str
    kind: str  # the layer's class, and the layers fused with it
    shape: tuple[int, ...]  # of the output, without the batch axis; () if forward skips the layer
    parameters: int
    statistics: int  # running means and variances of batch norm
    folded: int  # parameters after folding each batch norm that follows a convolution into it
    forward: Counts  # operations by kind (minise/ops/cost/counts.py), of the batch
    backward: Counts
    moved_forward: int  # bytes of the arrays that each op reads and writes
    moved_backward: int
    saved: int  # bytes that forward allocates and keeps for backward
    excitation: Excitation | None  # of an SE block

    @property
    def macs(self) -> int:
        """Multiply-accumulates of forward, as in the paper's tables."""
        return operations(self.forward)

    @property
    def se(self) -> bool:
        """True if the layer is an SE block."""
        return self.excitation is not None


class NetCost(NamedTuple):
    """The costs of all layers of a net, and their totals.

    Operations and bytes are of a batch; MACs are counted as in the paper's tables (whose "GFLOPs"
    are MACs).
    """

    layers: list[LayerCost]
    shape: tuple[int, ...] = ()  # of one input
    batch_size: int = 1
    training: bool = True  # False if batch norm has only one value per channel in training
    memory: Memory | None = None  # of the step; None if the net cannot run on shapes

    def total(self, name: str) -> Any:
        """Return the sum of a field of LayerCost over all layers; Counts are added by kind."""
        numbers = [getattr(layer, name) for layer in self.layers]
        return sum(numbers, Counter() if name in ("forward", "backward") else 0)

    @property
    def parameters(self) -> int:
        """Number of learned parameters."""
        return int(self.total("parameters"))

    @property
    def statistics(self) -> int:
        """Number of running means and variances: 2 C for each batch norm."""
        return int(self.total("statistics"))

    @property
    def folded(self) -> int:
        """Number of parameters after each batch norm that follows a convolution is folded."""
        return int(self.total("folded"))

    @property
    def forward(self) -> Counts:
        """Operations of forward by kind."""
        return Counter(self.total("forward"))

    @property
    def backward(self) -> Counts:
        """Operations of backward by kind."""
        return Counter(self.total("backward"))

    @property
    def moved_forward(self) -> int:
        """Bytes that the ops of forward read and write."""
        return int(self.total("moved_forward"))

    @property
    def moved_backward(self) -> int:
        """Bytes that the ops of backward read and write."""
        return int(self.total("moved_backward"))

    @property
    def saved(self) -> int | None:
        """Bytes that forward allocates and keeps for backward; None as memory."""
        return None if self.memory is None else int(self.total("saved"))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass."""
        return operations(self.forward)

    @property
    def se_parameters(self) -> int:
        """Number of learned parameters in SE blocks."""
        return sum(layer.parameters for layer in self.layers if layer.se)

    @property
    def se_macs(self) -> int:
        """Multiply-accumulates of the SE blocks in one forward pass."""
        return self.se_operations()

    @property
    def excitation(self) -> Excitation | None:
        """The part of all SE blocks; None without any."""
        parts = [layer.excitation for layer in self.layers if layer.excitation]
        if not parts:
            return None
        formula = sum((part.formula for part in parts), Fraction())
        weights, biases, _, *sizes = (sum(numbers) for numbers in zip(*parts, strict=True))
        return Excitation(int(weights), int(biases), formula, *map(int, sizes))

    def operations(self, convention: Convention = "macs", direction: str = "forward") -> int:
        """Return the operations of a pass by a convention (minise/ops/cost/counts.py)."""
        return operations(getattr(self, direction), convention)

    def se_operations(self, convention: Convention = "macs", direction: str = "forward") -> int:
        """Return the operations of the SE blocks in a pass by a convention."""
        counts: Counts = sum((getattr(row, direction) for row in self.layers if row.se), Counter())
        return operations(Counter({kind: counts[kind] for kind in SE_KINDS}), convention)


def cost_of(net: Layer, size: Size = None, batch_size: int = 1, ops: str = "reference") -> NetCost:
    """Return the costs of every layer of a net in a training step.

    Every layer with parameters has a row. Computations that a layer does in NumPy, without an op,
    add no operations, and no bytes but those saved for backward.

    Parameters
    ----------
    net : Layer
        A net or a layer, of which a copy takes the step on shapes. If it cannot, as with a layer
        that needs the elements of its input, a copy computes the step.
    size : int, (int, int), or (int, int, int) or (int,), optional
        (rows, columns) of an image, or one integer for a square image; the number of channels is
        inferred from the first array of parameters. Or the full shape of an input:
        (channels, rows, columns) or (features,). By default the size of a model's images, or
        (32, 32).
    batch_size : int
        Number of images. If batch norm has only one value per channel, it uses its running
        statistics.
    ops : {"reference", "jit", "cuda"}
        Back end of the predicted memory (memory_of).

    Raises
    ------
    ValueError, TypeError
        If size is not a valid size, or the net cannot process an input of that size.
    """
    batch_size = check_integer("cost_of", "batch_size", batch_size, 1)
    sizes = size_of(net, size)
    shapes = [cost.modelled(ops), cost.modelled(ops), None, None]
    if getattr(net.ops, "composed", ()):  # a user's back end composes ops, which are to be counted
        shapes = [None, None]
    for back_end, training in zip(shapes, (True, False, True, False), strict=False):
        with suppress(Exception):  # such as a compiled function of a user's layer, on shapes
            return _step(net, back_end, sizes, batch_size, training)
    try:
        return _step(net, None, sizes, batch_size, training=False, explain=True)
    except (ValueError, TypeError, IndexError) as error:
        if len(sizes) != 2 or isinstance(net, Net):  # a model knows its channels
            raise
        channels = input_shape(net, sizes)[0]
        raise ValueError(
            f"cost_of: size is {sizes}, expected the number of channels too, because the net fails "
            f"on {channels} channels, inferred from its first parameters: give "
            f"size=(channels, rows, columns); the net raised {type(error).__name__}: {error}"
        ) from error


def _step(
    net: Layer,
    shapes: cost.Shapes | None,
    sizes: tuple[int, ...],
    batch_size: int,
    training: bool,
    explain: bool = False,
) -> NetCost:
    """Return the costs of a step on shapes or, if shapes is None, of a computed step.

    Outside training, an error of backward is ignored. With explain, the error of a model suggests a
    size of images, which takes a search.
    """
    twin = copy.deepcopy(net) if shapes is None else on_shapes(net, shapes)
    if isinstance(twin, Net) and not explain:
        twin = Chain(*twin.children(), ops=twin.ops)
    recording, memory = Recording(twin, twin.ops if shapes is None else shapes), None
    if shapes is not None:
        memory = memory_on(twin, shapes, batch_size, sizes, training=training)
    else:
        out, cache = twin.forward(batch_on(recording, twin, sizes, batch_size), training)
        with suppress(*() if training else (Exception,)):
            twin.backward(out, cache, needs_dx=False)
    counted: set[int] = set()
    rows = [
        _row(name, row, recording.modules[name], recording.folds, counted)
        for name, row in recording.all_rows().items()
    ]
    return NetCost(rows, input_shape(twin, sizes), batch_size, training, memory)


def _row(name: str, row: Row, modules: list[Module], folds: Folds, counted: set[int]) -> LayerCost:
    """Return the costs of a layer; shared arrays count in the first layer that uses them."""
    params = _unique((m.params.values() for m in modules), counted)
    states = ([a for n, a in m.state.items() if n.startswith("running_")] for m in modules)
    folded = sum(0 if id(a) in folds.gone else a.size + folds.biases.get(id(a), 0) for a in params)
    return LayerCost(
        layer=name,
        kind=", ".join(row.kinds) or class_of(modules),
        shape=row.shape,
        parameters=sum(array.size for array in params),
        statistics=sum(array.size for array in _unique(states, counted)),
        folded=folded,
        forward=row.forward.operations,
        backward=row.backward.operations,
        moved_forward=row.forward.moved,
        moved_backward=row.backward.moved,
        saved=row.saved,
        excitation=_excitation(row, modules, params),
    )


def _unique(groups: Iterable[Iterable[Any]], counted: set[int]) -> list[Any]:
    """Return the arrays that are not counted yet, and count them."""
    arrays = {id(array): array for group in groups for array in group if id(array) not in counted}
    counted.update(arrays)
    return list(arrays.values())


def _excitation(row: Row, modules: list[Module], params: list[Any]) -> Excitation | None:
    blocks = [module for module in modules if isinstance(module, SEBlock)]
    if not blocks:
        return None
    weights = [array for array in params if array.ndim == 2]
    channels = (len(w2) for w2 in weights[1::2])
    moved, saved = (row.forward.moved, row.backward.moved), row.saved
    if row.forward.tail_moved is not None:
        moved = row.forward.tail_moved, row.backward.tail_moved or 0
        saved = row.forward.tail_saved
    return Excitation(
        sum(array.size for array in weights),
        sum(array.size for array in params if array.ndim == 1),
        sum((Fraction(2 * C**2, blocks[0].se.reduction) for C in channels), Fraction()),
        *moved,
        saved,
    )
