"""Pictures drawn from the code, as SVG: what they name, count and compute is the code's.

    from minise.pictures import se_block
    se_block()                # a notebook shows it
    se_block().svg            # for a page

`python -m minise.pictures FOLDER` writes all of them. svg.py has the primitives and the style.
"""

from collections.abc import Callable

from minise.pictures.gating import se_block
from minise.pictures.graph import net_graph
from minise.pictures.loss import softmax_cross_entropy
from minise.pictures.memory import fused_tail
from minise.pictures.normalisation import batch_norm_axes
from minise.pictures.pooling import max_pool_routes
from minise.pictures.sliding import window
from minise.pictures.svg import Picture
from minise.pictures.units import residual_block

PICTURES: dict[str, Callable[[], Picture]] = {
    "se_block": se_block,
    "residual_block": residual_block,
    "batch_norm_axes": batch_norm_axes,
    "window": window,
    "max_pool_routes": max_pool_routes,
    "softmax_cross_entropy": softmax_cross_entropy,
    "net_graph": net_graph,
    "fused_tail": fused_tail,
}

OF_WALKS = {  # the picture of an op or net of `minise walk`
    "batch_norm2d": batch_norm_axes,
    "block": residual_block,
    "conv2d": window,
    "max_pool2d": max_pool_routes,
    "net": net_graph,
    "se_block_tail": fused_tail,
    "softmax_cross_entropy": softmax_cross_entropy,
    "squeeze_excite": se_block,
}


def picture_of(subject: str) -> str:
    """Return the SVG of an op or net of `minise walk`, or "" if it has no picture."""
    return OF_WALKS[subject]().svg if subject in OF_WALKS else ""


__all__ = [
    "PICTURES",
    "Picture",
    "batch_norm_axes",
    "fused_tail",
    "max_pool_routes",
    "net_graph",
    "picture_of",
    "residual_block",
    "se_block",
    "softmax_cross_entropy",
    "window",
]
