"""`minise bench cpu`: start the implementations, prepare each workload, take turns, and report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

from minise.bench.peers import BASE, Checksum, Disagreement, check_agreement, missing, supports
from minise.bench.result import Result, Table, millis
from minise.bench.rounds import (
    Choice,
    Round,
    Spread,
    choose,
    ms_spread,
    ratios,
    rounds_json,
    spread,
)
from minise.bench.settings import CompareSettings
from minise.bench.worker import Worker, WorkerError, rounds_of
from minise.bench.workloads import Workload, title

COMPILING = (BASE, "torch-compile")  # they run once in a process that ends, before they are timed
COLUMNS = ("ms", "img/s", "times minise's ms", "MiB")
START = "start s\ncold, warm"
Progress = Callable[[str], None]


@dataclass
class Outcome:
    """What was measured of one workload; all dicts are by implementation."""

    workload: Workload
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)
    checksums: dict[str, Checksum] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)

    def statistics(self) -> tuple[Choice, dict[str, dict[str, Spread]]]:
        """Return which rounds count, and the ms and the ratio to minise's by implementation."""
        choice = choose(self.rounds)
        used = [self.rounds[i] for i in choice.used]
        return choice, {
            name: {"ms": ms_spread(used, name), "ratio": spread(ratios(used, name, BASE))}
            for name in self.memory
        }


@dataclass
class Comparison:
    """All that was measured so far."""

    settings: CompareSettings
    outcomes: list[Outcome] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)  # why an implementation is not there
    starts: dict[str, dict[str, float]] = field(default_factory=dict)  # seconds, cold and warm


def compare(settings: CompareSettings, workloads: list[Workload], progress: Progress) -> Comparison:
    """Measure every workload, with all implementations that can be had here.

    Raises
    ------
    Disagreement
        If first results differ by more than rounding can, or minise cannot do a workload.
    """
    comparison = Comparison(settings)
    names = [BASE, *dict.fromkeys(settings.against)]
    comparison.absent = {name: reason for name in names if (reason := missing(name))}
    with TemporaryDirectory() as cache, Workers(comparison, cache) as workers:
        for workload in workloads:
            if workload["kind"] != "op":
                workers.end()  # so that the memory of other workloads does not count
            outcome, what = Outcome(workload), title(workload)
            for name in names:
                if supports(name, workload) and name not in comparison.absent:
                    progress(f"{what}: {name} gets ready")
                    workers.prepare(name, outcome)
            check_agreement(what, outcome.checksums, settings.dtype)
            measured = [workers.by_name[name] for name in outcome.memory]
            outcome.rounds = rounds_of(measured, settings.rounds, what, progress)
            comparison.outcomes.append(outcome)
    return comparison


class Workers:
    """The processes of the implementations, which end with the `with` block.

    Parameters
    ----------
    comparison : Comparison
        Takes the times of starts, and who cannot take part.
    cache : str
        Folder for compiled code, with a folder for each implementation, where starts are measured;
        otherwise the user's own is used.
    """

    def __init__(self, comparison: Comparison, cache: str) -> None:
        self.comparison, self.cache = comparison, cache
        self.by_name: dict[str, Worker] = {}

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End them all."""
        for worker in self.by_name.values():
            worker.close()
        self.by_name = {}

    def prepare(self, name: str, outcome: Outcome) -> None:
        """Prepare an implementation for its turns, or note why it cannot take part."""
        settings, workload = self.comparison.settings, outcome.workload
        starts = settings.start and not self.comparison.outcomes and workload["kind"] != "op"
        try:
            if starts or (name in COMPILING and name not in self.by_name):
                with self._worker(name) as cold:  # leaves what it compiles, but not in memory
                    since = cold.first(workload)[1]
                if starts:
                    self.comparison.starts[name] = {"cold": since}
            if name not in self.by_name:
                self.by_name[name] = self._worker(name)
            checksum, since = self.by_name[name].first(workload)
            if starts:
                self.comparison.starts[name]["warm"] = since
            outcome.memory[name] = self.by_name[name].ask("warm")
            outcome.checksums[name] = checksum
        except WorkerError as error:
            if name == BASE:
                raise Disagreement(f"{title(workload)} with {settings.ops}: {error}") from None
            self.comparison.absent[name] = str(error)

    def _worker(self, name: str) -> Worker:
        settings = self.comparison.settings
        return Worker(name, settings, f"{self.cache}/{name}" if settings.start else None)


def result_of(comparison: Comparison) -> Result:
    """Return the result: a table for each workload, and one for all ops."""
    tables = [
        workload_table(outcome, comparison)
        for outcome in comparison.outcomes
        if outcome.workload["kind"] != "op"
    ]
    ops = [outcome for outcome in comparison.outcomes if outcome.workload["kind"] == "op"]
    if ops:
        tables.append(ops_table(ops, comparison.settings))
    return Result(
        comparison.settings.as_dict(),
        [_row(outcome) for outcome in comparison.outcomes],
        {"absent": comparison.absent, "start_seconds": comparison.starts},
        "works",
        tables,
        notes(comparison),
    )


def workload_table(outcome: Outcome, comparison: Comparison) -> Table:
    """Return the table of a training step, of inference or of a block."""
    settings, starts = comparison.settings, comparison.starts
    choice, statistics = outcome.statistics()
    with_starts = bool(starts) and outcome is comparison.outcomes[0]
    rows: list[list[str]] = []
    for name, spreads in statistics.items():
        row = [
            f"minise ({settings.back_end})" if name == BASE else name,
            millis(spreads["ms"].median),
            f"{1000 * settings.batch / spreads['ms'].median:.0f}",
            _ratio(spreads["ratio"], name),
            f"{outcome.memory[name]['mib']:.0f}",
        ]
        if with_starts:
            row.append(f"{starts[name]['cold']:.1f}, {starts[name]['warm']:.1f}")
        rows.append(row)
    block = outcome.workload["kind"] == "block"
    where = settings.conditions if block else settings.heading(settings.net)
    columns = (*COLUMNS, START) if with_starts else COLUMNS
    heading = f"{title(outcome.workload)}: {where}"
    return Table(heading, columns, rows, choice.sentence, unbroken=(START,))


def ops_table(outcomes: Sequence[Outcome], settings: CompareSettings) -> Table:
    """Return the table of single ops, one a row."""
    names = [name for name in (BASE, *settings.against) if any(name in o.memory for o in outcomes)]
    rows: list[list[str]] = []
    for outcome in outcomes:
        choice, statistics = outcome.statistics()
        mark = "~" if choice.doubtful else ""
        cells = [mark + millis(statistics[BASE]["ms"].median)]
        for name in names[1:]:
            cells.append(_times(statistics[name]["ratio"].median) if name in statistics else "")
        rows.append([title(outcome.workload), *cells])
    return Table(
        f"ops, forward + backward: {settings.heading(settings.net)}",
        [name.replace("-", "-\n", 1) for name in names],
        rows,
        "ms of minise; of the others, their time as a multiple of minise's.\n"
        + _disturbed(outcomes),
    )


def notes(comparison: Comparison) -> str:
    """Return what the tables' columns mean, and which implementations are absent."""
    lines = []
    hows = {memory["how"] for o in comparison.outcomes for memory in o.memory.values()}
    kinds = {outcome.workload["kind"] for outcome in comparison.outcomes}
    if kinds - {"op"}:
        lines += [
            "ms: median of the rounds. times minise's ms: the time as a multiple of minise's, "
            "median (and quartiles) of the ratios within a round.",
            f"MiB: what the work needs besides net and inputs: {' or '.join(sorted(hows))}.",
        ]
    if "block" in kinds:
        lines.append("Blocks are timed forward + backward, with the gradients of their parameters.")
    if kinds - {"op"} and comparison.starts:
        lines.append(
            "start: from the start of a process to the end of its first run; cold with an empty "
            "cache of compiled code, warm with what the cold one left."
        )
    lines += [f"{name}: {reason}" for name, reason in comparison.absent.items()]
    return "\n".join(lines)


def _row(outcome: Outcome) -> dict[str, Any]:
    choice, statistics = outcome.statistics()
    return {
        "title": title(outcome.workload),
        "work": outcome.workload,
        "contestants": {
            name: {
                "ms": spreads["ms"]._asdict(),
                "ratio_to_minise": spreads["ratio"]._asdict(),
                "memory": outcome.memory[name],
                "first": outcome.checksums[name].as_json(),
            }
            for name, spreads in statistics.items()
        },
        **choice.as_json(),
        "rounds": rounds_json(outcome.rounds),
    }


def _ratio(ratio: Spread, name: str) -> str:
    if name == BASE:
        return "1"
    return f"{_times(ratio.median)} ({_times(ratio.lower)}-{_times(ratio.upper)})"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.1g}"


def _disturbed(outcomes: Sequence[Outcome]) -> str:
    """Return in one sentence what others did during all ops."""
    choices = [choose(outcome.rounds) for outcome in outcomes]
    known = [choice.others for choice in choices if choice.others is not None]
    if not known:
        return choices[0].sentence
    rounds = sum(len(outcome.rounds) for outcome in outcomes)
    disturbed = sum(len(choice.disturbed) for choice in choices)
    doubtful = sum(choice.doubtful for choice in choices)
    text = f"Others disturbed {disturbed} of {rounds} rounds (at most {max(known):.2f} of a core)"
    if doubtful:
        return f"{text}; do not trust the {doubtful} ops marked ~, of which most rounds were."
    return text + ("; the figures leave them out." if disturbed else ".")
