"""The verb that times a training step op by op: `minise profile`."""

from typing import Annotated

import tyro
from rich.console import Console

from minise.bench.net_settings import ProfileSettings
from minise.cli.bench import show
from minise.cli.words import misuse


def profile(settings: Annotated[ProfileSettings, tyro.conf.arg(name="")]) -> int:
    """Time every op and layer of a training step.

    Beside each time stands the minimum that this machine's arithmetic and memory allow.

    Example: minise profile --net se_resnet8 --batch 8
    """
    from minise.bench import profile as profiling

    console = Console()
    with misuse():
        net = profiling.prepare(settings)
    with console.status("measuring"):
        measured = profiling.profile(net, settings)
    show(console, profiling.result_of(measured, settings), settings)
    return 0
