"""Every architecture at a small width and image, for tests that run each of them."""

from functools import cache

import numpy as np

from minise import models
from minise.ops import cost

# name: settings, and the side of an image for which the last stage still has several pixels
NETS = {
    **{f"resnet{depth}": (dict(width=0.25), 8) for depth in (8, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}": (dict(width=1 / 16), 40) for depth in (18, 34, 50, 101, 152)},
    **{f"resnext{depth}_32x4d": (dict(width=1 / 16), 40) for depth in (50, 101)},
    "senet154": (dict(width=1 / 32), 40),
    "preact_resnet110": (dict(width=0.25), 8),
    "preact_resnet164": (dict(width=0.125), 8),
    "wrn_16_8": (dict(width=1 / 16), 8),
    "bn_inception": (dict(width=1 / 32), 63),
    "inception_resnet_v2": (dict(width=1 / 16), 107),
    **{f"shake_shake26_2x{d}d": (dict(width=max(4 / d, 1 / 16)), 8) for d in (32, 64, 96)},
    "vgg16": (dict(width=1 / 16, image_size=(64, 64)), 64),
    "mobilenet": (dict(width=1 / 8), 40),
    "shufflenet": (dict(width=1 / 4), 64),
    "densenet121": (dict(width=1 / 16), 64),
}
REDUCTION = 4


@cache
def on_shapes(name, **settings):
    """Return a net by name without numbers, built once: its parameters are not drawn."""
    return models.build(name, ops=cost.Shapes(), **settings)


def small(name, **settings):
    """Return a small net by name, in float64, and the side of its images."""
    own, side = NETS[name.removeprefix("se_")]
    se = dict(reduction=REDUCTION) if name.startswith("se_") else {}
    return models.build(
        name, **{"dtype": np.float64, "num_classes": 5, **own, **se, **settings}
    ), side


def batch(side, count=3, seed=0):
    """Return random images (count, 3, side, side), and the labels 0 to 4 in turn."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 3, side, side)), np.arange(count) % 5
