"""The parent's side: one process a contestant, which take turns.

Libraries keep their threads spinning for a while after a parallel loop, and a spinning thread takes
a core from whoever is measured next. So each contestant has a process of its own, does nothing
between its turns, and every turn begins after a pause in which all threads fall asleep. Rounds go
forward and backward by turns, so that no contestant always follows the same one.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import minise
from minise.bench.agree import First
from minise.bench.figures import Round, Turn
from minise.bench.load import read, taken
from minise.bench.settings import Settings, to_dict
from minise.bench.threads import environment

PAUSE = 0.3  # seconds before each turn: OpenBLAS's threads spin longest, for about a tenth


class Stopped(Exception):
    """A contestant cannot go on; the message says why."""


class Child:
    """A contestant's process.

    Parameters
    ----------
    name : str
        The contestant.
    settings : Settings
        Of the whole comparison.
    cache : str, optional
        Folder for what is compiled, by default the user's own.
    """

    def __init__(self, name: str, settings: Settings, cache: str | None) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, close() closes it
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minise.bench.child", name, json.dumps(to_dict(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=_environment(settings.threads, cache),
            start_new_session=True,  # its processes are then told from others by their group
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def group(self) -> int:
        """The process group of the child and its children."""
        return self.process.pid

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises
        ------
        Stopped
            If the answer is an error, or there is none.
        """
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise Stopped(answer["error"].strip().partition("\n")[0][:200])
        return answer

    def first(self, work: dict[str, Any]) -> tuple[First, float]:
        """Make a work and do it once; return what came, and the seconds since the process began."""
        self.ask("make", work=work)
        first = First(*self.ask("first")["first"])
        return first, time.perf_counter() - self.started

    def close(self) -> None:
        """End the process and all that it started."""
        for stream in filter(None, (self.process.stdin, self.process.stdout)):
            with suppress(BrokenPipeError):  # it may have ended with a request unread
                stream.close()
        with suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGKILL)
        self.process.wait()
        self.errors.close()

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return lines[-1] if lines else f"its process ended with status {self.process.wait()}"


def rounds_of(
    children: Sequence[Child], count: int, title: str, progress: Callable[[str], None]
) -> list[Round]:
    """Let children take turns and return what each did in every round."""
    rounds: list[Round] = []
    for k in range(count):
        turns = {}
        for child in children if k % 2 == 0 else children[::-1]:
            progress(f"{title}, round {k + 1} of {count}: {child.name}")
            turns[child.name] = _turn(child, [other.group for other in children])
        rounds.append({child.name: turns[child.name] for child in children})
    return rounds


def _turn(child: Child, groups: Sequence[int]) -> Turn:
    """Pause and let one child work; watch what others take, in its turn also our own children."""
    start = read(groups)
    time.sleep(PAUSE)
    before = taken(start, read(groups))
    start = read([child.group])
    seconds = child.ask("turn")["seconds"]
    return Turn(seconds, before, taken(start, read([child.group])))


def _environment(threads: int, cache: str | None) -> dict[str, str]:
    """Return the child's environment: threads, compiled files, and this copy of minise."""
    root = str(Path(minise.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    folders = dict(MINISE_CACHE="minise", TORCHINDUCTOR_CACHE_DIR="torch")
    compiled = {name: str(Path(cache, part)) for name, part in folders.items()} if cache else {}
    path = {"PYTHONPATH": os.pathsep.join(paths)}
    return {**os.environ, **environment(threads), **path, **compiled}
