"""One BLAS thread for all tests, and for the processes that they start; a GPU where one is needed.

The matrices are small, so a second thread gains nothing; and where another process is busy, waiting
for it costs a hundredfold.

Tests marked gpu are skipped where kernels cannot run, or fail with MINISE_REQUIRE_GPU=1.
"""

import os
from contextlib import suppress
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # read when NumPy is first imported, which is after this file
os.environ["MINISE_AHEAD"] = "0"  # a test compiles what it needs, and nothing beside it
os.environ.pop("PYTEST_ADDOPTS", None)  # read by now; where a test runs pytest, it says how

import pytest  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

threadpool_limits(1)  # in case a plugin was quicker


@pytest.fixture(scope="session")
def no_gpu():
    """What is missing for kernels to run on a GPU, or None."""
    from minise.ops.cuda import missing

    return missing()


@pytest.fixture(autouse=True)
def _seed():
    """Restart the streams of layers without rng, so that no test depends on those before it."""
    from minise import nn

    nn.seed(0)


@pytest.fixture(autouse=True)
def _gpu(request):
    """Skip a test marked gpu, or let it fail, where it cannot run."""
    if request.node.get_closest_marker("gpu") is None:
        return
    problem = request.getfixturevalue("no_gpu")
    if problem is not None and os.environ.get("MINISE_REQUIRE_GPU") == "1":
        pytest.fail(f"MINISE_REQUIRE_GPU is 1, but {problem}")
    if problem is not None:
        pytest.skip(problem)


def pytest_terminal_summary(terminalreporter, exitstatus):
    """Say below a run that failed what an op lacks: it may be why modules cannot be imported."""
    from tests.ops.places import missing

    lines = []
    if exitstatus:
        with suppress(SyntaxError):  # which the failed imports tell
            lines = missing(Path(__file__).parents[1])
    if lines:
        terminalreporter.section("ops that are not complete")
        for line in lines:
            terminalreporter.line(line)
