"""What a net costs, and what it does."""

from minise.analysis.cost import LayerCost, NetCost, cost_of, macs
from minise.analysis.table import summary, table_of, totals_of

__all__ = ["LayerCost", "NetCost", "cost_of", "macs", "summary", "table_of", "totals_of"]
