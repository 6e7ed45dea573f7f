"""The verb that replays the dump of a guarded run: `minise guard`."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from minise.checks import escaped
from minise.cli.words import FAILED, misuse, say

if TYPE_CHECKING:
    from minise.ops.guard import NonFinite
    from minise.train.dump import Dump
    from minise.train.replay import Replay


def guard(dump: tyro.conf.Positional[Path], ops: str | None = None) -> int:
    """Replay the step in which train --guard found a NaN.

    The first table compares the first NaN or infinity of the run with that of the replay; the
    second table describes the inputs of the op. Exit status 1 if the replay has a NaN or an
    infinity, too, 0 if all numbers are finite.

    Example: minise guard runs/se_resnet8-shapes10-1

    Args:
        dump: The dump (guard.safetensors), or a run folder that has one.
        ops: Back end by name, or a file such as my_ops.py; by default the run's back end.
    """
    from minise.train.dump import load
    from minise.train.replay import replay

    with misuse():
        loaded = load(dump)
        if loaded.is_custom:
            raise ValueError(
                f"guard: {dump} is of a custom net, which this command cannot build: in Python, "
                f'call train.replay("{dump}", net, objective)'
            )
        again = replay(loaded, ops=ops)
    console, name = Console(), ops or loaded.config.ops
    say(console, _title(loaded))
    console.print(_comparison(loaded.nonfinite, again, name))
    if again is None:
        say(console, f"not reproduced with ops {name}: all numbers are finite")
        return 0
    console.print(_inputs(again))
    if again.state:
        say(console, f"at the start of the step: {again.state}")
    if again.same:
        say(
            console,
            f"reproduced with ops {name}: the same number in the same array at the same index",
        )
    else:
        say(console, f"not finite with ops {name} either, but another number, array or index")
    return FAILED


def _title(dump: "Dump") -> str:
    """Return what the dump is of, and its size."""
    step = f"step {dump.step}, epoch {dump.epoch}"
    when = step if dump.phase == "training" else f"{dump.phase} after {step}"
    lr = "" if dump.lr is None else f", lr {dump.lr:.3g}"
    arrays = [*dump.arrays.values(), *dump.optimiser_arrays.values(), *(x for x, _ in dump.batches)]
    size = sum(array.nbytes for array in arrays) / 1e6
    return escaped(
        f"{dump.config.model} on {dump.config.data}, back end {dump.config.ops}: {when}{lr}; "
        f"{sum(len(x) for x, _ in dump.batches)} images; {size:.1f} MB"
    )


def _comparison(before: "NonFinite", again: "Replay | None", ops: str) -> Table:
    """Return a table of the number in the dump and the number in the replay."""
    columns = [_cells(before), [] if again is None else _cells(again.nonfinite)]
    names = ["layer", "op", "direction", "array", "index", "number", "not finite"]
    table = Table("", "dump", f"replay with {escape(ops)}", title="first NaN or infinity")
    for k, name in enumerate(names):
        table.add_row(name, *(escape(cells[k]) if cells else "" for cells in columns))
    return table


def _cells(nonfinite: "NonFinite") -> list[str]:
    cells = [
        nonfinite.layer or "(none)",
        nonfinite.op,
        nonfinite.direction,
        f"{nonfinite.role} {nonfinite.array}",
        str(nonfinite.index),
        nonfinite.value,
        f"{nonfinite.count:,} of {nonfinite.size:,}",
    ]
    return [escaped(cell) for cell in cells]


def _inputs(again: "Replay") -> Table:
    """Return a table of the inputs of the op: shapes, and ranges of the finite numbers."""
    call = escape(escaped(f"inputs of {again.nonfinite.op}, {again.nonfinite.direction}"))
    table = Table("input", "shape", "range", "mean |x|", "not finite", title=call)
    for array in again.inputs:
        limits = f"{array.low:.2g}..{array.high:.2g}", f"{array.mean_abs:.2g}"
        shape, count = "x".join(map(str, array.shape)), f"{array.not_finite:,}"
        table.add_row(escape(escaped(array.name)), shape, *limits, count)
    return table
