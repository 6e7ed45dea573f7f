"""What the bits of a run depend on: equal in equal processes, and every change has its entry."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from minise import models, nn
from minise.data import Augment, Batches, Dataset, LazyImages
from minise.ops import jit, reference, wrap
from minise.ops.user.load import from_file
from minise.train import environment as module
from minise.train.environment import differences, environment

PIXELS = np.arange(4 * 3 * 64, dtype=np.uint8).reshape(4, 3, 8, 8)
DATA = Dataset("four", PIXELS, np.array([0, 1, 0, 1]), ("a", "b"))
UNITS = dict(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
RELU = """
def relu_forward(x):
    return x * (x > 0), x

def relu_backward(dout, x):
    return (dout * (x > 0),)
"""


def batches(dataset=DATA, size=2, **settings):
    return Batches(dataset, size, **{**UNITS, **settings})


def entries(ops=reference, threads=1, **sources):
    return environment(nn.Linear(2, 2, ops=ops), sources, threads)


def changed(before, after):
    """Return the titles of the entries that differ; there is a line for each."""
    lines = differences(before, after)
    assert differences(after, before) != lines or not lines
    return [line.partition(":")[0] for line in lines]


def in_child(ops, **variables):
    """Return the environment of a net in another process with these environment variables."""
    code = (
        "import json; from minise import nn; from minise.train.environment import environment; "
        f"print(json.dumps(environment(nn.Linear(2, 2, ops={ops!r}), {{}}, 1)))"
    )
    environ = {**os.environ, **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_the_entries_of_each_back_end():
    common = {"back end", "system", "minise version", "numpy version"}
    common |= {"BLAS library", "BLAS kernel", "NumPy instruction sets"}
    compiled = {"jit processor", "jit instruction sets", "jit vector width", "jit algorithm"}
    compiled |= {"numba version", "llvmlite version"}
    assert entries().keys() == common | {"BLAS threads"}
    assert entries(jit).keys() == common | compiled
    both = nn.Chain(nn.ReLU(ops=jit), nn.ReLU())
    assert environment(both, {}, 1).keys() == common | compiled | {"BLAS threads"}
    assert environment(both, {}, 1)["back end"] == "jit; reference"
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
        f"BLAS kernel: {kernel} when it was saved, {other} now"
    ]


def test_fewer_instruction_sets_of_numpy():
    optional = np._core._multiarray_umath.__cpu_dispatch__
    *_, last = entries()["NumPy instruction sets"].split("; ")
    if last not in optional:
        pytest.skip("NumPy uses no optional instruction set on this processor")
    there = in_child("reference", NPY_DISABLE_CPU_FEATURES=last)
    assert differences(entries(), there) == [
        f"NumPy instruction sets: {last} when it was saved, but not now"
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


@pytest.fixture
def x86():
    """Skip unless NumPy has OpenBLAS on an x86 processor, whose kernel a variable selects."""
    info = entries()
    if "x86_64" not in info["system"] or "openblas" not in info["BLAS library"]:
        pytest.skip("only OpenBLAS on an x86 processor has these kernels")


@pytest.mark.parametrize(
    ("package", "title"),
    [("minise", "minise"), ("numpy", "numpy"), ("numba", "numba"), ("llvmlite", "llvmlite")],
)
def test_another_version(monkeypatch, package, title):
    before, versions = entries(jit), module.versions
    monkeypatch.setattr(
        module,
        "versions",
        lambda names: {**versions(names), package: "9.9"} if package in names else versions(names),
    )
    assert changed(before, entries(jit)) == [f"{title} version"]
    assert differences(before, entries(jit))[0].endswith("when it was saved, 9.9 now")


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
    assert differences(entries(jit), direct) == [
        "jit algorithm: auto when it was saved, direct now"
    ]
    lines = differences(entries(), entries(jit))
    assert "back end: reference when it was saved, jit now" in lines
    assert "BLAS threads: 1 when it was saved, not recorded now" in lines
    assert "jit algorithm: not recorded when it was saved, auto now" in lines


@pytest.mark.parametrize("ops", [reference, jit], ids=["reference", "jit"])
def test_a_guard_changes_nothing(ops):
    net = models.build("se_resnet8", ops=ops)
    plain = environment(net, {}, 1)
    wrap.attach(net, wrap.guarded(wrap.timed(ops)))
    assert environment(net, {}, 1) == plain


def test_a_file_of_ops_counts_by_its_content(tmp_path):
    path = tmp_path / "my_ops.py"
    path.write_text(RELU)
    before = entries(from_file(str(path)))
    assert entries(from_file(str(path))) == before
    path.write_text(f"{RELU}# edited\n")
    ops = from_file(str(path))
    assert changed(before, entries(ops)) == ["back end"]
    assert entries(ops)["back end"].startswith("my_ops.py with SHA-256 ")
    path.unlink()
    assert entries(ops)["back end"] == "my_ops.py, which cannot be read"


class Own:
    """A back end of a user's own, without a file."""

    def __getattr__(self, name):
        return getattr(reference, name)


def test_an_object_as_back_end_is_named_by_its_class():
    class OneOp:
        def relu_forward(self, x):
            return x, x

    name = environment(nn.ReLU(ops=OneOp()), {}, 1)["back end"]
    assert name == f"{__name__}.OneOp"
    assert environment(nn.ReLU(ops=Own()), {}, 1)["back end"] == "reference"  # whose ops it has


def test_data():
    plain = entries(training=batches(), validation=batches(), test=None)
    assert plain["test data"] == "none"
    assert entries(training=batches(), validation=batches(), test=None) == plain
    other = Dataset("four", PIXELS ^ 1, DATA.labels, DATA.classes)
    for title in ("training", "validation"):
        sources = dict(training=batches(), validation=batches(), test=None)
        assert changed(plain, entries(**{**sources, title: batches(other)})) == [f"{title} data"]
    assert changed(plain, entries(training=batches(), validation=None, test=None)) == [
        "validation data",
        "validation batches",
    ]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (dict(size=1), "batch_size=2 when it was saved, batch_size=1 now"),
        (dict(seed=1), "seed=0 when it was saved, seed=1 now"),
        (dict(shuffle=False), "shuffle=True when it was saved, shuffle=False now"),
        (dict(drop_last=True), "drop_last=False when it was saved, drop_last=True now"),
        (dict(dtype=np.float64), "dtype=float32 when it was saved, dtype=float64 now"),
        (
            dict(mean=np.full(3, 0.25)),
            "mean=(0.5, 0.5, 0.5) when it was saved, mean=(0.25, 0.25, 0.25) now",
        ),
        (
            dict(augment=Augment(crop=1, cutout=2)),
            "augment=None when it was saved, "
            "augment=Augment(crop=1, flip=True, cutout=2, fill=(0, 0, 0)) now",
        ),
    ],
)
def test_another_order_of_the_batches(settings, text):
    before, after = entries(training=batches()), entries(training=batches(**settings))
    assert differences(before, after) == [f"training batches: {text}"]


def test_prefetch_is_no_entry():
    assert entries(training=batches(prefetch=2)) == entries(training=batches(prefetch=0))


def test_pillow_counts_only_for_images_that_it_decodes():
    lazy = Dataset("lazy", LazyImages(lambda i: PIXELS[i], 4, 8, 8), DATA.labels, DATA.classes)
    assert "Pillow version" in entries(training=batches(lazy))
    assert "Pillow version" not in entries(training=batches())


def test_sources_of_a_user():
    x, y = np.ones((2, 2)), np.zeros(2, int)
    plain = entries(training=[(x, y)])
    assert changed(plain, entries(training=[(x, y + 1)])) == ["training data"]
    assert changed(plain, entries(training=[(x, {"y": y})])) == []  # unknown


def test_dictionaries_of_other_versions():
    now = {"a": "1", "b": "2; 3", "c": "unknown"}
    assert differences(now, now) == []
    assert differences({}, now) == [
        "a: not recorded when it was saved, 1 now",
        "b: not recorded when it was saved, 2, 3 now",
    ]
    saved = {"a": 7, "b": "3; 2", "c": "x", "d": ["list"], "e": None, "f": "unknown"}
    assert differences(saved, now) == [
        "a: 7 when it was saved, 1 now",
        "b: 3; 2 when it was saved, 2; 3 now",
        "d: ['list'] when it was saved, not recorded now",
        "e: None when it was saved, not recorded now",
    ]
    assert differences({**now, "b": "2"}, now) == ["b: 3 now, but not when it was saved"]


def test_texts_of_a_file_are_escaped():
    (line,) = differences({"a\x1b[31m": "\u202e1"}, {})
    assert line == r"a\x1b[31m: \u202e1 when it was saved, not recorded now"
