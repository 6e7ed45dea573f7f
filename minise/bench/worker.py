"""One process per implementation: `Worker` in the parent sends requests, `Responder` answers.

Libraries keep their threads spinning for some time after a parallel loop, and a spinning thread
occupies a core while the next implementation is measured. So each implementation has its own
process, which idles between its turns, and every turn begins after a pause in which all threads go
to sleep.

Each request and each answer is one line of JSON:

    {"do": "make", "workload": …}   builds net and inputs             {"ready": true}
    {"do": "first"}                 runs once, and compiles           {"first": {name: […]}}
    {"do": "warm"}                  runs for TURN_SECONDS             {"mib": …, "how": …}
    {"do": "turn"}                  runs for TURN_SECONDS             {"seconds": [of each run]}

"first" holds the value and scale of the checksum of each result. A workload may set another
duration of its turns (turn_seconds). After an answer {"error": …}, the process exits.
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
from minise.bench.machine import PeakMemory, cores_used_by_others, read_clocks
from minise.bench.net_settings import CompareSettings
from minise.bench.peers import Checksum, checksums_of, make
from minise.bench.rounds import Round, Turn, interleave, time_repeatedly
from minise.bench.workloads import Workload
from minise.ops.user.errors import OpsError

PAUSE_SECONDS = 0.15  # before each turn: OpenBLAS's threads spin longest, for about 0.1 s
TURN_SECONDS = 0.8  # duration of a turn; at least one run
MAX_RUNS_PER_TURN = 200
# libraries read these variables when loaded, so they are set before a process starts
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


class WorkerError(Exception):
    """An implementation failed; the message is the reason."""


class Worker:
    """Starts the process of an implementation and communicates with it, in the parent.

    Parameters
    ----------
    name : str
        Name of the implementation.
    settings : CompareSettings
        Settings of the comparison.
    cache : str or None
        Folder for compiled code; None for the user's own cache.
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
            env=_worker_environment(settings.threads, cache),
            start_new_session=True,  # its process group identifies its child processes
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def group(self) -> int:
        """Process group of the process and its children."""
        return self.process.pid

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises
        ------
        WorkerError
            If the answer is an error, or the process has ended.
        """
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": self._error_output()}
        if "error" in answer:
            raise WorkerError(answer["error"].strip().partition("\n")[0][:200])
        return answer

    def first_run(self, workload: Workload) -> tuple[dict[str, Checksum], float]:
        """Run a workload once; return its checksums, and the seconds since the process started."""
        self.ask("make", workload=workload)
        checksums = {name: Checksum(*pair) for name, pair in self.ask("first")["first"].items()}
        return checksums, time.perf_counter() - self.started

    def turn(self, groups: Sequence[int]) -> Turn:
        """Pause, run for one turn, and measure the load by other processes before and during it.

        Parameters
        ----------
        groups : sequence of int
            Process groups of all workers: during the pause, they do not count as other processes.
        """
        start = read_clocks(groups)
        time.sleep(PAUSE_SECONDS)
        before = cores_used_by_others(start, read_clocks(groups))
        start = read_clocks([self.group])
        seconds = self.ask("turn")["seconds"]
        return Turn(seconds, before, cores_used_by_others(start, read_clocks([self.group])))

    def close(self) -> None:
        """End the process and its child processes."""
        for stream in filter(None, (self.process.stdin, self.process.stdout)):
            with suppress(BrokenPipeError):  # the process may have ended before it read a request
                stream.close()
        with suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGKILL)
        self.process.wait()
        self.errors.close()

    def _error_output(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return lines[-1] if lines else f"the process ended with status {self.process.wait()}"


def run_rounds(
    workers: Sequence[Worker], count: int, label: str, progress: Callable[[str], None]
) -> list[Round]:
    """Time the prepared workload of all workers in interleaved rounds.

    Parameters
    ----------
    workers : sequence of Worker
        Workers that have run the workload already.
    count : int
        Number of rounds.
    label : str
        Name of the workload in progress lines.
    progress : function
        Called with a line of text before every turn.
    """
    by_name = {worker.name: worker for worker in workers}
    groups = [worker.group for worker in workers]

    def turn(name: str) -> Turn:
        return by_name[name].turn(groups)

    return interleave(list(by_name), count, turn, lambda text: progress(f"{label}, {text}"))


def thread_environment(threads: int) -> dict[str, str]:
    """Return the environment variables that set the number of threads of all libraries."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def _worker_environment(threads: int, cache: str | None) -> dict[str, str]:
    """Return the environment of a worker: threads, compilation caches, and this copy of minise."""
    root = str(Path(minise.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    folders = dict(MINISE_CACHE="minise", TORCHINDUCTOR_CACHE_DIR="torch")
    caches = {name: str(Path(cache, folder)) for name, folder in folders.items()} if cache else {}
    path = {"PYTHONPATH": os.pathsep.join(paths)}
    return {**os.environ, **thread_environment(threads), **path, **caches}


class Responder:
    """Answers requests, in the child process.

    It holds at most one workload at a time, so that its memory is not attributed to the next one.
    """

    def __init__(self, name: str, settings: CompareSettings) -> None:
        self.name, self.settings = name, settings
        self.run: Any = None
        self.turn_seconds = TURN_SECONDS
        self.peak: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute a request and return its answer."""
        return getattr(self, f"do_{request.pop('do')}")(**request)

    def do_make(self, workload: Workload) -> dict[str, Any]:
        """Build net and inputs; memory is measured from here on."""
        self.run = None
        gc.collect()
        self.run = make(self.name, workload, self.settings)
        self.turn_seconds = workload.get("turn_seconds", TURN_SECONDS)
        gc.collect()
        self.peak = PeakMemory()
        return {"ready": True}

    def do_first(self) -> dict[str, Any]:
        """Run once, which compiles, and return the checksum of each result, by name."""
        first = checksums_of(self.run())
        self.peak.restart()
        return {"first": first}

    def do_warm(self) -> dict[str, Any]:
        """Run for one turn, so that caches are warm, and return the peak memory."""
        self.do_turn()
        return {"mib": self.peak.mib(), "how": self.peak.method}

    def do_turn(self) -> dict[str, Any]:
        """Run for one turn, and return the time of each run."""
        return {"seconds": time_repeatedly(self.run, self.turn_seconds, max_runs=MAX_RUNS_PER_TURN)}


def main() -> int:
    """Answer requests from standard input until it ends; the exit status is 1 after an error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not be read as an answer
    responder = Responder(sys.argv[1], CompareSettings.from_dict(json.loads(sys.argv[2])))
    for line in sys.stdin:
        try:
            answer = responder.answer(json.loads(line))
        except Exception as error:  # the parent lists the reason, whatever it is
            name = "" if isinstance(error, OpsError) else f"{type(error).__name__}: "
            answer = {"error": f"{name}{error}"}
        print(json.dumps(answer), file=answers, flush=True)
        if "error" in answer:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
