"""Turns, medians, ratios and quartiles by hand, and the rule about disturbed rounds."""

import pytest

from minise.bench.rounds import (
    Turn,
    choose,
    interleave,
    meanwhile,
    ratios,
    repeat,
    spread,
    turn_medians,
)


def a_round(ours, theirs, others=0.0, before=0.0):
    return {"minise": Turn(ours, before, 0.0), "torch": Turn(theirs, 0.0, others)}


def test_a_run_is_repeated_for_a_while(monkeypatch):
    """Each run takes 1 s: as many as fill the time, at least and at most so many."""
    now = iter(range(1000))
    monkeypatch.setattr("minise.bench.rounds.time.perf_counter", lambda: next(now))
    calls = []
    assert repeat(lambda: calls.append(1), 2.5) == [1, 1, 1]
    assert len(calls) == 3
    assert len(repeat(lambda: None, 0)) == 1
    assert len(repeat(lambda: None, 0, least=4)) == 4
    assert len(repeat(lambda: None, 100, most=5)) == 5


def test_rounds_go_forward_and_backward_alternately():
    shown = []
    rounds = interleave(["a", "b"], 3, lambda name: Turn([ord(name)], 0, 0), shown.append)
    assert [list(one) for one in rounds] == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert rounds[1]["b"].seconds == [ord("b")]
    assert shown[2] == "round 2 of 3: b"


def test_spread_by_hand():
    assert spread([3.0]) == (3, 3, 3)
    assert spread([1.0, 2.0, 3.0, 4.0]) == (2.5, 1.75, 3.25)


def test_ratios_are_made_within_a_round():
    """The machine is twice as slow in the second round; the ratio does not see it."""
    rounds = [a_round([1.0, 1.5, 9.0], [3.0]), a_round([3.0], [5.0, 6.0, 7.0])]
    assert turn_medians(rounds, "minise") == [1.5, 3.0]
    assert ratios(rounds, "torch", "minise") == [2.0, 2.0]
    assert ratios(rounds, "minise", "minise") == [1.0, 1.0]


def test_clean_rounds_are_all_kept():
    choice = choose([a_round([1.0], [1.0], 0.1), a_round([1.0], [1.0], 0.04)])
    assert (choice.used, choice.disturbed, choice.others) == ([0, 1], [], 0.1)
    assert choice.sentence == "No round was disturbed: others took at most 0.10 of a core."


def test_disturbed_rounds_are_left_out_while_half_remains():
    rounds = [a_round([1.0], [1.0], others) for others in (0.5, 0.0, 0.3, 0.0)]
    choice = choose(rounds)
    assert (choice.used, choice.disturbed, choice.others) == ([1, 3], [0, 2], 0.5)
    assert "2 of 4 rounds" in choice.sentence
    assert not choice.doubtful
    assert "the figures leave them out" in choice.sentence


def test_too_many_disturbed_rounds_are_kept_and_said():
    rounds = [a_round([1.0], [1.0], others) for others in (0.5, 0.2, 0.0)]
    choice = choose(rounds)
    assert (choice.used, choice.disturbed) == ([0, 1, 2], [0, 1])
    assert choice.doubtful
    assert "do not trust them" in choice.sentence


def test_what_others_took_before_a_turn_counts_too():
    assert choose([a_round([1.0], [1.0], before=0.9), a_round([1.0], [1.0])]).disturbed == [0]


def test_without_proc_stat_nothing_is_known():
    choice = choose([{"minise": Turn([1.0], None, None)}])
    assert (choice.used, choice.others) == ([0], None)
    assert "unknown" in choice.sentence


@pytest.mark.parametrize(
    ("others", "message"),
    [(None, "unknown"), (0.02, "took 0.02 of a core meanwhile."), (0.4, "measure again")],
)
def test_meanwhile(others, message):
    assert message in meanwhile(others)
