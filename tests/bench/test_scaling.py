"""Fitted lines: by hand, from synthetic rounds, and from a small measurement."""

import json

import numpy as np
import pytest

from minise.bench import scaling
from minise.bench.net_settings import ScalingSettings
from minise.bench.result import draw_panel, figure_class
from minise.bench.rounds import Turn
from minise.bench.scaling import Point, fit, measure, prepare, result_of, series_of, table_of

SETTINGS = ScalingSettings(
    depths=(20, 8, 32), batches=(2, 1, 4), depth=8, batch=2, threads=1, rounds=3, ops="reference"
)


def synthetic(settings=SETTINGS):
    """Return the scaling of three rounds in which a step takes 5 ms + 2 ms per layer and image.

    In the second round, the machine is twice as slow.
    """
    axes = scaling.axes_of(settings)
    points = dict.fromkeys(point for points in axes.values() for point in points)
    rounds = [
        {p.name: Turn([factor * (5 + 2 * p.depth * p.batch) / 1000], 0, 0) for p in points}
        for factor in (1, 2, 1)
    ]
    return scaling.scaling_of(settings, rounds)


def test_a_line_by_hand():
    """Through (0, 0), (1, 2), (2, 1): the means are 1 and 1, the slope is (1 + 0) / 2."""
    line = fit([0, 1, 2], [0, 2, 1])
    assert line == pytest.approx((0.5, 0.5, 0.25))  # 1 - 1.5 / 2
    assert line.at(4) == pytest.approx(2.5)
    assert fit([1, 2, 3], [4, 4, 4]) == (0, 4, 1)


def test_the_line_equals_polyfit():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 9))
    line = fit(x, y)
    np.testing.assert_allclose(line[:2], np.polyfit(x, y, 1), rtol=1e-12)
    assert line.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, rel=1e-12)


def test_series_are_sorted_and_the_medians_lie_on_their_lines():
    by_depth, by_batch = synthetic().series
    assert by_depth.xs == [8, 20, 32]
    assert by_depth.points[0] == Point(depth=8, batch=2)
    assert by_depth.line == pytest.approx((4, 5, 1))  # 2 ms per layer and image, of 2 images
    assert by_batch.xs == [1, 2, 4]
    assert by_batch.line == pytest.approx((16, 5, 1))  # of 8 layers
    assert by_batch.residuals == pytest.approx([0, 0, 0], abs=1e-12)
    assert by_batch.formula == "16.0 ms per image + 5.00 ms"


def test_residuals_by_hand():
    points = [Point(8, batch) for batch in (1, 2, 3)]
    times = dict(zip([point.name for point in points], (0.001, 0.004, 0.001), strict=True))
    series = series_of("batch", points, [{name: Turn([s], 0, 0) for name, s in times.items()}])
    assert series.line == pytest.approx((0, 2, 0))
    assert series.residuals == pytest.approx([-1, 0.5, -1])
    assert "largest residual -100.0%, at batch 1" in table_of(series, SETTINGS).note


def test_the_json_has_all_measurements():
    content = json.loads(json.dumps(result_of(synthetic(), SETTINGS).as_json()))
    assert {"date", "command", "machine", "versions", "settings", "verdict"} <= content.keys()
    series = content["series"][1]
    assert series["axis"] == "batch"
    assert series["line"]["slope"] == pytest.approx(16)
    assert [point["batch"] for point in series["points"]] == [1, 2, 4]
    assert len(content["rounds"]) == 3
    assert content["rounds"][1]["se_resnet8, batch 1"]["median_seconds"] == pytest.approx(0.042)


def test_a_small_measurement(monkeypatch):
    monkeypatch.setattr(scaling, "TURN_SECONDS", 0.0)
    steps, messages = prepare(SETTINGS), []
    assert list(steps) == [(8, 2), (20, 2), (32, 2), (8, 1), (8, 4)]  # (8, 2) is on both axes
    result = measure(SETTINGS, steps, messages.append)
    assert [list(turns_by_name) for turns_by_name in result.rounds[:2]] == [
        [point.name for point in order] for order in (list(steps), list(steps)[::-1])
    ]
    assert "round 3 of 3: se_resnet8, batch 4" in messages
    assert np.isfinite([series.line for series in result.series]).all()


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_figure_is_drawn(tmp_path, suffix):
    pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install -e '.[plot]'")
    path = tmp_path / f"lines{suffix}"
    result_of(synthetic(), SETTINGS).figure.draw(path)
    assert path.read_bytes().startswith({".png": b"\x89PNG", ".svg": b"<?xml"}[suffix])


def test_the_figure_says_what_was_measured():
    pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install -e '.[plot]'")
    figure = result_of(synthetic(), SETTINGS).figure
    assert figure.caption.startswith("SE-ResNet, reduction 16, float32, minise reference on 1 ")
    assert figure.caption.endswith("; medians of 3 rounds")
    axes = figure_class()().subplots()
    draw_panel(axes, figure.panels[0])
    assert axes.get_xlabel() == "depth (layers with weights)"
    assert axes.get_ylabel() == "training step (ms)"
    assert axes.get_title("left") == "batch of 2"
    line, points = axes.get_lines()
    np.testing.assert_allclose(points.get_ydata(), [5 + 4 * depth for depth in (8, 20, 32)])
    assert line.get_ydata()[0] == pytest.approx(5)
    assert line.get_label() == "4.00 ms per layer + 5.00 ms\nR² = 1.0000"
