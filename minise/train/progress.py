"""Progress of a run: bars in a terminal, plain lines elsewhere.

Throughput and ETA exclude the time of compilation, which is needed once per machine.
"""

import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from minise.ops.backend import compile_seconds

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_PER_LINE = 10.0  # between two progress lines, if there are no bars


def clock() -> float:
    """Return a time in seconds that excludes the compilation of kernels in this thread."""
    return time.perf_counter() - compile_seconds()


def per_second(count: float, seconds: float) -> float:
    """Return count / seconds; a coarse clock may measure no time at all."""
    return count / max(seconds, 1e-9)


class Progress:
    """Display of steps and epochs; a context manager, which removes the bars when a run ends.

    Parameters
    ----------
    console : rich Console
        Where to write: bars if it is a terminal, else lines.
    epochs, steps : int
        Epochs of the run, and steps per epoch.
    done : int
        Number of steps that a resumed run has taken before.
    """

    def __init__(self, console: "Console", epochs: int, steps: int, done: int = 0) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self.console = console
        self.epochs, self.steps, self._done = epochs, steps, done
        self._bars = Bars(
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            get_time=clock,
            disable=not console.is_terminal,
            transient=True,
        )
        self._run = self._bars.add_task("run", total=epochs * steps, completed=done, text="")
        self._epoch = self._bars.add_task("epoch", total=steps, completed=done % steps, text="")
        self._start, self._printed = clock(), time.perf_counter()

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
        """Remove the bars; after an error, also if the terminal is gone."""
        with suppress(*(() if kind is None else (OSError, SystemExit))):  # rich's at a closed pipe
            self._bars.stop()

    def step(self, epoch: int, step: int, means: dict[str, float], throughput: float) -> None:
        """Show the loss and metrics of an epoch so far; epoch and step count from 1."""
        shown = (f"{k} {v:.1%}" if k == "accuracy" else f"{k} {v:.3f}" for k, v in means.items())
        text = f"{'  '.join(shown)}  {throughput:.0f} images/s"
        completed = (epoch - 1) * self.steps + step
        self._bars.update(self._run, completed=completed)
        self._bars.update(
            self._epoch, completed=step, text=text, description=f"epoch {epoch}/{self.epochs}"
        )
        silent = time.perf_counter() - self._printed
        if not self.console.is_terminal and silent >= SECONDS_PER_LINE:
            remaining = self.epochs * self.steps - completed
            eta = _eta((clock() - self._start) * remaining / (completed - self._done))
            self.line(f"epoch {epoch}/{self.epochs}  step {step}/{self.steps}  {text}  {eta}")

    def compiling(self, kernel: str, number: int, total: int) -> None:
        """Show that a kernel is being compiled; without a terminal, only for the first kernel."""
        text = f"compiling {kernel}, {number} of at most {total}, once per machine"
        self._bars.update(self._epoch, text=text)
        if not self.console.is_terminal and number == 1:
            self.line(f"compiling up to {total} kernels, once per machine")

    def line(self, text: str) -> None:
        """Print a line above the bars."""
        self._printed = time.perf_counter()
        self.console.print(
            text, highlight=False, markup=False, soft_wrap=not self.console.is_terminal
        )


def _eta(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"ETA {minutes // 60}:{minutes % 60:02}:{rest:02}"
