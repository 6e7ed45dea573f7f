"""What the bits of back ends depend on: equal in another process; each change has its entry."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from minise.ops import jit, reference, wrap
from minise.ops.dependencies import dependencies
from minise.ops.user.load import from_file
from minise.train.environment import differences

RELU = """
def relu_forward(x):
    return x * (x > 0), x

def relu_backward(dout, x):
    return (dout * (x > 0),)
"""


def entries(ops=reference, threads=1):
    return dependencies([ops], threads)


def changed(before, after):
    return [line.partition(":")[0] for line in differences(before, after)]


@pytest.fixture
def x86():
    """Skip unless NumPy has OpenBLAS on an x86 processor, whose kernel a variable selects."""
    info = entries()
    if "x86_64" not in info["system"] or "openblas" not in info["BLAS library"]:
        pytest.skip("only OpenBLAS on an x86 processor has these kernels")


def in_child(ops, **variables):
    """Return the entries of a back end in another process with these environment variables."""
    code = (
        "import json; from minise.ops.backend import backend; "
        "from minise.ops.dependencies import dependencies; "
        f"print(json.dumps(dependencies([backend({ops!r})], 1)))"
    )
    environ = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_the_entries_of_each_back_end():
    common = {"back end", "system", "BLAS library", "BLAS kernel", "NumPy instruction sets"}
    compiled = {"jit processor", "jit instruction sets", "jit vector width", "jit algorithm"}
    compiled |= {"numba version", "llvmlite version"}
    assert entries().keys() == common | {"BLAS threads"}
    assert entries(jit).keys() == common | compiled
    both = dependencies([reference, jit, jit.using(threads=1)], 1)
    assert both.keys() == common | compiled | {"BLAS threads"}
    assert both["back end"] == "jit; reference"
    values = entries(jit) | entries()
    assert all(isinstance(value, str) and value for value in values.values())
    assert json.loads(json.dumps(values)) == values


@pytest.mark.parametrize("ops", ["reference", "jit"])
def test_another_process_has_equal_entries(ops):
    assert in_child(ops) == entries(jit if ops == "jit" else reference)


def test_another_blas_kernel(x86):
    kernel = entries()["BLAS kernel"]
    other = "Sandybridge" if kernel == "Haswell" else "Haswell"
    assert differences(entries(), in_child("reference", OPENBLAS_CORETYPE=other)) == [
        f"BLAS kernel: {kernel} when saved, {other} now"
    ]


def test_fewer_instruction_sets_of_numpy():
    optional = np._core._multiarray_umath.__cpu_dispatch__
    *_, last = entries()["NumPy instruction sets"].split("; ")
    if last not in optional:
        pytest.skip("NumPy uses no optional instruction set on this processor")
    there = in_child("reference", NPY_DISABLE_CPU_FEATURES=last)
    assert differences(entries(), there) == [
        f"NumPy instruction sets: {last} when saved, but not now"
    ]


def test_another_processor_of_numba(x86):
    other = "nehalem" if entries(jit)["jit processor"].startswith("haswell") else "haswell"
    there = in_child("jit", NUMBA_CPU_NAME=other, NUMBA_CPU_FEATURES="+avx,+avx2")
    titles = changed(entries(jit), there)
    assert {"jit processor", "jit instruction sets"} <= set(titles)
    assert set(titles) <= {"jit processor", "jit instruction sets", "jit vector width"}
    assert (there["jit vector width"], there["jit instruction sets"]) == ("256 bits", "avx; avx2")


def test_kernels_that_run_as_python():
    there = in_child("jit", NUMBA_DISABLE_JIT="1")
    assert changed(entries(jit), there) == ["jit vector width"]
    assert there["jit vector width"] == "none"


@pytest.mark.parametrize("package", ["numba", "llvmlite"])
def test_another_compiler(monkeypatch, package):
    before = entries(jit)
    monkeypatch.setattr(f"{package}.__version__", "9.9")
    assert differences(before, entries(jit)) == [
        f"{package} version: {before[f'{package} version']} when saved, 9.9 now"
    ]


def test_another_system_or_library(monkeypatch):
    before = entries()
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "9.9"))
    monkeypatch.setattr("platform.machine", lambda: "m68k")
    assert differences(before, entries())[0].endswith(" now")
    assert changed(before, entries()) == ["system"]
    monkeypatch.setattr("threadpoolctl.threadpool_info", list)
    assert changed(before, entries()) == ["system", "BLAS library"]  # the kernel is unknown
    assert entries()["BLAS library"] == "not recognised"
    monkeypatch.setattr(np, "_core", None)
    assert entries()["NumPy instruction sets"] == "unknown"


def test_the_blas_library_is_numpys(monkeypatch):
    def pool(path, version):
        return dict(user_api="blas", internal_api="openblas", version=version, filepath=path)

    pools = [
        pool("/venv/site-packages/scipy.libs/libscipy_openblas.so", "2"),
        pool("/numpy/torch/lib/libopenblas.so", "3"),
        pool("/venv/site-packages/numpy.libs/libscipy_openblas64_.so", "1"),
        dict(user_api="openmp", internal_api="openmp", version=None, filepath="/numpy/libgomp.so"),
    ]
    for order in (pools, pools[::-1]):
        monkeypatch.setattr("threadpoolctl.threadpool_info", lambda order=order: order)
        assert entries()["BLAS library"] == "openblas 1"
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: pools[:2])
    assert entries()["BLAS library"] == "openblas 2"


def test_threads_are_an_entry_where_bits_depend_on_them(tmp_path):
    path = tmp_path / "my_ops.py"
    path.write_text(RELU)
    for ops in (reference, from_file(str(path))):
        assert changed(entries(ops, 1), entries(ops, 2)) == ["BLAS threads"]
        assert entries(ops, 0) == entries(ops, 1)
    assert entries(jit, 2) == entries(jit, 1)
    assert entries(jit.using(threads=1)) == entries(jit)


def test_another_back_end_or_algorithm():
    assert entries(jit.using(algorithm="auto")) == entries(jit)
    direct = entries(jit.using(algorithm="direct"))
    assert differences(entries(jit), direct) == ["jit algorithm: auto when saved, direct now"]
    lines = differences(entries(), entries(jit))
    assert "back end: reference when saved, jit now" in lines
    assert "BLAS threads: 1 when saved, not recorded now" in lines
    assert "jit algorithm: not recorded when saved, auto now" in lines


@pytest.mark.parametrize("ops", [reference, jit], ids=["reference", "jit"])
def test_wrappers_do_not_count(ops):
    guard = wrap.guarded(wrap.timed(ops))
    assert entries(guard) == entries(guard.at("conv1")) == entries(ops)


def test_a_file_of_ops_counts_by_its_content(tmp_path):
    path = tmp_path / "my_ops.py"
    for name in ("my_ops.py", "renamed.py"):
        path.with_name(name).write_text(RELU)
    before = entries(from_file(str(path)))
    assert entries(from_file(str(path))) == before
    assert entries(from_file(str(path.with_name("renamed.py")))) == before
    path.write_text(f"{RELU}# edited\n")
    ops = from_file(str(path))
    assert changed(before, entries(ops)) == ["back end"]
    assert entries(ops)["back end"].startswith("a file of ops with SHA-256 ")
    path.unlink()
    assert entries(ops)["back end"] == "my_ops.py, which cannot be read"


class Own:
    """A back end of a user's own, without a file."""

    def __getattr__(self, name):
        return getattr(reference, name)


def test_an_object_as_back_end_is_named_by_its_class():
    assert entries(Own())["back end"] == f"{__name__}.Own"
    assert entries(Own()).keys() == entries().keys()
