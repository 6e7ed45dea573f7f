"""Build nets by name; a plain net and its SE twin share one declaration."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np

from minise.checks import check_integer, did_you_mean
from minise.models.resnet_cifar import resnet_cifar
from minise.models.wide_resnet import wide_resnet
from minise.nn import SE, Build, Chain
from minise.nn.streams import Rng, generator
from minise.ops import reference
from minise.ops.backend import Backend, load_ops

PLAIN: dict[str, Callable[..., Chain]] = {
    **{f"resnet{depth}": partial(resnet_cifar, depth) for depth in (8, 20, 32, 44, 56, 110)},
    "preact_resnet110": partial(wide_resnet, 18, 1),
    "preact_resnet164": partial(wide_resnet, 18, 1, bottlenecks=True),
    "wrn_16_8": partial(wide_resnet, 2, 8),
}
NOT_SETTINGS = ("num_classes", "build", "bottlenecks")  # parameters of builders that build() sets
SE_FIELDS = {field.name for field in fields(SE)}


def names() -> list[str]:
    """Return the names that `build` accepts."""
    return [*PLAIN, *(f"se_{name}" for name in PLAIN)]


def build(
    name: str,
    *,
    num_classes: int = 10,
    ops: Backend | str = reference,
    rng: Rng = None,
    dtype: Any = np.float32,
    se: SE | None = None,
    **settings: Any,
) -> Chain:
    """Return a net with newly drawn parameters.

    Parameters
    ----------
    name : str
        One of names(); the prefix "se_" adds SE blocks.
    num_classes : int
        Outputs of the last layer.
    ops : back end or str
        Back end whose ops the net calls, such as the module minise.ops.reference, or its name.
    rng : numpy.random.Generator or int, optional
        Draws the parameters; an integer is a seed, and None means seed 0, independently of
        `nn.seed`. A net and its SE twin get equal weights in all layers but the SE blocks.
    dtype : dtype
        float32 or float64 (or complex128, for complex steps).
    se : SE, optional
        Settings of the SE blocks; for names with "se_" the default is SE().
    **settings
        Fields of SE by name (reduction=4, site="pre", …), and shortcut="A" or "B" for ResNets.

    Returns
    -------
    Chain
        A layer from images (N, 3, H, W) to logits (N, num_classes).

    Raises
    ------
    ValueError
        If the name or a setting's value is unknown; the nearest names are suggested.
    TypeError
        If the net has no such setting, or rng is neither a generator nor a seed.

    Examples
    --------
    >>> build("se_resnet20", reduction=4, bias=False, shortcut="A").parameter_count
    277786
    """
    _check_name(name)
    check_integer("build", "num_classes", num_classes, 1)
    if not isinstance(se, SE | None):
        kind = type(se).__name__
        raise TypeError(f"build: se is a {kind}, expected an SE or None: pass nn.SE(reduction=4)")
    chosen = {key: settings.pop(key) for key in SE_FIELDS & settings.keys()}
    with_se = name.startswith("se_")
    if not with_se and (chosen or se):
        changed = [key for key, value in vars(se or SE()).items() if value != getattr(SE(), key)]
        wrong = ", ".join(sorted(chosen) or changed) or "se"
        raise TypeError(f"model {name} has no SE blocks, but {wrong} is set: use se_{name}")
    unknown = settings.keys() - set(_own_settings(name))
    if unknown:
        wanted = ", ".join([*_own_settings(name), *(sorted(SE_FIELDS) if with_se else [])])
        wanted = f", expected any of: {wanted}" if wanted else " nor any other: leave it out"
        wrong = ", ".join(sorted(unknown))
        raise TypeError(f"model {name} has no setting {wrong}{wanted}")
    if with_se:
        se = SE(**{**(vars(se) if se else {}), **chosen})
    ops = load_ops(ops) if isinstance(ops, str) else ops
    parts = Build(ops, generator("build", 0 if rng is None else rng), dtype, se)
    return PLAIN[name.removeprefix("se_")](num_classes=num_classes, build=parts, **settings)


def settings(name: str) -> tuple[str, ...]:
    """Return the names of a model's own settings, without those of SE."""
    _check_name(name)
    return _own_settings(name)


def _own_settings(name: str) -> tuple[str, ...]:
    builder = PLAIN[name.removeprefix("se_")]
    return tuple(key for key in inspect.signature(builder).parameters if key not in NOT_SETTINGS)


def _check_name(name: str) -> None:
    if name not in names():
        hint = did_you_mean(name, names()) or ":"
        raise ValueError(f"model {name!r} is unknown{hint} expected one of {', '.join(names())}")
