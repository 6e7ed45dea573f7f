"""Every architecture at a small width and image, for tests that run each of them."""

import numpy as np

from minise import models

# name: settings, and the side of an image for which the last stage still has several pixels
SMALL = {
    **{f"resnet{depth}": (dict(width=0.25), 8) for depth in (8, 20, 32, 44, 56, 110)},
    "preact_resnet110": (dict(width=0.25), 8),
    "preact_resnet164": (dict(width=0.125), 8),
    "wrn_16_8": (dict(width=1 / 16), 8),
}
REDUCTION = 4


def small(name, **settings):
    """Return a small net by name, in float64, and the side of its images."""
    own, side = SMALL[name.removeprefix("se_")]
    se = dict(reduction=REDUCTION) if name.startswith("se_") else {}
    return models.build(
        name, **{"dtype": np.float64, "num_classes": 5, **own, **se, **settings}
    ), side


def batch(side, count=3, seed=0):
    """Return images (count, 3, side, side) and labels that brightness of a quadrant gives away."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 3, side, side)), np.arange(count) % 5
