"""Settings: every field is checked, and what they give to others."""

import json
from pathlib import Path

import pytest

from minise.bench.settings import (
    CompareSettings,
    CudaSettings,
    LadderSettings,
    ProfileSettings,
    ScalingSettings,
    default_threads,
)


def test_settings_travel():
    """To a process that only times: it writes no file."""
    settings = CompareSettings(what=("step", "ops"), batch=7, json=Path("figures.json"))
    sent = json.loads(json.dumps(settings.as_dict()))
    assert sent["json"] == "figures.json"
    assert CompareSettings.from_dict(sent) == CompareSettings(what=("step", "ops"), batch=7)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (CompareSettings, dict(rounds=0), "bench cpu: rounds is 0, expected at least 1"),
        (CompareSettings, dict(what=()), "any of step, forward, blocks, ops"),
        (CompareSettings, dict(what=("steps",)), "what is 'steps', expected one of step, forward"),
        (CompareSettings, dict(dtype="float16"), "dtype is 'float16', expected one of float32"),
        (CompareSettings, dict(algorithm="fft"), "algorithm is 'fft', expected one of auto"),
        (CompareSettings, dict(threads=100_000), "bench cpu: threads is 100000, expected at most"),
        (CompareSettings, dict(threads=0), "threads is 0"),
        (CompareSettings, dict(json=Path("no/f.json")), "json is no/f.json, whose folder is not"),
        (ScalingSettings, dict(depths=(8, 20, 0)), "bench scaling: depths is 0, expected at least"),
        (ScalingSettings, dict(batches=(1, 2, 2)), "expected at least 3 different ones"),
        (ScalingSettings, dict(plot=Path("a.pdf")), "suffix is '.pdf', expected one of .png, .svg"),
        (LadderSettings, dict(stage=4), "stage is '4', expected one of 1, 2, 3"),
        (ProfileSettings, dict(layers=0), "profile: layers is 0"),
        (CudaSettings, dict(what=()), "bench cuda: what is empty, expected any of se, tail, step"),
        (CudaSettings, dict(seconds=0), "bench cuda: seconds is 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(kind, values, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        kind(**values)


def test_every_default_is_valid():
    for kind in (CompareSettings, CudaSettings, LadderSettings, ProfileSettings, ScalingSettings):
        assert kind().command
    assert 1 <= default_threads() <= 2


def test_a_back_end_is_told_its_threads_where_it_can_be(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def using(*, threads):\n    return f'mine with {threads}'\n")
    assert CompareSettings(ops=str(mine), threads=1).load_ops() == "mine with 1"
    reference = CompareSettings(ops="reference", threads=1).load_ops()
    assert reference.__name__ == "minise.ops.reference"
    with pytest.raises(ValueError, match="minise bench cuda times a GPU"):
        CompareSettings(ops="cuda").load_ops()


def test_what_nets_are_built_with():
    settings = CompareSettings(dtype="float64")
    assert settings.net_settings("resnet8") == {"dtype": "float64"}
    assert settings.net_settings("se_resnet8") == {"dtype": "float64", "reduction": 16}
    assert CompareSettings(reduction=4).net_settings("resnet8")["reduction"] == 4  # is refused


def test_in_words():
    settings = CompareSettings(batch=8, threads=1, algorithm="direct")
    assert settings.heading("se_resnet8") == "se_resnet8, reduction 16, batch 8, float32, 1 thread"
    assert settings.heading("resnet8") == "resnet8, batch 8, float32, 1 thread"
    assert settings.back_end == "jit, direct"
