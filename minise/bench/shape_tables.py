"""`minise bench shapes`: time convolutions forward and backward, and tabulate the ratios.

Each pass of each shape is a workload of `minise bench cpu`: minise and PyTorch in both memory
layouts, each in its own process, in interleaved rounds. The ratio of a round is the time of PyTorch
in its faster layout (by the median over the rounds) divided by the time of minise.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from minise.bench.compare import Comparison, Outcome, Progress, compare, row_of
from minise.bench.net_settings import CompareSettings
from minise.bench.peers import BASELINE
from minise.bench.result import Result, Table, format_ms
from minise.bench.rounds import Spread, ms_spread, ratios, select_rounds, spread
from minise.bench.settings import ShapesSettings, with_count
from minise.bench.shapes import BUILT_IN, Shape, shapes_of, shapes_of_net

PASSES = {"forward": "fwd", "backward": "bwd"}  # with their names in tables
COLUMNS = ("pass", "minise\nms", "torch\nms", "ratio\n[quartiles]")
UNBROKEN = COLUMNS[:-1]
NOTE = (
    "fwd, bwd: forward, backward. minise, torch: median over the rounds; torch in the faster of "
    "its two memory layouts. "
    "ratio: torch / minise, median and quartiles of the ratios within a round; * marks ratios "
    "below 1, ~ unreliable times (most rounds were disturbed)."
)
NO_DX = "Backward from 3 channels computes no gradient of x, the net's images."


class Group(NamedTuple):
    """The shapes of a net or of a list."""

    name: str
    counts: Counter[Shape]  # number of occurrences in the net; 1 in a list
    is_net: bool


class PassTime(NamedTuple):
    """The times of one pass of one shape, in ms; without PyTorch, only minise's."""

    minise: float
    torch: float | None
    layout: str | None
    ratio: Spread | None
    unreliable: bool

    def cells(self) -> list[str]:
        """Return minise's ms, PyTorch's ms and the ratio for a table."""
        mark = "~" if self.unreliable else ""
        torch = "" if self.torch is None else format_ms(self.torch)
        return [mark + format_ms(self.minise), torch, ratio_text(self.ratio)]


@dataclass
class Shapes:
    """All measurements: an outcome of the comparison by shape, batch size and pass."""

    settings: ShapesSettings
    groups: list[Group]
    comparison: Comparison
    outcomes: dict[tuple[Shape, int, str], Outcome]


def groups_of(settings: ShapesSettings) -> list[Group]:
    """Return the shapes to measure: a group for each net, and one for a list of shapes.

    Raises
    ------
    ValueError
        If a shape is not valid, or a net is unknown or does not process images of the size.
    """
    nets = dict.fromkeys(settings.net or ())
    groups = [Group(name, shapes_of_net(name, settings.size), True) for name in nets]
    if settings.shapes:
        groups.append(Group("shapes", Counter(shapes_of(settings.shapes)), False))
    return groups or [Group("shapes of ImageNet nets", Counter(shapes_of([BUILT_IN])), False)]


def compared(settings: ShapesSettings) -> CompareSettings:
    """Return the settings of the comparison with PyTorch in both memory layouts."""
    shared = {name: getattr(settings, name) for name in ("rounds", "threads", "ops", "algorithm")}
    return CompareSettings(against=("torch", "torch-channels-last"), start=False, **shared)


def measure(settings: ShapesSettings, groups: list[Group], progress: Progress) -> Shapes:
    """Time both passes of every distinct shape at every batch size.

    Raises
    ------
    Disagreement
        If a result or a gradient differs by more than rounding, or minise fails on a shape.
    """
    shapes = dict.fromkeys(shape for group in groups for shape in group.counts)
    batches = dict.fromkeys(settings.batch)
    keys = [(shape, batch, name) for batch in batches for shape in shapes for name in PASSES]
    workloads = [shape.workload(batch, name) for shape, batch, name in keys]
    comparison = compare(compared(settings), workloads, progress)
    outcomes = dict(zip(keys, comparison.outcomes, strict=True))
    return Shapes(settings, groups, comparison, outcomes)


def pass_time(outcome: Outcome) -> PassTime:
    """Return the times of a pass, and the ratio with PyTorch's faster layout."""
    selection = select_rounds(outcome.rounds)
    used = [outcome.rounds[i] for i in selection.used]
    medians = {name: ms_spread(used, name).median for name in outcome.memory}
    ms = medians.pop(BASELINE)
    if not medians:
        return PassTime(ms, None, None, None, selection.unreliable)
    best = min(medians, key=medians.__getitem__)
    ratio = spread(ratios(used, best, BASELINE))
    return PassTime(ms, medians[best], best, ratio, selection.unreliable)


def result_of(shapes: Shapes) -> Result:
    """Return the result: a row for each pass, and a table for each group and batch size."""
    rows = [
        {"shape": str(shape), "batch": batch, "pass": name, **_best(outcome), **row_of(outcome)}
        for (shape, batch, name), outcome in shapes.outcomes.items()
    ]
    counts = {g.name: {str(s): n for s, n in g.counts.items()} for g in shapes.groups}
    absent = shapes.comparison.absent
    notes = [NOTE]
    notes += [NO_DX] if any(shape.C == 3 for shape, *_ in shapes.outcomes) else []
    notes += [f"{name}: {reason}" for name, reason in absent.items()]
    return Result(
        shapes.settings.as_dict(),
        rows,
        {"absent": absent, "occurrences": counts, "totals": list(_totals_json(shapes))},
        tables=list(tables_of(shapes)),
        notes="\n".join(notes),
    )


def tables_of(shapes: Shapes) -> Iterator[Table]:
    """Yield a table for each group and batch size."""
    settings = compared(shapes.settings)
    threads = with_count(settings.threads, "thread")
    for group in shapes.groups:
        for batch in dict.fromkeys(shapes.settings.batch):
            rows: list[list[str]] = []
            for shape, count in group.counts.items():
                label = f"{count} x {shape}" if group.is_net else str(shape)
                times = {name: pass_time(shapes.outcomes[shape, batch, name]) for name in PASSES}
                rows += _rows(label, times)
            if group.is_net:
                totals = {name: _total(shapes, group, batch, name) for name in PASSES}
                rows += [[], *_rows(f"total of {group.counts.total()}", totals)]
            heading = f"{group.name}: batch {batch}, float32, {settings.back_end}, {threads}"
            yield Table(heading, COLUMNS, rows, left=("pass", COLUMNS[-1]), unbroken=UNBROKEN)


def _rows(label: str, times: dict[str, PassTime]) -> list[list[str]]:
    """Return a row for each pass."""
    return [[label, PASSES[name], *time.cells()] for name, time in times.items()]


def _total(shapes: Shapes, group: Group, batch: int, name: str) -> PassTime:
    """Return the times of all convolutions of a net, each as often as it occurs."""
    times = {shape: pass_time(shapes.outcomes[shape, batch, name]) for shape in group.counts}
    minise = sum(n * times[shape].minise for shape, n in group.counts.items())
    unreliable = any(time.unreliable for time in times.values())
    peer = [(n, times[shape].torch) for shape, n in group.counts.items()]
    if any(ms is None for _, ms in peer):
        return PassTime(minise, None, None, None, unreliable)
    torch = sum(n * ms for n, ms in peer if ms is not None)
    ratio = torch / minise
    return PassTime(minise, torch, None, Spread(ratio, ratio, ratio), unreliable)


def _totals_json(shapes: Shapes) -> Iterator[dict[str, Any]]:
    for group in shapes.groups:
        for batch in dict.fromkeys(shapes.settings.batch) if group.is_net else ():
            for name in PASSES:
                total = _total(shapes, group, batch, name)
                sums = {"minise_ms": total.minise, "torch_ms": total.torch}
                ratio = total.ratio and total.ratio.median
                yield {"net": group.name, "batch": batch, "pass": name, **sums, "ratio": ratio}


def _best(outcome: Outcome) -> dict[str, Any]:
    """Return PyTorch's faster layout, and the ratio of its time to minise's."""
    time = pass_time(outcome)
    return {"best": time.layout, "ratio": time.ratio and time.ratio._asdict()}


def ratio_text(ratio: Spread | None) -> str:
    """Return a ratio with its quartiles, marked if it is below 1.

    Examples
    --------
    >>> ratio_text(Spread(0.5, 0.45, 0.625)), ratio_text(Spread(1.25, 1.25, 1.25))
    ('*0.50 [0.45, 0.62]', ' 1.25')
    """
    if ratio is None:
        return ""
    mark = "*" if ratio.median < 1 else " "
    same = ratio.lower == ratio.upper
    quartiles = "" if same else f" [{ratio.lower:.2f}, {ratio.upper:.2f}]"
    return f"{mark}{ratio.median:.2f}{quartiles}"
