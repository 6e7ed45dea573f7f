"""Learning rates at the start and end of each part of the schedules."""

import math

import pytest

from minise.train import lr_at, rate_at


def rates(steps=100, peak=2.0, schedule="cosine", warmup=0.25):
    return [
        lr_at(step, steps, peak=peak, schedule=schedule, warmup=warmup) for step in range(steps)
    ]


def test_rate_at_is_an_old_name():
    assert rate_at is lr_at


def test_warmup_is_linear_and_never_zero():
    rising = rates()[:25]
    assert rising[0] == 2.0 / 26
    assert rising == pytest.approx([2.0 * (k + 1) / 26 for k in range(25)], rel=1e-15)


def test_cosine_falls_from_the_peak_to_almost_zero():
    falling = rates()[25:]
    assert falling[0] == 2.0
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == 2.0 * (1 + math.cos(math.pi * 74 / 75)) / 2


def test_steps_drop_twice():
    values = rates(schedule="steps", warmup=0)
    assert values == [2.0] * 50 + [2.0 * 0.1] * 25 + [2.0 * 0.1**2] * 25


@pytest.mark.parametrize("schedule", ["cosine", "steps"])
@pytest.mark.parametrize("warmup", [0, 0.15, 1])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_every_run_has_rates_above_zero(schedule, warmup, steps):
    values = rates(steps, schedule=schedule, warmup=warmup)
    assert all(0 < value <= 2.0 for value in values)
