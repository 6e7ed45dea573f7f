"""Contestants in processes of their own: one small run from end to end, and what can go wrong."""

import json

import pytest

from minise.bench import compare as comparing
from minise.bench import contestants, report
from minise.bench.agree import Disagreement
from minise.bench.settings import Settings, from_dict, to_dict
from minise.bench.turns import Child, Stopped
from minise.bench.works import works_of
from tests.bench.tables import text_of

TORCH = [] if contestants.missing("torch") else ["torch"]
PEERS = ("numpy-im2col", *TORCH)


def silent(text):
    """Show no progress."""


def run(**values):
    settings = Settings(**{"net": "resnet8", "batch": 4, "threads": 1, "rounds": 2, **values})
    return settings, comparing.compare(settings, works_of(settings), silent)


@pytest.fixture(scope="module")
def comparison():
    return run(against=PEERS)[1]


def test_settings_travel():
    settings = Settings(what=("step", "ops"), batch=7)
    assert from_dict(json.loads(json.dumps(to_dict(settings)))) == settings


@pytest.mark.slow
def test_a_real_run(comparison):
    (outcome,) = comparison.outcomes
    names = {"minise", *PEERS}
    assert comparison.absent == {}
    assert set(outcome.memory) == set(outcome.firsts) == set(comparison.starts) == names
    assert len(outcome.rounds) == 2
    for one in outcome.rounds:
        assert set(one) == names
        assert all(min(turn.seconds) > 0 for turn in one.values())
    for name in names:
        assert outcome.firsts[name] == pytest.approx(outcome.firsts["minise"], rel=1e-5)
        assert comparison.starts[name].keys() == {"cold", "warm"}
        assert outcome.memory[name]["mib"] > 0
    table = text_of(report.whole_table(outcome, comparison), width=80)
    assert all(len(line.rstrip()) <= 80 for line in table.splitlines())
    minise = comparison.starts["minise"]
    assert f"{minise['cold']:.1f}, {minise['warm']:.1f}" in table


@pytest.mark.slow
def test_its_json(comparison):
    content = json.loads(json.dumps(report.as_json(comparison)))
    assert {"date", "command", "machine", "versions", "settings", "works"} <= content.keys()
    (work,) = content["works"]
    assert work["contestants"]["minise"]["ratio_to_minise"]["median"] == 1
    assert len(work["rounds"]) == 2
    assert work["rounds"][0]["minise"].keys() == {"seconds", "before", "during"}
    assert work["verdict"]


@pytest.mark.slow
def test_inference_of_one_image_and_blocks_with_every_contestant():
    names = ("numpy-im2col", "torch", "torch-channels-last", "torch-compile")
    peers = [name for name in names if not contestants.missing(name)]
    what = ("forward", "blocks")
    _, comparison = run(what=what, batch=1, against=peers, rounds=1, start=False)
    assert comparison.absent == {}
    inference, *blocks = comparison.outcomes
    assert set(inference.rounds[0]) == {"minise", *peers}
    for outcome in comparison.outcomes:
        assert set(outcome.firsts) == set(outcome.rounds[0])
        table = report.whole_table(outcome, comparison).renderables[1]
        assert table.row_count == len(outcome.firsts)
    for outcome in blocks:
        assert set(outcome.firsts) == {"minise", *peers} - {"numpy-im2col", "torch-compile"}
    assert "Blocks are timed forward + backward" in report.notes(comparison)


@pytest.mark.slow
def test_ops_of_one_net(monkeypatch):
    monkeypatch.setattr("minise.bench.turns.PAUSE", 0.0)
    settings, comparison = run(what=("ops",), batch=1, against=("numpy-im2col",), rounds=1)
    assert comparison.starts == {}
    for outcome in comparison.outcomes:
        conv = outcome.work["op"] == "conv2d"
        assert set(outcome.memory) == ({"minise", "numpy-im2col"} if conv else {"minise"})
        assert set(outcome.firsts) == set(outcome.memory)
    table = report.ops_table(comparison.outcomes, settings).renderables[1]
    assert table.row_count == len(comparison.outcomes)


def test_a_peer_that_is_not_there_is_listed(monkeypatch):
    monkeypatch.setattr(contestants.importlib.util, "find_spec", lambda name: None)
    reason = "not installed (pip install -e '.[oracle]')"
    assert contestants.missing("torch") == contestants.missing("torch-compile") == reason
    assert contestants.missing("numpy-im2col") == ""
    monkeypatch.setattr(comparing, "rounds_of", lambda *_: [])
    settings = Settings(net="resnet8", batch=1, threads=1, against=("torch",), start=False)
    comparison = comparing.compare(settings, [], silent)
    assert comparison.absent == {"torch": reason}
    assert f"torch: {reason}" in report.notes(comparison)


def test_torch_compile_without_a_compiler_is_listed(monkeypatch):
    monkeypatch.setattr(contestants.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(contestants.shutil, "which", lambda name: None)
    assert contestants.missing("torch-compile") == "needs a C++ compiler, such as g++"
    assert contestants.missing("torch") == ""


def test_a_peer_that_fails_is_listed_with_its_reason(monkeypatch):
    """Its process gets a work that no contestant knows."""
    settings = Settings(net="resnet8", batch=1, threads=1, start=False)
    with Child("minise", settings, "none") as child, pytest.raises(Stopped, match="KeyError"):
        child.ask("make", work={"kind": "op"})
    with Child("minise", settings, "none") as child:
        child.process.kill()
        child.process.wait()
        with pytest.raises(Stopped, match="ended with status"):
            child.ask("make", work={"kind": "step"})


def test_a_back_end_that_fails_ends_the_comparison(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from minise.ops.reference import *\n\n"
        "def linear_forward(x, weight, bias):\n    raise ValueError('no linear')\n"
    )
    with pytest.raises(Disagreement, match="training step with .*: ValueError: no linear"):
        run(ops=str(mine), against=(), start=False)
