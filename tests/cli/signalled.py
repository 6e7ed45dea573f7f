"""Run the command line in a process that sends itself signals in the calls of a function.

python -m tests.cli.signalled TARGET NUMBER AFTER TIMES VERB …: the signal NUMBER arrives when
TARGET, such as minise.train.loop.evaluate, is called after AFTER calls, and with TIMES 2 again when
that call ends, also by an exception.
"""

import signal
import sys

from minise.__main__ import main
from minise.data import folder
from minise.train import setup
from tests.cli.setups import resolved


def send_in(target, number, after, times):
    """Replace a function by one that sends the signal."""
    path, _, name = target.rpartition(".")
    owner, calls = resolved(path), []
    function = getattr(owner, name)

    def call(*arguments, **settings):
        calls.append(name)
        if len(calls) != after + 1:
            return function(*arguments, **settings)
        try:
            signal.raise_signal(number)
            return function(*arguments, **settings)
        finally:
            if times == 2:
                signal.raise_signal(number)

    setattr(owner, name, call)


if __name__ == "__main__":
    target, number, after, times, *sys.argv[1:] = sys.argv[1:]
    setup.SHAPES10_TEST = 20
    folder.IN_MEMORY_BYTES = 0  # images of folders are decoded when they are used
    send_in(target, int(number), int(after), int(times))
    sys.exit(main())
