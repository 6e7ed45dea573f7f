"""The result of a check as objects, as text and as JSON."""

import json
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

RIGHT, WRONG, UNCHECKED = "right", "wrong", "could not be checked"

# reasons why a gradient could not be checked, each with its remedy
KINK = (
    "forward has a kink or a jump too close to the input for finite differences: move the input, "
    'pass branches=, or use mode="complex_step" if forward takes complex numbers'
)
ROUNDING = (
    "the gradient is smaller than the rounding errors of forward or backward: subtract the "
    'constant part of out, move the input, or use mode="complex_step" if forward takes complex '
    "numbers"
)
NOT_ANALYTIC = (
    "the complex step and finite differences disagree, so forward is not complex-analytic (abs, "
    '.real, conj or a cast drops the imaginary part): use mode="directional"'
)

UNKNOWN = "unknown"  # the kind of a diagnosis that recognises no mistake


class Diagnosis(NamedTuple):
    """The likely mistake behind a wrong gradient."""

    kind: str  # a short name, such as "sign"
    text: str  # the symptom and its likely cause


@dataclass(frozen=True)
class Entry:
    """One entry of a gradient, from backward and from forward."""

    index: tuple[int, ...]
    exact: float  # from backward
    numeric: float  # the partial derivative of forward, numerically

    @property
    def error(self) -> float:
        """The absolute difference of the two values."""
        return abs(self.exact - self.numeric)


@dataclass(frozen=True)
class ArgumentReport:
    """The verdict on the gradient of one argument, with the numbers behind it."""

    index: int
    name: str
    shape: tuple[int, ...]
    verdict: str  # RIGHT, WRONG or UNCHECKED
    exact: float = 0.0  # <gradient, u> from backward; in mode "jacobian" that of the worst entry
    numeric: float = 0.0  # the derivative of forward along u, numerically
    allowed: float = 0.0  # tolerance on their difference
    resolved: float = 0.0  # detection limit: a smaller relative error goes unnoticed
    step: float = 0.0
    tried: int = 0  # number of steps
    crossed: int = 0  # number of steps that crossed a kink
    problem: str = ""  # why backward's result cannot be compared at all, such as a wrong shape
    reason: str = ""  # why the gradient could not be checked
    entries: tuple[Entry, ...] = ()  # the wrong entries with the largest errors, largest first
    wrong_share: float = 0.0  # share of wrong entries among those compared
    diagnosis: Diagnosis | None = None

    @property
    def error(self) -> float:
        """The absolute difference of the two derivatives."""
        return abs(self.exact - self.numeric)

    @property
    def relative(self) -> float:
        """The difference relative to the larger of the two derivatives."""
        return self.error / max(abs(self.exact), abs(self.numeric), 1e-300)

    @property
    def ratio(self) -> float:
        """The derivative from backward divided by the one from forward."""
        return self.exact / self.numeric if self.numeric else float("inf")

    @property
    def zero(self) -> bool:
        """Whether both derivatives are zero up to the tolerance."""
        return max(abs(self.exact), abs(self.numeric)) <= self.allowed

    def sentence(self) -> str:
        """Return the verdict on this argument in one line."""
        argument = f"input {self.index} ({self.name})"
        if self.problem:
            return f"{argument}: {self.problem}"
        if self.verdict == UNCHECKED:
            return f"{argument}: {self.verdict}: {self.reason}{self._detection_limit()}"
        if self.verdict == RIGHT:
            return f"{argument}: right, {self.quality()}"
        return (
            f"{argument}: directional derivative is {self.exact:.12g} from backward, expected "
            f"{self.numeric:.12g} from forward: difference {self.error:.1e}, tolerance "
            f"{self.allowed:.1e}"
        )

    def quality(self) -> str:
        """Return the relative error and the detection limit of a correct gradient."""
        if self.zero:
            return "zero" if not self.exact else f"zero up to rounding ({self.exact:.0e})"
        return f"relative error {self.relative:.0e}, detection limit {self.resolved:.0e}"

    def _detection_limit(self) -> str:
        """Return the detection limit of a gradient that rounding hides, in parentheses."""
        if self.reason != ROUNDING or not 0 < self.resolved < float("inf"):
            return ""
        return f" (relative detection limit {self.resolved:.0e})"


@dataclass(frozen=True)
class Report:
    """The verdicts on all gradients of one pair of forward and backward."""

    name: str  # name of forward
    mode: str
    arguments: tuple[ArgumentReport, ...] = field(default_factory=tuple)
    seconds: float = 0.0
    problem: str = ""  # why the pair as a whole could not be checked

    @property
    def ok(self) -> bool:
        """Whether every gradient was checked and is correct."""
        return not self.problem and all(argument.verdict == RIGHT for argument in self.arguments)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def failures(self) -> tuple[ArgumentReport, ...]:
        """The arguments with a wrong gradient, then those that could not be checked."""
        return self.wrong + self.unchecked

    @property
    def wrong(self) -> tuple[ArgumentReport, ...]:
        """The arguments whose gradients are wrong."""
        return tuple(argument for argument in self.arguments if argument.verdict == WRONG)

    @property
    def unchecked(self) -> tuple[ArgumentReport, ...]:
        """The arguments whose gradients could not be checked."""
        return tuple(argument for argument in self.arguments if argument.verdict == UNCHECKED)

    @property
    def crossed_share(self) -> float:
        """Share of the steps that crossed a kink and were repeated with a smaller step."""
        tried = sum(argument.tried for argument in self.arguments)
        return sum(argument.crossed for argument in self.arguments) / tried if tried else 0.0

    def lines(self) -> list[tuple[str, str]]:
        """Return the report as lines of text, each with its rich style."""
        heading = f"{self.name}, mode {self.mode}: {self.problem or self._verdict()}"
        lines = [(heading, "bold green" if self.ok else "bold red")]
        name_width = max((len(argument.name) for argument in self.arguments), default=0)
        shape_width = max((len(str(argument.shape)) for argument in self.arguments), default=0)
        for argument in self.arguments:
            title = f"  {argument.name:<{name_width}}  {argument.shape!s:<{shape_width}} "
            lines += _argument_lines(argument, title, self.mode)
        if self.crossed_share:
            lines.append((f"  {self.crossed_share:.0%} of the steps crossed a kink", "yellow"))
        return lines

    def _verdict(self) -> str:
        if not self.failures:
            return "all gradients right"
        verdict = f"{len(self.wrong)} of {len(self.arguments)} gradients wrong"
        unchecked = len(self.unchecked)
        return f"{verdict}, {unchecked} could not be checked" if unchecked else verdict

    def __str__(self) -> str:
        """Return the report as plain text."""
        return "\n".join(text for text, _ in self.lines())

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        """Yield the report in colour, for rich."""
        from rich.text import Text

        for text, style in self.lines():
            yield Text(text, style)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a dict that json.dumps accepts."""
        return {
            **asdict(self),
            "arguments": [
                {
                    **asdict(argument),
                    **{name: _finite_or_none(getattr(argument, name)) for name in FLOAT_FIELDS},
                    "entries": [{**asdict(e), "place": e.index} for e in argument.entries],
                    "diagnosis": argument.diagnosis._asdict() if argument.diagnosis else None,
                }
                for argument in self.arguments
            ],
            "ok": self.ok,
            "crossed_share": self.crossed_share,
        }

    def to_json(self) -> str:
        """Return the report as one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)


FLOAT_FIELDS = ("exact", "numeric", "allowed", "resolved", "step", "error")  # of ArgumentReport


def _finite_or_none(value: float) -> float | None:
    """Return a finite number as it is, and None for infinity and NaN, which JSON does not have."""
    return value if isfinite(value) else None


def _argument_lines(argument: ArgumentReport, title: str, mode: str) -> list[tuple[str, str]]:
    """Return the lines of one argument, each with its rich style."""
    if argument.verdict == RIGHT:
        return [(f"{title} right, {argument.quality()}", "green")]
    if argument.verdict == UNCHECKED:
        return [(f"{title} {argument.sentence().partition(': ')[2]}", "yellow")]
    lines = [(f"{title} WRONG", "red")]
    if argument.problem:
        return [*lines, (f"    {argument.problem}", "red")]
    label = "derivative along a random direction"
    if mode == "jacobian":
        label = "entry furthest beyond its tolerance"
    lines.append((f"    {label}: {_both(argument)}", "red"))
    for entry in argument.entries:
        index = ", ".join(map(str, entry.index))
        lines.append((f"    entry [{index}]: {_both(entry)}", ""))
    if argument.diagnosis:
        likely = "" if argument.diagnosis.kind == UNKNOWN else "likely: "
        lines.append((f"    {likely}{argument.diagnosis.text}", "bold"))
    return lines


def _both(compared: Entry | ArgumentReport) -> str:
    """Return the derivatives from backward and from forward, and their ratio, as text."""
    exact, numeric = compared.exact, compared.numeric
    ratio = f", ratio {exact / numeric:.6g}" if exact and numeric else ""
    return f"backward {exact:.9g}, forward {numeric:.9g}{ratio}"
