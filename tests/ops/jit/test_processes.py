"""Compiled ops in forked and spawned processes, and in several Python threads at once."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    "NUMBA_DISABLE_JIT" in os.environ, reason="without Numba there are no threads"
)
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork here")

WORK = """
import concurrent.futures, hashlib, multiprocessing, os, sys, threading
import numpy as np
from minise.ops import jit, reference

rng = np.random.default_rng(0)
X = rng.standard_normal((4, 8, 60, 60)).astype(np.float32)

def work(ops):
    sha = hashlib.sha256()
    for op in "relu", "max_pool2d":
        keywords = {"kernel": (2, 2)} if op == "max_pool2d" else {}
        out, cache = getattr(ops, f"{op}_forward")(X, **keywords)
        (dx,) = getattr(ops, f"{op}_backward")(out, cache)
        sha.update(np.ascontiguousarray(out).tobytes() + np.ascontiguousarray(dx).tobytes())
    return sha.hexdigest()

def child(_):
    return work(jit), work(jit.using(threads=2)), work(reference)

def by_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map_async(child, range(4)).get(timeout=100)

def by_executor(method):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, context) as executor:
        return list(executor.map(child, range(4), timeout=100))

def by_os_fork(generations=2):
    end, begin = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            results = [child(0), *(by_os_fork(generations - 1) if generations > 1 else [])]
            os.write(begin, repr(results).encode())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(begin)
    with open(end) as results:
        return eval(results.read())
"""

FORK = f"""{WORK}
results = [*by_pool("fork"), *by_os_fork(1)]  # before the first use
results.append(child(0))
results += [*by_pool("fork"), *by_executor("fork"), *by_os_fork()]
threaded = []
thread = threading.Thread(target=lambda: threaded.extend([child(0), *by_os_fork()]))
thread.start()
thread.join()
print(len(results), len(set(results + threaded)), len(set(results[0])))
"""

SPAWN = f"""{WORK}
if __name__ == "__main__":
    method = sys.argv[1]
    results = [*by_pool(method), child(0), *by_pool(method), *by_executor(method)]
    print(len(results), len(set(results)), len(set(results[0])))
"""


def run(program, *arguments, **environment):
    """Return standard output and standard error of a program."""
    done = subprocess.run(
        [sys.executable, *([program] if program.endswith(".py") else ["-c", program]), *arguments],
        env={**os.environ, "NUMBA_NUM_THREADS": "2", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, done.stderr


@FORKS
@pytest.mark.parametrize("layer", ["omp", pytest.param("workqueue", marks=pytest.mark.slow)])
def test_a_forked_child_computes_the_same_bits(layer):
    if layer == "omp":
        pytest.importorskip("numba.np.ufunc.omppool", exc_type=ImportError)
    warnings = "ignore::DeprecationWarning"  # Python 3.12 warns of any fork with threads
    out, err = run(FORK, NUMBA_THREADING_LAYER=layer, PYTHONWARNINGS=warnings)
    assert out == "16 1 1\n"  # results, distinct results, and distinct digests in a result
    assert err == ""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_spawned_process_computes_the_same_bits(tmp_path, method):
    if method == "forkserver" and not hasattr(os, "fork"):
        pytest.skip("processes cannot fork here")
    program = tmp_path / "program.py"
    program.write_text(SPAWN)
    out, _ = run(str(program), method, PYTHONPATH=os.pathsep.join(sys.path))
    assert out == "13 1 1\n"


FORK_WHILE_COMPILING = """
import os, threading, time
import numpy as np
from minise.ops import jit
from minise.ops.backend import on_compile

compiles = threading.Event()
with on_compile(lambda *kernel: compiles.set()):
    thread = threading.Thread(target=lambda: jit.relu_forward(np.ones(5, np.float32)))
    thread.start()
    compiles.wait()
    if os.fork() == 0:
        os._exit(int(jit.relu_forward(np.ones(5, np.float64))[0].sum()))
    thread.join()
for _ in range(600):
    pid, status = os.waitpid(-1, os.WNOHANG)
    if pid:
        break
    time.sleep(0.1)
print(pid > 0, os.waitstatus_to_exitcode(status))
"""


@FORKS
@pytest.mark.slow
def test_fork_while_another_thread_compiles(tmp_path):
    assert run(FORK_WHILE_COMPILING, MINISE_CACHE=str(tmp_path))[0] == "True 5\n"


THREADS = """
import threading
import numpy as np
from minise.ops import jit

barrier, right = threading.Barrier(8), []

def work(number):
    x = np.full((number + 1, 4, 50, 50), number - 3.5, np.float32)
    barrier.wait()
    for k in range(60):
        out, cache = jit.relu_forward(x)
        (dx,) = jit.relu_backward(x, cache)
        right.append((out == max(0, number - 3.5)).all() and (dx == out).all())

workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join(100)
print(len(right), all(right))
"""


@pytest.mark.parametrize(
    "layer",
    ["workqueue", *(pytest.param(name, marks=pytest.mark.slow) for name in ("omp", "tbb"))],
)
def test_eight_python_threads(layer):
    if layer in ("omp", "tbb"):
        pytest.importorskip(f"numba.np.ufunc.{layer}pool", exc_type=ImportError)
    out, err = run(THREADS, NUMBA_THREADING_LAYER=layer)
    assert out == "480 True\n"
    assert err == ""
