"""What `minise bench cuda` is asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minise.bench.settings import check_file
from minise.ops.checks import check_integer

What = Literal["se", "tail", "step"]
Peer = Literal["torch", "torch-graph", "torch-compile"]


@dataclass(frozen=True)
class CudaSettings:
    """Time the CUDA kernels beside PyTorch's, and beside what the GPU's memory allows.

    First the GPU's own limits are measured: how fast it copies, and what a launch costs. Then SE
    blocks (se) and the ends of residual units (tail), forward and backward, at the shapes of
    SE-ResNet-20 on CIFAR-10 and of SE-ResNet-50 on ImageNet, each checked against float64 before it
    is timed; and whole training steps of SE-ResNet-20 (step), of PyTorch in several precisions.
    Buffers take turns, so that no cache holds what is read next.

    Example: minise bench cuda --json cuda.json
    """

    what: tuple[What, ...] = ("se", "tail", "step")
    """What is timed."""
    against: tuple[Peer, ...] = ("torch", "torch-graph", "torch-compile")
    """Peers: PyTorch eager, eager in a CUDA graph, and compiled."""
    rounds: int = 11
    """How often each is timed; the median counts."""
    seconds: int = 540
    """What would begin later than this is left out."""
    json: Path | None = None
    """Write every figure to this file, row by row as it is found."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured, before anything is."""
        check_integer("bench cuda", "rounds", self.rounds, 1)
        check_integer("bench cuda", "seconds", self.seconds, 1)
        if not self.what:
            raise ValueError("bench cuda: what is empty, expected any of se, tail, step")
        check_file("bench cuda", "json", self.json)
