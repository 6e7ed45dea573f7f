"""shapes10: images of ten silhouettes in random size, position, rotation, colour and texture.

Only the outline depends on the class. Everything else (palette, textures, light, noise, position
and size of the object) has the same distribution for every class. A linear classifier, which sees
only averages, reaches an accuracy of about a quarter (tests/data/test_shapes10.py); a small CNN
learns the classes in a minute.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from minise.checks import check_choice, check_integer
from minise.data.dataset import Dataset
from minise.data.palette import oklab, srgb_bytes
from minise.data.patterns import NODES, PATTERNS
from minise.data.silhouettes import SILHOUETTES
from minise.data.streams import rows, stream, uniform

Floats: TypeAlias = NDArray[Any]

SPLITS = ("train", "test")  # the index is a key of the random words
SIDE = 32
CLASSES = len(SILHOUETTES)
CHUNK = 100  # images drawn at a time: a multiple of 10, and few enough for the cache
SHADOW_OFFSET = 2  # pixels, down and right


class Draw(NamedTuple):
    """Random parameters of an image: independent numbers in [0, 1)."""

    size: Floats
    row: Floats
    column: Floats
    rotation: Floats
    hue: Floats  # of the background
    harmony: Floats  # selects the difference between the hues of object and background
    lightness: Floats
    contrast: Floats
    chroma: Floats
    ground_chroma: Floats
    texture: Floats
    texture_rotation: Floats
    texture_period: Floats
    texture_phase: Floats
    texture_contrast: Floats
    texture_hue: Floats
    ground: Floats
    ground_rotation: Floats
    ground_period: Floats
    ground_phase: Floats
    ground_contrast: Floats
    ground_hue: Floats
    light: Floats
    shadow: Floats
    grain: Floats


FIXED = len(Draw._fields)


@dataclass(frozen=True, eq=False)
class Shapes(Dataset):
    """A data set with the mask and bounding box of each object.

    Parameters
    ----------
    masks : ndarray of shape (N, 32, 32), bool
        Pixels whose centre is inside the object.
    boxes : ndarray of shape (N, 4), int64
        First row, row after the last, first column, column after the last of the mask:
        ``images[i, :, r0:r1, c0:c1]`` cuts the object out.
    """

    masks: NDArray[np.bool_]
    boxes: NDArray[np.int64]


def shapes10(split: str = "train", n: int = 10_000, seed: int = 0) -> Shapes:
    """Draw the first n images of a split.

    Parameters
    ----------
    split : {"train", "test"}
        Different images from the same distribution.
    n : int
        Number of images. Image i is the same for every n; every ten consecutive images, starting at
        a multiple of ten, contain each class once.
    seed : int
        Each seed gives different images.

    Returns
    -------
    Shapes
        Images of 32 x 32 in the classes of SILHOUETTES, with masks and boxes. An object fits into a
        circle of radius 7.5 to 12 pixels inside the image, and is lighter than the background.

    Notes
    -----
    Pixels are computed with + - * / sqrt floor and comparisons in float32; sines and powers are
    computed once per image in float64 and rounded. So the bytes are the same on every machine,
    unless the last bit of a float64 library function changes the rounding to float32.
    """
    check_choice("shapes10", "split", split, SPLITS)
    check_integer("shapes10", "n", n, 1)
    check_integer("shapes10", "seed", seed, 0)
    images = np.empty((n, 3, SIDE, SIDE), np.uint8)
    labels = np.empty(n, np.uint8)
    masks = np.empty((n, SIDE, SIDE), np.bool_)
    for start in range(0, n, CHUNK):
        part = slice(start, min(start + CHUNK, n))
        # always draw a full chunk, so that no image depends on n
        for array, drawn in zip((images, labels, masks), _chunk(split, start, seed), strict=True):
            array[part] = drawn[: part.stop - part.start]
    return Shapes("shapes10", images, labels, tuple(SILHOUETTES), masks, _boxes(masks))


def _chunk(
    split: str, start: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    key = SPLITS.index(split)
    tens = rows(stream(seed, key, "layout"), start // CLASSES, CHUNK // CLASSES, CLASSES)
    labels = np.argsort(tens, axis=1, kind="stable").ravel().astype(np.uint8)
    width = FIXED + NODES * NODES
    numbers = uniform(rows(stream(seed, key, "scene"), start, CHUNK, width))
    draw = Draw(*numbers[:, :FIXED].T)
    nodes = numbers[:, FIXED:].astype(np.float32).reshape(CHUNK, NODES, NODES)
    distance, shadow = _distances(labels, draw)
    lab = _composed(distance, shadow, draw, nodes)
    noise = rows(stream(seed, key, "noise"), start, CHUNK, 3 * SIDE * SIDE // 4)
    return _add_grain(srgb_bytes(*lab), noise, draw.grain), labels, distance < 0


def _distances(labels: NDArray[np.uint8], draw: Draw) -> tuple[Floats, Floats]:
    """Return each pixel's signed distance from the object and from its shadow, in pixels."""
    radius = 7.5 + 4.5 * draw.size
    margin = radius + 0.5
    row, column = (margin + (SIDE - 1 - 2 * margin) * number for number in (draw.row, draw.column))
    down, right = (_column(centre) for centre in (row, column))
    line = np.arange(-SHADOW_OFFSET, SIDE, dtype=np.float32)
    x, y = _rotated(line - right, line[:, None] - down, draw.rotation, radius)
    distance = np.empty_like(x)
    for label, silhouette in enumerate(SILHOUETTES.values()):
        which = labels == label
        distance[which] = silhouette(x[which], y[which])
    distance *= _column(radius)
    image, shadow = slice(SHADOW_OFFSET, None), slice(-SHADOW_OFFSET)
    return distance[:, image, image], distance[:, shadow, shadow]


def _composed(distance: Floats, shadow: Floats, draw: Draw, nodes: Floats) -> tuple[Floats, ...]:
    """Return L, a, b of the images, composed of background, shadow and object."""
    period, ground_period = 2.5 + 2.5 * draw.texture_period, 5 + 6 * draw.ground_period
    texture = _pattern(draw.texture, draw.texture_rotation, period, draw.texture_phase, nodes)
    ground = _pattern(draw.ground, draw.ground_rotation, ground_period, draw.ground_phase, nodes)
    inside = np.clip(0.5 - distance, 0, 1)
    shade = 1 - _column(0.12 + 0.16 * draw.shadow) * np.clip(0.6 - shadow / 4, 0, 1)
    # 1 where the edge faces the light
    slope = (distance - shadow) / (SHADOW_OFFSET * np.float32(2**0.5))
    rim = np.clip(1 + distance / 3, 0, 1) * slope
    line = np.linspace(-1, 1, SIDE, dtype=np.float32)
    glow = _column(0.02 + 0.05 * draw.light) * -(line + line[:, None])
    out = []
    for axis, (own_1, own_2, ground_1, ground_2) in enumerate(zip(*_colours(draw), strict=True)):
        background = ground_1 + (ground_2 - ground_1) * ground
        foreground = own_1 + (own_2 - own_1) * texture
        if axis == 0:
            background = (background + glow) * shade
            foreground = foreground + glow - np.float32(0.07) * rim
        out.append(background + (foreground - background) * inside)
    return tuple(out)


def _colours(draw: Draw) -> list[tuple[Floats, ...]]:
    """Return L, a, b of two colours of the object and two of the background, each (n, 1, 1)."""
    middle = 0.52 + 0.24 * draw.lightness
    contrast = 0.14 + 0.06 * draw.contrast
    step = np.floor(5 * draw.harmony)
    hue = draw.hue + np.array([1 / 12, 1 / 6, 1 / 3, 5 / 12, 1 / 2])[step.astype(int)]
    chroma = 0.10 + 0.08 * draw.chroma
    ground_chroma = 0.04 + 0.06 * draw.ground_chroma
    darker = contrast * (0.4 + 0.4 * draw.texture_contrast)
    hue_shift = 0.16 * (draw.texture_hue - 0.5)
    ground_darker = contrast * (0.2 + 0.4 * draw.ground_contrast)
    ground_hue_shift = 0.16 * (draw.ground_hue - 0.5)
    ground_lightness = middle - contrast - ground_darker * 0.5
    colours = (
        oklab(middle + contrast, chroma, hue),
        oklab(middle + contrast - darker, chroma, hue + hue_shift),
        oklab(middle - contrast, ground_chroma, draw.hue),
        oklab(ground_lightness, ground_chroma, draw.hue + ground_hue_shift),
    )
    return [tuple(_column(value) for value in colour) for colour in colours]


def _pattern(
    kind: Floats, rotation: Floats, period: Floats, phase: Floats, nodes: Floats
) -> Floats:
    """Return for each image the pattern that is selected by its kind in [0, 1)."""
    kinds = np.floor(len(PATTERNS) * kind)
    line = np.arange(SIDE, dtype=np.float32) - np.float32(SIDE / 2)
    x, y = np.broadcast_to(line, (CHUNK, 1, SIDE)), line[:, None]
    p, q = _rotated(x, y, rotation, period)
    p += _column(phase)
    out = np.empty_like(p)
    for k, pattern in enumerate(PATTERNS.values()):
        which = kinds == k
        out[which] = pattern(p[which], q[which], nodes[which])
    return out


def _rotated(x: Floats, y: Floats, rotation: Floats, unit: Floats) -> tuple[Floats, Floats]:
    """Return coordinates rotated by a number of full turns, divided by a unit in pixels."""
    along, across = (_column(wave(2 * np.pi * rotation) / unit) for wave in (np.cos, np.sin))
    return x * along + y * across, y * along - x * across


def _add_grain(images: NDArray[np.uint8], words: Floats, level: Floats) -> NDArray[np.uint8]:
    """Return the images with noise of standard deviation 2 to 6.

    The number of ones in 16 random bits, minus 8, is nearly normal with standard deviation 2.
    """
    bits = words.astype("<u8").view("<u2").reshape(images.shape)
    grain = np.bitwise_count(bits).astype(np.float32) - 8
    grain *= (1 + 2 * level).astype(np.float32)[:, None, None, None]
    grain += images
    return np.clip(np.rint(grain), 0, 255).astype(np.uint8)


def _boxes(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    sides = []
    for axis in (2, 1):
        hit: NDArray[np.bool_] = np.any(masks, axis=axis)
        sides += [hit.argmax(axis=1), SIDE - hit[:, ::-1].argmax(axis=1)]
    return np.stack(sides, axis=1)


def _column(numbers: Floats) -> Floats:
    """Return one number per image as float32 (N, 1, 1), to broadcast over pixels."""
    return numbers.astype(np.float32)[:, None, None]
