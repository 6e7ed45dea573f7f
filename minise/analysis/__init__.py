"""Count the parameters and multiply-accumulates of a net, and print them as a table."""

from minise.analysis.cost import LayerCost, NetCost, cost_of, macs
from minise.analysis.memory import Memory, memory_of
from minise.analysis.table import summary, table_of, totals_of

__all__ = [
    "LayerCost",
    "Memory",
    "NetCost",
    "cost_of",
    "macs",
    "memory_of",
    "summary",
    "table_of",
    "totals_of",
]
