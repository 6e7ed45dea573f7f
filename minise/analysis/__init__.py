"""Count the parameters, multiply-accumulates and memory of a net, and show them as text."""

from minise.analysis.cost import Excitation, LayerCost, NetCost, cost_of
from minise.analysis.memory import Memory, memory_of
from minise.analysis.table import summary, table_of, totals_of
from minise.ops.cost.counts import macs

__all__ = [
    "Excitation",
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
