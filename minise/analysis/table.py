"""The costs of a net as a table, for any net: every layer, and the sums below."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from minise.analysis.cost import NetCost, cost_of
from minise.nn import Layer

if TYPE_CHECKING:
    from rich.table import Table


def table_of(cost: NetCost, title: str | None = None) -> "Table":
    """Return the table of a net's costs, which rich prints: one line for each layer."""
    from rich.table import Table
    from rich.text import Text

    table = Table("layer", "kind", "output", "parameters", "MACs", title=title and Text(title))
    for column in table.columns[2:]:
        column.justify = "right"
    for row in cost.layers:
        shape = " x ".join(map(str, row.shape))
        parameters = f"{row.parameters:,}" if row.parameters else ""
        macs = f"{row.macs:,}" if row.macs else ""
        cells = row.layer or "(net)", row.kind, shape, parameters, macs
        table.add_row(*map(Text, cells))
    return table


def totals_of(cost: NetCost, size: int | Sequence[int] = (32, 32)) -> str:
    """Return the sums of a net's costs in two lines; size as cost_of took it."""
    sizes = (size, size) if isinstance(size, int) else size
    what = "an image of" if len(sizes) == 2 else "an input of"
    return (
        f"{cost.parameters:,} parameters, {cost.se_parameters:,} of them in SE blocks "
        f"({_share(cost.se_parameters, cost.parameters)})\n"
        f"{cost.macs / 1e6:,.3f} million MACs for {what} {' x '.join(map(str, sizes))}, "
        f"{cost.se_macs / 1e6:,.3f} million of them in SE blocks "
        f"({_share(cost.se_macs, cost.macs)})"
    )


def summary(net: Layer, size: int | Sequence[int] = (32, 32), title: str | None = None) -> NetCost:
    """Print what every layer of a net returns and costs, with the sums, and return the costs.

    Parameters
    ----------
    net, size
        As cost_of takes them.
    title : str, optional
        Above the table, by default the net's class.
    """
    from rich.console import Console

    cost = cost_of(net, size)
    console = Console()
    console.print(table_of(cost, type(net).__name__ if title is None else title))
    console.print(totals_of(cost, size), highlight=False, soft_wrap=not console.is_terminal)
    return cost


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "0.00%"
