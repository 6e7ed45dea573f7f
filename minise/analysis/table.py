"""Print the costs of any net as a table: one row per layer, and the totals below."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from minise.analysis.cost import NetCost, cost_of
from minise.nn import Layer

if TYPE_CHECKING:
    from rich.table import Table


def table_of(cost: NetCost, title: str | None = None) -> "Table":
    """Return the costs of a net as a table for rich to print: one row per layer."""
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
    """Return the total costs of a net as two lines of text; size as passed to cost_of."""
    sizes = (size, size) if isinstance(size, int) else size
    unit = "an image of" if len(sizes) == 2 else "an input of"
    return (
        f"{cost.parameters:,} parameters, {cost.se_parameters:,} of them in SE blocks "
        f"({_percentage(cost.se_parameters, cost.parameters)})\n"
        f"{cost.macs / 1e6:,.3f} million MACs for {unit} {' x '.join(map(str, sizes))}, "
        f"{cost.se_macs / 1e6:,.3f} million of them in SE blocks "
        f"({_percentage(cost.se_macs, cost.macs)})"
    )


def summary(net: Layer, size: int | Sequence[int] = (32, 32), title: str | None = None) -> NetCost:
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


def _percentage(part: int, total: int) -> str:
    return f"{part / total:.2%}" if total else "0.00%"


def paper_totals(cost: NetCost) -> dict[str, int]:
    """Return the totals of a net by the conventions of the paper and of other publications.

    The keys about SE blocks are absent in a net without any.
    MACs are those of forward, each line with those of the lines above.

    Examples
    --------
    >>> from minise import models
    >>> from minise.ops import cost
    >>> totals = paper_totals(cost_of(models.build("se_resnet20", ops=cost.Shapes())))
    >>> totals["se_weights"], totals["se_formula"]
    (2016, 2016)
    """
    se, counts = cost.excitation, cost.forward
    parameters = {
        "parameters": cost.parameters,
        "parameters_with_statistics": cost.parameters + cost.statistics,
        "parameters_folded": cost.folded,
    }
    unbiased: dict[str, int] = {}
    excitation: dict[str, int] = {}
    if se is not None:
        unbiased = {f"{key}_without_se_biases": n - se.biases for key, n in parameters.items()}
        sizes = se.weights, se.biases, round(se.formula)
        excitation = dict(zip(("se_weights", "se_biases", "se_formula"), sizes, strict=True))
    kinds = {"conv_fc": ("conv", "fc"), "with_se_fc": ("se_fc",)}
    kinds |= {"with_gate": ("gate",), "with_squeeze": ("squeeze",)}
    macs = accumulate(sum(counts[kind] for kind in group) for group in kinds.values())
    totals = dict(zip((f"macs_{key}" for key in kinds), macs, strict=True))
    return parameters | unbiased | totals | excitation
