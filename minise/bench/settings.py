"""Settings of the benchmarks; the command line is built from these classes.

    Settings              the file to which the result is written
        LadderSettings      minise bench conv-ladder
        CudaSettings        minise bench cuda
        ShapesSettings      minise bench shapes
        NetSettings         the benchmarks of nets, see net_settings.py

Every field is checked against its declared type at construction.
"""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

from minise.checks import check_choice, check_integer
from minise.ops.backend import Algorithm
from minise.train.run_folder import check_threads, cores

CudaKind = Literal["se", "tail", "step"]
CudaPeer = Literal["torch", "torch-graph", "torch-compile"]


def default_threads() -> int:
    """Return 2, or 1 on a machine with one core."""
    return min(2, cores())


def with_count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    Examples
    --------
    >>> with_count(1, "thread"), with_count(2, "thread")
    ('1 thread', '2 threads')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True)
class Settings:
    """Settings of every benchmark."""

    json: Path | None = None
    """Write all measurements to this JSON file."""

    command: ClassVar[str]  # in messages

    def __post_init__(self) -> None:
        """Check every field: integers are at least 1, choices are valid, folders exist."""
        for declared in fields(self):
            self._check(declared.name, declared.type, getattr(self, declared.name))

    def _check(self, name: str, kind: Any, value: Any) -> None:
        """Check the value of a field, or an element of a tuple, against its declared type."""
        if get_origin(kind) is tuple:
            element = get_args(kind)[0]
            if name == "what" and not value:
                choices = ", ".join(get_args(element))
                raise ValueError(f"{self.command}: what is empty, expected any of {choices}")
            for item in value:
                self._check(name, element, item)
        elif name == "threads":
            check_threads(self.command, value)
        elif kind is int or (kind == int | None and value is not None):
            check_integer(self.command, name, value, 1)
        elif get_origin(kind) is Literal:
            check_choice(self.command, name, str(value), tuple(map(str, get_args(kind))))
        elif isinstance(value, Path) and not value.absolute().parent.is_dir():
            raise ValueError(
                f"{self.command}: {name} is {value}, expected a file in an existing folder: "
                f"create {value.parent} first"
            )
        elif isinstance(value, Path) and value.is_dir():
            raise ValueError(
                f"{self.command}: {name} is the folder {value}, expected a file: pass the path "
                "of a file in it"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as a JSON-serialisable dict."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class LadderSettings(Settings):
    """Time ten versions of one 3x3 convolution, from Python loops to Winograd's algorithm.

    Example: minise bench conv-ladder --batch 4
    """

    stage: Literal[1, 2, 3] = 2
    """Stage of ResNet-20: 16 channels of 32x32, 32 channels of 16x16, or 64 channels of 8x8."""
    batch: int = 128
    """Number of images."""
    threads: int = field(default_factory=default_threads)
    """Number of threads of the versions that use several."""

    command: ClassVar[str] = "bench conv-ladder"


@dataclass(frozen=True)
class CudaSettings(Settings):
    """Time the CUDA kernels against PyTorch, and against the memory bandwidth of the GPU.

    First, the limits of the GPU are measured: the bandwidth of a copy, and the cost of a launch.
    Then SE blocks (se) and the ends of residual units (tail) are timed, forward and backward, at
    the shapes of SE-ResNet-20 on CIFAR-10 and of SE-ResNet-50 on ImageNet; each is checked against
    float64 first. Training steps of SE-ResNet-20 (step) follow, for PyTorch in several precisions.
    Consecutive calls use different buffers, so that every read comes from memory, not from a cache.

    Example: minise bench cuda --json cuda.json
    """

    what: tuple[CudaKind, ...] = ("se", "tail", "step")
    """Workloads to time."""
    against: tuple[CudaPeer, ...] = ("torch", "torch-graph", "torch-compile")
    """Peers: PyTorch eager, eager in a CUDA graph, and compiled."""
    rounds: int = 11
    """Number of timings of each workload; the median is reported."""
    seconds: int = 540
    """Time limit in seconds: workloads that would start later are skipped."""

    command: ClassVar[str] = "bench cuda"


@dataclass(frozen=True)
class ShapesSettings(Settings):
    """Time every convolution of a net or of a list, forward and backward, against PyTorch.

    PyTorch runs in both memory layouts, NCHW and channels_last; ratios are the time of its faster
    layout divided by minise's time, so that minise is faster above 1. Without --net and --shapes,
    the shapes are those of ImageNet nets. A shape is KERNEL[/STRIDE] [gGROUPS] CHANNELS[->FILTERS]
    @SIZE, such as "3x3/2 g32 256 @56", or "dw/2 64 @112" for a depthwise 3x3 convolution; the
    padding is (kernel - 1) // 2, or p0, p1, ...

    Example: minise bench shapes --shapes "3x3 16 @8; dw 12 @9x6" --batch 2 --rounds 2
    """

    net: tuple[str, ...] | None = None
    """Nets whose distinct convolutions are timed; `minise summary all` lists them."""
    shapes: tuple[str, ...] | None = None
    """Shapes, one per argument or separated by semicolons."""
    batch: tuple[int, ...] = (4, 32)
    """Batch sizes."""
    size: int | None = None
    """Rows and columns of the images of --net (default: those of each net)."""
    rounds: int = 15
    """Number of rounds; each implementation is timed once per round."""
    threads: int = field(default_factory=default_threads)
    """Number of threads of each implementation."""
    ops: str = "jit"
    """Back end of minise: its name, a module such as my_package.my_ops, or a file."""
    algorithm: Algorithm = "auto"
    """Convolution algorithm, for back ends with a choice, such as jit."""

    command: ClassVar[str] = "bench shapes"

    def __post_init__(self) -> None:
        """Check every field; there is a batch size, and --size belongs to --net."""
        super().__post_init__()
        examples = {"net": "resnet50", "shapes": '"3x3 64 @56"', "batch": "4 32"}
        for name, example in examples.items():
            if getattr(self, name) == ():
                raise ValueError(
                    f"{self.command}: {name} is empty, expected values such as {example}: add "
                    f"them, or omit --{name} for the default"
                )
        if self.size is not None:
            check_integer(self.command, "size", self.size, 1)
            if not self.net:
                raise ValueError(
                    f"{self.command}: size is {self.size}, but no net is named: pass --net, or "
                    "write the size into the shape, such as 3x3 64 @56"
                )
