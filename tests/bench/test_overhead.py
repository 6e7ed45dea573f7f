"""The time of a net with SE blocks divided by that without: ratios by hand, and failures."""

import json

import pytest

from minise.bench import overhead, peers
from minise.bench.net_settings import OverheadSettings
from minise.bench.overhead import Overhead, measure, result_of, table_of
from minise.bench.peers import Checksum, Disagreement
from minise.bench.rounds import Turn
from minise.bench.worker import WorkerError
from tests.bench.tables import text_of


def no_progress(text):
    """Ignore a line of progress."""


def rounds(nets, pairs):
    """Return a round for each pair of seconds, without load by other processes."""
    first, second = nets
    return [{first: Turn([a], 0.0, 0.0), second: Turn([b], 0.0, 0.0)} for a, b in pairs]


def measured(**values):
    settings = OverheadSettings(threads=1, **values)
    pairs = [(0.1, 0.11), (0.2, 0.21), (0.1, 0.12)]
    times = {(kind, "minise"): rounds(settings.nets, pairs) for kind in overhead.KINDS}
    return Overhead(settings, times, {"torch": "no twin"})


def test_the_ratio_is_the_median_of_the_ratios_within_a_round():
    assert measured().ratio("step", "minise").median == pytest.approx(1.1)


def test_the_tables_have_the_papers_times_for_the_papers_nets():
    step = text_of(table_of(measured(), "step"), width=80)
    assert "training step, ms: batch 16, float32, 1 thread" in step
    assert "paper (256 images, 8 GPUs)" in step
    assert "1.100 (1.075-1.150)" in step
    assert all(len(line.rstrip()) <= 80 for line in step.splitlines())
    inference = text_of(table_of(measured(), "forward"), width=80)
    assert "inference, ms: batch 1" in inference
    assert "paper (CPU)" in inference
    assert "paper" not in text_of(table_of(measured(nets=("resnet8", "se_resnet8")), "step"))


def test_the_json():
    result = result_of(measured())
    content = json.loads(json.dumps(result.as_json()))
    step, inference = content["rows"]
    assert (step["batch"], inference["batch"]) == (16, 1)
    assert step["ms"]["se_resnet50"]["median"] == 120
    assert len(step["rounds"]) == 3
    assert content["paper_ms"]["step"] == [190, 209]
    assert "torch: no twin" in result.notes


def test_settings_of_the_two_nets():
    settings = OverheadSettings(reduction=4, threads=1, size=64)
    plain, gated = (settings.of(net, "step") for net in settings.nets)
    assert (plain.reduction, gated.reduction) == (16, 4)  # a net without SE blocks refuses others
    assert plain.batch == gated.batch == 16
    assert settings.of("resnet50", "forward").batch == 1
    assert plain.size == 64


def test_a_peer_that_fails_is_absent_and_minise_must_not_fail(monkeypatch):
    monkeypatch.setattr(overhead, "missing", lambda name: "")
    settings = OverheadSettings(threads=1, nets=("resnet8", "se_resnet8"), against=("torch",))
    firsts = {net: {"result": Checksum(1.0, 1.0)} for net in settings.nets}

    def time_both(settings, kind, name, progress):
        if name == failing:
            raise WorkerError("no twin")
        return rounds(settings.nets, [(1, 2)]), firsts

    monkeypatch.setattr(overhead, "_time_both", time_both)
    failing = "torch"
    result = measure(settings, no_progress)
    assert result.absent == {"torch": "no twin"}
    assert set(result.rounds) == {("step", "minise"), ("forward", "minise")}
    failing = "minise"
    with pytest.raises(Disagreement, match="training step with jit: no twin"):
        measure(settings, no_progress)


@pytest.mark.long
def test_a_real_run():
    against = () if peers.missing("torch") else ("torch",)
    nets = ("resnet8", "se_resnet8")
    settings = OverheadSettings(nets=nets, batch=2, threads=1, rounds=1, against=against)
    result = measure(settings, no_progress)
    assert result.absent == {}
    assert set(result.rounds) == {(k, n) for k in overhead.KINDS for n in ("minise", *against)}
