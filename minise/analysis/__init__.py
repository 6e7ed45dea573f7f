"""Count the parameters, multiply-accumulates and memory of a net, and show them as text."""

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
