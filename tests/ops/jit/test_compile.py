"""The kernel cache recovers from damaged files, and from several processes that compile at once."""

import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.codegen import JITCodeLibrary

from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.ops import jit
from minise.ops.backend import compile_seconds, on_compile
from minise.ops.jit.compiler import compile as compiling
from minise.ops.jit.compiler import file_lock
from minise.ops.jit.compiler.linking import KernelCompiler
from tests.ops.cases import CASES, direction, draw

pytestmark = pytest.mark.skipif(
    "NUMBA_DISABLE_JIT" in os.environ, reason="nothing is compiled if Numba is disabled"
)

PROGRAM = """
import numpy as np
from minise.ops import jit
from minise.ops.backend import on_compile

names = []
with on_compile(lambda name, so_far, of_all: names.append(name)):
    out, _ = jit.relu_forward(np.arange(-3, 4, dtype=np.float32))
assert out.tolist() == [0, 0, 0, 0, 1, 2, 3]
print(len(names))
"""


def start(folder):
    environment = {**os.environ, "MINISE_CACHE": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=-1, stderr=-1, text=True
    )


def compiled(process):
    """Return the number of kernels that a process compiled."""
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return int(out)


def kernels_in(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cache folder with the kernel that a first process compiled."""
    folder = tmp_path_factory.mktemp("made")
    assert compiled(start(folder)) == 1
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the folder `made`."""
    return shutil.copytree(made, tmp_path / "copied")


def test_a_second_process_finds_the_kernels(made):
    assert [path.name.rpartition("-")[0] for path in kernels_in(made)] == ["activation.gates"]
    assert compiled(start(made)) == 0


@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_many_first_starts_at_once(tmp_path, count):
    counts = [compiled(process) for process in [start(tmp_path) for _ in range(count)]]
    assert max(counts) == 1
    assert sum(counts) == 1 or file_lock.fcntl is None
    assert len(kernels_in(tmp_path)) == 1
    assert compiled(start(tmp_path)) == 0


@pytest.mark.skipif(file_lock.fcntl is None, reason="files cannot be locked here")
def test_a_kernel_that_another_process_compiles_is_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "kernel"
    first, other, acquired = file_lock.FileLock(), file_lock.FileLock(), []
    first.acquire(path)
    waiting = threading.Thread(target=lambda: acquired.append(other.acquire(path)))
    waiting.start()
    waiting.join(0.5)
    assert not acquired
    first.release()
    waiting.join(60)
    assert acquired
    monkeypatch.setattr(file_lock, "TIMEOUT_SECONDS", 0.2)
    first.acquire(path)  # other holds the lock for too long: first continues without it
    other.acquire(path)  # other failed to compile, and releases its lock before it locks again
    first.release()
    other.release()
    assert kernels_in(tmp_path) == []


CONTINUE_AFTER_FAILURES = """
import sys
import numpy as np
from minise.ops import jit
from minise.ops.backend import on_compile
from minise.ops.jit import activation
from minise.ops.jit.compiler import cache_folder

def fails(error):
    (lock,) = cache_folder.folder().glob("*.lock")
    print(lock.with_suffix(""), flush=True)
    raise error

def interrupt(*kernel):
    fails(KeyboardInterrupt)

x = np.ones(3, np.float32)
try:
    with on_compile(interrupt):
        jit.relu_forward(x)
except KeyboardInterrupt:
    pass
activation._silu._compiler.compile = lambda *arguments: fails(MemoryError)
try:
    jit.silu_forward(x)
except MemoryError:
    print("continues", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(file_lock.fcntl is None, reason="files cannot be locked here")
def test_a_compilation_that_fails_blocks_no_other_process(tmp_path):
    """Ctrl-C and a compiler error release the lock, although the process continues."""
    environment = {**os.environ, "MINISE_CACHE": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", CONTINUE_AFTER_FAILURES],
        env=environment,
        stdin=-1,
        stdout=-1,
        text=True,
    ) as process:
        *paths, end = (process.stdout.readline().strip() for _ in range(3))
        assert end == "continues"
        assert [Path(path).name.rpartition("-")[0] for path in paths] == [
            "activation.gates",
            "activation.silu",
        ]
        for path in paths:
            lock, start = file_lock.FileLock(), time.monotonic()
            lock.acquire(Path(path))
            assert time.monotonic() - start < 2
            lock.release()
        process.stdin.close()
    assert kernels_in(tmp_path) == []


@pytest.mark.skipif(file_lock.fcntl is None, reason="files cannot be locked here")
def test_a_lock_is_released_for_a_forked_process_too(tmp_path):
    """A child inherits the open file of the lock: closing it in one process releases nothing."""
    first, other = file_lock.FileLock(), file_lock.FileLock()
    first.acquire(tmp_path / "kernel")
    inherited = os.dup(first._lock[0])
    waiting = threading.Thread(target=other.acquire, args=(tmp_path / "kernel",))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    first.release()
    waiting.join(2)
    ended = not waiting.is_alive()
    os.close(inherited)
    waiting.join()
    other.release()
    assert ended


@pytest.mark.slow
def test_killed_first_starts(tmp_path):
    for seconds in (1.0, 2.0):
        process = start(tmp_path)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
    assert compiled(start(tmp_path)) in (0, 1)
    assert compiled(start(tmp_path)) == 0


def damaged(content, rng):
    """Return content truncated, extended, replaced by random bytes, or with some bits flipped."""
    kind = rng.integers(4)
    if kind == 0:
        return content[: rng.integers(len(content))]
    if kind == 1:
        return content + rng.bytes(int(rng.integers(1, 100)))
    if kind == 2:
        return rng.bytes(int(rng.integers(0, 1000)))
    changed = bytearray(content)
    for index in rng.integers(len(content), size=rng.integers(1, 9)):
        changed[index] ^= 1 << rng.integers(8)
    return bytes(changed)


def test_a_thousand_damages_are_seen(tmp_path):
    """An undamaged file gives its payload, a damaged one None."""
    rng = np.random.default_rng(0)
    path = tmp_path / "kernel"
    compiling.write_checked(path, rng.bytes(5000))
    content = path.read_bytes()
    assert compiling.read_checked(path) == content.partition(b"\n")[2]
    for _ in range(1000):
        path.write_bytes(other := damaged(content, rng))
        assert other == content or compiling.read_checked(path) is None


@pytest.mark.long
def test_damaged_kernels_are_compiled_again(copied):
    rng = np.random.default_rng(1)
    (path,) = kernels_in(copied)
    content = path.read_bytes()
    for _ in range(5):
        path.write_bytes(damaged(content, rng))
        assert compiled(start(copied)) == 1
        assert path.read_bytes() != b""
    assert compiled(start(copied)) == 0


def test_a_whole_file_of_another_make_is_compiled_again(copied):
    (path,) = kernels_in(copied)
    compiling.write_checked(path, b"no pickle at all")
    assert compiled(start(copied)) == 1
    assert compiled(start(copied)) == 0


def test_the_folder_is_named_after_all_sources(monkeypatch):
    before = compiling.folder()
    compiling.folder.cache_clear()
    monkeypatch.setattr(compiling.numba, "__version__", "0.0")
    other = compiling.folder()
    compiling.folder.cache_clear()
    assert before != other
    assert compiling.KERNELS


def test_listeners_are_told_and_forgotten():
    calls = []
    with on_compile(lambda *what: calls.append(what)):
        pass
    compiling._compiled.append("nothing")
    assert calls == []
    assert compiling._listeners == []


def test_a_kernel_compiles_once_for_each_dtype():
    """For inputs of any strides and write flags.

    Signatures from other tests, which call kernels with arrays that no op passes, do not count.
    """
    before = {kernel: set(kernel.signatures) for kernel in compiling.KERNELS}
    for op, cases in CASES.items():
        for case in cases.values():
            for dtype, layout in itertools.product((np.float32, np.float64), LAYOUTS.values()):
                rng = np.random.default_rng(0)
                inputs, keywords = draw(case, rng, dtype)
                laid = [layout(array) for array in inputs]
                out, cache = getattr(jit, f"{op}_forward")(*laid, **keywords)
                getattr(jit, f"{op}_backward")(layout(direction(out, rng)), cache)
    counts = {kernel.__name__: len(set(kernel.signatures) - before[kernel]) for kernel in before}
    assert counts
    assert all(count <= 2 for count in counts.values()), counts


@compiling.device_function
def twice(number):
    return number + number


def test_a_kernel_is_optimised_once_with_all_that_it_calls(monkeypatch):
    def fill(out):
        for i in numba.prange(len(out)):
            out[i] = twice(i)

    optimise, optimised = JITCodeLibrary._optimize_final_module, []
    monkeypatch.setattr(
        JITCodeLibrary,
        "_optimize_final_module",
        lambda library: optimised.append(library.name) or optimise(library),
    )
    out = np.empty(5)
    numba.njit(parallel=True, pipeline_class=KernelCompiler)(fill)(out)
    assert out.tolist() == [0, 2, 4, 6, 8]
    (name,) = set(optimised) - {"nrt"}  # Numba's runtime, compiled once in a process
    assert "fill" in name
    assert optimised.count(name) == 1
    assert numba.njit(lambda number: twice(number))(2) == 4


def test_python_cannot_call_a_device_function():
    with pytest.raises(TypeError, match="got twice, which only kernels can call"):
        twice(1)


def test_the_seconds_of_compilation_are_counted_for_each_thread(monkeypatch):
    (kernel,) = (kernel for kernel in compiling.KERNELS if kernel.__name__ == "_gates")
    monkeypatch.setattr(
        kernel._cache, "load_overload", lambda *signature: time.sleep(0.05) or 1 / 0
    )
    before = compile_seconds()

    def fails():
        with pytest.raises(ZeroDivisionError):
            kernel.compile((numba.int8[:], numba.int64, numba.int8[:]))

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    assert compile_seconds() == before
    fails()
    assert before + 0.05 <= compile_seconds() < before + 5


TRAINING = """
import numpy as np
from minise import models
from minise.ops import jit
from minise.ops.backend import on_compile

names = []
with on_compile(lambda name, so_far, of_all: names.append(name)):
    net = models.build("se_resnet8", ops=jit)
    out, cache = net.forward(np.zeros((2, 3, 8, 8), np.float32), training=True)
    net.backward(out, cache, needs_dx=False)
print(*names)
"""


@pytest.mark.long
def test_the_backward_pass_is_compiled_ahead(tmp_path):
    """Its slow kernels, for the types of training."""
    environment = {**os.environ, "MINISE_CACHE": str(tmp_path)}
    ahead = [sys.executable, "-P", "-m", "minise.ops.jit.ahead"]
    subprocess.run(ahead, env=environment, check=True, timeout=300)
    made = {path.name.rpartition("-")[0] for path in kernels_in(tmp_path)}
    assert made >= {
        "norm.backward",
        "winograd_dweight.weight_gradient",
        "direct_dweight.outer_products",
    }
    program = [sys.executable, "-c", TRAINING]
    run = subprocess.run(program, env=environment, check=True, timeout=300, stdout=-1, text=True)
    assert "norm.forward" in run.stdout
    assert not made & set(run.stdout.split())


@pytest.mark.parametrize(
    ("name", "setting", "cores", "made", "started"),
    [
        (compiling.FIRST_TRAINING_KERNEL, "1", 2, [], 1),
        (compiling.FIRST_TRAINING_KERNEL, "0", 2, [], 0),
        (compiling.FIRST_TRAINING_KERNEL, "1", 1, [], 0),
        (compiling.FIRST_TRAINING_KERNEL, "1", 2, [compiling.LAST_TRAINING_KERNEL], 0),
        ("activation.gates", "1", 2, [], 0),
    ],
)
def test_when_a_second_process_is_started(
    monkeypatch, tmp_path, name, setting, cores, made, started
):
    started_processes = []
    monkeypatch.setattr(
        compiling.subprocess, "Popen", lambda *a, **k: started_processes.append(a) or Process()
    )
    monkeypatch.setattr(compiling, "folder", lambda: tmp_path)
    monkeypatch.setattr(compiling._thread, "compiles", False)  # load_overload sets it
    monkeypatch.setattr(compiling.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(compiling.DiskCache, "_path", lambda *arguments: tmp_path / "nothing")
    monkeypatch.setenv("MINISE_AHEAD", setting)
    for kernel in made:
        (tmp_path / f"{kernel}-0").touch()
    cache = compiling.DiskCache(jit.relu_forward)
    cache._name = name
    assert cache.load_overload(None, compiling.KERNELS[0].targetctx) is None
    assert len(started_processes) == started


class Process:
    """A stand-in for a started process."""

    def kill(self):
        """Do nothing."""
