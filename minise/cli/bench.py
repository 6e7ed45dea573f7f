"""The verb that compares speeds: `minise bench`."""

import json
from typing import Annotated

import tyro
from rich.console import Console

from minise.bench.climb import LadderSettings
from minise.bench.gpu.settings import CudaSettings
from minise.bench.scaling import ScalingSettings
from minise.bench.settings import Settings
from minise.cli.words import FAILED, INTERRUPTED, Failure, misuse, say

Cpu = Annotated[Settings, tyro.conf.subcommand("cpu", prefix_name=False)]
Scaling = Annotated[ScalingSettings, tyro.conf.subcommand("scaling", prefix_name=False)]
Ladder = Annotated[LadderSettings, tyro.conf.subcommand("conv-ladder", prefix_name=False)]
Cuda = Annotated[CudaSettings, tyro.conf.subcommand("cuda", prefix_name=False)]


def bench(of: Cpu | Scaling | Ladder | Cuda) -> int:
    """Measure speed: beside peers, against depth and batch, of convolution in ten ways, on a GPU.

    Example: minise bench cpu --net se_resnet8 --batch 8 --rounds 3 --against numpy-im2col
    """
    if isinstance(of, LadderSettings):
        return _ladder(of)
    if isinstance(of, CudaSettings):
        return _cuda(of)
    return _scaling(of) if isinstance(of, ScalingSettings) else _cpu(of)


def _cpu(settings: Settings) -> int:
    """Compare minise with its peers, print tables and write JSON."""
    from minise.bench.agree import Disagreement
    from minise.bench.compare import compare
    from minise.bench.report import as_json, notes, ops_table, whole_table
    from minise.bench.threads import ops_with
    from minise.bench.works import works_of

    console = Console()
    with misuse():
        ops_with(settings.ops, settings.threads, settings.algorithm)
        works = works_of(settings)
    try:
        with console.status("starting") as status:
            comparison = compare(settings, works, status.update)
    except Disagreement as error:
        raise Failure(str(error), FAILED) from error
    except KeyboardInterrupt:  # by now all contestants' processes have ended
        raise Failure("interrupted, nothing is written", INTERRUPTED) from None
    for outcome in comparison.outcomes:
        if outcome.work["kind"] != "op":
            console.print(whole_table(outcome, comparison))
    ops = [outcome for outcome in comparison.outcomes if outcome.work["kind"] == "op"]
    if ops:
        console.print(ops_table(ops, settings))
    say(console, notes(comparison))
    if settings.json is not None:
        with misuse():
            settings.json.write_text(json.dumps(as_json(comparison), indent=1) + "\n")
        say(console, f"every figure is in {settings.json}")
    return 0


def _scaling(settings: ScalingSettings) -> int:
    """Time steps along both axes, print tables, write JSON and a figure."""
    from minise.bench.scaling import measure, prepare
    from minise.bench.scaling_plot import draw, figure_class
    from minise.bench.scaling_report import as_json, tables_of

    console = Console()
    with misuse():
        if settings.plot is not None:
            figure_class()  # Matplotlib may not be there
        steps = prepare(settings)
    try:
        with console.status("starting") as status:
            scaling = measure(settings, steps, status.update)
    except KeyboardInterrupt:
        raise Failure("interrupted, nothing is written", INTERRUPTED) from None
    console.print(tables_of(scaling, settings))
    with misuse():
        if settings.json is not None:
            settings.json.write_text(json.dumps(as_json(scaling, settings), indent=1) + "\n")
            say(console, f"every figure is in {settings.json}")
        if settings.plot is not None:
            draw(scaling, settings, settings.plot)
            say(console, f"points and lines are drawn in {settings.plot}")
    return 0


def _ladder(settings: LadderSettings) -> int:
    """Time the rungs and print them."""
    from minise.bench.climb import climb, table_of

    console = Console()
    with misuse(), console.status("climbing"):  # Numba may not be there
        timed, others = climb(settings)
    console.print(table_of(timed, others, settings))
    return 0


def _cuda(settings: CudaSettings) -> int:
    """Measure on the GPU, print a table, and write JSON after every row."""
    from minise.bench.gpu.clock import Clock
    from minise.bench.gpu.measure import Found, Measurement
    from minise.bench.gpu.report import as_json, table_of
    from minise.ops import cuda

    console = Console()
    with misuse():
        cuda.require()  # CuPy, a driver, a GPU or NVRTC may not be there
    import cupy

    measurement = Measurement(settings, cuda.using(), Clock(cupy, settings.rounds), cuda.describe())
    with console.status("starting") as status:

        def saw(doing: str, found: Found) -> None:
            status.update(doing)
            if settings.json is not None:
                settings.json.write_text(json.dumps(as_json(found, settings), indent=1) + "\n")

        try:
            found = measurement.run(saw)
        except KeyboardInterrupt:
            kept = f"; {settings.json} has what was found before" if settings.json else ""
            raise Failure(f"interrupted{kept}", INTERRUPTED) from None
    console.print(table_of(found))
    if settings.json is not None:
        say(console, f"every figure is in {settings.json}")
    if found.wrong:
        names = ", ".join(f"{row.way} at {row.work}" for row in found.wrong)
        raise Failure(f"too far from float64: {names}", FAILED)
    return 0
