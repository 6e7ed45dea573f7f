"""Implementations in their own processes: small end-to-end runs, and failures."""

import json

import pytest

from minise.bench import compare as comparing
from minise.bench import peers
from minise.bench.compare import Outcome
from minise.bench.net_settings import CompareSettings
from minise.bench.peers import Disagreement
from minise.bench.rounds import Turn
from minise.bench.worker import Worker, WorkerError, thread_environment
from minise.bench.workloads import workloads_of
from tests.bench.tables import text_of

TORCH = [] if peers.missing("torch") else ["torch"]
PEERS = ("numpy-im2col", *TORCH)


def no_progress(text):
    """Ignore a line of progress."""


def run(**values):
    settings = CompareSettings(
        **{"net": "resnet8", "batch": 4, "threads": 1, "rounds": 2, **values}
    )
    return settings, comparing.compare(settings, workloads_of(settings), no_progress)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param({"start": False}, id="training"),
        pytest.param({"what": ("forward",)}, id="inference and starts", marks=pytest.mark.long),
        pytest.param({}, id="training and starts", marks=pytest.mark.long),
    ],
)
def comparison(request):
    return run(against=PEERS, **request.param)[1]


@pytest.mark.slow
def test_a_real_run(comparison):
    (outcome,) = comparison.outcomes
    names = {"minise", *PEERS}
    assert comparison.absent == {}
    assert set(outcome.memory) == set(outcome.checksums) == names
    assert set(comparison.starts) == (names if comparison.settings.start else set())
    assert len(outcome.rounds) == 2
    for turns_by_name in outcome.rounds:
        assert set(turns_by_name) == names
        assert all(min(turn.seconds) > 0 for turn in turns_by_name.values())
    for name in names:
        expected = outcome.checksums["minise"]["result"]
        assert outcome.checksums[name]["result"] == pytest.approx(expected, rel=1e-5)
        assert outcome.memory[name]["mib"] > 0
        ratio = outcome.memory[name]["mib"] / outcome.memory["minise"]["mib"]
        assert outcome.memory_ratio(name) == ratio
    table = text_of(comparing.workload_table(outcome, comparison), width=80)
    assert all(len(line.rstrip()) <= 80 for line in table.splitlines())
    for start in comparison.starts.values():
        assert start.keys() == {"cold", "warm"}
        assert f"{start['cold']:.1f}, {start['warm']:.1f}" in table


def test_the_table_of_a_large_net_fits_80_columns():
    names = ("minise", "torch", "torch-channels-last")
    memory = {name: {"mib": 1234.0 * k, "how": "peak"} for k, name in enumerate(names, 1)}
    rounds = [{name: Turn([12.345], 0.0, 0.0) for name in names}]
    outcome = Outcome({"kind": "step"}, memory, {}, rounds)
    settings = CompareSettings(net="se_resnext50_32x4d", batch=16, threads=1, size=224)
    starts = {name: {"cold": 123.4, "warm": 12.3} for name in names}
    comparison = comparing.Comparison(settings, [outcome], starts=starts)
    table = text_of(comparing.workload_table(outcome, comparison), width=80)
    assert all(name in table for name in names)
    assert "(3.00)" in table  # memory as a multiple of minise's
    assert outcome.memory_ratio("torch") == 2
    assert "…" not in table


def test_a_net_without_a_torch_twin_is_listed():
    if reason := peers.missing("torch"):
        pytest.skip(reason)
    settings = CompareSettings(net="shake_shake26_2x32d", batch=1, threads=1, start=False)
    with Worker("torch", settings, None) as worker, pytest.raises(WorkerError, match="no twin of"):
        worker.ask("make", workload={"kind": "step"})


@pytest.mark.slow
def test_its_json(comparison):
    content = json.loads(json.dumps(comparing.result_of(comparison).as_json()))
    assert {"date", "command", "machine", "versions", "settings", "works"} <= content.keys()
    (row,) = content["works"]
    assert row["contestants"]["minise"]["ratio_to_minise"]["median"] == 1
    assert len(row["rounds"]) == 2
    assert row["rounds"][0]["minise"].keys() == {"median_seconds", "runs", "before", "during"}
    assert row["verdict"]


@pytest.mark.long
def test_inference_of_one_image_and_blocks_with_every_implementation():
    every = ("numpy-im2col", "torch", "torch-channels-last", "torch-compile")
    names = [name for name in every if not peers.missing(name)]
    what = ("forward", "blocks")
    _, comparison = run(what=what, batch=1, against=names, rounds=1, start=False)
    assert comparison.absent == {}
    inference, *blocks = comparison.outcomes
    assert set(inference.rounds[0]) == {"minise", *names}
    for outcome in comparison.outcomes:
        assert set(outcome.checksums) == set(outcome.rounds[0])
        table = comparing.workload_table(outcome, comparison)
        assert len(table.rows) == len(outcome.checksums)
    for outcome in blocks:
        assert set(outcome.checksums) == {"minise", *names} - {"numpy-im2col", "torch-compile"}
    assert "Blocks are timed forward + backward" in comparing.notes(comparison)


@pytest.mark.long
def test_ops_of_one_net(monkeypatch):
    monkeypatch.setattr("minise.bench.worker.PAUSE_SECONDS", 0.0)
    settings, comparison = run(what=("ops",), batch=1, against=("numpy-im2col",), rounds=1)
    assert comparison.starts == {}
    for outcome in comparison.outcomes:
        conv = outcome.workload["op"] == "conv2d"
        assert set(outcome.memory) == ({"minise", "numpy-im2col"} if conv else {"minise"})
        assert set(outcome.checksums) == set(outcome.memory)
    table = comparing.ops_table(comparison.outcomes, settings)
    assert len(table.rows) == len(comparison.outcomes)
    assert comparing.result_of(comparison).tables == [table]


def test_an_unavailable_peer_is_listed(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    reason = "not installed (pip install -e '.[oracle]')"
    assert peers.missing("torch") == peers.missing("torch-compile") == reason
    assert peers.missing("numpy-im2col") == ""
    monkeypatch.setattr(comparing, "run_rounds", lambda *_: [])
    settings = CompareSettings(net="resnet8", batch=1, threads=1, against=("torch",), start=False)
    comparison = comparing.compare(settings, [], no_progress)
    assert comparison.absent == {"torch": reason}
    assert f"torch: {reason}" in comparing.notes(comparison)


def test_torch_compile_without_a_compiler_is_listed(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    assert peers.missing("torch-compile") == "needs a C++ compiler, such as g++"
    assert peers.missing("torch") == ""


def test_a_peer_that_fails_is_listed_with_its_reason(monkeypatch):
    """The process receives a workload that no implementation supports."""
    settings = CompareSettings(net="resnet8", batch=1, threads=1, start=False)
    with Worker("minise", settings, "none") as worker, pytest.raises(WorkerError, match="KeyError"):
        worker.ask("make", workload={"kind": "op"})
    with Worker("minise", settings, "none") as worker:
        worker.process.kill()
        worker.process.wait()
        with pytest.raises(WorkerError, match="ended with status"):
            worker.ask("make", workload={"kind": "step"})


def test_a_back_end_that_fails_ends_the_comparison(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from minise.ops.reference import *\n\n"
        "def linear_forward(x, weight, bias):\n    raise ValueError('no linear')\n"
    )
    with pytest.raises(Disagreement, match="training step with .*: ValueError: no linear"):
        run(ops=str(file), against=(), start=False)


def test_the_threads_of_a_process():
    variables = thread_environment(3)
    assert variables["OMP_NUM_THREADS"] == variables["NUMBA_NUM_THREADS"] == "3"
