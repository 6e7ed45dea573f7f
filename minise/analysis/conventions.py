"""The ways to count parameters and multiply-accumulates (MACs) that fit numbers of the paper.

Which of them fits a number was found by arithmetic: the paper does not say how it counts.
"""

from minise.analysis.cost import NetCost

BYTES = 4  # of a float32


def parameters(cost: NetCost) -> int:
    """Learned parameters."""
    return cost.parameters


def parameters_and_statistics(cost: NetCost) -> int:
    """Learned parameters, and the running means and variances of batch normalisations."""
    return cost.parameters + cost.statistics


def bytes_of_release(cost: NetCost) -> int:
    """Bytes of parameters and statistics in float32, as in the authors' files."""
    return BYTES * parameters_and_statistics(cost)


def macs_of_layers(cost: NetCost) -> int:
    """MACs of convolutions and dense layers, without those of SE blocks."""
    return cost.forward["conv"] + cost.forward["fc"]


def macs_with_se_layers(cost: NetCost) -> int:
    """MACs of convolutions and dense layers, with those of SE blocks."""
    return macs_of_layers(cost) + cost.forward["se_fc"]


def macs_with_gates(cost: NetCost) -> int:
    """MACs of all these layers, and one for each number that a gate scales."""
    return macs_with_se_layers(cost) + cost.forward["gate"]


def macs_with_squeeze(cost: NetCost) -> int:
    """MACs of all these, and one for each number that a squeeze adds."""
    return macs_with_gates(cost) + cost.forward["squeeze"]


MACS = (macs_of_layers, macs_with_se_layers, macs_with_gates, macs_with_squeeze)
