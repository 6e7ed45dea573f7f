"""The table of all architectures by name, and `build`, which makes a net of them."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from minise.checks import Pair, check_integer, did_you_mean
from minise.models.architecture import NET_FIELDS, SE_FIELDS, Architecture, NetSettings
from minise.models.densenet import NETS as DENSENETS
from minise.models.inception import NETS as INCEPTION
from minise.models.inception_resnet import NETS as INCEPTION_RESNETS
from minise.models.mobilenet import NETS as MOBILENETS
from minise.models.net import Images, Net
from minise.models.resnet import NETS as RESNETS
from minise.models.resnet_cifar import NETS as CIFAR_RESNETS
from minise.models.senet import NETS as SENETS
from minise.models.shake_shake import NETS as SHAKE_SHAKES
from minise.models.shufflenet import NETS as SHUFFLENETS
from minise.models.vgg import NETS as VGGS
from minise.models.wide_resnet import NETS as WIDE_RESNETS
from minise.nn import SE, Build, Chain, SEBlock
from minise.nn.build import as_fraction
from minise.nn.layers import pair
from minise.nn.streams import Rng, generator
from minise.ops import cost, reference
from minise.ops.backend import Backend, load_ops

ARCHITECTURES: dict[str, Architecture] = {
    **CIFAR_RESNETS,
    **WIDE_RESNETS,
    **SHAKE_SHAKES,
    **RESNETS,
    **SENETS,
    **VGGS,
    **INCEPTION,
    **INCEPTION_RESNETS,
    **MOBILENETS,
    **SHUFFLENETS,
    **DENSENETS,
}
WIDTH_STEP = Fraction(1, 192)  # of the widths that are suggested for one that does not fit


def names() -> list[str]:
    """Return the names that `build` accepts."""
    return [*ARCHITECTURES, *(f"se_{name}" for name in ARCHITECTURES)]


def architecture(name: str) -> Architecture:
    """Return the architecture of a name; a net and its SE twin have the same."""
    if name not in names():
        hint = did_you_mean(name, names()) or ", expected a name such as resnet20 or se_resnet50:"
        raise ValueError(
            f"model {name!r} is unknown{hint} models.names() and `minise summary all` list them"
        )
    return ARCHITECTURES[name.removeprefix("se_")]


def settings(name: str) -> tuple[str, ...]:
    """Return the names of a model's own settings, without those of SE."""
    return architecture(name).settings()


def build(
    name: str,
    *,
    num_classes: int | None = None,
    ops: Backend | str = reference,
    rng: Rng = None,
    dtype: Any = np.float32,
    se: SE | None = None,
    **settings: Any,
) -> Net:
    """Return a net with newly drawn parameters.

    Parameters
    ----------
    name : str
        One of names(); the prefix "se_" adds SE blocks.
    num_classes : int, optional
        Outputs of the last layer, by default those of the paper: 10 for CIFAR, 1000 for ImageNet.
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
        Fields of SE by name (reduction=4, site="pre", …), and settings of the net: width=0.5, and
        those that `models.settings(name)` lists, such as shortcut="A" (see NetSettings).

    Returns
    -------
    Net
        A layer from images (N, 3, H, W) to logits (N, num_classes).

    Raises
    ------
    ValueError
        If the name or a setting's value is unknown, or if the width leaves a fraction of a channel;
        the message names the nearest that is valid.
    TypeError
        If the net has no such setting, or rng is neither a generator nor a seed.

    Examples
    --------
    >>> build("se_resnet20", reduction=4, bias=False, shortcut="A").parameter_count
    277786
    """
    plain = architecture(name)
    se = _chosen_se(name, se, settings)
    _check_settings(name, se, settings)
    net_settings = NetSettings(**{k: v for k, v in settings.items() if k in NET_FIELDS})
    side, classes = plain.images(net_settings.stem)
    num_classes = classes if num_classes is None else num_classes
    check_integer("build", "num_classes", num_classes, 1)
    size: Pair = pair(name, "image_size", settings.get("image_size", side), 1)
    if "image_size" in settings:
        settings["image_size"] = size
    ops = load_ops(ops) if isinstance(ops, str) else ops
    own = {key: value for key, value in settings.items() if key != "width"}

    def made(ops: Backend, width: float, rng: Rng) -> Chain:
        parts = Build(ops, rng, dtype, se, width=width)
        return plain.builder(num_classes=num_classes, build=parts, **own)

    rng = generator("build", 0 if rng is None else rng)
    try:
        chain = made(ops, net_settings.width, rng)
    except ValueError as error:
        if net_settings.width == 1:
            raise
        raise _with_nearest_width(name, net_settings.width, error, made) from None
    net = Net(*chain.children(), ops=ops)
    remake = partial(build, name, num_classes=num_classes, se=se, **settings)
    fixed = "image_size" in plain.settings() and net_settings.stem != "cifar"
    net.images = Images(name, size, fixed, remake)
    _check_reduction(name, net)
    return net


def _chosen_se(name: str, se: SE | None, settings: dict[str, Any]) -> SE | None:
    """Return the settings of a net's SE blocks; remove their fields from the net's settings."""
    if not isinstance(se, SE | None):
        kind = type(se).__name__
        raise TypeError(f"build: se is a {kind}, expected an SE or None: pass nn.SE(reduction=4)")
    chosen = {key: settings.pop(key) for key in SE_FIELDS & settings.keys()}
    if name.startswith("se_"):
        return SE(**{**(vars(se) if se else {}), **chosen})
    if chosen or se:
        changed = [key for key, value in vars(se or SE()).items() if value != getattr(SE(), key)]
        wrong = ", ".join(sorted(chosen) or changed) or "se"
        raise TypeError(f"model {name} has no SE blocks, but {wrong} is set: use se_{name}")
    return None


def _check_settings(name: str, se: SE | None, settings: dict[str, Any]) -> None:
    """Raise TypeError for a setting that the net does not have, ValueError for such a site."""
    plain = architecture(name)
    if unknown := settings.keys() - set(plain.settings()):
        wanted = [*plain.settings(), *(sorted(SE_FIELDS) if se else [])]
        raise TypeError(
            f"model {name} has no setting {', '.join(sorted(unknown))}, expected any of: "
            f"{', '.join(wanted)}"
        )
    if se is not None:
        plain.check_se(name, se)


def _with_nearest_width(
    name: str, width: float, error: ValueError, made: Callable[..., Chain]
) -> ValueError:
    """Return an error that names the nearest width with which the net can be built."""
    steps = round(as_fraction(width) / WIDTH_STEP)
    for distance in range(steps + round(1 / WIDTH_STEP)):
        for step in (steps - distance, steps + distance):
            try:
                made(cost.Shapes(), float(step * WIDTH_STEP), 0)
            except ValueError:
                continue
            nearest = step * WIDTH_STEP
            reason = str(error).removeprefix("Build: ").partition(": ")[0]
            return ValueError(
                f"{name}: {reason}: the nearest width that fits is {float(nearest):g}"
            )
    return error


def _check_reduction(name: str, net: Chain) -> None:
    """Raise ValueError if the reduction exceeds the number of channels of every SE block."""
    blocks = [module for _, module in net.layers() if isinstance(module, SEBlock)]
    widest = max((len(block.params["fc.2.weight"]) for block in blocks), default=0)
    if blocks and blocks[0].se.reduction > widest:
        raise ValueError(
            f"{name}: reduction is {blocks[0].se.reduction}, expected at most {widest}, the "
            f"channels of the widest SE block: use reduction={widest} or less"
        )
