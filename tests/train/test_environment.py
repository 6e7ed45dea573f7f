"""What the bits of a run depend on: equal in equal processes, and every change has its entry."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minise
from minise import models, nn
from minise.data import Augment, Batches, Dataset, LazyImages
from minise.ops import jit, reference, wrap
from minise.train.environment import differences, environment

ROOT = Path(__file__).parents[2]
PIXELS = np.arange(4 * 3 * 64, dtype=np.uint8).reshape(4, 3, 8, 8)
DATA = Dataset("four", PIXELS, np.array([0, 1, 0, 1]), ("a", "b"))
UNITS = dict(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def batches(dataset=DATA, size=2, **settings):
    return Batches(dataset, size, **{**UNITS, **settings})


def entries(ops=reference, threads=1, **sources):
    return environment(nn.Linear(2, 2, ops=ops), sources, threads)


def changed(before, after):
    """Return the titles of the entries that differ; there is a line for each."""
    lines = differences(before, after)
    assert differences(after, before) != lines or not lines
    return [line.partition(":")[0] for line in lines]


def test_another_process_has_equal_entries():
    code = (
        "import json; from tests.train.test_environment import batches, entries; "
        "print(json.dumps(entries(training=batches(), validation=[(1, 2.0)], test=None)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    values = json.loads(done.stdout)
    assert values == entries(training=batches(), validation=[(1, 2.0)], test=None)
    assert all(isinstance(value, str) and value for value in values.values())


@pytest.mark.parametrize("package", ["minise", "numpy"])
def test_another_version(monkeypatch, package):
    before = entries()
    versions = {"minise": minise.__version__, "numpy": np.__version__, package: "9.9"}
    monkeypatch.setattr("minise.train.environment.versions", lambda names: versions)
    assert differences(before, entries()) == [
        f"{package} version: {before[f'{package} version']} when saved, 9.9 now"
    ]


def test_every_back_end_of_a_net_counts():
    """Also below a wrapper that gives each layer its own view."""
    net = nn.Chain(nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=0, ops=jit))
    assert environment(net, {}, 1)["back end"] == "jit; reference"
    net, other = (models.build("se_resnet8", ops=jit) for _ in range(2))
    wrap.attach(other, wrap.guarded(jit))
    assert environment(net, {}, 1) == environment(other, {}, 1)
    assert changed(environment(net, {}, 1), environment(net, {}, 2)) == []
    assert changed(entries(threads=1), entries(threads=2)) == ["BLAS threads"]


def test_data():
    plain = entries(training=batches(), validation=batches(), test=None)
    assert plain["test data"] == "none"
    assert entries(training=batches(), validation=batches(), test=None) == plain
    other = Dataset("four", PIXELS ^ 1, DATA.labels, DATA.classes)
    for title in ("training", "validation"):
        sources = dict(training=batches(), validation=batches(), test=None)
        assert changed(plain, entries(**{**sources, title: batches(other)})) == [f"{title} data"]
    assert changed(plain, entries(training=batches(), validation=None, test=None)) == [
        "validation data",
        "validation batches",
    ]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (dict(size=1), "batch_size=2 when saved, batch_size=1 now"),
        (dict(seed=1), "seed=0 when saved, seed=1 now"),
        (dict(shuffle=False), "shuffle=True when saved, shuffle=False now"),
        (dict(drop_last=True), "drop_last=False when saved, drop_last=True now"),
        (dict(dtype=np.float64), "dtype=float32 when saved, dtype=float64 now"),
        (
            dict(mean=np.full(3, 0.25)),
            "mean=(0.5, 0.5, 0.5) when saved, mean=(0.25, 0.25, 0.25) now",
        ),
        (
            dict(augment=Augment(crop=1, cutout=2)),
            "augment=None when saved, "
            "augment=Augment(crop=1, flip=True, cutout=2, fill=(0, 0, 0)) now",
        ),
    ],
)
def test_another_order_of_the_batches(settings, text):
    before, after = entries(training=batches()), entries(training=batches(**settings))
    assert differences(before, after) == [f"training batches: {text}"]


def test_prefetch_is_no_entry():
    assert entries(training=batches(prefetch=2)) == entries(training=batches(prefetch=0))


def test_pillow_counts_only_for_images_that_it_decodes():
    lazy = Dataset("lazy", LazyImages(lambda i: PIXELS[i], 4, 8, 8), DATA.labels, DATA.classes)
    assert "Pillow version" in entries(training=batches(lazy))
    assert "Pillow version" not in entries(training=batches())
    crop = Augment(resized_crop=True)
    resized, plain = entries(training=batches(augment=crop)), entries(training=batches())
    assert "Pillow version" in resized
    assert differences(plain, resized)[0].endswith("resized_crop=True) now")


def test_sources_of_a_user():
    x, y = np.ones((2, 2)), np.zeros(2, int)
    plain = entries(training=[(x, y)])
    assert changed(plain, entries(training=[(x, y + 1)])) == ["training data"]
    assert changed(plain, entries(training=[(x, {"y": y})])) == []  # unknown


def test_dictionaries_of_other_versions():
    now = {"a": "1", "b": "2; 3", "c": "unknown"}
    assert differences(now, now) == []
    assert differences({}, now) == [
        "a: not recorded when saved, 1 now",
        "b: not recorded when saved, 2, 3 now",
    ]
    saved = {"a": 7, "b": "3; 2", "c": "x", "d": ["list"], "e": None, "f": "unknown"}
    assert differences(saved, now) == [
        "a: 7 when saved, 1 now",
        "b: 3; 2 when saved, 2; 3 now",
        "d: ['list'] when saved, not recorded now",
        "e: None when saved, not recorded now",
    ]
    assert differences({**now, "b": "2"}, now) == ["b: 3 now, but not when saved"]


def test_texts_of_a_file_are_escaped():
    (line,) = differences({"a\x1b[31m": "\u202e1"}, {})
    assert line == r"a\x1b[31m: \u202e1 when saved, not recorded now"
