"""Data classes of a trace: its steps, the arrays each step reads and computes, and its check."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from minise.checks import Array
from minise.tracing.slopes import Check
from minise.tracing.tape import Tape
from minise.walk.terms import Term

FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True)
class Read:
    """An array that a step reads.

    Attributes
    ----------
    name : str
        Name in the line of code; for an array in a cache, the name of the field.
    source : int, str or None
        Number of the step that computed the array, or name of the input; None if neither did.
    value : ndarray
        The array as the line read it.
    derivative : ndarray of shape (entries of the step's value, entries of the array), or None
        Derivative of the step's value with respect to the array, through this line alone; None for
        integers.
    upstream : bool
        True if the array is a gradient of the loss.
    summed : bool
        True if the array is a term: the step's value is the sum, over the entries of all such
        arrays, of the entry times its derivative.
    exact : bool
        True if the derivative is exact up to rounding, from a complex step; False if the line does
        not support complex numbers: then it is a finite difference, correct to two thirds of the
        digits.
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
    """A line of a helper function that a step's line executes."""

    code: str
    file: str
    line: int
    helper: str  # name of the function
    depth: int = 0  # calls and loops around it, to indent it


@dataclass(frozen=True)
class Fault:
    """Why a gradient is wrong: its line is, or it inherits the error of another line.

    Attributes
    ----------
    is_culprit : bool
        True if the line computes a wrong gradient even from the true values of all that it reads.
    inherits : tuple of int
        Numbers of the culprit steps whose errors reach this step.
    unchecked : tuple of int
        Numbers of steps without a check that the step reads: the mistake may be in their lines.
    is_filled : bool
        True if later lines fill the array in place: the mistake may be in those lines.
    """

    is_culprit: bool
    inherits: tuple[int, ...] = ()
    unchecked: tuple[int, ...] = ()
    is_filled: bool = False


@dataclass
class Step:
    """One executed line of an op: its code and formula, the arrays it read, its value, its check.

    Attributes
    ----------
    number : int
        Position in the trace, from 0.
    direction : str
        The pass of the step, "forward" or "backward".
    layer, op : str
        Dotted name of the layer ("" for a single op), name of the op.
    name : str
        The intermediate that the line assigns.
    value : ndarray
        Value of the intermediate; in a backward pass, the downstream gradient.
    code, file, line
        The line of source code, its file and its number.
    formula : Term
        The line as a formula, in plain text and MathML.
    inner : tuple of Inner
        Lines of helper functions that the line executes, each once, in order.
    rule, reason : str
        The forward line that this line differentiates; a sentence that says why the line is so.
    reads : tuple of Read
        The arrays that the line reads.
    constants : dict of str to number, str or bool
        The other values that the line reads.
    gradient_of : str
        Name of the input whose gradient the step computes, or "".
    check : Check or None
        None in forward, and if forward has no intermediate of that name.
    fault : Fault or None
        None for a step without a check, and for one that its check found right.
    twin : int, str or None
        For a gradient: the forward step or the input whose gradient it is.
    route : tuple of (int or str, int) or None
        For one term of a gradient: the forward edge that it comes back along, (source, step).
    terms : tuple of str
        For a sum of gradients: the names of the arrays that it adds, one for each route.
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
    fault: Fault | None = None
    twin: int | str | None = None
    route: tuple[int | str, int] | None = None
    terms: tuple[str, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """True if the check of the step's gradient found a wrong entry."""
        return self.check is not None and not self.check.ok

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the step's value."""
        return self.value.shape

    @property
    def upstream(self) -> tuple[Read, ...]:
        """The gradients that the step reads."""
        return tuple(read for read in self.reads if read.upstream)


@dataclass
class Live:
    """A tape, and the nodes of a trace's steps.

    Attributes
    ----------
    tape : Tape
        The operations that the steps depend on.
    steps : list of int or None
        By step: the node of its value; None if the tape does not reproduce it.
    reads : list of tuple of int or None
        By step: the nodes of the arrays that it reads.
    origins : list of int or None
        By step: the node of the value whose gradient it is, for its check.
    values : callable
        ``values(inputs)`` returns the value of each step for other inputs, computed by the code.
    """

    tape: Tape
    steps: list[int | None]
    reads: list[tuple[int | None, ...]]
    origins: list[int | None]
    values: Callable[..., list[Array]]


@dataclass
class Trace:
    """A forward and a backward pass, line by line.

    Attributes
    ----------
    name : str
        Name of the op or the net.
    inputs : dict of str to ndarray
        The arrays of forward, and "dout", the gradient of the loss with respect to out.
    settings : dict
        Settings of the op.
    out : int
        Number of the step that computes the result.
    loss : float
        The inner product <dout, out>.
    steps : list of Step
        The steps of forward, then those of backward.
    gradients : dict of str to int or str
        By input: number of the step that computes its gradient (or name of an input that is it).
    title, story, notes
        Text of the source: first line and paragraphs of the docstring of the op's file (for a net
        its tree of layers, or its code), and by op the Notes of its backward.
    live : Live or None
        The tape of the pass, from which a page computes the steps for other inputs.
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
    live: Live | None = None

    def passes(self, direction: str) -> list[Step]:
        """Return the steps of one pass."""
        return [step for step in self.steps if step.direction == direction]

    def value(self, source: int | str) -> Array:
        """Return the value of a step, by number, or of an input, by name."""
        return self.steps[source].value if isinstance(source, int) else self.inputs[source]

    @property
    def ok(self) -> bool:
        """True if every checked gradient agrees with numerical derivatives of forward."""
        return not any(step.is_wrong for step in self.steps)

    @property
    def culprits(self) -> list[Step]:
        """The steps whose lines are wrong, or else the first step with a wrong gradient."""
        wrong = [step for step in self.steps if step.is_wrong]
        return [step for step in wrong if step.fault and step.fault.is_culprit] or wrong[:1]
