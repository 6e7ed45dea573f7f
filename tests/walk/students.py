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

CONV = '''
"""Convolution with loops that fill the gradients in place."""
import numpy as np


def conv2d_forward(
    x, weight, bias=None, *, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1
):
    N, C, H, W = x.shape
    K, _, KH, KW = weight.shape
    (sh, sw), (ph, pw) = stride, padding
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    OH, OW = (H + 2 * ph - KH) // sh + 1, (W + 2 * pw - KW) // sw + 1
    product = np.zeros((N, K, OH, OW), x.dtype)
    for i in range(OH):
        for j in range(OW):
            window = padded[:, :, i * sh : i * sh + KH, j * sw : j * sw + KW]
            product[:, :, i, j] = np.einsum("ncab,kcab->nk", window, weight)
    out = product if bias is None else product + bias[:, None, None]
    return out, (padded, weight, bias, stride, padding, x.shape)


def conv2d_backward(dout, cache):
    padded, weight, bias, (sh, sw), (ph, pw), shape = cache
    KH, KW = weight.shape[2:]
    dproduct = dout
    dbias = None if bias is None else dout.sum(axis=(0, 2, 3))
    dpadded = np.zeros_like(padded)
    dweight = np.zeros_like(weight)
    for i in range(dproduct.shape[2]):
        for j in range(dproduct.shape[3]):
            window = padded[:, :, i * sh : i * sh + KH, j * sw : j * sw + KW]
            g = dproduct[:, :, i, j]
            dweight += np.einsum("nk,ncab->kcab", g, window)
            rows, columns = slice(i * sh, i * sh + KH), slice(j * sw, j * sw + KW)
            dpadded[:, :, rows, columns] += np.einsum("nk,kcab->ncab", g, weight)
    dx = dpadded[:, :, ph : ph + shape[2], pw : pw + shape[3]]
    return dx, dweight, dbias
'''


def module(path: Path, text: str):
    """Write a file and import it."""
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def replaced(text: str, *edits: tuple[str, str]) -> str:
    """Return a text with each old part replaced, which must occur once."""
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


def edited(path: Path, *edits: tuple[str, str], of=squeeze_excite):
    """Return a file of the reference, imported from a copy with some lines replaced."""
    return module(path, replaced(Path(of.__file__).read_text(), *edits))
