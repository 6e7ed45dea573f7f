"""Settings of the benchmarks; the command line is built from these classes.

    Settings              a file for the result
        LadderSettings      minise bench conv-ladder
        CudaSettings        minise bench cuda
        NetSettings         how nets are trained: batch, threads, dtype, back end
            CompareSettings     minise bench cpu
            ScalingSettings     minise bench scaling
            ProfileSettings     minise profile

`Settings` checks every field by its declared type, before anything is measured.
"""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

from minise.checks import check_choice, check_integer
from minise.ops.backend import Algorithm, load_ops
from minise.train.run_folder import check_threads, cores

Dtype = Literal["float32", "float64"]
CpuKind = Literal["step", "forward", "blocks", "ops"]
CpuPeer = Literal["torch", "torch-channels-last", "torch-compile", "numpy-im2col"]
CudaKind = Literal["se", "tail", "step"]
CudaPeer = Literal["torch", "torch-graph", "torch-compile"]
POINTS_PER_LINE = 3  # at least: a line through two points always fits
FIGURE_SUFFIXES = (".png", ".svg")


def default_threads() -> int:
    """Return two, or one where there is one core."""
    return min(2, cores())


@dataclass(frozen=True)
class Settings:
    """What every benchmark is asked."""

    json: Path | None = None
    """Write every figure to this file."""

    command: ClassVar[str]  # in messages

    def __post_init__(self) -> None:
        """Check every field: integers are at least 1, choices are known, folders exist."""
        for declared in fields(self):
            self._check(declared.name, declared.type, getattr(self, declared.name))

    def _check(self, name: str, kind: Any, value: Any) -> None:
        """Check the value of a field, or of an element of it, by its declared type."""
        if get_origin(kind) is tuple:
            element = get_args(kind)[0]
            if name == "what" and not value:
                choices = ", ".join(get_args(element))
                raise ValueError(f"{self.command}: what is empty, expected any of {choices}")
            for item in value:
                self._check(name, element, item)
        elif name == "threads":
            check_threads(self.command, value)
        elif kind is int:
            check_integer(self.command, name, value, 1)
        elif get_origin(kind) is Literal:
            check_choice(self.command, name, str(value), tuple(map(str, get_args(kind))))
        elif isinstance(value, Path) and not value.absolute().parent.is_dir():
            raise ValueError(
                f"{self.command}: {name} is {value}, whose folder is not there: make it first"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON takes them."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class LadderSettings(Settings):
    """Time one 3x3 convolution written ten times: from loops in Python to Winograd's algorithm.

    Example: minise bench conv-ladder --batch 4
    """

    stage: Literal[1, 2, 3] = 2
    """Of ResNet-20: 16 channels of 32x32, 32 channels of 16x16, or 64 channels of 8x8."""
    batch: int = 128
    """Images."""
    threads: int = field(default_factory=default_threads)
    """Of the rungs that use more than one."""

    command: ClassVar[str] = "bench conv-ladder"


@dataclass(frozen=True)
class CudaSettings(Settings):
    """Time the CUDA kernels beside PyTorch's, and beside what the GPU's memory allows.

    First the GPU's own limits are measured: how fast it copies, and what a launch costs. Then SE
    blocks (se) and the ends of residual units (tail), forward and backward, at the shapes of
    SE-ResNet-20 on CIFAR-10 and of SE-ResNet-50 on ImageNet, each checked against float64 before it
    is timed; and training steps of SE-ResNet-20 (step), of PyTorch in several precisions.
    Buffers take turns, so that every read comes from memory and not from a cache.

    Example: minise bench cuda --json cuda.json
    """

    what: tuple[CudaKind, ...] = ("se", "tail", "step")
    """What is timed."""
    against: tuple[CudaPeer, ...] = ("torch", "torch-graph", "torch-compile")
    """Peers: PyTorch eager, eager in a CUDA graph, and compiled."""
    rounds: int = 11
    """How often each is timed; the median counts."""
    seconds: int = 540
    """Time limit: what would begin later is left out."""

    command: ClassVar[str] = "bench cuda"


@dataclass(frozen=True)
class NetSettings(Settings):
    """What every benchmark of nets is asked."""

    batch: int = 128
    """Images, of 32 x 32."""
    threads: int = field(default_factory=default_threads)
    """For the back end and for BLAS, in each process."""
    dtype: Dtype = "float32"
    """Of all arrays."""
    reduction: int = 16
    """Of the SE blocks."""
    ops: str = "jit"
    """Back end of minise: its name, a module such as my_package.my_ops, or a file."""
    algorithm: Algorithm = "auto"
    """Of its convolutions, where it has a choice, as jit has."""

    def load_ops(self) -> Any:
        """Return the back end, with the threads and the algorithm where it has a choice of them.

        Raises
        ------
        ValueError
            If there is no such back end, or it has no choice of algorithm, but one is chosen; or if
            a clock on the processor cannot time it.
        """
        if self.ops == "cuda":
            raise ValueError(
                "ops is 'cuda', whose kernels run on after a call has returned, expected a back "
                "end on the processor: minise bench cuda times a GPU"
            )
        return load_ops(self.ops, self.threads, self.algorithm)

    def net_settings(self, net: str) -> dict[str, Any]:
        """Return what the builder of a net takes besides the name and the back end."""
        with_se = net.startswith("se_") or self.reduction != 16
        return {"dtype": self.dtype, **({"reduction": self.reduction} if with_se else {})}

    @property
    def conditions(self) -> str:
        """Batch, dtype and threads, in words."""
        return f"batch {self.batch}, {self.dtype}, {counted(self.threads, 'thread')}"

    def heading(self, net: str) -> str:
        """Return net, reduction, batch, dtype and threads, in words."""
        reduction = f", reduction {self.reduction}" if net.startswith("se_") else ""
        return f"{net}{reduction}, {self.conditions}"

    @property
    def back_end(self) -> str:
        """The back end, and its algorithm where one is chosen, in words."""
        return self.ops if self.algorithm == "auto" else f"{self.ops}, {self.algorithm}"


@dataclass(frozen=True)
class CompareSettings(NetSettings):
    """Time minise beside PyTorch and NumPy with im2col, in processes that take turns.

    A step is forward, loss, backward and SGD; forward is inference, with --batch 1 its latency, for
    which minise folds batch norm into convolutions (net.inference()).
    Blocks and ops are timed forward and backward. The ops are those of the net. The blocks are two
    with convolutions in groups, on 128 channels of 16x16: 3x3 depthwise and 1x1, each with batch
    norm and ReLU; and 1x1, 3x3 in 32 groups, 1x1, with batch norm and ReLU between them.

    Example: minise bench cpu --net se_resnet8 --batch 8 --rounds 3 --against numpy-im2col
    """

    what: tuple[CpuKind, ...] = ("step",)
    """What is timed."""
    net: str = "se_resnet20"
    """Name of the net; `minise summary all` lists them."""
    against: tuple[CpuPeer, ...] = ("torch", "torch-channels-last", "torch-compile", "numpy-im2col")
    """Peers; torch-compile compiles the channels-last net, which takes a minute or two."""
    rounds: int = 9
    """How often each implementation has its turn."""
    start: bool = True
    """Time the first run of a process too, with and without what an earlier one has compiled."""

    command: ClassVar[str] = "bench cpu"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CompareSettings":
        """Return the settings that as_dict returned, without the file."""
        tuples = {name: tuple(values[name]) for name in ("what", "against")}
        return cls(**{**values, **tuples, "json": None})


@dataclass(frozen=True)
class ScalingSettings(NetSettings):
    """Time training steps against depth and against batch size, and fit straight lines.

    Example: minise bench scaling --depths 8 20 32 --batches 1 2 4 --batch 2 --rounds 2
    """

    depths: tuple[int, ...] = (20, 32, 56, 110)
    """Of SE-ResNets, at the batch size of --batch."""
    batches: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Batch sizes, at the depth of --depth."""
    depth: int = 20
    """Depth of the net for --batches."""
    rounds: int = 9
    """How often each point has its turn."""
    plot: Path | None = None
    """Draw points and lines to this file, .png or .svg (needs Matplotlib)."""

    command: ClassVar[str] = "bench scaling"

    def __post_init__(self) -> None:
        """Check every field; a line needs at least three points."""
        super().__post_init__()
        for name in ("depths", "batches"):
            values = getattr(self, name)
            if len(set(values)) < POINTS_PER_LINE:
                raise ValueError(
                    f"{self.command}: {name} is {values}, expected at least {POINTS_PER_LINE} "
                    "different ones: a line through fewer says nothing"
                )
        if self.plot is not None:
            check_choice(self.command, "plot's suffix", self.plot.suffix, FIGURE_SUFFIXES)


@dataclass(frozen=True)
class ProfileSettings(NetSettings):
    """What is profiled."""

    net: str = "se_resnet20"
    """Name of the net; `minise summary all` lists them."""
    steps: int = 5
    """How many are timed; each figure is the median."""
    layers: int = 10
    """Number of lines of the second table."""

    command: ClassVar[str] = "profile"


def counted(number: int, noun: str) -> str:
    """Return a number of things in words.

    Examples
    --------
    >>> counted(1, "thread"), counted(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
