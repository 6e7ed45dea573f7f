"""Colours from lightness, chroma and hue in OKLab, where equal distances look equal.

Source: Ottosson, "A perceptual color space for image processing", 2020,
bottosson.github.io/posts/oklab; the transfer curve of sRGB is IEC 61966-2-1's.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[Any]

# L, a, b -> cube roots of the cone responses l, m, s; then l, m, s -> linear red, green, blue
OKLAB_TO_LMS = (
    (0.3963377774, 0.2158037573),
    (-0.1055613458, -0.0638541728),
    (-0.0894841775, -1.2914855480),
)
LMS_TO_LINEAR = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
STEPS = 4096


def _curve() -> NDArray[np.uint8]:
    """Return the sRGB byte for each of STEPS equally spaced values of linear light in 0..1."""
    light = np.arange(STEPS) / (STEPS - 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)


CURVE = _curve()


def linear_rgb(L: Floats, a: Floats, b: Floats) -> tuple[Floats, Floats, Floats]:
    """Return red, green, blue in linear light; outside 0..1 if the colour is not in sRGB."""
    cones = [L + a * on_a + b * on_b for on_a, on_b in OKLAB_TO_LMS]
    long, middle, short = (root * root * root for root in cones)
    red, green, blue = (long * x + middle * y + short * z for x, y, z in LMS_TO_LINEAR)
    return red, green, blue


def srgb_bytes(L: Floats, a: Floats, b: Floats) -> NDArray[np.uint8]:
    """Return sRGB images (N, 3, H, W) from OKLab's L, a, b, each (N, H, W)."""
    out = np.empty((len(L), 3, *L.shape[1:]), np.uint8)
    for c, light in enumerate(linear_rgb(L, a, b)):
        step = np.clip(light * (STEPS - 1) + 0.5, 0, STEPS - 1).astype(np.int16)
        out[:, c] = CURVE[step]
    return out


def oklab(lightness: Floats, chroma: Floats, hue: Floats) -> tuple[Floats, Floats, Floats]:
    """Return L, a, b for a hue in full turns; reduce the chroma until the colour is in sRGB."""
    across, along = np.cos(2 * np.pi * hue), np.sin(2 * np.pi * hue)
    low, high = np.zeros_like(chroma), chroma
    for _ in range(8):
        middle = (low + high) / 2
        light = np.stack(linear_rgb(lightness, middle * across, middle * along))
        fits = ((light >= 0) & (light <= 1)).all(axis=0)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return lightness, low * across, low * along
