"""A run with a failing file call, or a power failure, is resumed and ends bit-identically."""

import shutil

import pytest

from minise.train import Interrupted
from tests.torture.calls import names_in
from tests.torture.crash import for_every_crash
from tests.torture.failing_files import FAULTS, for_every_call
from tests.torture.own_run import own_run
from tests.torture.runs import CHECKPOINTS, FILES, check_log, outcome, records

SETTINGS = dict(epochs=2, log_every=3, accumulate=2, ops="reference")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return outcome(own_run(tmp_path_factory.mktemp("alone"), **SETTINGS).folder)


def start(folder):
    own_run(folder, **SETTINGS)


def check_goes_on(folder, expected):
    """Resume a run, or start again if it has no checkpoint, and compare."""
    run = folder / "run"
    has_checkpoint = any((run / name).exists() for name in CHECKPOINTS)
    is_finished = has_checkpoint and any(record["kind"] == "test" for record in records(run))
    if not has_checkpoint:
        shutil.rmtree(run, ignore_errors=True)
        own_run(folder, **SETTINGS)
    elif not is_finished:
        own_run(folder, **SETTINGS, seed=7, resume=run)
    check_log(run)
    assert outcome(run) == expected
    assert is_finished or names_in(run).keys() == FILES


def whatever_fails(tmp_path, expected, stride, first=0):
    def check(case):
        if isinstance(case.error, OSError):
            assert str(case.error).count("\n") == 0
            assert str(case.folder) in str(case.error)
        elif case.error is not None:
            assert isinstance(case.error, KeyboardInterrupt | Interrupted)
        check_goes_on(case.folder, expected)

    return for_every_call(
        tmp_path, start, check, faults=FAULTS, select=lambda case: case % stride == first
    )


def after_every_crash(tmp_path, expected, stride, first=0):
    def check(folder, done):
        assert not done or (folder / "run").exists()
        check_goes_on(folder, expected)

    return for_every_crash(tmp_path, start, check, select=lambda state: state % stride == first)


@pytest.mark.slow
def test_runs_go_on_whatever_call_fails(tmp_path, expected):
    assert len(whatever_fails(tmp_path, expected, 101)) > 5


@pytest.mark.slow
def test_runs_go_on_after_a_power_failure(tmp_path, expected):
    assert after_every_crash(tmp_path, expected, 151) > 5


@pytest.mark.long
@pytest.mark.parametrize("first", range(4))
def test_runs_go_on_whatever_call_fails_everywhere(tmp_path, expected, first):
    assert whatever_fails(tmp_path, expected, 8, 2 * first)


@pytest.mark.long
def test_runs_go_on_after_every_power_failure(tmp_path, expected):
    assert after_every_crash(tmp_path, expected, 7)
