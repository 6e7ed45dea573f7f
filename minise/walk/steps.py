"""A trace as data: its steps, what each reads, gives and is checked by."""

from dataclasses import dataclass, field
from typing import Any

from minise.checks import Array
from minise.tracing.slopes import Check
from minise.walk.terms import Term

FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True)
class Read:
    """An array that a step reads.

    Attributes
    ----------
    name : str
        As the line of code has it; of a cache the field's name.
    source : int, str or None
        The step that gave it, by number, or the input, by name; None of what neither gave.
    value : ndarray
        As it was read.
    derivative : ndarray of shape (entries given, entries read), or None
        Of the step's value, of this line alone; None of integers.
    upstream : bool
        Whether it is a gradient of the loss.
    summed : bool
        Whether the step's value is the sum, over all reads for which this is so, of each entry
        times its derivative.
    exact : bool
        Whether the derivative is exact but for rounding, as a complex step gives it; of a line
        that complex numbers break it is a difference, right to two thirds of all digits.
    """

    name: str
    source: int | str | None
    value: Array
    derivative: Array | None
    upstream: bool = False
    summed: bool = False
    exact: bool = True


@dataclass(frozen=True)
class Inner:
    """A line of a helper that a step's line calls."""

    code: str
    file: str
    line: int


@dataclass
class Step:
    """One line of an op, run: what it read, what it gave, and what that says of the loss.

    Attributes
    ----------
    number : int
        Its place in the trace, from 0.
    direction : str
        Which pass it belongs to, "forward" or "backward".
    layer, op : str
        Dotted name of the layer ("" of a bare op), name of the op.
    name : str
        The intermediate that the line assigns.
    value : ndarray
        Of a backward pass the downstream gradient.
    code, file, line
        The line as it stands, and where.
    formula : Term
        As text and as MathML.
    inner : tuple of Inner
        Lines of helpers by which the formula came about.
    rule, reason : str
        The line of forward that this one undoes, and what the source says to it.
    reads : tuple of Read
    constants : dict of str to number, word or flag
        What else the line reads.
    gradient_of : str
        The input of the whole whose gradient this is, or "".
    check : Check or None
        None in forward, and where forward has no intermediate of that name.
    twin : int, str or None
        Of a gradient: the step or the input of forward whose gradient it is.
    route : tuple of (int or str, int) or None
        Of a part of a gradient: the forward edge that it comes through, from a source to a step.
    parts : dict of tuple of str to ndarray
        Where a gradient is a sum of some reads: the value with only those of them.
    """

    number: int
    direction: str
    layer: str
    op: str
    name: str
    value: Array
    code: str
    file: str
    line: int
    formula: Term
    inner: tuple[Inner, ...] = ()
    rule: str = ""
    reason: str = ""
    reads: tuple[Read, ...] = ()
    constants: dict[str, Any] = field(default_factory=dict)
    gradient_of: str = ""
    check: Check | None = None
    twin: int | str | None = None
    route: tuple[int | str, int] | None = None
    parts: dict[tuple[str, ...], Array] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its value."""
        return self.value.shape

    @property
    def upstream(self) -> tuple[Read, ...]:
        """The gradients that it reads."""
        return tuple(read for read in self.reads if read.upstream)


@dataclass
class Trace:
    """A forward and a backward pass, line by line.

    Attributes
    ----------
    name : str
        Of the op or the net.
    inputs : dict of str to ndarray
        Forward's arrays, and "dout", the gradient of the loss with respect to out.
    settings : dict
        Of the op.
    out : int
        The step that gave the result.
    loss : float
        <dout, out>.
    steps : list of Step
    gradients : dict of str to int or str
        By input: the step (or input) that gave its gradient.
    title, story, notes
        What the source says: first line and paragraphs of the op's file (of a net its tree, or its
        code), and by op the Notes of each backward.
    """

    name: str
    inputs: dict[str, Array]
    settings: dict[str, Any]
    out: int | str
    loss: float
    steps: list[Step]
    gradients: dict[str, int | str]
    title: str = ""
    story: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def passes(self, direction: str) -> list[Step]:
        """Return the steps of one pass."""
        return [step for step in self.steps if step.direction == direction]

    def value(self, source: int | str) -> Array:
        """Return the array that a step or an input gave."""
        return self.steps[source].value if isinstance(source, int) else self.inputs[source]

    @property
    def ok(self) -> bool:
        """Whether every gradient that was checked agrees with forward."""
        return all(step.check is None or step.check.ok for step in self.steps)
