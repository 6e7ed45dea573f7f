"""Settings that all layers of a net share: back end, random numbers, dtype, width, SE settings."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

import numpy as np

from minise.checks import Pair, check_number
from minise.nn.compose import Chain, Child
from minise.nn.layers import BatchNorm2d, Conv2d, Linear, NormReLU
from minise.nn.squeeze_excite import SE, SEBlock
from minise.nn.streams import Rng, generator
from minise.ops import reference
from minise.ops.backend import Backend

MAX_DENOMINATOR = 1 << 12  # of a width: 0.1 means 1/10, not the nearest number of 53 bits
MAX_WIDTH = 1e3


@dataclass(frozen=True)
class Build:
    """Settings shared by all layers of a net, and the layers with these settings.

    Parameters
    ----------
    ops : back end
        Back end whose ops the layers call.
    rng : numpy.random.Generator, int or None
        Draws the parameters; None means a stream that no other layer uses.
    dtype : dtype
        Of all parameters.
    se : SE, optional
        Settings of the SE blocks; without them the net is plain.
    se_rng : numpy.random.Generator, int or None
        Draws the parameters of SE blocks, by default a stream spawned from rng, so that a net and
        its SE twin have equal weights in all other layers.
    width : float
        Factor on numbers of channels; see `scale`.
    eps : float
        eps of normalisations.
    """

    ops: Backend = reference
    rng: Rng = None
    dtype: Any = np.float32
    se: SE | None = None
    se_rng: Rng = None
    width: float = 1.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        """Replace seeds and None by generators, once: layers built from one seed would be equal."""
        if self.se is not None and not isinstance(self.se, SE):
            raise TypeError(f"Build: se is {self.se!r}, expected SE(reduction=…) or None")
        check_width("Build", self.width)
        check_floating("Build", self.dtype)
        rng = generator("Build", self.rng)
        se_rng = rng.spawn(1)[0] if self.se_rng is None else generator("Build", self.se_rng)
        object.__setattr__(self, "rng", rng)
        object.__setattr__(self, "se_rng", se_rng)

    def at_stage(self, stage: int) -> Self:
        """Return these settings, without SE if `se.stages` does not contain the stage."""
        without = self.se is not None and self.se.stages and stage not in self.se.stages
        return replace(self, se=None) if without else self

    def scale(self, count: int, of: str = "channels") -> int:
        """Return count * width, such as the net's number of channels for the paper's number.

        `of` is the noun for error messages. Raises ValueError if the product is not a whole number
        of at least 1.
        """
        scaled = count * as_fraction(self.width)
        if scaled.denominator != 1 or scaled < 1:
            raise ValueError(
                f"Build: width is {self.width:g}, which leaves {float(scaled):g} of {count} {of}, "
                f"expected a whole number: use a multiple of 1/{count}"
            )
        return int(scaled)

    def scaled(self, *channels: int) -> tuple[int, ...]:
        """Return scale(c) for each number of channels c."""
        return tuple(map(self.scale, channels))

    def conv(
        self,
        channels_in: int,
        channels: int,
        kernel: int | Pair,
        stride: int | Pair = 1,
        groups: int = 1,
        *,
        padding: int | Pair | None = None,
        bias: bool = False,
    ) -> Conv2d:
        """Return a convolution, by default without bias, padded so that stride 1 keeps the size."""
        if padding is None:
            rows, columns = kernel if isinstance(kernel, tuple) else (kernel, kernel)
            padding = rows // 2, columns // 2
        shape: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups}
        options = {"bias": bias, "rng": self.rng, **self._options()}
        return Conv2d(channels_in, channels, kernel, **shape, **options)

    def norm(self, channels: int) -> BatchNorm2d:
        """Return a batch normalisation."""
        return BatchNorm2d(channels, eps=self.eps, **self._options())

    def norm_relu(self, channels: int) -> NormReLU:
        """Return a batch normalisation fused with a ReLU."""
        return NormReLU(channels, eps=self.eps, **self._options())

    def conv_norm(
        self,
        channels_in: int,
        channels: int,
        kernel: int | Pair,
        stride: int | Pair = 1,
        groups: int = 1,
        *,
        padding: int | Pair | None = None,
        relu: bool = True,
    ) -> Chain:
        """Return a convolution without bias, a normalisation and, unless relu=False, a ReLU."""
        conv = self.conv(channels_in, channels, kernel, stride, groups, padding=padding)
        norm = self.norm_relu(channels) if relu else self.norm(channels)
        return self.chain(("conv", conv), ("bn", norm))

    def linear(self, inputs: int, outputs: int) -> Linear:
        """Return a dense layer with a bias."""
        return Linear(inputs, outputs, rng=self.rng, **self._options())

    def se_at(self, site: str, channels: int) -> SEBlock | None:
        """Return an SE block if `site` is the chosen site, else None."""
        if self.se is None or self.se.site != site:
            return None
        return SEBlock(channels, self.se, rng=self.se_rng, **self._options())

    def chain(self, *children: Child) -> Chain:
        """Return a chain of layers; without layers, the identity."""
        return Chain(*children, ops=self.ops)

    def _options(self) -> dict[str, Any]:
        return {"ops": self.ops, "dtype": self.dtype}


def check_width(where: str, width: float) -> float:
    """Return a width as a float; raise ValueError unless it is a number above 0, up to 1000."""
    return check_number(
        where, "width", width, f"a number above 0, up to {MAX_WIDTH:g}", 1e-6, MAX_WIDTH
    )


def check_floating(where: str, dtype: Any) -> None:
    """Raise TypeError unless parameters can have a dtype."""
    try:
        fits = dtype is not None and np.dtype(dtype).char in "fdgDG"
    except TypeError:  # what it is, is in no list of NumPy's
        fits = False
    if not fits:
        raise TypeError(f"{where}: dtype is {dtype!r}, expected np.float32 or np.float64")


def as_fraction(width: float) -> Fraction:
    """Return a width as a fraction with a small denominator."""
    return Fraction(width).limit_denominator(MAX_DENOMINATOR)
