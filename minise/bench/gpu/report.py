"""The table of `minise bench cuda`, and the same figures as JSON."""

from typing import Any

from rich.console import Group

from minise.bench import machine
from minise.bench.gpu.measure import Found, Row
from minise.bench.gpu.settings import CudaSettings
from minise.bench.report import framed, plain_table, short

BASES = {"torch": "eager", "torch-graph": "graph", "torch-compile": "compile"}
NOTES = (
    "fwd, both: forward, and forward with backward, in us, the median of several rounds. floor: "
    "the time that the bytes which this way moves take where memory is copied. eager, graph, "
    "compile: how many times as long PyTorch takes for both. error: the largest ||error|| / "
    "||expected|| of all results against float64."
)


def table_of(found: Found) -> Group:
    """Return everything as one table, work by work."""
    table = plain_table()
    for name in ("fwd", "both", "of floor", "eager", "graph", "compile", "error"):
        table.add_column(name, justify="right")
    work = ""
    for row in found.rows:
        if (heading := f"{row.work}, batch {row.batch}") != work:
            work = heading
            table.add_section()
            table.add_row(work)
        table.add_row(*_cells(row, found))
    left_out = (
        f"\nleft out, for want of time: {'; '.join(found.left_out)}" if found.left_out else ""
    )
    limits = (
        f"{found.gpu}; copies {found.copy_gb_s:.0f} GB/s; a launch costs {found.launch_us:.1f} us "
        f"from Python, {found.graph_launch_us:.1f} us in a graph"
    )
    return framed(limits, table, NOTES + left_out)


def _cells(row: Row, found: Found) -> list[str]:
    name = f"  {row.way}, {row.launched}"
    if row.problem:
        return [f"{name}: {row.problem}"]
    times = ["" if us is None else short(us) for us in (row.forward_us, row.both_us)]
    of_floor = f"{row.floor_us / row.both_us:.0%}" if row.floor_us and row.both_us else ""
    ratios = [_times(row, found, peer) for peer in BASES]
    error = "" if row.error is None else f"{row.error:.0e}"
    return [name, *times, of_floor, *ratios, error]


def _times(row: Row, found: Found, peer: str) -> str:
    """Return how many times as long a peer takes for the same work."""
    if not row.way.startswith("minise") or not row.both_us:
        return ""
    for other in found.rows:
        same = (other.work, other.batch) == (row.work, row.batch)
        if same and other.way == peer and other.both_us:
            return f"{other.both_us / row.both_us:.2f}"
    return ""


def as_json(found: Found, settings: CudaSettings) -> dict[str, Any]:
    """Return all figures with when, where and with which versions they were measured."""
    asked = {"what": settings.what, "against": settings.against, "rounds": settings.rounds}
    return {**machine.circumstances(), "settings": asked, **found.as_dict()}
