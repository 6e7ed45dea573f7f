"""Tell the wrong lines of a backward from right lines that inherit an error.

The backward pass runs again with each wrong gradient replaced, right after its line, by the true
one: the slopes that its check computed. A line that is still wrong then is a culprit; every other
wrong gradient is an heir. With the gradient of one culprit replaced alone, the gradients that
change are those that inherit its error. So it does not matter how an error travels: through lines
without a check, through loops, from layer to layer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.tracing.leaves import element_of, is_float
from minise.tracing.recorder import Event, OpCall, Replacement
from minise.tracing.slopes import Check
from minise.tracing.subject import Subject

AMPLIFICATION = 10  # of the error of the slopes, over its effect in one run with random signs


class WrongGradient(NamedTuple):
    """A gradient that its check found wrong, and the event that computes it."""

    event: int  # number of the event in a run of forward and backward
    element: int | None  # position in the event's value, if that is a tuple or a list
    check: Check


class Verdict(NamedTuple):
    """Why a gradient is wrong; gradients are named by their position in the arguments."""

    is_culprit: bool  # wrong also if every wrong gradient that it depends on is replaced
    inherits: tuple[int, ...]  # the culprits whose errors it inherits
    filled: bool  # later lines fill the array in place: the mistake may be in them


def find_faults(subject: Subject, dout: Array, wrong: Sequence[WrongGradient]) -> list[Verdict]:
    """Return the verdict on each wrong gradient, in the order of the arguments.

    Parameters
    ----------
    subject : Subject
        The op or net that was run.
    dout : ndarray
        Gradient of the loss with respect to out.
    wrong : sequence of WrongGradient
        All wrong gradients, in the order of execution.

    Notes
    -----
    Slopes have errors, which a line can amplify. The run is therefore repeated with the slopes
    moved to their error bounds, with random signs: a line whose remaining error is explained by
    the difference between the two runs is right.
    """
    passes = _Passes(subject, dout, wrong)
    rng = np.random.default_rng(0)
    corrected = {k: gradient.check.corrected for k, gradient in enumerate(wrong)}
    moved = {
        k: value + wrong[k].check.tolerance * rng.choice((-1.0, 1.0), value.shape)
        for k, value in corrected.items()
    }
    original, exact, shifted = passes.run({}), passes.run(corrected), passes.run(moved)
    culprits = []
    for k, (_, _, check) in enumerate(wrong):
        effect = float(np.max(abs(shifted[k] - exact[k]), initial=0.0))
        tolerance = check.tolerance + AMPLIFICATION * effect
        if np.any(abs(exact[k] - check.corrected) > tolerance):
            culprits.append(k)
    heirs: list[list[int]] = [[] for _ in wrong]
    for culprit in culprits:
        alone = passes.run({culprit: corrected[culprit]})
        for k in range(len(wrong)):
            if k != culprit and not np.array_equal(alone[k], original[k]):
                heirs[k].append(culprit)
    filled = passes.completed_at
    return [Verdict(k in culprits, tuple(heirs[k]), k in filled) for k in range(len(wrong))]


def filled_in_place(subject: Subject) -> frozenset[int]:
    """Return the numbers of the events of forward whose arrays later lines fill in place.

    To perturb such an array where it is assigned has no effect: the later lines overwrite it.
    """
    seen: dict[int, tuple[Any, Any]] = {}

    def record(call: OpCall, event: Event) -> Any:
        if is_float(event.value):
            seen[event.number] = event.value, event.value.copy()
        return event.value

    subject.forward(subject.inputs, Replacement(None, record))
    pairs = seen.items()
    return frozenset(k for k, (array, copy) in pairs if not np.array_equal(array, copy))


class _Passes:
    """Runs of forward and backward in which wrong gradients are replaced."""

    def __init__(self, subject: Subject, dout: Array, wrong: Sequence[WrongGradient]) -> None:
        self.subject, self.dout, self.wrong = subject, dout, wrong
        self.completed_at: dict[int, int] = {}  # by gradient that later lines fill in place: event
        self._complete()

    def _complete(self) -> None:
        """Find the gradients that lines after their own still change: those filled in loops."""
        watched: dict[int, tuple[Array, Array]] = {}

        def watch(call: OpCall, event: Event) -> Any:
            for k, (array, copy) in watched.items():
                if not np.array_equal(array, copy, equal_nan=True):
                    self.completed_at[k] = event.number
                    copy[...] = array
            for k in self._gradients_of(event):
                array = np.asarray(element_of(event.value, self.wrong[k].element))
                watched[k] = array, array.copy()
            return event.value

        self._run(watch)

    def run(self, replaced: Mapping[int, Array]) -> dict[int, Array]:
        """Return the value of each wrong gradient before its own replacement."""
        values: dict[int, Array] = {}
        filled: dict[int, Array] = {}

        def substitute(call: OpCall, event: Event) -> Any:
            complete = [k for k in filled if self.completed_at[k] == event.number]
            for k in complete:
                values[k] = filled[k].copy()
                if k in replaced:
                    filled[k][...] = replaced[k]
            value = event.value
            if event.line is not None and any(k in replaced for k in complete):
                value = call.source.run_line(event.line, event.scope)
            for k in self._gradients_of(event):
                index = self.wrong[k].element
                array = np.asarray(element_of(value, index))
                if k in self.completed_at:
                    filled[k] = array
                    continue
                values[k] = array.copy()
                if k in replaced:
                    value = _with_element(value, index, np.array(replaced[k]))
            return value

        self._run(substitute)
        return {k: array.copy() for k, array in filled.items()} | values

    def _gradients_of(self, event: Event) -> list[int]:
        return [k for k, gradient in enumerate(self.wrong) if gradient.event == event.number]

    def _run(self, value: Any) -> None:
        _, cache = self.subject.forward(self.subject.inputs, Replacement(None, value))
        self.subject.backward(self.dout, cache)


def _with_element(value: Any, index: int | None, new: Array) -> Any:
    """Return a value, or a copy of a tuple or a list, with another array at an index."""
    if index is None:
        return new
    items = [new if k == index else item for k, item in enumerate(value)]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
