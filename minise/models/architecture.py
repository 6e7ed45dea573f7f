"""Describe architectures for `models.build`: their builders, their settings, their SE blocks."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from minise.checks import check_choice
from minise.nn import SE, Chain
from minise.nn.build import check_width

Geometry = Literal["caffe", "torchvision"]
Stem = Literal["imagenet", "cifar"]
SE_FIELDS = {field.name for field in fields(SE)}


@dataclass(frozen=True)
class NetSettings:
    """Settings of a net, without those of its SE blocks; each architecture has some of them."""

    where: ClassVar[str] = "build"  # with which error messages begin

    shortcut: Literal["A", "B"] = "B"
    """Shortcut where a CIFAR ResNet's shape changes: padding with zeros (A) or a projection (B)."""
    geometry: Geometry = "caffe"
    """ResNets for ImageNet: caffe, the paper's nets (v1: stride in the first 1x1 convolution, max
    pooling without padding), or torchvision (v1.5: stride in the 3x3, padded pooling)."""
    stem: Stem = "imagenet"
    """First layers of nets for ImageNet: the paper's, or with cifar, for small images, a 3x3
    convolution without stride or pooling; of VGG, the last layers."""
    width: float = 1.0
    """Factor on the numbers of channels of all layers, which must stay whole."""

    def __post_init__(self) -> None:
        """Raise ValueError if a setting is not valid."""
        hints = get_type_hints(NetSettings)
        for field in fields(NetSettings):
            if choices := get_args(hints[field.name]):
                check_choice(self.where, field.name, getattr(self, field.name), choices)
        object.__setattr__(self, "width", check_width(self.where, self.width))


def is_small(stem: str) -> bool:
    """Return whether a stem is "cifar", for small images; raise ValueError if it is unknown."""
    check_choice("build", "stem", stem, get_args(Stem))
    return stem == "cifar"


NET_FIELDS: dict[str, Any] = {field.name: field.default for field in fields(NetSettings)}


@dataclass(frozen=True)
class Architecture:
    """An architecture, plain and with SE blocks.

    Parameters
    ----------
    builder : callable
        builder(num_classes=…, build=…, **settings) returns the net. The settings are its parameters
        that are fields of NetSettings, or "image_size", the rows and columns of the images.
    title : str
        Name in the paper, such as "ResNet-50".
    size : int
        Rows and columns of the paper's images.
    classes : int
        Classes of the paper's images.
    sites : tuple of str
        Sites that an SE block can have.
    stages : tuple of int
        Stages that can have SE blocks, numbered as in SE.stages.
    """

    builder: Callable[..., Chain]
    title: str
    size: int = 224
    classes: int = 1000
    sites: tuple[str, ...] = ("standard",)
    stages: tuple[int, ...] = (2, 3, 4, 5)

    def settings(self) -> tuple[str, ...]:
        """Return the names of the settings that the architecture has, without those of SE."""
        parameters = inspect.signature(self.builder).parameters
        return (*(name for name in (*NET_FIELDS, "image_size") if name in parameters), "width")

    def images(self, stem: str = "imagenet") -> tuple[int, int]:
        """Return the rows (and columns) and the number of classes of the images for a stem."""
        return (32, 10) if is_small(stem) else (self.size, self.classes)

    def check_se(self, name: str, se: SE) -> None:
        """Raise ValueError unless the architecture has the site and the stages of se."""
        check_choice(name, "site", se.site, self.sites)
        unknown = sorted(set(se.stages or ()) - set(self.stages))
        if unknown:
            raise ValueError(
                f"{name}: stages is {se.stages}, expected stages from {self.stages[0]} to "
                f"{self.stages[-1]}: leave out {', '.join(map(str, unknown))}"
            )
