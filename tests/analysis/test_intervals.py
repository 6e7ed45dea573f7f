"""Student's t quantiles against closed forms and a published table, and intervals of means."""

import math

import numpy as np
import pytest

from minise.analysis.intervals import mean_interval, t_quantile

# Abramowitz and Stegun, table 26.10: two-sided 95 % and 99 %
TABLE = {1: (12.706, 63.657), 3: (3.182, 5.841), 4: (2.776, 4.604), 9: (2.262, 3.250)}
TABLE |= {19: (2.093, 2.861), 30: (2.042, 2.750), 120: (1.980, 2.617)}


@pytest.mark.parametrize("degrees", TABLE)
def test_quantiles_are_those_of_the_table(degrees):
    quantiles = t_quantile(degrees), t_quantile(degrees, 0.99)
    assert [round(quantile, 3) for quantile in quantiles] == list(TABLE[degrees])


@pytest.mark.parametrize("confidence", [0.1, 0.5, 0.95, 0.999])
def test_closed_forms_for_one_and_two_degrees(confidence):
    assert math.isclose(t_quantile(1, confidence), math.tan(math.pi * confidence / 2))
    assert math.isclose(t_quantile(2, confidence), confidence / math.sqrt((1 - confidence**2) / 2))


def test_an_interval_by_hand():
    mean, deviation, low, high, n = mean_interval([1.0, 2.0, 6.0])
    # deviations -2, -1, 3: their squares sum to 14, so the variance is 7
    assert (mean, n) == (3.0, 3)
    assert math.isclose(deviation, math.sqrt(7))
    assert math.isclose(high - 3, t_quantile(2) * math.sqrt(7 / 3))
    assert math.isclose(3 - low, high - 3)


def test_the_interval_contains_the_mean_as_often_as_it_says():
    samples = np.random.default_rng(0).standard_normal((4000, 3)).tolist()
    hits = [interval.low < 0 < interval.high for interval in map(mean_interval, samples)]
    assert abs(np.mean(hits) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / len(hits))


def test_messages():
    with pytest.raises(ValueError, match="values has 1 entries, expected at least 2"):
        mean_interval([1.0])
    with pytest.raises(ValueError, match=r"confidence is 1\.0, expected"):
        t_quantile(3, 1.0)
