"""Contact sheets: as an array, a PNG file and text."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.data import blocks, sheet, write_png
from minise.data.sheet import GAP_GREY

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 4, 5), np.uint8)


@given(st.integers(1, 9), st.integers(1, 3), st.integers(0, 2))
def test_every_image_is_in_its_place(columns, scale, gap):
    pixels = sheet(IMAGES, columns, scale, gap)
    shown = min(columns, 7)
    lines = -(-7 // shown)
    assert pixels.shape == (scale * (gap + lines * (4 + gap)), scale * (gap + shown * (5 + gap)), 3)
    rest = np.ones(pixels.shape[:2], bool)
    for i, image in enumerate(IMAGES):
        top = scale * (gap + i // shown * (4 + gap))
        left = scale * (gap + i % shown * (5 + gap))
        region = slice(top, top + 4 * scale), slice(left, left + 5 * scale)
        for row, column in np.ndindex(scale, scale):
            cell = pixels[region][row::scale, column::scale]
            np.testing.assert_array_equal(cell, image.transpose(1, 2, 0))
        rest[region] = False
    assert (pixels[rest] == GAP_GREY).all()


def drawn(text):
    """Parse the text of `blocks` back into pixels, as a terminal would; None for an absent one."""
    rows = []
    for line in text.split("\n"):
        upper, lower = None, None
        pair = ([], [])
        for codes, characters in re.findall(r"\x1b\[([\d;]*)m(▀*)", line):
            numbers = list(map(int, codes.split(";")))
            if numbers == [0]:
                upper, lower = None, None
            while len(numbers) >= 5:
                ground, _, *colour = numbers[:5]
                upper, lower = (colour, lower) if ground == 38 else (upper, colour)
                numbers = numbers[5:]
            pair[0].extend([upper] * len(characters))
            pair[1].extend([lower] * len(characters))
        rows += pair
    return rows


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99))
def test_blocks_read_back(rows, columns, levels, seed):
    pixels = np.random.default_rng(seed).integers(0, levels, (rows, columns, 3), np.uint8)
    seen = drawn(blocks(pixels))
    assert seen[:rows] == pixels.tolist()
    assert seen[rows:] == [[None] * columns] * (rows % 2)
    assert all(line.endswith("\x1b[0m") for line in blocks(pixels).split("\n"))


def test_equal_colours_are_written_once():
    assert blocks(np.zeros((2, 3, 3), np.uint8)) == "\x1b[38;2;0;0;0;48;2;0;0;0m▀▀▀\x1b[0m"


def test_png(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install -e '.[image]'")
    pixels = sheet(IMAGES)
    write_png(tmp_path / "sheet.png", pixels)
    with image.open(tmp_path / "sheet.png") as file:
        assert file.format == "PNG"
        np.testing.assert_array_equal(np.asarray(file), pixels)


def test_messages(tmp_path):
    with pytest.raises(ValueError, match=r"images has shape \(3, 4, 5\), expected \(N, 3, H, W\)"):
        sheet(IMAGES[0])
    with pytest.raises(TypeError, match="sheet: images is float64, expected an array of uint8"):
        sheet(IMAGES / 255)
    with pytest.raises(ValueError, match="columns is 0, expected at least 1"):
        sheet(IMAGES, columns=0)
    for function in (blocks, lambda pixels: write_png(tmp_path / "x.png", pixels)):
        with pytest.raises(ValueError, match=r"pixels is uint8 of shape \(7, 3, 4, 5\), expected"):
            function(IMAGES)
