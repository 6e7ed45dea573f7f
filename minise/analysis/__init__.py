"""What a net costs, and what it does."""

from minise.analysis.cost import LayerCost, NetCost, cost_of, macs

__all__ = ["LayerCost", "NetCost", "cost_of", "macs"]
