"""Interleaving, medians, ratios and quartiles by hand, and the selection of rounds."""

import pytest

from minise.bench.rounds import (
    Turn,
    describe_load,
    interleave,
    ratios,
    select_rounds,
    spread,
    time_repeatedly,
    turn_medians,
)


def a_round(ours, theirs, others=0.0, before=0.0):
    return {"minise": Turn(ours, before, 0.0), "torch": Turn(theirs, 0.0, others)}


def test_a_run_is_repeated_until_the_time_has_passed(monkeypatch):
    """Each run takes 1 s; min_runs and max_runs bound the number of runs."""
    now = iter(range(1000))
    monkeypatch.setattr("minise.bench.rounds.time.perf_counter", lambda: next(now))
    calls = []
    assert time_repeatedly(lambda: calls.append(1), 2.5) == [1, 1, 1]
    assert len(calls) == 3
    assert len(time_repeatedly(lambda: None, 0)) == 1
    assert len(time_repeatedly(lambda: None, 0, min_runs=4)) == 4
    assert len(time_repeatedly(lambda: None, 100, max_runs=5)) == 5


def test_rounds_go_forward_and_backward_alternately():
    messages = []
    rounds = interleave(["a", "b"], 3, lambda name: Turn([ord(name)], 0, 0), messages.append)
    assert [list(turns_by_name) for turns_by_name in rounds] == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert rounds[1]["b"].seconds == [ord("b")]
    assert messages[2] == "round 2 of 3: b"


def test_spread_by_hand():
    assert spread([3.0]) == (3, 3, 3)
    assert spread([1.0, 2.0, 3.0, 4.0]) == (2.5, 1.75, 3.25)


def test_ratios_are_computed_within_a_round():
    """The machine is twice as slow in the second round, which does not change the ratio."""
    rounds = [a_round([1.0, 1.5, 9.0], [3.0]), a_round([3.0], [5.0, 6.0, 7.0])]
    assert turn_medians(rounds, "minise") == [1.5, 3.0]
    assert ratios(rounds, "torch", "minise") == [2.0, 2.0]
    assert ratios(rounds, "minise", "minise") == [1.0, 1.0]


def test_all_clean_rounds_are_used():
    selection = select_rounds([a_round([1.0], [1.0], 0.1), a_round([1.0], [1.0], 0.04)])
    assert (selection.used, selection.disturbed, selection.max_other_cores) == ([0, 1], [], 0.1)
    verdict = "No round was disturbed: other processes used at most 0.10 cores."
    assert selection.verdict == verdict


def test_disturbed_rounds_are_excluded_if_half_remain():
    rounds = [a_round([1.0], [1.0], others) for others in (0.5, 0.0, 0.3, 0.0)]
    selection = select_rounds(rounds)
    assert (selection.used, selection.disturbed, selection.max_other_cores) == ([1, 3], [0, 2], 0.5)
    assert "2 of 4 rounds" in selection.verdict
    assert not selection.unreliable
    assert "these rounds are excluded" in selection.verdict


def test_too_many_disturbed_rounds_make_results_unreliable():
    rounds = [a_round([1.0], [1.0], others) for others in (0.5, 0.2, 0.0)]
    selection = select_rounds(rounds)
    assert (selection.used, selection.disturbed) == ([0, 1, 2], [0, 1])
    assert selection.unreliable
    assert "the results are unreliable" in selection.verdict


def test_load_before_a_turn_counts():
    rounds = [a_round([1.0], [1.0], before=0.9), a_round([1.0], [1.0])]
    assert select_rounds(rounds).disturbed == [0]


def test_without_proc_stat_the_load_is_unknown():
    selection = select_rounds([{"minise": Turn([1.0], None, None)}])
    assert (selection.used, selection.max_other_cores) == ([0], None)
    assert "unknown" in selection.verdict


@pytest.mark.parametrize(
    ("other_cores", "message"),
    [(None, "unknown"), (0.02, "used 0.02 cores during the"), (0.4, "measure again")],
)
def test_the_load_is_described(other_cores, message):
    assert message in describe_load(other_cores)
