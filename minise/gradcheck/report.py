"""What a check found: as objects, as text that teaches, as JSON."""

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from minise.gradcheck.diagnose import UNKNOWN, Diagnosis
from minise.gradcheck.slopes import STEPS

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

RIGHT, WRONG, NOT_SMOOTH = "right", "wrong", "not smooth here"
REACH = 2 * float(STEPS[-1])  # of the smallest difference


@dataclass(frozen=True)
class Entry:
    """One number of a gradient."""

    place: tuple[int, ...]
    exact: float  # what backward gave
    numeric: float  # forward's slope


@dataclass(frozen=True)
class ArgumentReport:
    """What was found about the gradient of one argument."""

    index: int
    name: str
    shape: tuple[int, ...]
    verdict: str  # RIGHT, WRONG or NOT_SMOOTH
    exact: float = 0.0  # <gradient, u>, which backward gave; of the worst entry in mode "jacobian"
    numeric: float = 0.0  # forward's slope along u
    allowed: float = 0.0  # by how much they may differ
    step: float = 0.0
    tried: int = 0  # steps
    crossed: int = 0  # of them those that crossed a kink
    problem: str = ""  # of a gradient that cannot even be compared
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
    def lost(self) -> bool:
        """Whether rounding may be all there is: a zero, or nothing that a check could see."""
        return 0 < max(abs(self.exact), abs(self.numeric)) <= self.allowed

    def sentence(self) -> str:
        """Say what is wrong, or that nothing is, in one line."""
        who = f"input {self.index} ({self.name})"
        if self.problem:
            return f"{who}: {self.problem}"
        if self.verdict == NOT_SMOOTH:
            return (
                f"{who}: not smooth here: forward has a kink or a jump within {REACH:.0e} of it; "
                "move the input, or pass branches"
            )
        both = f"forward's slope is {self.numeric:.12g}, backward gives {self.exact:.12g}"
        return f"{who}: {both}, apart by {self.error:.1e} where {self.allowed:.1e} is allowed"


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
        return not self.problem and all(one.verdict == RIGHT for one in self.arguments)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def failures(self) -> tuple[ArgumentReport, ...]:
        """The arguments whose gradients are not right."""
        return tuple(one for one in self.arguments if one.verdict != RIGHT)

    @property
    def crossed_share(self) -> float:
        """Share of the steps that crossed a kink and were made smaller."""
        tried = sum(one.tried for one in self.arguments)
        return sum(one.crossed for one in self.arguments) / tried if tried else 0.0

    def lines(self) -> list[tuple[str, str]]:
        """Return the text line by line, each with a style that rich knows."""
        head = f"{self.name}, mode {self.mode}: {self.problem or self._verdict()}"
        found = [(head, "bold green" if self.ok else "bold red")]
        name_width = max((len(one.name) for one in self.arguments), default=0)
        shape_width = max((len(str(one.shape)) for one in self.arguments), default=0)
        for one in self.arguments:
            found += _argument_lines(
                one, f"  {one.name:<{name_width}}  {one.shape!s:<{shape_width}} "
            )
        if self.crossed_share:
            found.append((f"  {self.crossed_share:.0%} of the steps crossed a kink", "yellow"))
        return found

    def _verdict(self) -> str:
        unsure = sum(one.verdict == NOT_SMOOTH for one in self.arguments)
        wrong = len(self.failures) - unsure
        if not self.failures:
            return "all right"
        verdict = f"{wrong} of {len(self.arguments)} gradients wrong"
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
                    **asdict(one),
                    "error": one.error,
                    "diagnosis": one.diagnosis._asdict() if one.diagnosis else None,
                }
                for one in self.arguments
            ],
            "ok": self.ok,
            "crossed_share": self.crossed_share,
        }

    def to_json(self) -> str:
        """Return everything as one line of JSON."""
        return json.dumps(self.to_dict())


def _argument_lines(one: ArgumentReport, title: str) -> list[tuple[str, str]]:
    if one.verdict == RIGHT:
        how = f"agrees to {one.relative:.0e}"
        if one.lost:
            how = f"{one.exact:.0e}, which is nothing but rounding here"
        return [(f"{title} right, {how}", "green")]
    if one.verdict == NOT_SMOOTH:
        return [(f"{title} {one.sentence().partition(': ')[2]}", "yellow")]
    found = [(f"{title} WRONG", "red")]
    if one.problem:
        return [*found, (f"    {one.problem}", "red")]
    found.append(
        (
            f"    along a random direction backward gives {one.exact:.9g}, forward's slope is "
            f"{one.numeric:.9g}{_ratio(one)}",
            "red",
        )
    )
    for entry in one.entries:
        place = ", ".join(map(str, entry.place))
        both = f"backward {entry.exact:.9g}, forward {entry.numeric:.9g}{_ratio(entry)}"
        text = f"    entry [{place}]: {both}"
        found.append((text, ""))
    if one.diagnosis:
        sure = "" if one.diagnosis.kind == UNKNOWN else "likely: "
        found.append((f"    {sure}{one.diagnosis.text}", "bold"))
    return found


def _ratio(one: Entry | ArgumentReport) -> str:
    return f", ratio {one.exact / one.numeric:.6g}" if one.exact and one.numeric else ""
