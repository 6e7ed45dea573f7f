"""The committed results can be made again, and say what the scripts measure."""

import json

import numpy as np
import pytest

from minise import data, models
from minise.ops import reference
from minise.ops.backend import load_ops
from minise.site.measurements import bug_that_trains, gates, pairs
from minise.site.measurements.record import read_result

STEPS_COMPARED = 12  # later losses amplify the rounding of another processor


@pytest.mark.slow
def test_a_seed_of_the_bug_that_trains_made_again():
    committed = read_result("bug_that_trains")
    assert committed["settings"] == bug_that_trains.SETTINGS
    (expected,) = (run for run in committed["runs"] if run["seed"] == 3)
    made = bug_that_trains.measure(3)
    assert made["routes"] == pytest.approx(expected["routes"], abs=0.002)
    for name in ("cosine", "error"):
        assert made[name] == pytest.approx(expected[name], abs=0.002)
    for name in ("right", "wrong"):
        first = slice(STEPS_COMPARED)
        np.testing.assert_allclose(made[name][first], expected[name][first], atol=0.002)


@pytest.mark.slow
def test_the_wrong_back_end_differs_from_jit_in_dx_of_squeeze_excite_only():
    wrong = load_ops(bug_that_trains.WRONG)
    rng = np.random.default_rng(0)
    x, dout = rng.standard_normal((2, 2, 3, 4, 5))
    w1, w2 = rng.standard_normal((2, 3)), rng.standard_normal((3, 2))
    out, cache = wrong.squeeze_excite_forward(x, w1, np.zeros(2), w2, np.zeros(3))
    dx, *others = wrong.squeeze_excite_backward(dout, cache)
    right_out, right_cache = reference.squeeze_excite_forward(x, w1, np.zeros(2), w2, np.zeros(3))
    right, *expected = reference.squeeze_excite_backward(dout, right_cache)
    np.testing.assert_allclose(out, right_out)
    for gradient, correct in zip(others, expected, strict=True):
        np.testing.assert_allclose(gradient, correct)
    gate_route = right - dx  # the same for all pixels of a channel
    assert np.abs(gate_route).max() > 0.001
    np.testing.assert_allclose(gate_route, gate_route[:, :, :1, :1] + 0 * x, atol=1e-12)


def test_gates_of_a_checkpoint(tmp_path, monkeypatch):
    images = data.shapes10("test", n=40)
    net = models.build("se_resnet8", reduction=4)
    trained = models.Trained(net, images.classes, (0.5,) * 3, (0.25,) * 3)
    monkeypatch.setattr(models, "load", lambda run, ops: trained)
    result = gates.measure(tmp_path, images, permutations=3)
    assert [block["layer"] for block in result["blocks"]] == list(result["class_means"])
    assert np.shape(result["class_means"]["layer3.0.se"]) == (10, 64)
    assert 0 <= result["accuracy"] <= 1
    assert all(0 < block["null_share"] < 1 for block in result["blocks"])


def test_runs_are_read_and_an_unfinished_one_is_refused(tmp_path):
    run = tmp_path / "plain_s7"
    run.mkdir()
    config = {"config": {"seed": 7, "model": "resnet20"}, "command": ["/x/minise", "train"]}
    (run / "config.json").write_text(json.dumps({**config, "started": "2026-01-02T03:04:05"}))
    epoch, test = {"kind": "epoch", "accuracy": 0.5}, {"kind": "test", "accuracy": 0.4, "loss": 1.0}
    (run / "metrics.jsonl").write_text(json.dumps(epoch) + "\n")
    with pytest.raises(ValueError, match="plain_s7 has no test, expected a finished run"):
        pairs.read_run(run)
    (run / "metrics.jsonl").write_text(f"{json.dumps(epoch)}\n{json.dumps(test)}\n")
    facts = pairs.read_run(run)
    assert (facts["kind"], facts["seed"], facts["test_accuracy"]) == ("plain", 7, 0.4)
    assert facts["command"] == ["minise", "train"]
