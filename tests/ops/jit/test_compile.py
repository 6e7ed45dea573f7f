"""The cache of kernels recovers from whatever happens to its files, and from many at once."""

import itertools
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.ops import jit
from minise.ops.backend import on_compile
from minise.ops.jit.compiler import claims
from minise.ops.jit.compiler import compile as compiling
from tests.ops.cases import CASES, direction, draw

pytestmark = pytest.mark.skipif(
    "NUMBA_DISABLE_JIT" in os.environ, reason="where Numba is switched off nothing is compiled"
)

PROGRAM = """
import numpy as np
from minise.ops import jit
from minise.ops.backend import on_compile

told = []
with on_compile(lambda name, so_far, of_all: told.append(name)):
    out, _ = jit.relu_forward(np.arange(-3, 4, dtype=np.float32))
assert out.tolist() == [0, 0, 0, 0, 1, 2, 3]
print(len(told))
"""


def start(folder):
    environment = {**os.environ, "MINISE_CACHE": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=-1, stderr=-1, text=True
    )


def compiled(process):
    """Return how many kernels a process had to compile."""
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return int(out)


def kernels_in(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the kernel that a first process compiled."""
    folder = tmp_path_factory.mktemp("made")
    assert compiled(start(folder)) == 1
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(made, tmp_path / "copied")


def test_a_second_process_finds_the_kernels(made):
    assert [path.name.rpartition("-")[0] for path in kernels_in(made)] == ["activation.gates"]
    assert compiled(start(made)) == 0


@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_many_first_starts_at_once(tmp_path, count):
    found = [compiled(process) for process in [start(tmp_path) for _ in range(count)]]
    assert max(found) == 1
    assert sum(found) == 1 or claims.fcntl is None
    assert len(kernels_in(tmp_path)) == 1
    assert compiled(start(tmp_path)) == 0


@pytest.mark.skipif(claims.fcntl is None, reason="files cannot be locked here")
def test_a_kernel_that_another_process_compiles_is_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "kernel"
    one, other, took = claims.Claim(), claims.Claim(), []
    one.take(path)
    waiting = threading.Thread(target=lambda: took.append(other.take(path)))
    waiting.start()
    waiting.join(0.5)
    assert not took
    one.release()
    waiting.join(60)
    assert took
    monkeypatch.setattr(claims, "PATIENCE", 0.2)
    one.take(path)  # held for too long: it goes on
    other.take(path)  # what it held, and could not compile, is nobody's now
    one.release()
    other.release()
    assert kernels_in(tmp_path) == []


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


def test_a_folder_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert compiled(start(blocked)) == 1


def damaged(content, rng):
    """Return content cut short, lengthened, emptied, or with some bits turned."""
    way = rng.integers(4)
    if way == 0:
        return content[: rng.integers(len(content))]
    if way == 1:
        return content + rng.bytes(int(rng.integers(1, 100)))
    if way == 2:
        return rng.bytes(int(rng.integers(0, 1000)))
    changed = bytearray(content)
    for place in rng.integers(len(content), size=rng.integers(1, 9)):
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def test_a_thousand_damages_are_seen(tmp_path):
    """Of whole files, what is read is what was written; of damaged ones, nothing is."""
    rng = np.random.default_rng(0)
    path = tmp_path / "kernel"
    compiling.write_checked(path, rng.bytes(5000))
    whole = path.read_bytes()
    assert compiling.read_checked(path) == whole.partition(b"\n")[2]
    for _ in range(1000):
        path.write_bytes(other := damaged(whole, rng))
        assert other == whole or compiling.read_checked(path) is None


@pytest.mark.slow
def test_damaged_kernels_are_compiled_again(copied):
    rng = np.random.default_rng(1)
    (path,) = kernels_in(copied)
    whole = path.read_bytes()
    for _ in range(20):
        path.write_bytes(damaged(whole, rng))
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
    told = []
    with on_compile(lambda *what: told.append(what)):
        pass
    compiling._compiled.append("nothing")
    assert told == []
    assert compiling._listeners == []


def test_a_kernel_compiles_once_for_each_dtype():
    """Whatever the strides and the write flags of what users pass.

    Other tests call kernels themselves, with arrays that no op passes; those do not count.
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
    found = {kernel.__name__: len(set(kernel.signatures) - before[kernel]) for kernel in before}
    assert found
    assert all(count <= 2 for count in found.values()), found


TRAINING = """
import numpy as np
from minise import models
from minise.ops import jit
from minise.ops.backend import on_compile

told = []
with on_compile(lambda name, so_far, of_all: told.append(name)):
    net = models.build("se_resnet8", ops=jit)
    out, cache = net.forward(np.zeros((2, 3, 8, 8), np.float32), training=True)
    net.backward(out, cache, needs_dx=False)
print(*told)
"""


@pytest.mark.slow
def test_the_backward_pass_is_compiled_ahead(tmp_path):
    """All that takes long of it, and of the types that training has."""
    environment = {**os.environ, "MINISE_CACHE": str(tmp_path)}
    ahead = [sys.executable, "-P", "-m", "minise.ops.jit.ahead"]
    subprocess.run(ahead, env=environment, check=True, timeout=300)
    made = {path.name.rpartition("-")[0] for path in kernels_in(tmp_path)}
    assert made >= {"norm.backward", "winograd_dweight.weight_gradient", "scatter.scatter"}
    program = [sys.executable, "-c", TRAINING]
    found = subprocess.run(program, env=environment, check=True, timeout=300, stdout=-1, text=True)
    assert "norm.forward" in found.stdout
    assert not made & set(found.stdout.split())


@pytest.mark.parametrize(
    ("name", "setting", "cores", "made", "started"),
    [
        (compiling.FIRST, "1", 2, [], 1),
        (compiling.FIRST, "0", 2, [], 0),
        (compiling.FIRST, "1", 1, [], 0),
        (compiling.FIRST, "1", 2, [compiling.LAST], 0),
        ("activation.gates", "1", 2, [], 0),
    ],
)
def test_when_a_second_process_is_started(
    monkeypatch, tmp_path, name, setting, cores, made, started
):
    came = []
    monkeypatch.setattr(compiling.subprocess, "Popen", lambda *a, **k: came.append(a) or Process())
    monkeypatch.setattr(compiling, "folder", lambda: tmp_path)
    monkeypatch.setattr(compiling.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(compiling.DiskCache, "_path", lambda *arguments: tmp_path / "nothing")
    monkeypatch.setenv("MINISE_AHEAD", setting)
    for one in made:
        (tmp_path / f"{one}-0").touch()
    cache = compiling.DiskCache(jit.relu_forward)
    cache._name = name
    assert cache.load_overload(None, compiling.KERNELS[0].targetctx) is None
    assert len(came) == started


class Process:
    """What stands in for a process that was started."""

    def kill(self):
        """Do nothing."""
