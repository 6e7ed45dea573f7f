"""The result of a check as objects, as text that teaches, and as JSON."""

import json
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

RIGHT, WRONG, UNCHECKED = "right", "wrong", "could not be checked"

# why a gradient could not be checked, and what to do about it
KINK = (
    "forward has a kink or a jump too near for differences: move the input, pass branches=, or use "
    'mode="complex_step" if forward takes complex numbers'
)
ROUNDING = (
    "the gradient is below the rounding of forward or backward: rescale out (take off what is "
    'constant), move the input, or use mode="complex_step" if forward takes complex numbers'
)
NOT_ANALYTIC = (
    "a complex step and a difference do not agree, so forward is not analytic (abs, .real, conj or "
    'a cast drop the imaginary part): use mode="directional"'
)


UNKNOWN = "unknown"  # the kind of a diagnosis that knows no mistake


class Diagnosis(NamedTuple):
    """A likely mistake."""

    kind: str  # a short name, such as "sign"
    text: str  # what to look for


@dataclass(frozen=True)
class Entry:
    """One number of a gradient."""

    place: tuple[int, ...]
    exact: float  # what backward gave
    numeric: float  # forward's slope

    @property
    def error(self) -> float:
        """By how much the two differ."""
        return abs(self.exact - self.numeric)


@dataclass(frozen=True)
class ArgumentReport:
    """What was found about the gradient of one argument."""

    index: int
    name: str
    shape: tuple[int, ...]
    verdict: str  # RIGHT, WRONG or UNCHECKED
    exact: float = 0.0  # <gradient, u>, which backward gave; of the worst entry in mode "jacobian"
    numeric: float = 0.0  # forward's slope along u
    allowed: float = 0.0  # by how much they may differ
    resolved: float = 0.0  # the same relative to the gradient: a smaller mistake cannot be seen
    step: float = 0.0
    tried: int = 0  # steps
    crossed: int = 0  # of them those that crossed a kink
    problem: str = ""  # of a gradient that cannot even be compared
    reason: str = ""  # why a gradient could not be checked
    entries: tuple[Entry, ...] = ()  # wrong ones, the worst first
    wrong_share: float = 0.0  # of the entries that were looked at
    diagnosis: Diagnosis | None = None

    @property
    def error(self) -> float:
        """By how much the two numbers differ."""
        return abs(self.exact - self.numeric)

    @property
    def relative(self) -> float:
        """The same as a share of the larger one."""
        return self.error / max(abs(self.exact), abs(self.numeric), 1e-300)

    @property
    def ratio(self) -> float:
        """What backward gave, as a multiple of forward's slope."""
        return self.exact / self.numeric if self.numeric else float("inf")

    @property
    def zero(self) -> bool:
        """Whether gradient and slope are zero, or nothing but rounding."""
        return max(abs(self.exact), abs(self.numeric)) <= self.allowed

    def sentence(self) -> str:
        """Say what is wrong, or that nothing is, in one line."""
        who = f"input {self.index} ({self.name})"
        if self.problem:
            return f"{who}: {self.problem}"
        if self.verdict == UNCHECKED:
            return f"{who}: {self.verdict}: {self.reason}{self._how_far()}"
        if self.verdict == RIGHT:
            return f"{who}: right, {self.quality()}"
        both = f"forward's slope is {self.numeric:.12g}, backward gives {self.exact:.12g}"
        return f"{who}: {both}; they differ by {self.error:.1e}, allowed is {self.allowed:.1e}"

    def quality(self) -> str:
        """Say how well a right gradient agrees, and how small a mistake would have been seen."""
        if self.zero:
            return "zero" if not self.exact else f"zero but for rounding ({self.exact:.0e})"
        return f"agrees to {self.relative:.0e}, resolved to {self.resolved:.0e} of its size"

    def _how_far(self) -> str:
        """Say to what size a gradient was resolved that could not be checked."""
        if not 0 < self.resolved < float("inf"):
            return ""
        return f" (resolved to {self.resolved:.0e} of its size)"


@dataclass(frozen=True)
class Report:
    """What a check found about a pair of forward and backward."""

    name: str  # of forward
    mode: str
    arguments: tuple[ArgumentReport, ...] = field(default_factory=tuple)
    seconds: float = 0.0
    problem: str = ""  # of a pair that could not be run to its end

    @property
    def ok(self) -> bool:
        """Whether every gradient is right; one that could not be checked is not."""
        return not self.problem and all(argument.verdict == RIGHT for argument in self.arguments)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def failures(self) -> tuple[ArgumentReport, ...]:
        """The arguments whose gradients are not right, the wrong ones first."""
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
        """Share of the steps that crossed a kink and were made smaller."""
        tried = sum(argument.tried for argument in self.arguments)
        return sum(argument.crossed for argument in self.arguments) / tried if tried else 0.0

    def lines(self) -> list[tuple[str, str]]:
        """Return the text line by line, each with a style that rich knows."""
        head = f"{self.name}, mode {self.mode}: {self.problem or self._verdict()}"
        lines = [(head, "bold green" if self.ok else "bold red")]
        name_width = max((len(argument.name) for argument in self.arguments), default=0)
        shape_width = max((len(str(argument.shape)) for argument in self.arguments), default=0)
        for argument in self.arguments:
            lines += _argument_lines(
                argument, f"  {argument.name:<{name_width}}  {argument.shape!s:<{shape_width}} "
            )
        if self.crossed_share:
            lines.append((f"  {self.crossed_share:.0%} of the steps crossed a kink", "yellow"))
        return lines

    def _verdict(self) -> str:
        if not self.failures:
            return "all right"
        verdict = f"{len(self.wrong)} of {len(self.arguments)} gradients wrong"
        unsure = len(self.unchecked)
        return f"{verdict}, {unsure} could not be checked" if unsure else verdict

    def __str__(self) -> str:
        """Return the text without colours."""
        return "\n".join(text for text, _ in self.lines())

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        """Yield the text with colours, where a terminal shows it."""
        from rich.text import Text

        for text, style in self.lines():
            yield Text(text, style)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON takes it."""
        return {
            **asdict(self),
            "arguments": [
                {
                    **asdict(argument),
                    **{name: _number(getattr(argument, name)) for name in NUMBERS},
                    "diagnosis": argument.diagnosis._asdict() if argument.diagnosis else None,
                }
                for argument in self.arguments
            ],
            "ok": self.ok,
            "crossed_share": self.crossed_share,
        }

    def to_json(self) -> str:
        """Return everything as one line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)


NUMBERS = ("exact", "numeric", "allowed", "resolved", "step", "error")  # of an ArgumentReport


def _number(value: float) -> float | None:
    """Return a number as JSON takes it: None for infinity and NaN."""
    return value if isfinite(value) else None


def _argument_lines(argument: ArgumentReport, title: str) -> list[tuple[str, str]]:
    if argument.verdict == RIGHT:
        return [(f"{title} right, {argument.quality()}", "green")]
    if argument.verdict == UNCHECKED:
        return [(f"{title} {argument.sentence().partition(': ')[2]}", "yellow")]
    lines = [(f"{title} WRONG", "red")]
    if argument.problem:
        return [*lines, (f"    {argument.problem}", "red")]
    lines.append(
        (
            f"    along a random direction backward gives {argument.exact:.9g}, forward's slope is "
            f"{argument.numeric:.9g}{_ratio(argument)}",
            "red",
        )
    )
    for entry in argument.entries:
        index = ", ".join(map(str, entry.place))
        both = f"backward {entry.exact:.9g}, forward {entry.numeric:.9g}{_ratio(entry)}"
        text = f"    entry [{index}]: {both}"
        lines.append((text, ""))
    if argument.diagnosis:
        sure = "" if argument.diagnosis.kind == UNKNOWN else "likely: "
        lines.append((f"    {sure}{argument.diagnosis.text}", "bold"))
    return lines


def _ratio(compared: Entry | ArgumentReport) -> str:
    exact, numeric = compared.exact, compared.numeric
    return f", ratio {exact / numeric:.6g}" if exact and numeric else ""
