"""Files of version 0.1.0 can be read.

`old_run` contains a config.json and a checkpoint of se_resnet8 with reduction 4, whose arrays are
the patterns below. Their config has the learning rate under its old name, rate.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest

from minise import models, nn
from minise.nn import SE
from minise.train import TrainConfig, checkpoint
from minise.train.config import read_config
from minise.train.setup import load_split

OLD = Path(__file__).parent / "old_run"
CONFIG = TrainConfig(
    data="shapes10",
    limit=96,
    val=32,
    model="se_resnet8",
    se=SE(reduction=4),
    epochs=2,
    batch_size=32,
    lr=0.1,
)
LOGITS = [  # of version 0.1.0 for the images below
    [
        -0.821627975,
        -0.18576616,
        -0.243899345,
        0.278590083,
        0.714495301,
        -0.395850092,
        0.3165254,
        -0.101540253,
        0.610835254,
        -0.774664164,
    ],
    [
        -0.82169956,
        -0.186334431,
        -0.244142264,
        0.279548377,
        0.714226067,
        -0.395037413,
        0.316132277,
        -0.100873187,
        0.610296488,
        -0.774370611,
    ],
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a run folder of version 0.1.0."""
    folder = tmp_path_factory.mktemp("run")
    content = gzip.decompress((OLD / "last.safetensors.gz").read_bytes())
    (folder / "last.safetensors").write_bytes(content)
    (folder / "config.json").write_bytes((OLD / "config.json").read_bytes())
    return folder


def pattern(name, shape):
    """Return multiples of 1/32 that depend on a name, scaled by a power of 2 near the fan-in."""
    size = int(np.prod(shape))
    values = ((np.arange(size) * 7 + zlib.crc32(name.encode())) % 31 - 15) / 32
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 4
    values *= 2 / 2 ** (int(np.log2(fan_in)) // 2)
    return (values + name.endswith("running_var")).reshape(shape)


def images():
    count = 2 * 3 * 32 * 32
    pixels = (np.arange(count) * 31 % 251).astype(np.uint8).reshape(2, 3, 32, 32)
    pixels[1] //= 4
    return pixels


def test_the_settings(run):
    assert read_config(run / "config.json") == CONFIG


def test_the_checkpoint(run):
    saved = checkpoint.load(run / "last.safetensors")
    assert saved.config == CONFIG
    assert saved.progress == {"epoch": 2, "step": 4, "loss": 0.5, "accuracy": 0.25} | {
        "val_accuracy": 0.125
    }
    assert saved.data["classes"] == list("abcdefghij")
    net = models.build("se_resnet8", se=CONFIG.se)
    assert saved.velocity.keys() == net.named_parameters().keys()
    assert saved.arrays.keys() == {*net.named_parameters(), *net.named_state()}
    for name, array in saved.arrays.items():
        np.testing.assert_array_equal(array, pattern(name, array.shape).astype(np.float32))
    for name, array in saved.velocity.items():
        expected = (pattern(f"v{name}", array.shape) / 8).astype(np.float32)
        np.testing.assert_array_equal(array, expected)


def test_the_net_computes_what_it_computed(run):
    """The bound is for rounding in sums of at most 576 products, in ten layers."""
    loaded = models.load(run)
    assert loaded.classes == tuple("abcdefghij")
    assert (loaded.mean, loaded.std) == ((0.5, 0.25, 0.75), (0.25, 0.5, 0.25))
    logits = loaded.net.predict(loaded.normalise(images()))
    bound = 10 * np.sqrt(576) * np.finfo(np.float32).eps * abs(np.array(LOGITS)).max()
    np.testing.assert_allclose(logits, LOGITS, rtol=0, atol=bound)


def test_the_images_that_evaluation_reads(run):
    saved = checkpoint.load(run / "last.safetensors")
    assert load_split(saved.config, "train").images.shape == (96, 3, 32, 32)


def test_its_arrays_are_read_into_a_net(run):
    net = models.build("se_resnet8", se=CONFIG.se, rng=1)
    nn.load(net, run / "last.safetensors")
    for name, array in {**net.named_parameters(), **net.named_state()}.items():
        np.testing.assert_array_equal(array, pattern(name, array.shape).astype(np.float32))
