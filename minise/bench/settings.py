"""What `minise bench cpu` is asked."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from minise.bench.threads import check_threads, default_threads
from minise.ops.backend import Algorithm
from minise.ops.checks import check_choice, check_integer

What = Literal["step", "forward", "blocks", "ops"]
Peer = Literal["torch", "torch-channels-last", "torch-compile", "numpy-im2col"]
Dtype = Literal["float32", "float64"]


@dataclass(frozen=True)
class Settings:
    """Time minise beside PyTorch and NumPy with im2col, in processes that take turns.

    A step is forward, loss, backward and SGD; forward is inference, with --batch 1 its latency, for
    which minise folds batch norm into convolutions (net.inference()).
    Blocks and ops are timed forward and backward. The ops are those of the net. The blocks are two
    with convolutions in groups, on 128 channels of 16x16: 3x3 depthwise and 1x1, each with batch
    norm and ReLU; and 1x1, 3x3 in 32 groups, 1x1, with batch norm and ReLU between them.

    Example: minise bench cpu --net se_resnet8 --batch 8 --rounds 3 --against numpy-im2col
    """

    what: tuple[What, ...] = ("step",)
    """What is timed."""
    net: str = "se_resnet20"
    """Name of the net; `minise summary all` lists them."""
    reduction: int = 16
    """Of the SE blocks."""
    batch: int = 128
    """Images, of 32 x 32."""
    threads: int = field(default_factory=default_threads)
    """For each contestant."""
    dtype: Dtype = "float32"
    """Of all arrays."""
    against: tuple[Peer, ...] = ("torch", "torch-channels-last", "torch-compile", "numpy-im2col")
    """Peers; torch-compile compiles the channels-last net, which takes a minute or two."""
    rounds: int = 9
    """How often each contestant has its turn."""
    start: bool = True
    """Time the first run of a process too, with and without what an earlier one has compiled."""
    json: Path | None = None
    """Write every figure to this file."""
    ops: str = "jit"
    """Back end of minise: its name, a module such as my_package.my_ops, or a file."""
    algorithm: Algorithm = "auto"
    """Of its convolutions, where it has a choice, as jit has."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured, before any process starts."""
        for name in ("reduction", "batch", "rounds"):
            check_integer("bench cpu", name, getattr(self, name), 1)
        check_threads("bench cpu", self.threads)
        check_choice("bench cpu", "dtype", self.dtype, ("float32", "float64"))
        check_choice("bench cpu", "algorithm", self.algorithm, get_args(Algorithm))
        if not self.what:
            raise ValueError("bench cpu: what is empty, expected any of step, forward, blocks, ops")
        check_file("bench cpu", "json", self.json)

    @property
    def net_settings(self) -> dict[str, Any]:
        """What the net's builder is given besides its name."""
        with_se = self.net.startswith("se_") or self.reduction != 16
        return {"dtype": self.dtype, **({"reduction": self.reduction} if with_se else {})}


def check_file(function: str, name: str, path: Path | None) -> None:
    """Raise ValueError unless a file of this path, if any, has a folder to be written in."""
    if path is not None and not path.absolute().parent.is_dir():
        raise ValueError(f"{function}: {name} is {path}, whose folder is not there: make it first")


def to_dict(settings: Settings) -> dict[str, Any]:
    """Return the settings as JSON takes them."""
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(settings).items()
    }


def from_dict(values: dict[str, Any]) -> Settings:
    """Return the settings that to_dict made, for a process that only times: json is dropped."""
    pairs = {key: tuple(values[key]) for key in ("what", "against")}
    return Settings(**{**values, **pairs, "json": None})
