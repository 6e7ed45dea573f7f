"""Forward's own slopes for a trace: any value of any line moved, entry by entry.

The differences, the complex step and the bounds on what arithmetic can lose are gradcheck's. What
is moved is a place in forward: an input, what one line gave, or a value as one line alone reads it
(which is one route of a gradient, with all others held).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minise.gradcheck.slopes.arrays import promoted
from minise.gradcheck.slopes.differences import Line, Slope, central_slope, complex_slope
from minise.gradcheck.slopes.rounding import norm, rounding_of
from minise.ops.checks import Array
from minise.ops.user.errors import OpsError
from minise.tracing.local import Leaf, changed, held, mapped
from minise.tracing.recorder import Event, Move, OpCall
from minise.tracing.subject import Subject
from minise.walk.steps import Check


class Place(NamedTuple):
    """What is moved."""

    words: str  # "u", or "x as read by out = x * s"
    value: Array
    event: int | None = None  # its number, or
    given: int | None = None  # which input of the subject
    leaf: Leaf | None = None  # what the event's line reads, where it is only moved there


class Slopes:
    """The slopes of <dout, out> in everything on the way.

    Parameters
    ----------
    subject : Subject
        What runs.
    dout : ndarray
        Gradient of the loss with respect to out.
    """

    def __init__(self, subject: Subject, dout: Array) -> None:
        self.subject, self.douts = subject, (np.asarray(dout),)
        sizes = [np.size(value) for value in subject.inputs if value is not None]
        self.count = sum(sizes) + dout.size
        self.complex = self._takes_complex()

    def check(self, gradient: Array, place: Place) -> Check | None:
        """Compare a gradient with the slopes at a place, or None if their shapes cannot agree.

        One number of a gradient that is broadcast stands for all that it is broadcast to; shown
        are then the slopes that are farthest from it.
        """
        try:
            wide = np.broadcast_to(gradient, place.value.shape)
        except ValueError:
            return None
        numbers = np.arange(gradient.size).reshape(gradient.shape)
        owners = np.broadcast_to(numbers, place.value.shape).ravel()
        difference, exact, error = (np.zeros(gradient.size) for _ in range(3))
        agrees = np.ones(gradient.size, bool)
        worst = np.full(gradient.size, -1.0)
        for entry, owner in enumerate(owners):
            value = float(wide.ravel()[entry])
            slopes = self._slopes(place, entry)
            best = slopes[-1].value
            apart = abs(value - best)
            fits = [self._fits(value, slope) for slope in slopes]
            agrees[owner] &= all(fits)
            if apart > worst[owner]:
                worst[owner] = apart
                difference[owner], exact[owner] = slopes[0].value, best
                size = max(abs(value), abs(best))
                lost = size <= self._allowed(value, slopes[-1])
                error[owner] = 0.0 if lost else apart / size
        shape = gradient.shape
        return Check(
            place.words,
            difference.reshape(shape),
            exact.reshape(shape) if self.complex else None,
            error.reshape(shape),
            agrees.reshape(shape),
        )

    def _fits(self, value: float, slope: Slope) -> bool:
        return not slope.smooth or abs(value - slope.value) <= self._allowed(value, slope)

    def _allowed(self, value: float, slope: Slope) -> float:
        return slope.error + rounding_of(self.count, norm(self.douts) + abs(value))

    def _slopes(self, place: Place, entry: int) -> list[Slope]:
        """Return the slope by differences, and where forward can do it by a complex step."""

        def moved(value: Any, t: Any) -> Any:
            value = np.array(value, complex if isinstance(t, complex) else float)
            value.flat[entry] += t
            return value

        line = self._line(place, moved)
        slopes = [central_slope(line, self.douts, self.count)]
        if self.complex:
            slopes.append(complex_slope(line, self.douts, self.count))
        return slopes

    def _line(self, place: Place, moved: Callable[[Any, Any], Any]) -> Line:
        """Return forward as a function of how far a place is moved."""

        def line(t: Any) -> tuple[tuple[Array, ...], Any]:
            lift = promoted if isinstance(t, complex) else lambda value: value
            inputs = [lift(value) for value in self.subject.inputs]
            move = None
            if place.event is not None:
                change = partial(_changed, place, t, moved)
                move = Move(place.event, change)
            if place.given is not None:
                inputs[place.given] = moved(inputs[place.given], t)
            out, cache = self.subject.forward(inputs, move)
            return (np.asarray(out),), cache

        return line

    def _takes_complex(self) -> bool:
        """Tell whether a complex step in the first input says what a difference says.

        A forward of the caller's may refuse complex numbers, or use abs or maximum, which are
        wrong of them.
        """
        first = self.subject.inputs[0]
        (rng,) = np.random.default_rng(0).spawn(1)  # else u could be the input itself
        u = rng.standard_normal(np.shape(first))
        place = Place("", first, given=0)
        along = self._line(place, lambda value, t: value + t * u)
        difference = central_slope(along, self.douts, self.count)
        try:
            exact = complex_slope(along, self.douts, self.count)
        except (TypeError, ValueError, OpsError):
            return False
        apart = abs(exact.value - difference.value)
        allowed = self._allowed(exact.value, exact) + difference.error
        return not difference.smooth or apart <= allowed * (1 + np.sqrt(first.size))


def _changed(
    place: Place, t: Any, moved: Callable[[Any, Any], Any], call: OpCall, event: Event
) -> Any:
    """Return an event's value moved, or what its line gives of a moved leaf."""
    if place.leaf is None or event.line is None:
        return moved(event.value, t)
    scope, leaf = event.scope, place.leaf
    if isinstance(t, complex):
        scope = {name: mapped(value, promoted) for name, value in scope.items()}
    there = changed(scope, leaf, moved(held(scope, leaf), t))
    return call.source.again(event.line, there)
