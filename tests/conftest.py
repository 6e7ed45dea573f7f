"""Settings for running the tests: one BLAS thread per process, one process per core.

The matrices are small, so a second BLAS thread gains nothing; and if another process keeps a core
busy, waiting for that thread takes a hundred times as long.

Tests marked gpu are skipped if kernels cannot run, or fail with MINISE_REQUIRE_GPU=1.
"""

import os
import re
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # read at NumPy's first import, which is after this file
os.environ["MINISE_AHEAD"] = "0"  # a test compiles only the kernels that it needs
os.environ.pop("PYTEST_ADDOPTS", None)  # already read; tests that run pytest pass their options

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

from tests.selection import pattern  # noqa: E402

threadpool_limits(1)  # in case a plugin has already imported NumPy
settings.register_profile("no deadline", deadline=None)  # an example may wait for a busy machine
settings.load_profile("no deadline")

MAX_WORKERS = 8  # with more, most would wait while another one compiles a kernel
MAX_REASONS = 12  # lines about skipped tests
LEFT_OUT = {"slow": "pytest -m slow", "long": ".ci/long"}  # marker: command that runs these tests
OF = pytest.StashKey()
COUNTS = pytest.StashKey()


def pytest_addoption(parser):
    """Add --of."""
    parser.addoption(
        "--of",
        metavar="NAME",
        action="append",
        default=[],
        help="run the tests of an op (relu), a subpackage (nn) or a lesson (5)",
    )


def pytest_configure(config):
    """Resolve --of, or raise a usage error: no such name, or an op that is not complete."""
    config.stash[COUNTS], config.stash[OF] = Counter(), None
    if not config.option.of:
        return
    if lines := incomplete_ops():
        raise pytest.UsageError("\n".join(lines))
    try:
        patterns = [pattern(name) for name in config.option.of]
    except Exception as error:  # a specification that cannot be imported has any
        file, line, *_ = traceback.extract_tb(error.__traceback__)[-1]
        known = isinstance(error, ValueError | SyntaxError)  # names what is wrong and where
        text = str(error) if known else f"{file}:{line}: {type(error).__name__}: {error}"
        raise pytest.UsageError(text) from None
    config.stash[OF] = re.compile("|".join(patterns))


def pytest_xdist_auto_num_workers(config):
    """Return one worker per core that this process may use, or 0 for a single file."""
    if name := os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return int(name)
    files = {arg.partition("::")[0] for arg in config.args}
    if len(files) == 1 and Path(*files).is_file():  # a file's tests stay together in any case
        return 0
    allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))  # not on macOS
    return min(MAX_WORKERS, len(allowed(0)))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Deselect tests that do not match --of."""
    if (selected := config.stash[OF]) is not None:
        others = [item for item in items if not selected.search(item.nodeid)]
        items[:] = [item for item in items if selected.search(item.nodeid)]
        if others:
            config.hook.pytest_deselected(items=others)


def pytest_deselected(items):
    """Count the slow and long tests that the default -m deselects."""
    markers = [next(filter(item.get_closest_marker, LEFT_OUT), None) for item in items]
    if items and None not in markers:
        items[0].config.stash[COUNTS].update(markers)


def pytest_sessionfinish(session):
    """Send the counts of a worker to the process that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(session.config.stash[COUNTS])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Store the counts of one worker; they are equal, because each worker collects all tests."""
    node.config.stash[COUNTS] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    """Report deselected and skipped tests and, if the run failed, what ops lack."""
    for line in [*left_out(config.stash[COUNTS]), *skipped(terminalreporter.stats)]:
        terminalreporter.write_line(line)
    lines = incomplete_ops() if exitstatus else []
    if lines:  # this may be the reason why modules cannot be imported
        terminalreporter.section("ops that are not complete")
        for line in lines:
            terminalreporter.line(line)


def left_out(counts):
    """Yield a line about the tests that the default -m deselects, if there are any."""
    kinds = [f"{n} {kind} tests ({LEFT_OUT[kind]})" for kind, n in sorted(counts.items())]
    if kinds:
        yield f"left out: {', '.join(kinds)}"


def skipped(stats):
    """Yield a line for each of the most frequent reasons why tests or files were skipped."""
    reports = {report.nodeid: report for report in stats.get("skipped", [])}  # files report twice
    reasons = Counter()
    for report in reports.values():
        reason = report.longrepr[2].removeprefix("Skipped: ")
        reason = reason.partition(" PosixPath(")[0]  # drop the module of a docstring example
        reasons["file" if report.when == "collect" else "test", reason] += 1
    for (kind, reason), n in reasons.most_common(MAX_REASONS):
        yield f"skipped: {n} {kind}{'s' * (n > 1)}: {reason}"


def incomplete_ops():
    """Return a line for each file in which an op is missing."""
    from tests.ops.places import missing

    with suppress(SyntaxError):  # failed imports already report it
        return missing(Path(__file__).parents[1])
    return []


@pytest.fixture(scope="session")
def no_gpu():
    """Return what is missing for kernels to run on a GPU, or None."""
    from minise.ops.cuda import missing

    return missing()


@pytest.fixture(autouse=True)
def _seed():
    """Restart the streams of layers without rng, so that no test depends on earlier tests."""
    from minise import nn

    nn.seed(0)


@pytest.fixture(autouse=True)
def _gpu(request):
    """Skip a test marked gpu if it cannot run, or fail it with MINISE_REQUIRE_GPU=1."""
    if request.node.get_closest_marker("gpu") is None:
        return
    problem = request.getfixturevalue("no_gpu")
    if problem is not None and os.environ.get("MINISE_REQUIRE_GPU") == "1":
        pytest.fail(f"MINISE_REQUIRE_GPU is 1, but {problem}")
    if problem is not None:
        pytest.skip(problem)
