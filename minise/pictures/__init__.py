"""Pictures drawn from the code, as SVG: what they name, count and compute is the code's.

    from minise.pictures import se_block
    se_block()                # a notebook shows it
    se_block().svg            # for a page

`python -m minise.pictures FOLDER` writes all of them. svg.py has the primitives and the style.
"""

from collections.abc import Callable

from minise.pictures.gating import se_block
from minise.pictures.svg import Picture
from minise.pictures.units import residual_block

PICTURES: dict[str, Callable[[], Picture]] = {
    "se_block": se_block,
    "residual_block": residual_block,
}

__all__ = ["PICTURES", "Picture", *PICTURES]
