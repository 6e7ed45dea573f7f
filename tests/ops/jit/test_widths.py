"""The kernels with the vector widths of older processors, each compiled and run in a process.

A processor runs the code of older ones, so every width below this machine's own is tested here; all
other tests use its own. Allocated memory is filled with large numbers.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from minise.ops.jit.vector import simd

HERE = Path(__file__).parent
TESTS = ("simd", "tile", "transforms", "winograd", "passes")
CHOICE = "not float64 or test_simd or test_tile or test_transforms"  # the three compile quickly


class Width(NamedTuple):
    """The processor that Numba compiles for."""

    name: str
    features: tuple[str, ...]


WIDTHS = {
    16: Width("x86-64", ()),
    32: Width("x86-64-v3", ("avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")),
    64: Width(
        "x86-64-v4",
        ("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
    ),
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(simd.AS_LOOPS, reason="without Numba there are no vectors"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64"), reason="other processors have one width"
    ),
]


def below(width):
    """Return True if this processor supports the width, and its own is larger."""
    return set(WIDTHS[width].features) <= simd.FEATURES and width < simd.VECTOR_BYTES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="module")
def processes(folder):
    """Yield the test processes by width, all started at once: most of their time is compilation."""
    started = {width: start(WIDTHS[width], folder) for width in WIDTHS if below(width)}
    yield started
    for process in started.values():
        process.kill()


def start(width, folder):
    environment = {
        "NUMBA_CPU_NAME": width.name,
        "NUMBA_CPU_FEATURES": ",".join(f"+{feature}" for feature in width.features),
        "MINISE_CACHE": str(folder),
        "MINISE_EXAMPLES": "10",
        "OMP_WAIT_POLICY": "PASSIVE",  # more threads than cores
        "MALLOC_PERTURB_": "128",  # glibc's: memory is filled with 3.4e38
    }
    files = [str(HERE / f"test_{name}.py") for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider"]
    return subprocess.Popen(
        [*command, "-k", CHOICE, *files],
        env={**os.environ, **environment},
        cwd=HERE.parents[2],
        stdout=-1,
        stderr=-2,
        text=True,
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_the_same_tests_pass(width, processes):
    """test_simd also checks that the machine code has registers of this width."""
    if width not in processes:
        pytest.skip(
            "all other tests have it" if width == simd.VECTOR_BYTES else "this processor has none"
        )
    output, _ = processes[width].communicate(timeout=600)
    assert processes[width].returncode == 0, output


def test_each_processor_has_kernels_of_its_own(processes, folder):
    """A kernel of another processor may have instructions that this one lacks."""
    for process in processes.values():
        process.wait()
    made = [path.name for path in folder.rglob("winograd.convolve-*")]
    assert len(made) == len(set(made)) == len(processes)
