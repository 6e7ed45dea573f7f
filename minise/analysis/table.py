"""Format the costs of a net as text, as Markdown and as JSON."""

import json
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from minise.analysis import conventions
from minise.analysis.cost import LayerCost, NetCost, cost_of
from minise.analysis.inputs import Size
from minise.analysis.memory import bytes_text
from minise.nn import Layer
from minise.ops.cost.counts import KINDS, Convention, operations

if TYPE_CHECKING:
    import rich.table

Detail = Literal["short", "narrow", "wide", "full"]
FIRST = ("layer", "kind", "output", "parameters")
COLUMNS: dict[Detail, tuple[str, ...]] = {  # of the table of layers
    "short": ("layer", "output", "parameters", "operations"),
    "narrow": (*FIRST, "operations"),  # fits 80 characters
    "wide": (*FIRST, "operations", "moved", "saved"),  # fits 100
    "full": (*FIRST, "statistics", "folded", "operations", "backward", "moved", "saved"),
}
UNITS: dict[Convention, str] = {"macs": "MACs", "flops": "FLOPs", "all": "operations"}
PAPER_TITLES = {  # of the numbers of paper_totals
    "parameters": "parameters",
    "parameters_with_statistics": "  with running statistics of batch norm (2 C each)",
    "parameters_folded": "  with batch norm folded into convolutions",
    "parameters_without_se_biases": "parameters without the biases of SE blocks",
    "parameters_with_statistics_without_se_biases": "  with running statistics",
    "parameters_folded_without_se_biases": "  with batch norm folded",
    "macs_conv_fc": "MACs of convolutions and dense layers",
    "macs_with_se_fc": "  + dense layers of SE blocks",
    "macs_with_gate": "  + one multiplication per gated element",
    "macs_with_squeeze": "  + one addition per squeezed element",
    "se_weights": "weights of SE blocks, counted",
    "se_biases": "biases of SE blocks, counted",
    "se_formula": "weights by 2 / r * sum of C^2 (no biases, C / r exact)",
}


class Grid(NamedTuple):
    """A table of text: the first column is aligned left, those of numbers right."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    text_columns: int = 1

    def markdown(self) -> str:
        """Return the table as Markdown."""
        aligned = [":---" if k < self.text_columns else "---:" for k in range(len(self.head))]
        lines = [self.head, aligned, *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def rich(self, title: str | None = None) -> "rich.table.Table":
        """Return the table for rich to print."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title and Text(title), box=SIMPLE_HEAD, pad_edge=False)
        table.collapse_padding = True
        for k, name in enumerate(self.head):
            right = k >= self.text_columns
            table.add_column(name, justify="right" if right else "left", overflow="fold")
            table.columns[k].no_wrap = name != "kind"  # kinds wrap between words
        for name, *cells in self.rows:
            table.add_row(*map(Text, (_wrapped(name), *cells)))
        return table


def layer_grid(cost: NetCost, convention: Convention = "macs", detail: Detail = "wide") -> Grid:
    """Return a row for each layer, with the columns of COLUMNS."""
    rows = []
    for row in cost.layers:
        cells = {
            "layer": row.layer or "(net)",
            "kind": row.kind,
            "output": "x".join(map(str, row.shape)),
            "parameters": _number(row.parameters),
            "statistics": _number(row.statistics),
            "folded": _number(row.folded),
            "operations": _number(operations(row.forward, convention)),
            "backward": _number(operations(row.backward, convention)),
            "moved": _number(row.moved_forward + row.moved_backward, bytes_text),
            "saved": _number(row.saved, bytes_text),
        }
        rows.append(tuple(cells[name] for name in COLUMNS[detail]))
    titles = {"operations": UNITS[convention], "backward": f"{UNITS[convention]} backward"}
    head = tuple(titles.get(name, name) for name in COLUMNS[detail])
    return Grid(head, rows, COLUMNS[detail].index("parameters"))


def total_grid(cost: NetCost, convention: Convention = "macs") -> Grid:
    """Return the totals of a net, and the part of SE blocks in them."""
    unit, se = UNITS[convention], cost.excitation
    counts = [cost.operations(convention, way) for way in ("forward", "backward")]
    parts = [cost.se_operations(convention, way) for way in ("forward", "backward")]
    own = (0, 0, 0) if se is None else (se.moved_forward, se.moved_backward, se.saved)
    lines: list[tuple[str, int, int | None, Any]] = [
        ("parameters", cost.parameters, cost.se_parameters, "{:,}".format),
        ("  and running statistics", cost.parameters + cost.statistics, None, "{:,}".format),
        ("  batch norm folded", cost.folded, None, "{:,}".format),
        (f"{unit} of forward", counts[0], parts[0], "{:,}".format),
        (f"{unit} of backward", counts[1], parts[1], "{:,}".format),
        ("moved by forward", cost.moved_forward, own[0], bytes_text),
        ("moved by backward", cost.moved_backward, own[1], bytes_text),
    ]
    if cost.memory is not None:
        lines += [
            ("saved for backward", cost.memory.saved, own[2], bytes_text),
            ("predicted peak of a step", cost.memory.peak, None, bytes_text),
        ]
    rows = []
    for title, total, part, text in lines:
        shares = ("", "") if part is None else (text(part), _percentage(part, total))
        rows.append((title, text(total), *(shares if se else ())))
    return Grid(("total", _unit_of(cost), *(("SE blocks", "share") if se else ())), rows)


def kind_grid(cost: NetCost) -> Grid:
    """Return the operations by kind, forward and backward."""
    names = ("forward", "backward")
    counts = [getattr(cost, name) for name in names]
    kinds = [kind for kind in KINDS if any(count[kind] for count in counts)]
    rows = [(kind, *(f"{count[kind]:,}" for count in counts)) for kind in kinds]
    return Grid(("operations by kind", *names), rows)


def paper_totals(cost: NetCost) -> dict[str, int]:
    """Return the totals of a net by the conventions of the paper and of other publications.

    The keys are those of PAPER_TITLES; those about SE blocks are absent without any. MACs are of
    forward, each number with those before it. The paper's formula for the weights of SE blocks has
    no biases, and C / r hidden units also where that is no whole number.

    Examples
    --------
    >>> from minise import models
    >>> from minise.ops import cost
    >>> totals = paper_totals(cost_of(models.build("se_resnet20", ops=cost.Shapes())))
    >>> totals["se_weights"], totals["se_formula"]
    (2016, 2016)
    """
    se = cost.excitation
    parameters = [cost.parameters, conventions.parameters_and_statistics(cost), cost.folded]
    macs = (count(cost) for count in conventions.MACS)
    unbiased = [number - se.biases if se else 0 for number in parameters]
    parts = (se.weights, se.biases, round(se.formula)) if se else (0, 0, 0)
    numbers = zip(PAPER_TITLES, [*parameters, *unbiased, *macs, *parts], strict=True)
    return {key: number for key, number in numbers if se or "se_" not in key or "macs" in key}


def paper_grid(cost: NetCost) -> Grid:
    """Return the totals of paper_totals as a table; those with SE only of a net with SE blocks."""
    rows = [
        (PAPER_TITLES[key], f"{number:,}")
        for key, number in paper_totals(cost).items()
        if cost.excitation or not key.startswith("macs_with_")
    ]
    return Grid(("by the paper's conventions", _unit_of(cost)), rows)


def grids_of(
    cost: NetCost,
    convention: Convention = "macs",
    *,
    paper: bool = False,
    detail: Detail = "wide",
) -> list[Grid]:
    """Return the tables that show a net: its layers and totals, or with `paper` paper_grid."""
    if paper:
        return [paper_grid(cost)]
    return [layer_grid(cost, convention, detail), total_grid(cost, convention), kind_grid(cost)]


def json_text(
    cost: NetCost, title: str, convention: Convention = "macs", *, paper: bool = False
) -> str:
    """Return the costs of a net as a JSON document; with `paper` only those of paper_totals."""
    values = {
        "model": title,
        "input": list(cost.shape),
        "batch_size": cost.batch_size,
        "training": cost.training,
    }
    if not paper:
        totals = {name: getattr(cost, name) for name in LayerCost._fields[3:]}
        values |= {
            "convention": convention,
            "layers": [_plain(row._asdict(), convention) for row in cost.layers],
            "totals": _plain(totals, convention),
            "memory": None if cost.memory is None else cost.memory._asdict(),
        }
    return json.dumps(values | {"paper": paper_totals(cost)}, indent=1)


def _plain(fields: dict[str, Any], convention: Convention) -> dict[str, Any]:
    """Return the fields of a layer, or totals, with plain values and the sums of operations."""
    values = dict(fields)
    for name in ("forward", "backward"):
        values[name] = dict(values[name])
        values[f"operations_{name}"] = operations(fields[name], convention)
    if fields["excitation"] is not None:
        part = fields["excitation"]._asdict()
        values["excitation"] = part | {"formula": round(part["formula"])}
    return values


def table_of(
    cost: NetCost, title: str | None = None, convention: Convention = "macs"
) -> "rich.table.Table":
    """Return the costs of a net as a table for rich to print: one row per layer."""
    return layer_grid(cost, convention).rich(title)


def totals_of(cost: NetCost, size: Size = None) -> str:
    """Return the total costs of a net as two lines of text; size as passed to cost_of."""
    return (
        f"{cost.parameters:,} parameters, {cost.se_parameters:,} of them in SE blocks "
        f"({_percentage(cost.se_parameters, cost.parameters)})\n"
        f"{cost.macs / 1e6:,.3f} million MACs for {_unit_of(cost, size)}, "
        f"{cost.se_macs / 1e6:,.3f} million of them in SE blocks "
        f"({_percentage(cost.se_macs, cost.macs)})"
    )


def summary(net: Layer, size: Size = None, title: str | None = None) -> NetCost:
    """Print the output shape and cost of every layer of a net, with totals; return the costs.

    Parameters
    ----------
    net, size
        See cost_of.
    title : str, optional
        Title of the table, by default the name of the net's class.
    """
    from rich.console import Console

    cost = cost_of(net, size)
    console = Console()
    console.print(table_of(cost, type(net).__name__ if title is None else title))
    console.print(totals_of(cost, size), highlight=False, soft_wrap=not console.is_terminal)
    return cost


def _unit_of(cost: NetCost, size: Size = None) -> str:
    """Return the batch in words, such as "an image of 32 x 32"."""
    sizes: Sequence[int] = cost.shape[1:] if len(cost.shape) == 3 and size is None else cost.shape
    if isinstance(size, int):
        sizes = size, size
    elif size is not None:
        sizes = size
    noun = "image" if len(sizes) == 2 else "input"
    count = f"an {noun}" if cost.batch_size == 1 else f"{cost.batch_size:,} {noun}s"
    return f"{count} of {' x '.join(map(str, sizes))}"


def _wrapped(name: str, width: int = 26) -> str:
    """Return a dotted name in lines that end with a dot, if it is longer than a column."""
    if len(name) <= width or " " in name:
        return name
    return textwrap.fill(name.replace(".", ". "), width).replace(". ", ".")


def _number(number: int, text: Callable[[int], str] = "{:,}".format) -> str:
    """Return a number as text, and 0 as an empty cell."""
    return text(number) if number else ""


def _percentage(part: int, total: int) -> str:
    return f"{part / total:.2%}" if total else "0.00%"
