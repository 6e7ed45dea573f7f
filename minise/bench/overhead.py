"""`minise bench se-overhead`: the time of a net with SE blocks divided by that without them.

A training step and inference of one image are timed in minise and in its peers. For each
implementation, both nets have a process of their own, and their turns are interleaved, so that each
ratio is of measurements taken close together.

Source of the published times: Hu et al., "Squeeze-and-Excitation Networks", arXiv:1709.01507,
section 4: 224x224 images; a training step on 256 images on a server with 8 GPUs, and inference of
one image on a CPU.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from minise.bench.net_settings import OverheadSettings
from minise.bench.peers import BASELINE, Checksum, Disagreement, check_agreements, missing
from minise.bench.result import Result, Table, format_ms
from minise.bench.rounds import (
    Round,
    Spread,
    interleave,
    ms_spread,
    ratios,
    rounds_json,
    select_rounds,
    spread,
)
from minise.bench.worker import Worker, WorkerError
from minise.bench.workloads import title

KINDS = ("step", "forward")
PAPER_NETS = ("resnet50", "se_resnet50")
PAPER_MS = {"step": (190, 209), "forward": (164, 167)}
PAPER_CONDITIONS = {"step": "256 images, 8 GPUs", "forward": "CPU"}


@dataclass
class Overhead:
    """All measurements so far."""

    settings: OverheadSettings
    rounds: dict[tuple[str, str], list[Round]] = field(default_factory=dict)  # kind, implementation
    absent: dict[str, str] = field(default_factory=dict)  # reason by implementation

    def ratio(self, kind: str, name: str) -> Spread:
        """Return the time of the second net divided by that of the first."""
        first, second = self.settings.nets
        return spread(ratios(self.used(kind, name), second, first))

    def used(self, kind: str, name: str) -> list[Round]:
        """Return the rounds that enter the statistics."""
        rounds = self.rounds[kind, name]
        return [rounds[i] for i in select_rounds(rounds).used]


def prepare(settings: OverheadSettings) -> None:
    """Raise ValueError, TypeError or ImportError if a net or the back end cannot be built."""
    settings.load_ops()
    for net in settings.nets:
        settings.of(net, "step").build()


def measure(settings: OverheadSettings, progress: Callable[[str], None]) -> Overhead:
    """Time both nets with all implementations that are available on this machine.

    Raises
    ------
    Disagreement
        If first results differ by more than rounding, or minise fails.
    """
    overhead = Overhead(settings)
    names = [BASELINE, *dict.fromkeys(settings.against)]
    overhead.absent = {name: reason for name in names if (reason := missing(name))}
    for kind in KINDS:
        checksums: dict[str, dict[str, dict[str, Checksum]]] = {net: {} for net in settings.nets}
        for name in names:
            if name in overhead.absent:
                continue
            try:
                rounds, firsts = _time_both(settings, kind, name, progress)
            except WorkerError as error:
                if name == BASELINE:
                    label = title({"kind": kind})
                    raise Disagreement(f"{label} with {settings.ops}: {error}") from None
                overhead.absent[name] = str(error)
                continue
            overhead.rounds[kind, name] = rounds
            for net, first in firsts.items():
                checksums[net][name] = first
        for net in settings.nets:
            check_agreements(f"{title({'kind': kind})} of {net}", checksums[net], settings.dtype)
    return overhead


def _time_both(
    settings: OverheadSettings, kind: str, name: str, progress: Callable[[str], None]
) -> tuple[list[Round], dict[str, dict[str, Checksum]]]:
    """Return the rounds of an implementation, and the checksums of its first results, by net."""
    label = f"{title({'kind': kind})}, {name}"
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        firsts: dict[str, dict[str, Checksum]] = {}
        for net in settings.nets:
            progress(f"{label}: preparing {net}")
            worker = stack.enter_context(Worker(name, settings.of(net, kind), None))
            firsts[net] = worker.first_run({"kind": kind})[0]
            worker.ask("warm")
            workers[net] = worker
        groups = [worker.group for worker in workers.values()]
        rounds = interleave(
            list(workers),
            settings.rounds,
            lambda net: workers[net].turn(groups),
            lambda text: progress(f"{label}, {text}"),
        )
    return rounds, firsts


def result_of(overhead: Overhead) -> Result:
    """Return the result: a table of training steps, and a table of inference."""
    rows = [_row(overhead, kind, name) for kind, name in overhead.rounds]
    paper = {"paper_ms": PAPER_MS} if overhead.settings.nets == PAPER_NETS else {}
    notes = ["ratio: median (quartiles) of the ratios within a round."]
    notes += [f"{name}: {reason}" for name, reason in overhead.absent.items()]
    return Result(
        overhead.settings.as_dict(),
        rows,
        {"absent": overhead.absent, **paper},
        tables=[table_of(overhead, kind) for kind in KINDS],
        notes="\n".join(notes),
    )


def table_of(overhead: Overhead, kind: str) -> Table:
    """Return the table of a kind of workload: a row for each implementation, and the paper's."""
    settings = overhead.settings
    rows: list[list[str]] = []
    verdicts: dict[str, None] = {}
    for of, name in overhead.rounds:
        if of == kind:
            used = overhead.used(kind, name)
            times = [format_ms(ms_spread(used, net).median) for net in settings.nets]
            middle, lower, upper = overhead.ratio(kind, name)
            label = f"minise ({settings.back_end})" if name == BASELINE else name
            rows.append([label, *times, f"{middle:.3f} ({lower:.3f}-{upper:.3f})"])
            verdicts[f"{label}: {select_rounds(overhead.rounds[kind, name]).verdict}"] = None
    if settings.nets == PAPER_NETS:
        first, second = PAPER_MS[kind]
        label = f"paper ({PAPER_CONDITIONS[kind]})"
        rows.append([label, str(first), str(second), f"{second / first:.3f}"])
    heading = f"{title({'kind': kind})}, ms: {settings.of(settings.nets[1], kind).conditions}"
    return Table(heading, (*settings.nets, "ratio"), rows, "\n".join(verdicts))


def _row(overhead: Overhead, kind: str, name: str) -> dict[str, Any]:
    used = overhead.used(kind, name)
    nets = overhead.settings.nets
    return {
        "title": title({"kind": kind}),
        "implementation": name,
        "batch": overhead.settings.of(nets[0], kind).batch,
        "ms": {net: ms_spread(used, net)._asdict() for net in nets},
        "ratio": overhead.ratio(kind, name)._asdict(),
        **select_rounds(overhead.rounds[kind, name]).as_json(),
        "rounds": rounds_json(overhead.rounds[kind, name]),
    }
