"""What is right at one case: its arrays, and the gradient of each, entry by entry.

Every gradient is an exact slope of the real forward: an input or an intermediate is moved by a
complex step in one entry after the other.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minise.contract.cases import Case, draw
from minise.gradcheck.adapters import parameter_names
from minise.gradcheck.diagnose import Case as Wrong
from minise.gradcheck.diagnose import diagnose
from minise.gradcheck.report import UNKNOWN
from minise.gradcheck.slopes.arrays import promoted
from minise.gradcheck.slopes.differences import TINY
from minise.grading.compare import HALF, close, floats, may_become, misfit, told
from minise.ops.checks import Array
from minise.tracing.instrument import Instrumented

NEAR = 0.01  # of a share of eps: its own square is smaller
FEW = 3  # entries say too little to tell one mistake from another
VAGUE = {UNKNOWN, "permuted"}


class Truth:
    """One case with its arrays, and what is right there.

    Parameters
    ----------
    forward, backward : callable
        An op of the reference.
    case : Case
        Its sizes and settings.
    rng : numpy.random.Generator
        Draws the inputs and dout.
    integers : bool
        Whether inputs are small integers, so that they tie.

    Attributes
    ----------
    inputs, names : list
        What goes by position, and what forward calls it.
    dout, cache
        What backward gets.
    values : dict
        Forward's inputs and intermediates by name.
    twins : dict
        The intermediates of the op's own backward by name.
    own : dict
        What else lines of an exercise must hold, by name, such as a mask.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        case: Case,
        rng: np.random.Generator,
        *,
        integers: bool = False,
    ) -> None:
        self.inputs, self._settings = draw(case, rng, integers=integers)
        self._forward = Instrumented(forward)
        self.names = parameter_names(forward, len(self.inputs))[: len(self.inputs)]
        (out, self.cache), steps = self._forward.trace(*self.inputs, **self._settings)
        self.dout = np.asarray(rng.standard_normal(np.shape(out)))
        _, twins = Instrumented(backward).trace(self.dout, self.cache)
        self.values = {step.line.name: step.value for step in steps}
        self.values |= dict(zip(self.names, self.inputs, strict=True))
        self.twins = {step.line.name: step.value for step in twins}
        self.own: dict[str, Array] = {}
        shown = {**case.sizes, **case.settings}
        shape = shown.pop("...", None)
        named = [f"{k} = {v}" for k, v in shown.items()]
        self.case = ", ".join([f"an array of shape {shape}", *named] if shape else named)
        self._sizes = _counts(case.sizes)
        names = {"N": "image", "C": "channel", "R": "unit", "K": "channel"}
        self._axes = {case.sizes[k]: name for k, name in names.items() if k in case.sizes}
        self._windows = "kernel" in case.settings or "KH" in case.sizes
        self._right: dict[str, Array] = {}

    def right(self, of: str) -> Array:
        """Return the gradient with respect to an input or an intermediate, entry by entry."""
        if of not in self._right:
            value = np.asarray(self.values[of])
            found = np.zeros(value.shape)
            for entry in np.ndindex(*value.shape):
                u = np.zeros(value.shape)
                u[entry] = 1
                found[entry] = np.vdot(self.dout, self._moved(of, u).imag / TINY)
            self._right[of] = found
        return self._right[of]

    def _moved(self, of: str, u: Array) -> Any:
        """Return out where one of forward's arrays is moved by a complex step along u."""
        inputs = [promoted(value) for value in self.inputs]
        settings = {key: promoted(value) for key, value in self._settings.items()}
        if of in self.names:
            inputs[self.names.index(of)] = inputs[self.names.index(of)] + 1j * TINY * u
            return np.asarray(self._forward.function(*inputs, **settings)[0])
        return np.asarray(self._forward.moved(of, 1j * TINY * u, *inputs, **settings)[0])

    def like(self, name: str) -> Any:
        """Return an array of the shape that a name should have, where one is known, or None."""
        value = self.values.get(name.removeprefix("d")) if name.startswith("d") else None
        return value if floats(value) else self.twins.get(name)

    def fits(self, name: str, value: Any) -> bool:
        """Tell whether what a line gave has the shape of what it is the gradient of."""
        of = name.removeprefix("d")
        if of == name or not floats(self.values.get(of)) or not floats(value):
            return True
        return np.shape(value) == np.shape(self.values[of])

    def fills(self, name: str, value: Any) -> bool:
        """Tell whether a gradient has all its entries, or, of an input, lacks but a sum."""
        of = name.removeprefix("d")
        right = self.right(of)
        return np.size(value) == right.size or (of in self.names and may_become(value, right))

    def hides_a_sum(self, of: str, value: Any) -> bool:
        """Tell whether a gradient has more axes than it should, but no more entries."""
        like = np.asarray(self.values[of])
        return np.ndim(value) > like.ndim and np.size(value) == like.size

    def returned_is_right(self, k: int, gradient: Any) -> bool:
        """Tell whether what is returned for input k is its gradient."""
        value = self.inputs[k]
        if not floats(value):
            return gradient is None
        if not floats(gradient) or np.shape(gradient) != np.shape(value):
            return False
        return close(gradient, self.right(self.names[k]))

    def is_gradient_of(self, value: Any) -> str:
        """Return the input that something returned is the right gradient of, or nothing."""
        for k, name in enumerate(self.names):
            if not floats(self.inputs[k]) or not floats(value) or not self.right(name).any():
                continue
            if self.returned_is_right(k, value):
                return name
        return ""

    def is_slope(self, value: Any) -> bool:
        """Tell whether a value is the gradient of some array of forward's."""
        size = np.size(value) if floats(value) else -1
        like = [of for of, one in self.values.items() if floats(one) and np.size(one) == size]
        return any(close(value, self.right(of)) for of in like)

    def reason(self, of: str, value: Any) -> str:
        """Return in numbers what is wrong with a gradient."""
        right, name = self.right(of) if floats(self.values[of]) else None, f"d{of}"
        if right is None:
            return f"{name} is a gradient, expected None: {of} holds integers, or is None"
        if not floats(value):
            return f"{name} is {type(value).__name__}, expected an array of shape {right.shape}"
        shape = misfit(name, of, value, right)
        if shape and (np.size(value) != right.size or close(value, right) or "transpose" in shape):
            return shape
        wrong = np.reshape(value, right.shape)
        worst = np.unravel_index(int(np.argmax(abs(wrong - right))), right.shape)
        entry = f"{name}[{', '.join(map(str, worst))}]" if worst else name
        text = told(float(wrong[worst]), float(right[worst]), "forward's slope is")
        off = abs(wrong - right) > HALF * abs(right).max()
        more = self._only_where(name, off) or self._without_eps(wrong, right)
        return f"{entry} is {text}{more}"

    def _without_eps(self, wrong: Array, right: Array) -> str:
        """Say so where a gradient is off by a share of eps / var: eps is not added to it."""
        eps, var = getattr(self.cache, "eps", None), self.values.get("var")
        if eps is None or not floats(var) or not right.all() or not np.any(wrong - right):
            return ""
        share = eps / var.reshape(-1, *[1] * (right.ndim - 2 if right.ndim > 2 else 0))
        times = (wrong / right - 1) / share
        power = round(2 * float(times.mean())) / 2
        if not power or abs(power) > 3 or abs(times - power).max() > NEAR * abs(power):
            return ""
        return ", like eps of var: is an eps left out, or in there twice?"

    def reason_of_own(self, name: str, value: Any) -> str:
        """Return where something that is no gradient, such as a mask, is wrong."""
        right = self.own[name]
        if np.shape(value) != right.shape:
            return f"{name} has shape {np.shape(value)}, expected {right.shape}"
        off = np.asarray(value) != right
        worst = tuple(map(int, np.argwhere(off)[0]))
        entry = f"{name}[{', '.join(map(str, worst))}]" if worst else name
        text = f"{entry} is {np.asarray(value)[worst]}, expected {right[worst]}"
        return f"{text}{self._only_where(name, off)}"

    def _only_where(self, name: str, off: Array) -> str:
        """Say so where something is wrong just where out is 0 or 1: on the flat side of a kink."""
        out = getattr(self.cache, "out", None)
        if not floats(out) or out.shape != off.shape or off.all():
            return ""
        values = np.unique(out[off])
        if len(values) > 2 or not np.isin(values, (0, 1)).all():
            return ""
        if np.isin(out, values).sum() != off.sum():
            return ""
        told = " or ".join(f"{value:g}" for value in values)
        return f": {name} is wrong only where out is exactly {told}, so look at the mask there"

    def likely(self, of: str, value: Any) -> str:
        """Return the mistake that a wrong gradient looks like, or nothing."""
        if not floats(self.values[of]) or not floats(value):
            return ""
        right = self.right(of)
        if np.size(value) != right.size or right.size < FEW or close(value, right):
            return ""
        wrong, array = np.reshape(value, right.shape), np.asarray(self.values[of])
        others = self._others(of, right.shape)
        windows, axes = self._windows, _axes(right.shape, self._axes)
        answer = diagnose(Wrong(wrong, right, array, others, self._sizes, windows, axes))
        return "" if answer.kind in VAGUE else answer.text

    def _others(self, of: str, shape: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
        for name, value in self.values.items():
            if name != of and floats(value) and np.shape(value) == shape and len(shape):
                yield name, self.right(name)


def _axes(shape: tuple[int, ...], names: dict[int, str]) -> tuple[str, ...]:
    """Return what an entry of each leading axis is, as far as sizes tell."""
    if len(shape) == 2:
        return ("row", "column")
    first, second = (names.get(size, "") for size in (*shape, -1, -1)[:2])
    if len(shape) == 4 and first == "image" and second:
        return (first, second)
    return (first,) if len(shape) == 1 and first else ()


def _counts(sizes: dict[str, Any]) -> dict[str, int]:
    """Return the numbers by which a gradient may be wrong: sizes, and those of a mean."""
    found = {k: v for k, v in sizes.items() if isinstance(v, int)}
    if "H" in found:
        found["H*W"] = found["H"] * found["W"]
        found["N*H*W"] = found["N"] * found["H*W"]
    return {k: v for k, v in found.items() if k not in ("H", "W")}
