"""The process of an implementation: `Worker` in the parent asks, `Responder` in the child answers.

Libraries keep their threads spinning for a while after a parallel loop, and a spinning thread takes
a core from the implementation that is measured next. So each implementation has its own process and
idles between its turns, and every turn begins after a pause in which all threads fall asleep.

Requests and answers are one line of JSON each:

    {"do": "make", "workload": …}   builds net and inputs           {"ready": true}
    {"do": "first"}                 first run, which compiles       {"first": [figure, scale]}
    {"do": "warm"}                  runs for a while                {"mib": …, "how": …}
    {"do": "turn"}                  runs for a while                {"seconds": [of each run]}

An answer {"error": …} ends the process. Between requests it waits for a line.
"""

import gc
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
from minise.bench.machine import PeakMemory, cores_taken, read
from minise.bench.peers import Checksum, checksum_of, make
from minise.bench.rounds import Round, Turn, interleave, repeat
from minise.bench.settings import CompareSettings
from minise.bench.workloads import Workload
from minise.ops.user.errors import OpsError

PAUSE = 0.3  # seconds before each turn: OpenBLAS's threads spin longest, for about 0.1 s
TURN_SECONDS = 0.8  # of runs in a turn; one run at least
RUNS_PER_TURN = 200  # at most
# libraries read these when they are loaded, so they are set before a process starts
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


class WorkerError(Exception):
    """An implementation cannot go on; the message says why."""


class Worker:
    """The process of an implementation, seen from its parent.

    Parameters
    ----------
    name : str
        The implementation.
    settings : CompareSettings
        Of the whole comparison.
    cache : str, optional
        Folder for compiled code, by default the user's own.
    """

    def __init__(self, name: str, settings: CompareSettings, cache: str | None) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, close() closes it
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minise.bench.worker", name, json.dumps(settings.as_dict())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=_environment(settings.threads, cache),
            start_new_session=True,  # the group tells its processes from others
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def group(self) -> int:
        """The process group of the process and its children."""
        return self.process.pid

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises
        ------
        WorkerError
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
            raise WorkerError(answer["error"].strip().partition("\n")[0][:200])
        return answer

    def first(self, workload: Workload) -> tuple[Checksum, float]:
        """Do a workload once; return its checksum, and the seconds since the process started."""
        self.ask("make", workload=workload)
        checksum = Checksum(*self.ask("first")["first"])
        return checksum, time.perf_counter() - self.started

    def turn(self, groups: Sequence[int]) -> Turn:
        """Pause, then let the process run; measure what all others take, also those of groups."""
        start = read(groups)
        time.sleep(PAUSE)
        before = cores_taken(start, read(groups))
        start = read([self.group])
        seconds = self.ask("turn")["seconds"]
        return Turn(seconds, before, cores_taken(start, read([self.group])))

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
    workers: Sequence[Worker], count: int, what: str, progress: Callable[[str], None]
) -> list[Round]:
    """Let workers take turns at a workload, and return what each did in every round."""
    by_name = {worker.name: worker for worker in workers}
    groups = [worker.group for worker in workers]

    def turn(name: str) -> Turn:
        return by_name[name].turn(groups)

    return interleave(list(by_name), count, turn, lambda text: progress(f"{what}, {text}"))


def environment(threads: int) -> dict[str, str]:
    """Return the environment variables that set the number of threads of a process's libraries."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def _environment(threads: int, cache: str | None) -> dict[str, str]:
    """Return the environment of a process: threads, compiled files, and this copy of minise."""
    root = str(Path(minise.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    folders = dict(MINISE_CACHE="minise", TORCHINDUCTOR_CACHE_DIR="torch")
    compiled = {name: str(Path(cache, part)) for name, part in folders.items()} if cache else {}
    path = {"PYTHONPATH": os.pathsep.join(paths)}
    return {**os.environ, **environment(threads), **path, **compiled}


class Responder:
    """The child's side.

    It holds at most one workload at a time, so that the memory of one does not count for the next.
    """

    def __init__(self, name: str, settings: CompareSettings) -> None:
        self.name, self.settings = name, settings
        self.run: Any = None
        self.peak: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks."""
        return getattr(self, f"do_{request.pop('do')}")(**request)

    def do_make(self, workload: Workload) -> dict[str, Any]:
        """Build net and inputs; memory is counted from here on."""
        self.run = None
        gc.collect()
        self.run = make(self.name, workload, self.settings)
        gc.collect()
        self.peak = PeakMemory()
        return {"ready": True}

    def do_first(self) -> dict[str, Any]:
        """Run for the first time, which compiles."""
        first = checksum_of(self.run())
        self.peak.restart()
        return {"first": first}

    def do_warm(self) -> dict[str, Any]:
        """Run until caches are warm, and return the peak of memory."""
        self.do_turn()
        return {"mib": self.peak.mib(), "how": self.peak.how}

    def do_turn(self) -> dict[str, Any]:
        """Run again and again, and return the time of each run."""
        return {"seconds": repeat(self.run, TURN_SECONDS, most=RUNS_PER_TURN)}


def main() -> int:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    responder = Responder(sys.argv[1], CompareSettings.from_dict(json.loads(sys.argv[2])))
    for line in sys.stdin:
        try:
            answer = responder.answer(json.loads(line))
        except Exception as error:  # whatever it is, the parent lists it
            name = "" if isinstance(error, OpsError) else f"{type(error).__name__}: "
            answer = {"error": f"{name}{error}"}
        print(json.dumps(answer), file=answers, flush=True)
        if "error" in answer:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
