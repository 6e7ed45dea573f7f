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
    pytest.mark.skipif(simd.AS_LOOPS, reason="without Numba there are no vectors"),
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64"), reason="other processors have one width"
    ),
]


def below(width):
    """Return True if this processor supports the width, and its own is larger."""
    return set(WIDTHS[width].features) <= simd.FEATURES and width < simd.VECTOR_BYTES


def run(width, cache, names=TESTS):
    """Run the tests of the named files in a process for a width, and return its result."""
    environment = {
        "NUMBA_CPU_NAME": WIDTHS[width].name,
        "NUMBA_CPU_FEATURES": ",".join(f"+{feature}" for feature in WIDTHS[width].features),
        "MINISE_CACHE": str(cache),
        "MINISE_EXAMPLES": "10",
        "MALLOC_PERTURB_": "128",  # glibc's: memory is filled with 3.4e38
    }
    files = [str(HERE / f"test_{name}.py") for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-m", "", "-k", CHOICE, *files],
        env={**os.environ, **environment},
        cwd=HERE.parents[2],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize(
    "width",
    [
        pytest.param(16, marks=pytest.mark.long),
        pytest.param(32, marks=pytest.mark.slow),
        pytest.param(64, marks=pytest.mark.slow),
    ],
)
def test_the_same_tests_pass(width, tmp_path):
    """test_simd also checks that the machine code has registers of this width."""
    if not below(width):
        pytest.skip(
            "all other tests have it" if width == simd.VECTOR_BYTES else "this processor has none"
        )
    done = run(width, tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.long
def test_each_processor_has_kernels_of_its_own(tmp_path):
    """A kernel of another processor may have instructions that this one lacks."""
    widths = [width for width in WIDTHS if below(width)]
    for width in widths:
        assert run(width, tmp_path, ("winograd",)).returncode == 0
    made = [path.name for path in tmp_path.rglob("winograd.convolve-*")]
    assert len(made) == len(set(made)) == len(widths)
