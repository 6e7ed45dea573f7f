"""The process that a contestant lives in: it does what its parent asks, one JSON line a request.

    {"do": "make", "work": …}   builds net and inputs               {"ready": true}
    {"do": "first"}             does the work for the first time    {"first": [figure, scale]}
    {"do": "warm"}              does it for a while                 {"mib": …, "how": …}
    {"do": "turn"}              does it for a while                 {"seconds": [one a run]}

An answer {"error": …} ends the process. Between requests it waits for a line and does nothing.
"""

import gc
import json
import os
import sys
import time
from typing import Any

from minise.bench.agree import first_of
from minise.bench.memory import Peak
from minise.bench.settings import Settings, from_dict
from minise.ops.user.errors import OpsError

TURN = 0.8  # seconds of runs in a turn; one run at least
MOST = 200  # runs in a turn


class Contestant:
    """Holds at most one work at a time, so that the memory of one does not count for the next."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name, self.settings = name, settings
        self.run: Any = None
        self.peak: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks."""
        return getattr(self, f"do_{request.pop('do')}")(**request)

    def do_make(self, work: dict[str, Any]) -> dict[str, Any]:
        """Build net and inputs; memory is counted from here on."""
        from minise.bench.contestants import make

        self.run = None
        gc.collect()
        self.run = make(self.name, work, self.settings)
        gc.collect()
        self.peak = Peak()
        return {"ready": True}

    def do_first(self) -> dict[str, Any]:
        """Do the work for the first time: this is where things are compiled."""
        first = first_of(self.run())
        self.peak.restart()
        return {"first": first}

    def do_warm(self) -> dict[str, Any]:
        """Do the work until it is in its stride, and return the peak of memory."""
        self.do_turn()
        return {"mib": self.peak.mib(), "how": self.peak.how}

    def do_turn(self) -> dict[str, Any]:
        """Do the work again and again, and return the time of each run."""
        seconds: list[float] = []
        while not seconds or (sum(seconds) < TURN and len(seconds) < MOST):
            start = time.perf_counter()
            self.run()
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds}


def main() -> int:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not look like an answer
    contestant = Contestant(sys.argv[1], from_dict(json.loads(sys.argv[2])))
    for line in sys.stdin:
        try:
            answer = contestant.answer(json.loads(line))
        except Exception as error:  # whatever it is, the parent lists it
            name = "" if isinstance(error, OpsError) else f"{type(error).__name__}: "
            answer = {"error": f"{name}{error}"}
        print(json.dumps(answer), file=answers, flush=True)
        if "error" in answer:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
