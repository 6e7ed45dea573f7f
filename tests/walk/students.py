"""Ops as a student may write them, in a file of their own: correct and wrong."""

import importlib.util
from pathlib import Path

from minise.ops.reference import squeeze_excite

RIGHT = '''
"""Squeeze and excite, as I see it."""
import numpy as np


def squeeze_excite_forward(x, w1, b1, w2, b2, *, squeeze="avg", gate="sigmoid"):
    z = x.mean(axis=(2, 3))
    u = z @ w1.T + b1
    h = np.maximum(u, 0)
    v = h @ w2.T + b2
    s = 1 / (1 + np.exp(-v))
    return x * s[:, :, None, None], {"x": x, "z": z, "h": h, "s": s, "w1": w1, "w2": w2}


def squeeze_excite_backward(dout, cache):
    x, s = cache["x"], cache["s"]
    ds = (dout * x).sum(axis=(2, 3))
    dv = ds * s * (1 - s)
    dh = dv @ cache["w2"]
    du = dh * (cache["h"] > 0)
    dz = du @ cache["w1"]
    share = dz / (x.shape[2] * x.shape[3])
    dx = dout * s[:, :, None, None] + share[:, :, None, None]
    return dx, du.T @ cache["z"], du.sum(axis=0), dv.T @ cache["h"], dv.sum(axis=0)
'''


def module(path: Path, text: str):
    """Write a file and import it."""
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def edited(path: Path, old: str, new: str):
    """Return the reference's squeeze_excite.py, imported from a copy with one line replaced."""
    text = Path(squeeze_excite.__file__).read_text()
    assert text.count(old) == 1
    return module(path, text.replace(old, new))
