"""The verb that measures speed: `minise bench`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from minise.bench.net_settings import CompareSettings, OverheadSettings, ScalingSettings
from minise.bench.settings import CudaSettings, LadderSettings, Settings, ShapesSettings
from minise.cli.words import FAILED, INTERRUPTED, Failure, misuse, say

if TYPE_CHECKING:
    from minise.bench.result import Result

NOTHING_WRITTEN = "interrupted, nothing is written"
Cpu = Annotated[CompareSettings, tyro.conf.subcommand("cpu", prefix_name=False)]
Shapes = Annotated[ShapesSettings, tyro.conf.subcommand("shapes", prefix_name=False)]
Overhead = Annotated[OverheadSettings, tyro.conf.subcommand("se-overhead", prefix_name=False)]
Scaling = Annotated[ScalingSettings, tyro.conf.subcommand("scaling", prefix_name=False)]
Ladder = Annotated[LadderSettings, tyro.conf.subcommand("conv-ladder", prefix_name=False)]
Cuda = Annotated[CudaSettings, tyro.conf.subcommand("cuda", prefix_name=False)]


def bench(of: Cpu | Shapes | Overhead | Scaling | Ladder | Cuda) -> int:
    """Measure the speed of minise and of PyTorch.

    cpu compares training steps, inference or blocks; shapes compares the convolutions of a net or
    a list; se-overhead compares a net with and without SE blocks; scaling varies depth and batch
    size; conv-ladder times ten implementations of a convolution; cuda measures on a GPU.

    Example: minise bench cpu --net se_resnet8 --batch 8 --rounds 3 --against numpy-im2col
    """
    if isinstance(of, LadderSettings):
        return _ladder(of)
    if isinstance(of, CudaSettings):
        return _cuda(of)
    if isinstance(of, ShapesSettings):
        return _shapes(of)
    if isinstance(of, OverheadSettings):
        return _overhead(of)
    return _scaling(of) if isinstance(of, ScalingSettings) else _cpu(of)


def show(console: Console, result: "Result", settings: Settings) -> None:
    """Print the tables and notes of a result, and write the files that settings name."""
    for table in result.tables:
        console.print(table.render())
    if result.notes:
        say(console, result.notes)
    with misuse():
        if settings.json is not None:
            result.write(settings.json)
            say(console, f"written: {settings.json}")
        if isinstance(settings, ScalingSettings) and settings.plot is not None and result.figure:
            result.figure.draw(settings.plot)
            say(console, f"written: {settings.plot}")


@contextmanager
def _progress(console: Console, interrupted: str) -> Iterator[Callable[[str], None]]:
    """Show the current measurement; an interrupt ends the command with a message."""
    try:
        with console.status("starting") as status:
            yield status.update
    except KeyboardInterrupt:  # the worker processes have ended by now
        raise Failure(interrupted, INTERRUPTED) from None


@contextmanager
def _comparison(console: Console) -> Iterator[Callable[[str], None]]:
    """Show the progress of a comparison; if results disagree, the command fails with the reason."""
    from minise.bench.peers import Disagreement

    try:
        with _progress(console, NOTHING_WRITTEN) as progress:
            yield progress
    except Disagreement as error:
        raise Failure(str(error), FAILED) from error


def _cpu(settings: CompareSettings) -> int:
    """Compare minise with PyTorch and other implementations."""
    from minise.bench.compare import compare, result_of
    from minise.bench.workloads import workloads_of

    console = Console()
    with misuse():
        settings.load_ops()
        workloads = workloads_of(settings)
    with _comparison(console) as progress:
        comparison = compare(settings, workloads, progress)
    show(console, result_of(comparison), settings)
    return 0


def _shapes(settings: ShapesSettings) -> int:
    """Compare the convolutions of nets or of a list with PyTorch's."""
    from minise.bench.shape_tables import compared, groups_of, measure, result_of

    console = Console()
    with misuse():
        compared(settings).load_ops()
        groups = groups_of(settings)
    with _comparison(console) as progress:
        shapes = measure(settings, groups, progress)
    show(console, result_of(shapes), settings)
    return 0


def _overhead(settings: OverheadSettings) -> int:
    """Compare a net with SE blocks with the net without them."""
    from minise.bench.overhead import measure, prepare, result_of

    console = Console()
    with misuse():
        prepare(settings)
    with _comparison(console) as progress:
        overhead = measure(settings, progress)
    show(console, result_of(overhead), settings)
    return 0


def _scaling(settings: ScalingSettings) -> int:
    """Time training steps over depth and over batch size."""
    from minise.bench.result import figure_class
    from minise.bench.scaling import measure, prepare, result_of

    console = Console()
    with misuse():
        if settings.plot is not None:
            figure_class()  # raises without Matplotlib
        steps = prepare(settings)
    with _progress(console, NOTHING_WRITTEN) as progress:
        scaling = measure(settings, steps, progress)
    show(console, result_of(scaling, settings), settings)
    return 0


def _ladder(settings: LadderSettings) -> int:
    """Time ten implementations of one convolution."""
    from minise.bench.ladder import measure

    console = Console()
    with misuse(), _progress(console, NOTHING_WRITTEN) as progress:  # raises without Numba
        result = measure(settings, progress)
    show(console, result, settings)
    return 0


def _cuda(settings: CudaSettings) -> int:
    """Measure on the GPU, writing JSON after every row."""
    from minise.bench.gpu.compare import Measurement
    from minise.bench.gpu_clock import Clock
    from minise.ops import cuda

    console = Console()
    with misuse():
        cuda.require()  # raises without CuPy, a driver, a GPU or NVRTC
    import cupy

    measurement = Measurement(settings, cuda.using(), Clock(cupy, settings.rounds), cuda.describe())
    saved = f"; {settings.json} has the rows measured so far" if settings.json else ""
    with _progress(console, f"interrupted{saved}") as progress:
        measurement.run(progress)
    show(console, measurement.result(), settings)
    wrong = ", ".join(f"{row.way} at {row.work}" for row in measurement.rows if row.wrong)
    if wrong:
        raise Failure(f"too far from float64: {wrong}", FAILED)
    return 0
