"""`models.load`: the trained net of a run, and its predictions."""

import io

import numpy as np
import pytest
from rich.console import Console

from minise import models
from minise.data import load
from minise.nn import SE, files
from minise.ops import jit, reference
from minise.train import TrainConfig, checkpoint, fit

TINY = TrainConfig(
    data="shapes10",
    limit=96,
    val=32,
    model="se_resnet8",
    shortcut="A",
    se=SE(reduction=4, bias=False),
    epochs=1,
    batch_size=16,
    lr=0.05,
)
TESTED = 40
REL_TOL = float(np.sqrt(np.finfo(np.float32).eps))  # half of float32's digits


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minise.train.setup.SHAPES10_TEST", TESTED)
        config = TrainConfig(**{**vars(TINY), "out": tmp_path_factory.mktemp("runs")})
        return fit(config, Console(file=io.StringIO()))


def equal(net, arrays):
    assert files.arrays_of(net).keys() == arrays.keys()
    for name, array in files.arrays_of(net).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_load_of_a_run_folder_reads_its_best_checkpoint(result, tmp_path):
    best = checkpoint.load(result.folder / "best.safetensors")
    trained = models.load(result.folder)
    equal(trained.net, best.arrays)
    assert trained.classes == load("shapes10", "test", n=1).classes
    assert (list(trained.mean), list(trained.std)) == (best.data["mean"], best.data["std"])
    assert trained.net["layer1.0.se"].se == SE(reduction=4, bias=False)
    assert "layer2.0.downsample.0.weight" not in trained.net.named_parameters()  # option A
    content = (result.folder / "best.safetensors").read_bytes()
    (tmp_path / "last.safetensors").write_bytes(content)  # as without validation
    equal(models.load(str(tmp_path)).net, best.arrays)
    moved = {name: array + 1 for name, array in best.arrays.items()}
    checkpoint.save(tmp_path / "best.safetensors", best._replace(arrays=moved))
    equal(models.load(tmp_path).net, moved)


def test_a_file_by_itself(result, tmp_path):
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes((result.folder / "last.safetensors").read_bytes())
    equal(models.load(copy).net, checkpoint.load(copy).arrays)


def test_predictions_equal_those_of_the_test(result):
    """Also to the loss, which is the mean of -log(probability)."""
    images = load("shapes10", "test", n=TESTED)
    probabilities = models.load(result.folder).predict(images.images)
    assert probabilities.shape == (TESTED, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (probabilities.argmax(axis=1) == images.labels).mean() == result.test["accuracy"]
    loss = -np.log(probabilities[np.arange(TESTED), images.labels]).mean()
    # the run folds its net, which changes the rounding
    assert loss == pytest.approx(result.test["loss"], rel=REL_TOL)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (images.labels, probabilities.argmax(axis=1)), 1)
    np.testing.assert_array_equal(counts, result.confusion)


def test_another_back_end(result):
    images = load("shapes10", "test", n=4).images
    ours, theirs = models.load(result.folder), models.load(result.folder, ops="jit")
    assert ours.net.ops is reference
    assert theirs.net.ops is jit
    assert theirs.net["layer1.0.conv1"].ops is jit
    np.testing.assert_allclose(
        theirs.predict(images), ours.predict(images), rtol=REL_TOL, atol=REL_TOL
    )


def test_normalised_by_hand(result):
    trained = models.load(result.folder)
    trained = models.Trained(trained.net, trained.classes, (0.2, 0.4, 0.0), (0.1, 0.2, 0.5))
    pixels = np.full((1, 3, 1, 2), 51, np.uint8)  # 51 / 255 = 0.2
    x = trained.normalise(pixels)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[0, :, 0, 0], [0, -1, 0.4], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"uint8 of shape \(3, 8, 8\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"uint8 of shape \(2, 8, 8, 3\)"),
    ],
)
def test_invalid_images(result, images, received):
    wanted = r"expected uint8 of shape \(N, 3, H, W\): one image"
    message = f"^normalise: images are {received}, {wanted}"
    with pytest.raises(ValueError, match=message):
        models.load(result.folder).predict(images)


def test_images_in_other_units_are_told_the_conversion(result):
    for scale, fix in ((1, r"np.rint\(255 \* images\)"), (255, r"np.rint\(images\)")):
        images = np.linspace(0, scale, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
        received = rf"float32 with values 0 to {scale} of shape \(2, 3, 8, 8\), expected uint8"
        with pytest.raises(ValueError, match=rf"^normalise: images are {received} .*: pass {fix}"):
            models.load(result.folder).predict(images)


def test_what_cannot_be_loaded(result, tmp_path):
    with pytest.raises(FileNotFoundError, match="last.safetensors does not exist, expected a"):
        models.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        models.load(tmp_path / "none")
    content = bytearray((result.folder / "last.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "last.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="last.safetensors is altered: .* fails its checksum"):
        models.load(tmp_path)
    with pytest.raises(ValueError, match="ops 'nothing' is unknown"):
        models.load(result.folder, ops="nothing")
