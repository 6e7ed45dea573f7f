"""What a run shows while it trains: bars in a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console

PAUSE = 10.0  # seconds between two plain lines within an epoch


class Progress:
    """Shows steps and epochs; a context manager, so that bars end when a run does.

    Parameters
    ----------
    console : rich Console
        Where to write; it knows whether it is a terminal.
    epochs, steps : int
        Epochs of the run, and steps of each.
    done : int
        Steps that an earlier part of the run has taken.
    """

    def __init__(self, console: "Console", epochs: int, steps: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self.console = console
        self.epochs, self.steps = epochs, steps
        self._bars = Bars(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._run = self._bars.add_task("run", total=epochs * steps, text="")
        self._epoch = self._bars.add_task("epoch", total=steps, text="")
        self._start = self._printed = time.perf_counter()

    def __enter__(self) -> Self:
        """Show the bars."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bars away."""
        self._bars.stop()

    def step(self, epoch: int, step: int, means: dict[str, float], speed: float) -> None:
        """Show a step, counted from 1, of an epoch, counted from 1: its loss and metrics so far."""
        shown = (f"{k} {v:.1%}" if k == "accuracy" else f"{k} {v:.3f}" for k, v in means.items())
        text = f"{'  '.join(shown)}  {speed:.0f} images/s"
        done = (epoch - 1) * self.steps + step
        self._bars.update(self._run, completed=done)
        self._bars.update(
            self._epoch, completed=step, text=text, description=f"epoch {epoch}/{self.epochs}"
        )
        now = time.perf_counter()
        if not self.console.is_terminal and now - self._printed >= PAUSE:
            left = (now - self._start) * (self.epochs * self.steps - done) / done
            self.line(
                f"epoch {epoch}/{self.epochs}  step {step}/{self.steps}  {text}  {_eta(left)}"
            )

    def compiling(self, kernel: str, so_far: int, of_all: int) -> None:
        """Show that a kernel is being compiled; without a terminal, the first one only."""
        text = f"compiling {kernel}, {so_far} of at most {of_all}, once per machine"
        self._bars.update(self._epoch, text=text)
        if not self.console.is_terminal and so_far == 1:
            self.line(f"compiling up to {of_all} kernels, once per machine")

    def line(self, text: str) -> None:
        """Print a line above the bars."""
        self._printed = time.perf_counter()
        self.console.print(
            text, highlight=False, markup=False, soft_wrap=not self.console.is_terminal
        )


def _eta(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"ETA {minutes // 60}:{minutes % 60:02}:{rest:02}"
