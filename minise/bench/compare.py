"""`minise bench cpu` from end to end: start contestants, prepare each work, take turns."""

from collections.abc import Callable
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

from minise.bench.agree import Disagreement, First, check_firsts
from minise.bench.contestants import missing, takes_part
from minise.bench.figures import Round
from minise.bench.settings import Settings
from minise.bench.turns import Child, Stopped, rounds_of
from minise.bench.works import Work, title

BASE = "minise"
COMPILING = (BASE, "torch-compile")  # do a work once in a process that ends, before they are timed
Progress = Callable[[str], None]


@dataclass
class Outcome:
    """What was measured of one work; all dicts are by contestant."""

    work: Work
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)
    firsts: dict[str, First] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)


@dataclass
class Comparison:
    """What was measured in all, while it grows."""

    settings: Settings
    outcomes: list[Outcome] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)  # why a contestant is not there
    starts: dict[str, dict[str, float]] = field(default_factory=dict)  # seconds, cold and warm


def compare(settings: Settings, works: list[Work], progress: Progress) -> Comparison:
    """Measure every work, with all contestants that can be had here.

    Raises
    ------
    Disagreement
        If first results differ by more than rounding can, or minise cannot do a work.
    """
    comparison = Comparison(settings)
    names = [BASE, *dict.fromkeys(settings.against)]
    comparison.absent = {name: reason for name in names if (reason := missing(name))}
    with TemporaryDirectory() as cache, Processes(comparison, cache) as processes:
        for work in works:
            if work["kind"] != "op":
                processes.end()  # so that the memory of a step or forward pass is its own
            outcome = Outcome(work)
            for name in names:
                if takes_part(name, work) and name not in comparison.absent:
                    progress(f"{title(work)}: {name} gets ready")
                    processes.prepare(name, outcome)
            check_firsts(title(work), outcome.firsts, BASE, settings.dtype)
            children = [processes.children[name] for name in outcome.memory]
            outcome.rounds = rounds_of(children, settings.rounds, title(work), progress)
            comparison.outcomes.append(outcome)
    return comparison


class Processes:
    """The contestants' processes, which end with the `with` block.

    Parameters
    ----------
    comparison : Comparison
        Notes starts, and who cannot take part.
    cache : str
        Folder for what they compile, one below it for each, where starts are measured; else it
        stays in the user's own.
    """

    def __init__(self, comparison: Comparison, cache: str) -> None:
        self.comparison, self.cache = comparison, cache
        self.children: dict[str, Child] = {}

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End them all."""
        for child in self.children.values():
            child.close()
        self.children = {}

    def prepare(self, name: str, outcome: Outcome) -> None:
        """Bring a contestant so far that its turns can begin, or note why it cannot."""
        settings, work = self.comparison.settings, outcome.work
        starts = settings.start and not self.comparison.outcomes and work["kind"] != "op"
        try:
            if starts or (name in COMPILING and name not in self.children):
                with self._child(name) as cold:  # it leaves what it compiles, but not in memory
                    since = cold.first(work)[1]
                if starts:
                    self.comparison.starts[name] = {"cold": since}
            if name not in self.children:
                self.children[name] = self._child(name)
            first, since = self.children[name].first(work)
            if starts:
                self.comparison.starts[name]["warm"] = since
            outcome.memory[name] = self.children[name].ask("warm")
            outcome.firsts[name] = first
        except Stopped as stopped:
            if name == BASE:
                raise Disagreement(f"{title(work)} with {settings.ops}: {stopped}") from None
            self.comparison.absent[name] = str(stopped)

    def _child(self, name: str) -> Child:
        settings = self.comparison.settings
        return Child(name, settings, f"{self.cache}/{name}" if settings.start else None)
