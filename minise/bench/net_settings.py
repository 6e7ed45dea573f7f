"""Settings of the benchmarks of nets.

NetSettings         batch, threads, dtype, back end
ScalingSettings     minise bench scaling
OverheadSettings    minise bench se-overhead
SizedSettings       one net by name, size of its images
CompareSettings     minise bench cpu
ProfileSettings     minise profile
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from minise.bench.settings import Settings, default_threads, with_count
from minise.checks import check_choice
from minise.ops.backend import Algorithm, load_ops

if TYPE_CHECKING:
    from minise.models import Net

Dtype = Literal["float32", "float64"]
CpuKind = Literal["step", "forward", "blocks", "ops"]
CpuPeer = Literal["torch", "torch-channels-last", "torch-compile", "numpy-im2col"]
TorchPeer = Literal["torch", "torch-channels-last", "torch-compile"]
DEFAULT_PIXELS = 128 * 32**2  # of all images of a batch
MIN_DEFAULT_BATCH, MAX_DEFAULT_BATCH = 4, 128
MIN_POINTS_PER_LINE = 3  # a line through two points always fits
FIGURE_SUFFIXES = (".png", ".svg")


@dataclass(frozen=True)
class NetSettings(Settings):
    """Settings of every benchmark of nets."""

    batch: int = 128
    """Number of images (default: 128; one net by name: fewer if they are larger than 32x32)."""
    threads: int = field(default_factory=default_threads)
    """Number of threads of the back end and of BLAS, in each process."""
    dtype: Dtype = "float32"
    """Data type of all arrays."""
    reduction: int = 16
    """Reduction ratio of the SE blocks."""
    ops: str = "jit"
    """Back end of minise: its name, a module such as my_package.my_ops, or a file."""
    algorithm: Algorithm = "auto"
    """Convolution algorithm, for back ends with a choice, such as jit."""

    def load_ops(self) -> Any:
        """Return the back end, configured with the threads and the algorithm that it supports.

        Raises
        ------
        ValueError
            If the back end is unknown, if it does not support the algorithm, or if it runs
            asynchronously on a GPU.
        """
        if self.ops == "cuda":
            raise ValueError(
                "ops is 'cuda', expected a back end that runs on the CPU: kernels on a GPU run "
                "asynchronously; minise bench cuda times a GPU"
            )
        return load_ops(self.ops, self.threads, self.algorithm)

    def net_settings(self, net: str) -> dict[str, Any]:
        """Return the keyword arguments of models.build, other than the back end."""
        with_se = net.startswith("se_") or self.reduction != 16
        return {"dtype": self.dtype, **({"reduction": self.reduction} if with_se else {})}

    @property
    def conditions(self) -> str:
        """Batch size, dtype and threads as text."""
        return f"batch {self.batch}, {self.dtype}, {with_count(self.threads, 'thread')}"

    def heading(self, net: str) -> str:
        """Return net, reduction, batch size, dtype and threads as text."""
        reduction = f", reduction {self.reduction}" if net.startswith("se_") else ""
        return f"{net}{reduction}, {self.conditions}"

    @property
    def back_end(self) -> str:
        """The back end as text, with the algorithm unless it is auto."""
        return self.ops if self.algorithm == "auto" else f"{self.ops}, {self.algorithm}"


@dataclass(frozen=True)
class SizedSettings(NetSettings):
    """Settings of every benchmark of one net by name."""

    net: str = "se_resnet20"
    """Name of the net; `minise summary all` lists them."""
    size: int | None = None
    """Rows and columns of the images (default: those of the net)."""
    if TYPE_CHECKING:
        batch: int = MAX_DEFAULT_BATCH
    else:  # None only until __post_init__
        batch: int | None = None

    def __post_init__(self) -> None:
        """Check every field, and choose the batch size if none is set."""
        super().__post_init__()
        if self.batch is None:
            object.__setattr__(self, "batch", self._default_batch())

    def _default_batch(self) -> int:
        """Return a batch size for DEFAULT_PIXELS; an unknown net is refused later, by build."""
        from minise import models

        known = self.net in models.names()
        side = self.size or (models.architecture(self.net).size if known else 32)
        return max(MIN_DEFAULT_BATCH, min(MAX_DEFAULT_BATCH, DEFAULT_PIXELS // side**2))

    def build(self, ops: Any = "reference") -> "Net":
        """Return the net on a back end, for images of the size.

        Raises
        ------
        ValueError, TypeError, ImportError
            If the net or its back end is unknown, if the net does not have the settings, or if the
            images are too small for it.
        """
        from minise import models
        from minise.analysis.inputs import recorded

        keywords = self.net_settings(self.net)
        if self.size is not None and "image_size" in models.settings(self.net):
            keywords["image_size"] = self.size
        net = models.build(self.net, ops=ops, **keywords)
        if self.size is not None:
            recorded(net, self.size)  # raises if the images do not fit
        return net

    def heading(self, net: str) -> str:
        """Return net, reduction, size if set, batch size, dtype and threads as text."""
        size = f", {self.size}x{self.size} images" if self.size else ""
        return super().heading(f"{net}{size}")


@dataclass(frozen=True)
class CompareSettings(SizedSettings):
    """Time minise against PyTorch and NumPy with im2col, in interleaved processes.

    A step is forward, loss, backward and SGD. Forward is inference (with --batch 1: latency), for
    which minise folds batch norm into the convolutions (net.inference()). Dropout is off.
    Ops (the most expensive ops of the net) and blocks are timed forward and backward. There are two
    blocks with grouped convolutions, on 128 channels of 16x16: 3x3 depthwise and 1x1, each with
    batch norm and ReLU; and 1x1, 3x3 in 32 groups, 1x1, with batch norm and ReLU in between.

    Example: minise bench cpu --net se_resnet8 --batch 8 --rounds 3 --against numpy-im2col
    """

    what: tuple[CpuKind, ...] = ("step",)
    """Workloads to time."""
    against: tuple[CpuPeer, ...] = ("torch", "torch-channels-last", "torch-compile", "numpy-im2col")
    """Peers; torch-compile compiles the channels-last net, which takes one or two minutes."""
    rounds: int = 9
    """Number of rounds; each implementation is timed once per round."""
    start: bool = True
    """Also time the first run of a process, with an empty and with a warm compilation cache."""

    command: ClassVar[str] = "bench cpu"

    def build(self, ops: Any = "reference") -> "Net":
        """Return the net without dropout: random masks would differ between implementations."""
        from minise.nn import Dropout

        net = super().build(ops)
        for _, layer in net.layers():
            if isinstance(layer, Dropout):
                layer.p = 0.0
        return net

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CompareSettings":
        """Return settings from the dict of as_dict, without the file for the result."""
        tuples = {name: tuple(values[name]) for name in ("what", "against")}
        return cls(**{**values, **tuples, "json": None})


@dataclass(frozen=True)
class ScalingSettings(NetSettings):
    """Time training steps against depth and against batch size, and fit straight lines.

    Example: minise bench scaling --depths 8 20 32 --batches 1 2 4 --batch 2 --rounds 2
    """

    depths: tuple[int, ...] = (20, 32, 56, 110)
    """Depths of SE-ResNets, timed at the batch size --batch."""
    batches: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Batch sizes, timed at the depth --depth."""
    depth: int = 20
    """Depth of the net for --batches."""
    rounds: int = 9
    """Number of rounds; each point is timed once per round."""
    plot: Path | None = None
    """Plot points and lines to this file, .png or .svg (needs Matplotlib)."""

    command: ClassVar[str] = "bench scaling"

    def __post_init__(self) -> None:
        """Check every field; a fitted line needs at least three points."""
        super().__post_init__()
        for name in ("depths", "batches"):
            values = getattr(self, name)
            if len(set(values)) < MIN_POINTS_PER_LINE:
                raise ValueError(
                    f"{self.command}: {name} is {values}, expected at least {MIN_POINTS_PER_LINE} "
                    "different values: fewer points do not test a straight line"
                )
        if self.plot is not None:
            check_choice(self.command, "plot's suffix", self.plot.suffix, FIGURE_SUFFIXES)


@dataclass(frozen=True)
class OverheadSettings(NetSettings):
    """Time a net with SE blocks against the net without them, in interleaved processes.

    A training step and inference of one image are timed in minise and in PyTorch. The times that
    the paper reports for ResNet-50 and SE-ResNet-50 are printed beside them.

    Example: minise bench se-overhead --nets resnet8 se_resnet8 --batch 4 --rounds 2
    """

    nets: tuple[str, str] = ("resnet50", "se_resnet50")
    """Names of the net without and of the net with SE blocks."""
    batch: int = 16
    """Batch size of a training step: number of images."""
    size: int | None = None
    """Rows and columns of the images (default: those of the net)."""
    against: tuple[TorchPeer, ...] = ("torch", "torch-channels-last")
    """Peers; torch-compile compiles the channels-last nets, which takes minutes."""
    rounds: int = 9
    """Number of rounds; both nets are timed once per round."""

    command: ClassVar[str] = "bench se-overhead"

    def of(self, net: str, kind: str) -> CompareSettings:
        """Return the settings of a worker that times a training step or inference of a net."""
        names = ("size", "threads", "dtype", "ops", "algorithm")
        return CompareSettings(
            net=net,
            batch=self.batch if kind == "step" else 1,
            reduction=self.reduction if net.startswith("se_") else 16,
            start=False,
            **{name: getattr(self, name) for name in names},
        )


@dataclass(frozen=True)
class ProfileSettings(SizedSettings):
    """Settings of `minise profile`."""

    steps: int = 5
    """Number of training steps to time; medians are reported."""
    layers: int = 10
    """Number of rows of the table of the slowest layers."""

    command: ClassVar[str] = "profile"
