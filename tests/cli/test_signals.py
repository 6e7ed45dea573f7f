"""Signals end every command with one line and 128 + their number, in every phase, once and twice.

A signal before `minise.signals.install` is Python's own; tests wait until its handler is installed.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM

import numpy as np
import pytest

import minise
from minise.cli.verbs import VERBS
from minise.ops.jit.compiler.cache_folder import read_checked
from minise.ops.jit.vector.simd import AS_LOOPS
from minise.train.checkpoint import load
from tests.cli.setups import photos

fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
slow, long = pytest.mark.slow, pytest.mark.long
FIRST_SLOW = [pytest.param(SIGTERM, marks=slow), pytest.param(SIGINT, marks=long)]
ONCE_SLOW = [pytest.param(1, marks=slow), pytest.param(2, marks=long)]

TIME_LIMIT = 60  # seconds for a run, its signal and its end, on a busy machine
TINY = "train --data shapes10 --limit 64 --val 32 --batch-size 16 --model se_resnet8 --name a"
PHOTOS = "train --data photos --size 8 --crop 0 --val 2 --batch-size 2 --model resnet8 --name a"
LAST = Path("runs/a/last.safetensors")
TO_CONTINUE = "; to continue: minise resume runs/a$"
TWICE = "^minise: train: interrupted twice, ended at once"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def start(line, module="minise", ignored=(), terminal=None, **options):
    """Start a command; SIGINT has its default action, also if pytest runs in the background."""

    def prepare():
        for number in (SIGINT, SIGTERM, SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)  # Ctrl-C there signals this process

    root = str(Path(minise.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-m", module, *line.split()],
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        | options,
        env=environment,
        text=True,
        preexec_fn=prepare,
    )


def result(process, seconds=10 * TIME_LIMIT):
    """Return exit status, standard output and standard error."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def ended(process, number, words):
    """Check that a process has ended by a signal, with one line that has the words."""
    status, _, err = result(process, TIME_LIMIT)
    assert re.fullmatch("minise: .*\n", err), err
    assert re.search(words, err.rstrip("\n")), err
    assert status == 128 + number


def signalled(target, number, line, after=0, times=1, **options):
    """Start a command that gets signals in the calls of a function."""
    text = f"{target} {int(number)} {after} {times} {line}"
    return start(text, "tests.cli.signalled", **options)


def installed(process):
    """Wait until the handler of SIGTERM is installed; return False if the process has ended."""
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> SIGTERM - 1 & 1:
            return True
        time.sleep(0.001)
    return False


def assert_intact(folder=Path("runs/a")):
    """Check that every checkpoint can be read, and that there are no temporary files."""
    for path in folder.glob("*.safetensors"):
        load(path)
    assert not list(folder.glob(".*"))


# Before the command


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP])
def test_the_first_instant(number):
    process = start(TINY)
    assert installed(process)
    process.send_signal(number)
    ended(process, number, "minise: train: interrupted before the start; nothing is written$")
    assert not Path("runs").exists()


IN_AN_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == os.environ["MODULE"]:
            signal.raise_signal(signal.SIGTERM)

from minise.__main__ import main
sys.meta_path.insert(0, Finder())
sys.exit(main())
"""


@slow
@pytest.mark.parametrize("module", ["numpy", "rich.console", "tyro", "minise.cli.profile", "numba"])
def test_imports(module):
    """numba is imported while the command runs."""
    Path("run.py").write_text(IN_AN_IMPORT)
    process = start("profile --ops jit", "run", env={"MODULE": module})
    when = "before the end" if module == "numba" else "before the start; nothing is written"
    ended(process, SIGTERM, f"minise: profile: interrupted {when}$")


# Training

PHASES = [  # function, calls before the signal, the message
    ("minise.train.setup.load", 0, "before the first step; no checkpoint is written$"),
    ("minise.train.setup.load", 1, "before the first step; no checkpoint is written$"),
    ("minise.models.build", 0, "before the first step; no checkpoint is written$"),
    ("minise.train.loop.train_step", 0, f"after step 1 of 4, saved in {LAST}{TO_CONTINUE}"),
    ("minise.train.loop.train_step", 2, f"after step 3 of 4, saved in {LAST}{TO_CONTINUE}"),
    (
        "minise.train.loop.evaluate",
        1,
        f"in validation; {LAST} has the state after step 4{TO_CONTINUE}",
    ),
    (
        "minise.train.loop.evaluate",
        2,
        f"in the test; {LAST} has the state after step 4{TO_CONTINUE}",
    ),
    ("os.fsync", 2, TO_CONTINUE),
    ("os.fsync", 4, TO_CONTINUE),
    ("os.fsync", 5, TO_CONTINUE),
    ("minise.cli.train.report", 0, "before the end$"),
]


@pytest.mark.parametrize("number", FIRST_SLOW)
@pytest.mark.parametrize(("target", "after", "words"), PHASES)
def test_the_first_signal_in_training(target, after, words, number):
    line = f"{TINY} --epochs 2 --ops reference"
    ended(signalled(target, number, line, after), number, f"^minise: train: interrupted.*{words}")
    assert_intact()


@slow
@pytest.mark.parametrize("phase", [PHASES[0], PHASES[4], PHASES[5], PHASES[6], PHASES[8]])
def test_the_second_signal_in_training(phase):
    """It arrives in a finally block, while the KeyboardInterrupt of the first one passes."""
    target, after, _ = phase
    line = f"{TINY} --epochs 2 --ops reference"
    words = f"{TWICE}{'; ' if after else ''}"
    ended(signalled(target, SIGTERM, line, after, times=2), SIGTERM, words)
    for path in Path("runs/a").glob("*.safetensors"):
        load(path)


@long
@pytest.mark.skipif(AS_LOOPS, reason="kernels are not compiled")
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("phase", PHASES[3:7])
def test_signals_in_training_by_jit(phase, times):
    target, after, words = phase
    line = f"{TINY} --epochs 2 --ops jit"
    compiling = line.replace("--name a", "--name b")  # else a signal would not wait for the step
    assert result(signalled(target, SIGTERM, compiling, after=1000))[0] == 0
    process = signalled(target, SIGTERM, line, after, times)
    ended(process, SIGTERM, words if times == 1 else TWICE)
    load(LAST)


@slow
def test_a_signal_while_a_thread_decodes_images():
    photos(None)
    process = signalled("minise.data.folder.read_part", SIGTERM, PHOTOS, after=6)
    ended(process, SIGTERM, f"in validation; {LAST} has the state after step 3{TO_CONTINUE}")


OPS = """
import os, signal, time, weakref
from minise.ops.reference import relu_backward
from minise.ops import reference

calls = []

class Deleted:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

class Observed:
    pass

def relu_forward(x):
    calls.append(x)
    if len(calls) == 2:
        ACTION
    time.sleep(0.02)
    return reference.relu_forward(x)
"""
ACTIONS = {
    "an op": "os.kill(os.getpid(), signal.SIGTERM)",
    "__del__": "Deleted()",
    "a callback": "o = Observed(); r = weakref.ref(o, lambda _: Deleted()); del o",
}


@slow
@pytest.mark.parametrize("action", ACTIONS)
def test_a_signal_in(action):
    """Python swallows a KeyboardInterrupt in __del__ and in callbacks: it is raised again."""
    Path("my_ops.py").write_text(OPS.replace("ACTION", ACTIONS[action]))
    line = f"{TINY} --epochs 2 --ops my_ops.py"
    ended(start(line), SIGTERM, rf"^minise: train: interrupted after step \d of 4.*{TO_CONTINUE}")
    assert_intact()
    line = "check --op relu --ops my_ops.py --cases 500"
    ended(start(line), SIGTERM, "^minise: check: interrupted before the end$")


AT_EXIT = """
import atexit, os, signal, sys, threading, time
from minise import signals
from minise.__main__ import main

class Deleted:
    def __del__(self, send=signal.raise_signal):  # other modules are deleted by then
        send(15)

class Thread(threading.Thread):
    def run(self):
        while signals.command.status is None:
            time.sleep(0.01)
        os.kill(os.getpid(), 15)
        time.sleep(60)

HOOK
sys.argv[1:] = ["--version"]
sys.exit(main())
"""


@pytest.mark.parametrize(
    "hook", ["atexit.register(signal.raise_signal, 15)", "last = Deleted()", "Thread().start()"]
)
def test_a_signal_at_exit_leaves_the_status(hook):
    """After the command, a signal ends the process silently with the command's status."""
    Path("run.py").write_text(AT_EXIT.replace("HOOK", hook))
    assert result(start("", "run")) == (0, f"minise {minise.__version__}\n", "")


# Compilation


@pytest.mark.skipif(AS_LOOPS, reason="kernels are not compiled")
@pytest.mark.parametrize("times", ONCE_SLOW)
def test_a_signal_while_a_kernel_is_compiled(times):
    cache = {"MINISE_CACHE": str(Path("cache").absolute()), "MINISE_AHEAD": "1"}
    target = "numba.core.dispatcher._FunctionCompiler.compile"
    line = f"{TINY} --epochs 2 --ops jit"
    process = signalled(target, SIGINT, line, 3, times, env=cache, start_new_session=True)
    words = "interrupted while a kernel is compiled; " if times == 1 else f"{TWICE}; "
    ended(process, SIGINT, words)
    assert_intact()
    time.sleep(1)  # the process that compiles ahead ends
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    for path in Path("cache").rglob("*-*"):
        if re.fullmatch(r"[\w.]+-[0-9a-f]{16}", path.name):
            assert read_checked(path) is not None


# Other verbs and programs

ARGUMENTS = {
    "train": TINY,
    "predict": "predict runs/a photo.png",
    "walk": "walk relu",
    "summary": "summary resnet8",
    "eval": "eval runs/a",
    "resume": "resume runs/a",
    "guard": "guard runs/a",
    "bench": "bench cpu",
    "site": "site build public",
    "reproduce": "reproduce overhead",
}


@pytest.mark.parametrize("times", ONCE_SLOW)
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb(verb, times):
    target = f"minise.cli.{VERBS[verb][0]}.misuse"
    process = signalled(target, SIGTERM, ARGUMENTS.get(verb, verb), times=times)
    end = "before the end$" if times == 1 else "twice, ended at once$"
    ended(process, SIGTERM, f"^minise: {verb}: interrupted {end}")


@slow
def test_the_reader_of_the_output_ends_too():
    """Ctrl-C also ends tee, in `minise train | tee log`."""
    with subprocess.Popen(["cat"], stdin=-1, stdout=subprocess.DEVNULL) as reader:
        action = f"os.kill({reader.pid}, 9); time.sleep(0.2); signal.raise_signal(signal.SIGINT)"
        lines = "from minise.train import progress; progress.SECONDS_PER_LINE = 0.0"
        Path("my_ops.py").write_text(lines + OPS.replace("ACTION", action))
        process = start(f"{TINY} --epochs 2 --ops my_ops.py", stdout=reader.stdin)
        words = rf"^minise: train: interrupted after step \d of 4, saved in {LAST}"
        ended(process, SIGINT, words)
    assert_intact()


# Terminals and shells


@pytest.fixture
def terminal():
    """Return the two ends of a terminal."""
    ends = os.openpty()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def shown(terminal, until):
    """Return what a terminal shows until it has a text, or until all processes have closed it."""
    text = b""
    while until not in text:
        try:
            text += os.read(terminal, 4096)
        except OSError:
            break
    return text


@slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_in_a_terminal_shows_the_cursor(times, terminal):
    outer, inner = terminal
    line = f"{TINY} --limit 4000 --epochs 9 --ops my_ops.py"
    Path("my_ops.py").write_text(OPS.replace("ACTION", "pass"))
    streams = dict(stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
    process = start(line, terminal=inner, env={"TERM": "xterm"}, **streams)
    os.close(inner)
    text = shown(outer, b"epoch 1/9")
    for _ in range(times):
        os.write(outer, b"\x03")
        time.sleep(0.01)
    text += shown(outer, b"no end")
    assert process.wait(TIME_LIMIT) == 130
    assert text.rindex(b"\x1b[?25h") > text.rindex(b"\x1b[?25l")
    assert b"Traceback" not in text
    last = text.replace(b"\r", b"\n").rstrip().rpartition(b"\n")[2].decode()
    words = "after step" if times == 1 else "twice, ended at once"
    assert re.search(f"minise: train: interrupted {words}", last)


@slow
def test_a_closed_terminal_ends_a_run_with_a_checkpoint(terminal):
    outer, inner = terminal
    line = f"{TINY} --limit 4000 --epochs 9 --ops reference"
    streams = dict(stdin=inner, stdout=inner, stderr=inner, start_new_session=True)
    process = start(line, terminal=inner, env={"TERM": "xterm"}, **streams)
    os.close(inner)
    shown(outer, b"epoch 1/9")
    os.close(outer)
    assert process.wait(TIME_LIMIT) == 128 + SIGHUP
    assert load(LAST).progress["step"] > 0
    assert_intact()


@slow
def test_ignored_signals_stay_ignored():
    """As after nohup, and in background jobs of a shell."""
    line = f"{TINY.replace('--name a', '')} --epochs 1 --ops reference --name "
    for number in (SIGINT, SIGHUP):
        ignored = dict(ignored=[SIGINT, SIGHUP])
        process = signalled("minise.train.loop.train_step", number, f"{line}{number:d}", **ignored)
        status, _, err = result(process)
        assert (status, err) == (0, "")


@slow
def test_importing_minise_installs_no_handler():
    code = (
        "import signal, minise, minise.train, minise.cli, minise.__main__\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    )
    Path("run.py").write_text(code)
    assert result(start("", "run")) == (0, "", "")


# Random instants


@long
def test_random_instants():
    """200 signals from the installation of the handlers to the end of the process."""
    photos(None)
    line, duration, interrupted = f"{PHOTOS} --epochs 10 --ops reference", 0.0, 0
    rng = np.random.default_rng()
    for k in range(201):  # the first one is not signalled
        number = (SIGINT, SIGTERM, SIGHUP)[k % 3]
        process = start(line.replace("--name a", f"--name a{k}"))
        assert installed(process)
        beginning = time.perf_counter()
        if k:
            time.sleep(rng.uniform(0, 1.1 * duration))
            for _ in range(rng.integers(1, 4)):
                process.send_signal(number)
                time.sleep(rng.exponential(0.01))
        status, out, err = result(process)
        if status:
            assert re.fullmatch("minise: train: interrupted .*\n", err), err
            assert status == 128 + number
            interrupted += 1
        else:
            assert err == ""
            assert "test accuracy" in out
            duration = duration or time.perf_counter() - beginning
        for path in Path(f"runs/a{k}").glob("*.safetensors"):
            load(path)
    assert interrupted > 100
