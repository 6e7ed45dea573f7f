"""Count the parameters and multiply-accumulates of a net, and print them as a table."""

from minise.analysis.cost import LayerCost, NetCost, cost_of, macs
from minise.analysis.table import summary, table_of, totals_of

__all__ = ["LayerCost", "NetCost", "cost_of", "macs", "summary", "table_of", "totals_of"]
