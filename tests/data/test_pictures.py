"""read_image: crop, size, orientation, and the conversion of each pixel format."""

import os
import struct
import warnings
import zlib

import numpy as np
import pytest

Image = pytest.importorskip(
    "PIL.Image", reason="Pillow is not installed: pip install -e '.[image]'"
)

from minise.data import ImageError, pictures, read_image  # noqa: E402
from minise.data.crops import Box  # noqa: E402
from minise.data.pictures import read_part  # noqa: E402

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
SIDE = 32


@pytest.fixture
def path(tmp_path):
    return tmp_path / "1.png"


def test_central_square_resized(path):
    """The crop of three stripes is the middle one, a square; averages do not change."""
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[:, :40], pixels[:, 40:80], pixels[:, 80:] = RED, (200, 100, 50), BLUE
    Image.fromarray(pixels).save(path)
    image = read_image(path, size=8)
    assert image.shape == (3, 8, 8)
    assert (image == np.array((200, 100, 50))[:, None, None]).all()
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    Image.fromarray(checks.astype(np.uint8)).save(path)
    assert abs(read_image(path, size=8).astype(int) - 127).max() <= 8  # no moire


def test_an_image_of_the_right_size_keeps_its_bytes(path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 7, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    np.testing.assert_array_equal(read_image(path, 7), pixels.transpose(2, 0, 1))
    Image.fromarray(np.pad(pixels, ((0, 0), (3, 4), (0, 0)))).save(path)
    np.testing.assert_array_equal(read_image(path, 7), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.T),
        (6, lambda a: a.T[:, ::-1]),
        (7, lambda a: a.T[::-1, ::-1]),
        (8, lambda a: a.T[::-1]),
    ],
)
def test_orientation(tmp_path, suffix, orientation, upright):
    """EXIF's eight orientations; 6 means that the stored left column is the top row."""
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[:16, :16], pixels[:16, 16:], pixels[16:, :16] = 240, 160, 80
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"1.{suffix}"
    Image.fromarray(pixels).convert("RGB").save(path, exif=exif)
    difference = read_image(path, SIDE) - upright(pixels).astype(float)
    assert np.median(abs(difference)) <= 4  # JPEG and WebP blur the edges


def photograph(height, width, scale=1):
    """Return smooth pixels, with differences of at most 6 / scale levels between neighbours."""
    y, x = np.mgrid[:height, :width] / scale
    waves = [np.sin(x / a + y / b) for a, b in ((31, 40), (-50, 23), (17, -60))]
    return (127 + 100 * np.stack(waves, axis=2)).round().astype(np.uint8)


@pytest.mark.parametrize(("suffix", "reduced"), [("png", True), ("jpg", False), ("jpg", True)])
def test_a_part_is_pillows_crop_and_resize(tmp_path, suffix, reduced):
    """Exactly: also of a JPEG file unless it can be decoded at half its size."""
    path, (top, left, height, width) = tmp_path / f"1.{suffix}", Box(21, 30, 70, 50)
    Image.fromarray(photograph(97, 101)).save(path, quality=95)
    part = Image.open(path).crop((left, top, left + width, top + height))
    for size in ((70, 50), (13, 14), (90, 90)):
        if reduced and size == (13, 14):
            continue  # test_large_jpeg_files_are_decoded_smaller
        expected = np.asarray(part.resize(size[::-1], Image.Resampling.LANCZOS))
        image = read_part(path, lambda h, w: Box(21, 30, h - 27, w - 51), size, reduced=reduced)
        np.testing.assert_array_equal(image, expected.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    ("side", "factor"), [(15, 8), (16, 4), (25, 4), (50, 2), (60, 2), (110, 1)]
)
def test_large_jpeg_files_are_decoded_smaller(tmp_path, monkeypatch, mode, side, factor):
    """A part of 241 x 251 pixels of 301 x 409, which is no multiple of a factor.

    The image changes by two levels from pixel to pixel, so a part that is cut out a few pixels
    beside its place has larger differences.
    """
    path, sizes = tmp_path / "1.jpg", []
    Image.fromarray(photograph(301, 409, 3)).convert(mode).save(path, quality=95)
    honest = pictures._as_rgb
    monkeypatch.setattr(
        pictures, "_as_rgb", lambda image, *rest: sizes.append(image.size) or honest(image, *rest)
    )

    def choose(height, width):
        assert (height, width) == (301, 409)
        return Box(59, 103, 241, 251)

    exact, fast = (read_part(path, choose, (side, side), reduced=on) for on in (False, True))
    assert sizes == [(409, 301), (-(-409 // factor), -(-301 // factor))]
    difference = abs(exact.astype(int) - fast)
    assert difference.mean() < 1
    assert difference.max() <= (4 if factor > 1 else 0)


def test_a_rotated_jpeg_file_is_decoded_whole(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph(160, 240)).save(tmp_path / "1.jpg", exif=exif)

    def choose(height, width):
        assert (height, width) == (240, 160)
        return Box(200, 0, 40, 40)

    fast, exact = (
        read_part(tmp_path / "1.jpg", choose, (5, 5), reduced=on) for on in (True, False)
    )
    np.testing.assert_array_equal(fast, exact)


@pytest.mark.parametrize("reduced", [False, True])
def test_a_damaged_file_is_named_when_a_part_is_read(tmp_path, reduced):
    path = tmp_path / "1.jpg"
    Image.fromarray(photograph(200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    for size in ((10, 10), (150, 150)):
        with pytest.raises(
            ImageError, match=r"^read_image: .*1\.jpg cannot be read .*: replace or"
        ):
            read_part(path, lambda h, w: Box(0, 0, h, w), size, reduced=reduced)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.jpg does not exist, expected an image file"):
        read_part(path, lambda h, w: Box(0, 0, h, w), (9, 9), reduced=reduced)


def grey16(values, mode="I;16"):
    return Image.frombytes(
        mode, (2, 2), np.array(values, ">u2" if "B" in mode else "<u2").tobytes()
    )


def save(image, path):
    """Save an image; Pillow writes 16-bit PGM files from version 11 on."""
    if path.suffix != ".pgm":
        image.save(path)
        return
    width, height = image.size
    values = np.frombuffer(image.tobytes(), "<u2").astype(">u2")
    path.write_bytes(f"P5 {width} {height} 65535\n".encode() + values.tobytes())


P = Image.new("RGB", (2, 2), RED).quantize(4)
TRANSPARENT_P = Image.new("RGBA", (2, 2), (*RED, 0)).quantize(4)
# name: (image, suffix, colour of the first pixel)
MODES = {
    "1 bit, white": (Image.new("1", (2, 2), 1), "png", (255,) * 3),
    "grey": (Image.new("L", (2, 2), 77), "png", (77,) * 3),
    "grey and alpha": (Image.new("LA", (2, 2), (200, 51)), "png", (40,) * 3),
    "palette": (P, "png", RED),
    "palette, GIF": (P, "gif", RED),
    "palette, transparent": (TRANSPARENT_P, "png", (0, 0, 0)),
    "RGB": (Image.new("RGB", (2, 2), (1, 2, 3)), "bmp", (1, 2, 3)),
    "RGBA, opaque": (Image.new("RGBA", (2, 2), (1, 2, 3, 255)), "png", (1, 2, 3)),
    "RGBA, a fifth": (Image.new("RGBA", (2, 2), (100, 200, 50, 51)), "png", (20, 40, 10)),
    "RGBA, transparent": (Image.new("RGBA", (2, 2), (*GREEN, 0)), "png", (0, 0, 0)),
    "CMYK": (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "tif", RED),
    "CMYK, half black": (Image.new("CMYK", (2, 2), (0, 0, 0, 127)), "tif", (128,) * 3),
    "16 bits, white": (grey16([65535] * 4), "png", (255,) * 3),
    "16 bits, dark": (grey16([1000] * 4), "png", (4,) * 3),  # 1000 / 257 = 3.9
    "16 bits, half a step": (grey16([128] * 4), "png", (0,) * 3),
    "16 bits, more than half": (grey16([129] * 4), "png", (1,) * 3),
    "16 bits, TIFF": (grey16([257 * 77] * 4), "tif", (77,) * 3),
    "16 bits, big endian": (grey16([257 * 77] * 4, "I;16B"), "tif", (77,) * 3),
    "16 bits, PGM": (grey16([257 * 77] * 4), "pgm", (77,) * 3),
}


@pytest.mark.parametrize("name", MODES)
def test_pixels(tmp_path, name):
    image, suffix, colour = MODES[name]
    path = tmp_path / f"1.{suffix}"
    save(image, path)
    assert tuple(read_image(path, 2)[:, 0, 0]) == colour


def test_colour_of_16_bits_keeps_its_upper_byte(path):
    """A PNG file by hand, because Pillow cannot write 16 bits per channel."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = b"\0" + np.array([[1000, 65535, 255]] * 2, ">u2").tobytes()
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(row * 2)), (b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks))
    assert tuple(read_image(path, 2)[:, 0, 0]) == (1000 // 256, 255, 0)


def test_a_transparent_value_of_16_bits_is_black(path):
    grey16([257 * 200] * 4).save(path, transparency=257 * 200)
    assert not read_image(path, 2).any()


@pytest.mark.parametrize(
    ("pixels", "mode"), [(np.ones((4, 4), np.float32), "F"), (np.ones((4, 4), np.int32), "I")]
)
def test_pixels_without_a_range_are_refused(tmp_path, pixels, mode):
    path = tmp_path / "1.tif"
    Image.fromarray(pixels).save(path)
    text = f"pixels of mode {mode} have no fixed range, so convert them to 8 or 16 bits"
    with pytest.raises(ImageError, match=rf"^read_image: .*1.tif cannot be read \({text}\): repl"):
        read_image(path)


def test_damaged_files_are_named(path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    for damaged in (content[:5000], content[:40], b"", b"not an image"):
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"^read_image: .*1\.png cannot be read .*: replace or"
        ):
            read_image(path)


def test_paths_that_are_no_image_files(path):
    with pytest.raises(FileNotFoundError, match=r"1\.png does not exist, expected an image file"):
        read_image(path)
    with pytest.raises(FileNotFoundError, match="is a folder, expected an image file"):
        read_image(path.parent)
    os.mkfifo(path)  # opening it would wait for a writer
    with pytest.raises(FileNotFoundError, match="expected an image file"):
        read_image(path)
    with pytest.raises(ValueError, match="read_image: size is 0, expected at least 1"):
        read_image(path, 0)


def test_reading_warns_of_nothing(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image, suffix, _ in MODES.values():
            save(image, path.with_suffix(f".{suffix}"))
            read_image(path.with_suffix(f".{suffix}"), 2)
