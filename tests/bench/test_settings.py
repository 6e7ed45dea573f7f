"""Settings: every field is checked; the back end, arguments of nets, and headings."""

import json
from pathlib import Path

import pytest

from minise.bench.net_settings import (
    CompareSettings,
    OverheadSettings,
    ProfileSettings,
    ScalingSettings,
)
from minise.bench.settings import CudaSettings, LadderSettings, default_threads
from minise.bench.workloads import batch_of


def test_settings_are_sent_to_a_worker_without_the_result_file():
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
        (
            CompareSettings,
            dict(json=Path("no/f.json")),
            "json is no/f.json, expected a file in an existing",
        ),
        (ScalingSettings, dict(depths=(8, 20, 0)), "bench scaling: depths is 0, expected at least"),
        (ScalingSettings, dict(batches=(1, 2, 2)), "expected at least 3 different values"),
        (ScalingSettings, dict(plot=Path("a.pdf")), "suffix is '.pdf', expected one of .png, .svg"),
        (LadderSettings, dict(stage=4), "stage is '4', expected one of 1, 2, 3"),
        (ProfileSettings, dict(layers=0), "profile: layers is 0"),
        (CudaSettings, dict(what=()), "bench cuda: what is empty, expected any of se, tail, step"),
        (CudaSettings, dict(seconds=0), "bench cuda: seconds is 0"),
    ],
)
def test_invalid_values_are_refused(kind, values, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        kind(**values)


def test_every_default_is_valid():
    kinds = (CompareSettings, CudaSettings, LadderSettings, OverheadSettings, ProfileSettings)
    for kind in (*kinds, ScalingSettings):
        assert kind().command
    assert 1 <= default_threads() <= 2


def test_a_back_end_with_threads_gets_their_number(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def using(*, threads):\n    return f'mine with {threads}'\n")
    assert CompareSettings(ops=str(file), threads=1).load_ops() == "mine with 1"
    reference = CompareSettings(ops="reference", threads=1).load_ops()
    assert reference.__name__ == "minise.ops.reference"
    with pytest.raises(ValueError, match="minise bench cuda times a GPU"):
        CompareSettings(ops="cuda").load_ops()


def test_keyword_arguments_of_nets():
    settings = CompareSettings(dtype="float64")
    assert settings.net_settings("resnet8") == {"dtype": "float64"}
    assert settings.net_settings("se_resnet8") == {"dtype": "float64", "reduction": 16}
    # a net without SE blocks gets the reduction too, and models.build refuses it
    assert CompareSettings(reduction=4).net_settings("resnet8")["reduction"] == 4


def test_headings():
    settings = CompareSettings(batch=8, threads=1, algorithm="direct")
    assert settings.heading("se_resnet8") == "se_resnet8, reduction 16, batch 8, float32, 1 thread"
    assert settings.heading("resnet8") == "resnet8, batch 8, float32, 1 thread"
    assert settings.back_end == "jit, direct"


@pytest.mark.parametrize(
    ("net", "size", "message"),
    [
        ("resnet50", 1, "at least 5 x 5"),
        ("vgg16", 8, "at least 32"),
        ("se_resnet20", 0, "at least 1"),
    ],
)
def test_images_that_are_too_small_are_refused(net, size, message):
    with pytest.raises(ValueError, match=message):
        CompareSettings(net=net, size=size).build()


@pytest.mark.parametrize(
    ("values", "batch"),
    [
        (dict(), 128),
        (dict(net="resnet50"), 4),
        (dict(net="vgg16", size=64), 32),
        (dict(net="resnet50", size=8), 128),
        (dict(net="resnet50", batch=7), 7),
        (dict(net="no_such_net"), 128),
    ],
)
def test_the_default_batch_size_depends_on_the_images(values, batch):
    assert CompareSettings(**values).batch == ProfileSettings(**values).batch == batch


def test_images_have_the_nets_own_size_unless_one_is_set():
    for net, size, expected in (("resnet8", None, 32), ("resnet8", 12, 12), ("vgg16", 32, 32)):
        settings = CompareSettings(net=net, size=size)
        images, labels = batch_of(settings.build(), 2, settings.size)
        assert images.shape == (2, 3, expected, expected)
        assert labels.shape == (2,)
    assert "resnet8, 12x12 images" in CompareSettings(size=12).heading("resnet8")
