"""shapes10: properties of the images, and the accuracy of a linear classifier."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minise.data import moments, shapes10
from minise.data.palette import CURVE, linear_rgb, oklab, srgb_bytes
from minise.data.patterns import NODES, PATTERNS
from minise.data.silhouettes import SILHOUETTES

few = settings(max_examples=10)
SHAPE = pytest.mark.parametrize("shape", SILHOUETTES.values(), ids=SILHOUETTES)


@pytest.fixture(scope="module")
def train():
    return shapes10("train", 10_000)


@few
@given(st.integers(1, 250))
def test_image_i_does_not_depend_on_n(train, n):
    first = shapes10(n=n)
    for name in ("images", "labels", "masks", "boxes"):
        np.testing.assert_array_equal(getattr(first, name), getattr(train, name)[:n])


def test_bytes_are_frozen():
    """Results are comparable only on the same images, on every machine and in every version."""
    digest = hashlib.sha256(shapes10(n=200).images.tobytes()).hexdigest()
    assert digest.startswith("98f84114c53faf47")


def test_splits_and_seeds_differ(train):
    kinds = [train, shapes10("test", 100), shapes10(n=100, seed=1), shapes10("test", 100, seed=1)]
    images = np.concatenate([kind.images[:100] for kind in kinds]).reshape(400, -1)
    assert len(np.unique(images, axis=0)) == 400


def test_classes_are_balanced(train):
    assert train.classes == tuple(SILHOUETTES)
    tens = train.labels.reshape(-1, 10)
    np.testing.assert_array_equal(np.sort(tens, axis=1), [range(10)] * 1000)
    assert len(np.unique(tens, axis=0)) > 900  # in orders of their own


def test_masks_and_boxes(train):
    assert train.masks.shape == (10_000, 32, 32)
    assert train.boxes.shape == (10_000, 4)
    for mask, (top, bottom, left, right) in zip(train.masks[:500], train.boxes[:500], strict=True):
        rows, columns = np.nonzero(mask)
        assert (top, bottom) == (rows.min(), rows.max() + 1)
        assert (left, right) == (columns.min(), columns.max() + 1)


def test_objects_are_wholly_inside_and_neither_tiny_nor_huge(train):
    top, bottom, left, right = train.boxes.T
    assert top.min() >= 0
    assert left.min() >= 0
    assert max(bottom.max(), right.max()) <= 32
    longer = np.maximum(bottom - top, right - left)
    assert longer.min() >= 10
    assert longer.max() <= 25
    assert not train.masks[:, [0, -1]].any()
    assert not train.masks[:, :, [0, -1]].any()


def test_object_is_lighter_than_its_ground(train):
    light = train.images.mean(axis=1)
    inside = (light * train.masks).sum(axis=(1, 2)) / train.masks.sum(axis=(1, 2))
    outside = (light * ~train.masks).sum(axis=(1, 2)) / (~train.masks).sum(axis=(1, 2))
    assert (inside > outside).mean() > 0.99


def test_colours_do_not_depend_on_the_class(train):
    """The object's mean colour is equal for all classes, within five standard deviations."""
    weight = train.masks / train.masks.sum(axis=(1, 2), keepdims=True)
    colour = np.einsum("ncij,nij->nc", train.images, weight)
    for label in range(10):
        own, others = colour[train.labels == label], colour[train.labels != label]
        assert (abs(own.mean(0) - others.mean(0)) < 5 * others.std(0) * 1000**-0.5).all()


def test_a_linear_classifier_fails(train):
    """Ridge regression to one-hot labels reaches about a quarter, for any penalty."""
    test = shapes10("test", 2000)
    mean, std = moments(train)
    x, x_test = (
        ((part.images / np.float32(255) - center(mean)) / center(std)).reshape(len(part), -1)
        for part in (train, test)
    )
    targets = np.eye(10, dtype=np.float32)[train.labels] - np.float32(0.1)
    gram, cross = x.T @ x, x.T @ targets
    for penalty in (300, 3000, 30_000):
        weight = np.linalg.solve(gram + penalty * np.eye(len(gram), dtype=np.float32), cross)
        assert 0.15 < ((x_test @ weight).argmax(axis=1) == test.labels).mean() < 0.40


def center(values):
    return np.array(values, np.float32)[:, None, None]


@SHAPE
def test_silhouettes_fit_the_unit_circle_and_fill_it(shape):
    line = np.linspace(-1.5, 1.5, 301)
    x, y = np.meshgrid(line, line)
    radius = np.sqrt(x * x + y * y)
    inside = shape(x, y) < 0
    assert radius[inside].max() <= 1.02
    assert radius[inside].max() >= 0.9


@SHAPE
@few
@given(st.integers(0, 2**32 - 1))
def test_silhouettes_are_distances(shape, seed):
    """A distance changes by at most the step length, even where the formula changes."""
    rng = np.random.default_rng(seed)
    x, y, dx, dy = rng.uniform(-1.2, 1.2, (4, 500)) * np.array([[1], [1], [0.1], [0.1]])
    step = np.sqrt(dx * dx + dy * dy)
    change = abs(shape(x + dx, y + dy) - shape(x, y))
    assert (change <= step + 1e-12).all()


@SHAPE
def test_silhouettes_differ_under_every_rotation(shape):
    """No rotation of another silhouette covers nearly the same pixels of a 32 x 32 image."""
    line = (np.arange(32) - 15.5) / 12
    x, y = np.meshgrid(line, line)
    own = shape(x, y) < 0
    for other in SILHOUETTES.values():
        if other is shape:
            continue
        for angle in np.linspace(0, 2 * np.pi, 72, endpoint=False):
            cos, sin = np.cos(angle), np.sin(angle)
            theirs = other(cos * x + sin * y, cos * y - sin * x) < 0
            assert (own & theirs).sum() / (own | theirs).sum() < 0.9


@given(st.integers(0, 2**32 - 1))
def test_patterns_stay_between_0_and_1(seed):
    rng = np.random.default_rng(seed)
    p, q = rng.uniform(-9, 9, (2, 3, 8, 8)).astype(np.float32)
    nodes = rng.random((3, NODES, NODES)).astype(np.float32)
    for pattern in PATTERNS.values():
        out = pattern(p, q, nodes)
        assert out.shape == p.shape
        assert out.dtype == np.float32
        assert out.min() >= 0
        assert out.max() <= 1 + 1e-6


def test_white_black_and_the_primaries():
    """Ottosson's published values for red, green and blue, to three digits."""
    L = np.array([1.0, 0.0, 0.628, 0.866, 0.452])
    a = np.array([0.0, 0.0, 0.225, -0.234, -0.032])
    b = np.array([0.0, 0.0, 0.126, 0.179, -0.312])
    expected = [[255] * 3, [0] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    light = np.stack(linear_rgb(L, a, b), axis=1)
    np.testing.assert_allclose(light, np.array(expected) / 255, atol=0.01)
    colours = srgb_bytes(*(v[:2, None, None] for v in (L, a, b)))
    assert colours[:, :, 0, 0].tolist() == expected[:2]
    assert (np.diff(CURVE.astype(int)) >= 0).all()


@given(st.floats(0, 1), st.floats(0, 0.4), st.floats(-2, 2))
def test_chroma_is_reduced_until_srgb_has_the_colour(lightness, chroma, hue):
    L, a, b = oklab(*(np.array([value]) for value in (lightness, chroma, hue)))
    light = np.stack(linear_rgb(L, a, b))
    assert light.min() >= -1e-6
    assert light.max() <= 1 + 1e-6
    assert np.hypot(a, b) <= chroma + 1e-12
    assert np.isclose(L, lightness)


def test_muted_colours_keep_their_chroma():
    _, a, b = oklab(np.array([0.6]), np.array([0.05]), np.array([0.3]))
    assert np.hypot(a, b)[0] == pytest.approx(0.05, rel=1 / 128)


def test_messages():
    with pytest.raises(ValueError, match="shapes10: split is 'val', expected one of train, test"):
        shapes10("val")
    with pytest.raises(ValueError, match="shapes10: n is 0, expected at least 1"):
        shapes10(n=0)
    with pytest.raises(ValueError, match="shapes10: seed is -1, expected at least 0"):
        shapes10(seed=-1)
