"""`minise bench cpu`: time workloads in minise and in its peers, one process each, interleaved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import Any

from minise.bench.net_settings import CompareSettings
from minise.bench.peers import (
    BASELINE,
    Checksum,
    Disagreement,
    check_agreements,
    first_as_json,
    missing,
    supports,
)
from minise.bench.result import Result, Table, format_ms
from minise.bench.rounds import (
    Round,
    RoundSelection,
    Spread,
    ms_spread,
    ratios,
    rounds_json,
    select_rounds,
    spread,
)
from minise.bench.worker import Worker, WorkerError, run_rounds
from minise.bench.workloads import Workload, title

# implementations that compile in an earlier process, so that the timed process loads from disk
COMPILING = (BASELINE, "torch-compile")
COLUMNS = ("ms", "img/s", "times\nminise's ms", "MiB\n(ratio)")
START = "start s\ncold, warm"
Progress = Callable[[str], None]


@dataclass
class Outcome:
    """Measurements of one workload; all dicts are by implementation."""

    workload: Workload
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)
    checksums: dict[str, dict[str, Checksum]] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)

    def memory_ratio(self, name: str) -> float | None:
        """Return the peak memory divided by that of minise; None if minise's is 0."""
        base = self.memory[BASELINE]["mib"]
        return self.memory[name]["mib"] / base if base else None

    def statistics(self) -> tuple[RoundSelection, dict[str, dict[str, Spread]]]:
        """Return the selected rounds; by implementation, ms and the ratio to minise's time."""
        selection = select_rounds(self.rounds)
        used = [self.rounds[i] for i in selection.used]
        return selection, {
            name: {"ms": ms_spread(used, name), "ratio": spread(ratios(used, name, BASELINE))}
            for name in self.memory
        }


@dataclass
class Comparison:
    """All measurements so far."""

    settings: CompareSettings
    outcomes: list[Outcome] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)  # reason by implementation
    starts: dict[str, dict[str, float]] = field(default_factory=dict)  # seconds, cold and warm


def compare(settings: CompareSettings, workloads: list[Workload], progress: Progress) -> Comparison:
    """Measure every workload with all implementations that are available on this machine.

    Raises
    ------
    Disagreement
        If first results differ by more than rounding, or minise fails on a workload.
    """
    comparison = Comparison(settings)
    names = [BASELINE, *dict.fromkeys(settings.against)]
    comparison.absent = {name: reason for name in names if (reason := missing(name))}
    with TemporaryDirectory() as cache, Workers(comparison, cache) as workers:
        for index, workload in enumerate(workloads, 1):
            if workload["kind"] != "op":
                workers.close()  # so that memory of other workloads is not measured
            outcome, label = Outcome(workload), title(workload)
            counted = f"{index} of {len(workloads)}: {label}"
            for name in names:
                if supports(name, workload) and name not in comparison.absent:
                    progress(f"{counted}: preparing {name}")
                    workers.prepare(name, outcome)
            check_agreements(label, outcome.checksums, settings.dtype)
            measured = [workers.by_name[name] for name in outcome.memory]
            outcome.rounds = run_rounds(measured, settings.rounds, counted, progress)
            comparison.outcomes.append(outcome)
    return comparison


class Workers:
    """The processes of the implementations, which end with the `with` block.

    Parameters
    ----------
    comparison : Comparison
        Receives start times, and the reasons why implementations are absent.
    cache : str
        Folder for compiled code, with a subfolder for each implementation, if starts are measured;
        otherwise the user's own cache is used.
    """

    def __init__(self, comparison: Comparison, cache: str) -> None:
        self.comparison, self.cache = comparison, cache
        self.by_name: dict[str, Worker] = {}

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        for worker in self.by_name.values():
            worker.close()
        self.by_name = {}

    def prepare(self, name: str, outcome: Outcome) -> None:
        """Prepare an implementation for timing, or record why it is absent."""
        settings, workload = self.comparison.settings, outcome.workload
        time_start = settings.start and not self.comparison.outcomes and workload["kind"] != "op"
        try:
            if time_start or (name in COMPILING and name not in self.by_name):
                with self._worker(name) as cold:  # its compiled code stays on disk
                    seconds = cold.first_run(workload)[1]
                if time_start:
                    self.comparison.starts[name] = {"cold": seconds}
            if name not in self.by_name:
                self.by_name[name] = self._worker(name)
            checksums, seconds = self.by_name[name].first_run(workload)
            if time_start:
                self.comparison.starts[name]["warm"] = seconds
            outcome.memory[name] = self.by_name[name].ask("warm")
            outcome.checksums[name] = checksums
        except WorkerError as error:
            if name == BASELINE:
                raise Disagreement(f"{title(workload)} with {settings.ops}: {error}") from None
            self.comparison.absent[name] = str(error)

    def _worker(self, name: str) -> Worker:
        settings = self.comparison.settings
        return Worker(name, settings, f"{self.cache}/{name}" if settings.start else None)


def result_of(comparison: Comparison) -> Result:
    """Return the result: a table for each workload, and one table for all ops."""
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
        [row_of(outcome) for outcome in comparison.outcomes],
        {"absent": comparison.absent, "start_seconds": comparison.starts},
        "works",
        tables,
        notes(comparison),
    )


def workload_table(outcome: Outcome, comparison: Comparison) -> Table:
    """Return the table of a training step, of inference or of a block."""
    settings, starts = comparison.settings, comparison.starts
    selection, statistics = outcome.statistics()
    with_starts = bool(starts) and outcome is comparison.outcomes[0]
    rows: list[list[str]] = []
    for name, spreads in statistics.items():
        row = [
            f"minise ({settings.back_end})" if name == BASELINE else name,
            format_ms(spreads["ms"].median),
            f"{1000 * settings.batch / spreads['ms'].median:.0f}",
            _ratio_with_quartiles(spreads["ratio"], name),
            _memory_with_ratio(outcome, name),
        ]
        if with_starts:
            row.append(f"{starts[name]['cold']:.1f}, {starts[name]['warm']:.1f}")
        rows.append(row)
    block = outcome.workload["kind"] == "block"
    conditions = settings.conditions if block else settings.heading(settings.net)
    columns = (*COLUMNS, START) if with_starts else COLUMNS
    heading = f"{title(outcome.workload)}: {conditions}"
    return Table(heading, columns, rows, selection.verdict, unbroken=("", START))


def ops_table(outcomes: Sequence[Outcome], settings: CompareSettings) -> Table:
    """Return the table of single ops, one op per row."""
    names = [
        name for name in (BASELINE, *settings.against) if any(name in o.memory for o in outcomes)
    ]
    rows: list[list[str]] = []
    for outcome in outcomes:
        selection, statistics = outcome.statistics()
        mark = "~" if selection.unreliable else ""
        cells = [mark + format_ms(statistics[BASELINE]["ms"].median)]
        for name in names[1:]:
            cells.append(
                _format_ratio(statistics[name]["ratio"].median) if name in statistics else ""
            )
        rows.append([title(outcome.workload), *cells])
    return Table(
        f"ops, forward + backward: {settings.heading(settings.net)}",
        [name.replace("-", "-\n", 1) for name in names],
        rows,
        "minise: ms. Others: time as a multiple of minise's time.\n" + _load_note(outcomes),
    )


def notes(comparison: Comparison) -> str:
    """Return the meaning of the tables' columns, and the reasons for absent implementations."""
    lines = []
    methods = {memory["how"] for o in comparison.outcomes for memory in o.memory.values()}
    kinds = {outcome.workload["kind"] for outcome in comparison.outcomes}
    if kinds - {"op"}:
        lines += [
            "ms: median over the rounds. times minise's ms: time as a multiple of minise's, "
            "median (quartiles) of the ratios within a round.",
            f"MiB: memory in addition to net and inputs: {' or '.join(sorted(methods))}; "
            "(ratio): as a multiple of minise's.",
        ]
    if "block" in kinds:
        lines.append("Blocks are timed forward + backward, with the gradients of their parameters.")
    if kinds - {"op"} and comparison.starts:
        lines.append(
            "start: from the start of a process to the end of its first run; cold: with an empty "
            "cache of compiled code; warm: with the cache that the cold start filled."
        )
    lines += [f"{name}: {reason}" for name, reason in comparison.absent.items()]
    return "\n".join(lines)


def row_of(outcome: Outcome) -> dict[str, Any]:
    """Return the measurements of a workload as a result file stores them."""
    selection, statistics = outcome.statistics()
    return {
        "title": title(outcome.workload),
        "work": outcome.workload,
        "contestants": {
            name: {
                "ms": spreads["ms"]._asdict(),
                "ratio_to_minise": spreads["ratio"]._asdict(),
                "memory": outcome.memory[name],
                "memory_ratio_to_minise": outcome.memory_ratio(name),
                "first": first_as_json(outcome.checksums[name]),
            }
            for name, spreads in statistics.items()
        },
        **selection.as_json(),
        "rounds": rounds_json(outcome.rounds),
    }


def _ratio_with_quartiles(ratio: Spread, name: str) -> str:
    if name == BASELINE:
        return "1"
    middle, lower, upper = map(_format_ratio, ratio)
    return f"{middle} ({lower}-{upper})"


def _memory_with_ratio(outcome: Outcome, name: str) -> str:
    mib, ratio = f"{outcome.memory[name]['mib']:.0f}", outcome.memory_ratio(name)
    return mib if name == BASELINE or ratio is None else f"{mib} ({_format_ratio(ratio)})"


def _format_ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.1g}"


def _load_note(outcomes: Sequence[Outcome]) -> str:
    """Return a sentence about the load by other processes during the rounds of all ops."""
    selections = [select_rounds(outcome.rounds) for outcome in outcomes]
    loads = [cores for s in selections if (cores := s.max_other_cores) is not None]
    if not loads:
        return selections[0].verdict
    rounds = sum(len(outcome.rounds) for outcome in outcomes)
    disturbed = sum(len(selection.disturbed) for selection in selections)
    unreliable = sum(selection.unreliable for selection in selections)
    load = f"at most {max(loads):.2f} cores used by other processes"
    text = f"{disturbed} of {rounds} rounds were disturbed ({load})"
    if unreliable:
        return f"{text}; the {unreliable} ops marked ~ are unreliable: most rounds were disturbed."
    return text + (": these rounds are excluded." if disturbed else ".")
