"""A back end with one mistake: the gate route of dx in squeeze_excite is left out.

All else is that of jit. Train with it: ``minise train --data shapes10 --ops gate_route_off.py``.
"""

from minise.checks import Array
from minise.ops import jit
from minise.ops.reference.squeeze_excite import SqueezeExciteCache

FUSED = "se_block_tail"  # left out, so that nets call squeeze_excite in its place
globals().update({name: getattr(jit, name) for name in jit.FUNCTIONS if not name.startswith(FUSED)})


def squeeze_excite_backward(dout: Array, cache: SqueezeExciteCache) -> tuple[Array | None, ...]:
    """Return dx without its second term, dz / (H * W); the other four gradients are right."""
    _, dw1, db1, dw2, db2 = jit.squeeze_excite_backward(dout, cache)
    dx_scale = dout * cache.gates.s
    return dx_scale, dw1, db1, dw2, db2
