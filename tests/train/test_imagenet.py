"""Training as for ImageNet, on 365 drawn classes: train/ and val/, crops, resume, evaluation."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from minise import models
from minise.data import DataWarning, load
from minise.train import TrainConfig, checkpoint, fit, loop, resume
from tests.cli.commands import call

Image = pytest.importorskip("PIL.Image")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.* has no folder test:minise.data.DataWarning"),
]
CLASSES, SIZE, STEPS = 365, 13, 20  # steps: two epochs of 10
CONFIG = TrainConfig(
    data="places",
    size=SIZE,
    model="se_resnet8",
    width=0.25,
    resized_crop=True,
    epochs=2,
    batch_size=64,
    val=100,
    lr=0.1,
    save_every=0,
    log_every=1,
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Return a folder with places/: two images of each class to train, one to validate.

    Their sizes are 4 to 40 pixels, their formats PNG and JPEG; the colour depends on the class.
    """
    work, rng = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        for label in range(CLASSES):
            folder = work / "places" / split / f"n{label:03}"
            folder.mkdir(parents=True)
            colour = np.array([label % 8, label // 8 % 8, label // 64]) * 30
            for k in range(count):
                noise = rng.integers(0, 30, (*rng.integers(4, 40, 2), 3))
                path = folder / f"{k}.{'jpg' if k == 1 else 'png'}"
                Image.fromarray((colour + noise).astype(np.uint8)).save(path)
    return work


@pytest.fixture(scope="module")
def run(work):
    """Return the result of a run that was never stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        return fit(replace(CONFIG, name="whole"), quiet())


@pytest.fixture(autouse=True)
def _inside(work, run, monkeypatch):
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "120")


def quiet():
    return Console(file=io.StringIO())


class Killed(BaseException):
    """Ends a run at once, as kill -9 does."""


def records(folder):
    """The lines of metrics.jsonl without times, and without those about resumes."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    times = {"seconds", "images_per_second", "training_seconds"}
    others = (line for line in lines if line["kind"] != "resume")
    return [{k: v for k, v in line.items() if k not in times} for line in others]


def test_the_run(run):
    assert run.confusion.shape == (CLASSES, CLASSES)
    assert (run.confusion.sum(axis=1) == 1).all()  # val/ is the test set
    losses = [r["loss"] for r in records(run.folder) if r["kind"] == "epoch"]
    assert losses[1] < losses[0]


def test_a_run_killed_within_an_epoch_goes_on_bit_for_bit(run):
    honest, steps = loop.train_step, []

    def killed(*arguments):
        steps.append(1)
        if len(steps) > STEPS // 2 + 3:
            raise Killed
        return honest(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", killed)
        with pytest.raises(Killed):
            fit(replace(CONFIG, name="killed"), quiet())
    resumed = resume("runs/killed", console=quiet())
    for file in ("last.safetensors", "best.safetensors"):
        expected, arrays = (checkpoint.load(r.folder / file).arrays for r in (run, resumed))
        for name in expected:
            np.testing.assert_array_equal(arrays[name], expected[name], name)
    assert records(resumed.folder) == records(run.folder)


def shown(line, capsys):
    """Return the rows of eval's table, the accuracy, and the top-1 and top-5 errors."""
    status, out, err = call(line, capsys)
    assert (status, err.count("\n")) == (0, 1)
    assert "places has no folder test/, so the test images are those of" in err
    numbers = re.search(
        r"test accuracy (\S+)%, loss .*\ntop-1 error (\S+)%, top-5 error (\S+)%(.*)\n", out
    ).groups()
    return out, *map(float, numbers[:3]), numbers[3]


def test_one_crop(run, capsys):
    out, accuracy, top1, top5, crops = shown("eval runs/whole", capsys)
    assert accuracy == pytest.approx(100 * run.test["accuracy"], abs=0.006)
    assert top1 == pytest.approx(100 - accuracy, abs=0.011)
    assert 0 < top5 <= top1
    assert crops == ""
    assert "the 30 of 365 classes with the lowest accuracy" in out
    assert out.count("\n│") == 30
    # the library: the centre of images whose shorter side has 8/7 of 13 rows, 15
    images = load("places", "test", size=15)
    odds = models.load("runs/whole").predict(images.images[:, :, 1:14, 1:14])
    assert accuracy == pytest.approx(100 * (odds.argmax(axis=1) == images.labels).mean(), abs=0.006)


def test_ten_crops(capsys):
    _, accuracy, top1, top5, crops = shown("eval runs/whole --crops 10", capsys)
    assert crops == " over ten crops"
    net, images = models.load("runs/whole"), load("places", "test", size=15)
    corners = [images.images[:, :, y : y + 13, x : x + 13] for y in (0, 2) for x in (0, 2)]
    parts = [*corners, images.images[:, :, 1:14, 1:14]]
    parts += [part[:, :, :, ::-1] for part in parts]
    odds = sum(net.predict(part) for part in parts) / 10
    order = (-odds).argsort(axis=1, kind="stable")
    hits = order == images.labels[:, None]
    # one image of 365 may change sides: probabilities are rounded in another order
    near = dict(abs=100 / CLASSES + 0.01)
    assert accuracy == pytest.approx(100 * hits[:, 0].mean(), **near)
    assert top1 == pytest.approx(100 - accuracy, abs=0.011)
    assert top5 == pytest.approx(100 - 100 * hits[:, :5].any(axis=1).mean(), **near)


def test_predict_reads_an_image_as_eval_does(capsys):
    path = "places/val/n200/0.png"
    net = models.load("runs/whole")
    images, _ = load("places", "test", size=15), load("places", "train", size=15)
    index = images.labels.tolist().index(200)
    np.testing.assert_array_equal(net.read(path), images.images[index, :, 1:14, 1:14])
    status, out, _ = call(f"predict runs/whole {path} --top 1", capsys)
    odds = net.predict(net.read(path)[None])[0]
    assert status == 0
    assert net.classes[odds.argmax()] in out


def test_a_broken_file_ends_the_run_in_a_line(capsys):
    path = Path("places/train/n007/0.png")
    content = path.read_bytes()
    path.write_bytes(content[:60])
    try:
        line = "train --data places --size 13 --model se_resnet8 --resized-crop --val 100 "
        status, _, err = call(f"{line} --mean 0.5 0.5 0.5 --std 0.2 0.2 0.2 --epochs 1", capsys)
    finally:
        path.write_bytes(content)
    assert status == 1
    assert re.search(r"minise: .*n007/0.png cannot be read .*: replace or remove it.*\n$", err)
    assert DataWarning.__name__ not in err
