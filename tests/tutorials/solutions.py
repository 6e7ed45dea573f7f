"""Solutions of the exercises, in the skeletons of the lessons, and typical mistakes."""

import linecache
import re
import textwrap

import numpy as np

from minise.ops import reference
from minise.ops.reference.windows import pad, unpad, window, windows_of

SOLUTIONS = {  # by op, or by lesson if two lessons have the same op
    "linear": """
        def linear_backward(dout, cache):
            x, weight, bias = cache
            dbias = dout.sum(axis=0)
            dweight = dout.T @ x
            dx = dout @ weight
            return dx, dweight, dbias
    """,
    "01_chain_rule": """
        def channel_scale_backward(dout, cache):
            x, s = cache.x, cache.s
            dx = dout * s[:, :, None, None]
            ds = (dout * x).sum(axis=(2, 3))
            return dx, ds
    """,
    "conv2d": """
        def conv2d_backward(dout, cache):
            x, weight, bias, stride, padding, *_ = cache
            where = windows_of(x.shape[2:], weight.shape[2:], stride, padding)
            padded = pad(x, where)
            dweight = np.zeros(weight.shape)
            dpadded = np.zeros(padded.shape)
            dbias = dout.sum(axis=(0, 2, 3))
            for i, j in where.offsets():
                seen = window(padded, where, i, j)
                dweight[:, :, i, j] = np.einsum("nkpq,ncpq->kc", dout, seen)
                dseen = np.einsum("kc,nkpq->ncpq", weight[:, :, i, j], dout)
                window(dpadded, where, i, j)[...] += dseen
            dx = unpad(dpadded, where)
            return dx, dweight, dbias
    """,
    "batch_norm2d_add_relu": """
        def batch_norm2d_add_relu_backward(dout, cache):
            dtotal = np.where(cache.out <= 0, 0, dout)
            dshortcut = dtotal
            dx, dgamma, dbeta = ops.batch_norm2d_backward(dtotal, cache.norm)
            return dx, dgamma, dbeta, dshortcut
    """,
    "hard_sigmoid": """
        def hard_sigmoid_backward(dout, cache):
            out = cache.out
            inside = (out > 0) & (out < 1)
            dx = np.where(inside, dout / 6, 0)
            return dx
    """,
    "10_seven_loops_to_winograd": """
        def conv2d_backward(dout, cache):
            x, weight, bias, stride, padding, *_ = cache
            where = windows_of(x.shape[2:], weight.shape[2:], stride, padding)
            padded = pad(x, where)
            filters = weight.reshape(*weight.shape[:2], -1)
            cols = np.stack([window(padded, where, i, j) for i, j in where.offsets()], axis=2)
            dbias = dout.sum(axis=(0, 2, 3))
            dfilters = np.einsum("nkpq,ncopq->kco", dout, cols)
            dcols = np.einsum("kco,nkpq->ncopq", filters, dout)
            dweight = dfilters.reshape(weight.shape)
            dpadded = np.zeros(padded.shape)
            for k, (i, j) in enumerate(where.offsets()):
                window(dpadded, where, i, j)[...] += dcols[:, :, k]
            dx = unpad(dpadded, where)
            return dx, dweight, dbias
    """,
    "channel_scale": """
        def channel_scale_backward(dout, cache):
            rows = cache.s.size
            x, dy, s = cache.x.reshape(rows, -1), dout.reshape(rows, -1), cache.s.ravel()
            dx = np.zeros(x.shape)
            ds = np.zeros(rows)
            for row in range(rows):
                lanes = np.zeros(32)
                for lane in range(32):
                    for i in range(lane, x.shape[1], 32):
                        dx[row, i] = dy[row, i] * s[row]
                        lanes[lane] += dy[row, i] * x[row, i]
                for half in (16, 8, 4, 2, 1):
                    lanes[:half] += lanes[half : 2 * half]
                ds[row] = lanes[0]
            return dx.reshape(cache.x.shape), ds.reshape(cache.s.shape)
    """,
    "max_pool2d": """
        def max_pool2d_backward(dout, cache):
            x, argmax, *_ = cache
            W = x.shape[3]
            dx = np.zeros(x.shape)
            for n, c, p, q in np.ndindex(*dout.shape):
                i, j = divmod(argmax[n, c, p, q], W)
                dx[n, c, i, j] += dout[n, c, p, q]
            return dx
    """,
    "batch_norm2d": """
        def batch_norm2d_backward(dout, cache):
            x, gamma, beta, mean, rstd, *_ = cache
            M = x.size // len(gamma)
            centred = x - mean[:, None, None]
            xhat = centred * rstd[:, None, None]
            dbeta = dout.sum(axis=(0, 2, 3))
            dgamma = (dout * xhat).sum(axis=(0, 2, 3))
            dxhat = dout * gamma[:, None, None]
            drstd = (dxhat * centred).sum(axis=(0, 2, 3))
            dvar = -0.5 * rstd**3 * drstd
            dcentred = dxhat * rstd[:, None, None] + (2 / M * dvar)[:, None, None] * centred
            dmean = -dcentred.sum(axis=(0, 2, 3))
            dx = dcentred + dmean[:, None, None] / M
            return dx, dgamma, dbeta
    """,
    "squeeze_excite": """
        def squeeze_excite_backward(dout, cache):
            x, *_ = cache
            w1, b1, w2, b2, z, h, s, *_ = cache.gates
            H, W = x.shape[2:]
            dx_scale = dout * s
            ds = (dout * x).sum(axis=(2, 3), keepdims=True)
            dv = ds * s * (1 - s)
            dh = np.einsum("cr,ncij->nrij", w2, dv)
            dw2 = np.einsum("ncij,nrij->cr", dv, h)
            db2 = dv.sum(axis=(0, 2, 3))
            du = np.where(h <= 0, 0, dh)
            dz = np.einsum("rc,nrij->ncij", w1, du)
            dw1 = np.einsum("nrij,ncij->rc", du, z)
            db1 = du.sum(axis=(0, 2, 3))
            dx = dx_scale + dz / (H * W)
            return dx, dw1, db1, dw2, db2
    """,
    "softmax_cross_entropy": """
        def softmax_cross_entropy_backward(dout, cache):
            logprob, labels, *_ = cache
            N, K = logprob.shape
            at_label = np.arange(K) == labels[:, None]
            dlogprob = np.where(at_label, -dout / N, 0)
            dlogits = dlogprob - np.exp(logprob) * dlogprob.sum(axis=1, keepdims=True)
            return dlogits, None
    """,
}

MISTAKES = [  # op, text of the correct line, its replacement
    ("linear", "dout.sum(axis=0)", "dout.mean(axis=0)"),
    ("linear", "dout.T @ x", "dout.T @ x / len(x)"),
    ("linear", "dout @ weight", "-dout @ weight"),
    ("conv2d", "[...] += dseen", "[...] = dseen"),
    ("conv2d", "dout, seen)", "dout[::-1], seen)"),
    ("conv2d", "unpad(dpadded, where)", "dpadded[:, :, : x.shape[2], : x.shape[3]]"),
    ("conv2d", "dout.sum(axis=(0, 2, 3))", "dout[0].sum(axis=(1, 2))"),
    ("max_pool2d", "] += dout", "] = dout"),
    ("batch_norm2d", "(dout * xhat).sum", "(dout * x).sum"),
    ("batch_norm2d", "dout * gamma[:, None, None]", "dout"),
    ("batch_norm2d", "(dxhat * centred).sum", "(dxhat * xhat).sum"),
    ("batch_norm2d", "-0.5 * rstd**3", "-0.5 * rstd**2"),
    ("batch_norm2d", "-0.5 * rstd**3", "0.5 * rstd**3"),
    ("batch_norm2d", " + (2 / M * dvar)[:, None, None] * centred", ""),
    ("batch_norm2d", "dxhat * rstd[:, None, None]", "dxhat * rstd"),
    ("batch_norm2d", "dxhat * rstd[:, None, None]", "dxhat * rstd[0]"),
    ("batch_norm2d", "-0.5 * rstd**3", "-0.5 * rstd.mean() ** 3"),
    ("batch_norm2d", "2 / M * dvar", "dvar / M"),
    ("batch_norm2d", "-dcentred.sum", "dcentred.sum"),
    ("batch_norm2d", "dmean[:, None, None] / M", "dmean[:, None, None]"),
    ("batch_norm2d", "dcentred + dmean[:, None, None] / M", "dcentred"),
    ("squeeze_excite", "dout * s\n", "dout\n"),
    ("squeeze_excite", "(dout * x).sum", "dout.sum"),
    ("squeeze_excite", "(dout * x).sum(", "(dout * x).mean("),
    ("squeeze_excite", "ds * s * (1 - s)", "ds * s"),
    ("squeeze_excite", "np.where(h <= 0, 0, dh)", "dh"),
    ("squeeze_excite", "np.where(h <= 0, 0, dh)", "dh * (h[:1] > 0)"),
    ("squeeze_excite", "np.where(h <= 0, 0, dh)", "dh * (h.sum(axis=0) > 0)"),
    (
        "squeeze_excite",
        '"cr,ncij->nrij", w2, dv',
        '"c,ncij->nij", w2[:, -1], dv)[:, None].repeat(h.shape[1], 1',
    ),
    ("squeeze_excite", '"nrij,ncij->rc", du, z', '"nrij,ncij->rc", h, z'),
    ("squeeze_excite", "dv.sum(axis=(0, 2, 3))", "ds.sum(axis=(0, 2, 3))"),
    ("squeeze_excite", "dz / (H * W)", "dz"),
    ("squeeze_excite", "dx_scale + dz / (H * W)", "dx_scale"),
    ("softmax_cross_entropy", "-dout / N", "-dout"),
    ("softmax_cross_entropy", "-dout / N", "dout / N"),
    ("softmax_cross_entropy", "np.exp(logprob) *", "logprob *"),
    ("batch_norm2d_add_relu", "np.where(cache.out <= 0, 0, dout)", "dout"),
    ("batch_norm2d_add_relu", "dshortcut = dtotal", "dshortcut = dout"),
    ("hard_sigmoid", "(out > 0) & (out < 1)", "(out >= 0) & (out <= 1)"),
    ("hard_sigmoid", "dout / 6", "dout"),
    ("channel_scale", "dy[row, i] * s[row]", "dy[row, i]"),
    ("channel_scale", "dy[row, i] * x[row, i]", "dy[row, i]"),
    ("channel_scale", "lanes[half : 2 * half]", "lanes[:half]"),
]


def compiled(text, names=()):
    """Return the last function that a text defines, compiled as in a notebook's cell."""
    text = textwrap.dedent(text).strip() + "\n"
    name = f"<cell {hash(text)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    space = {
        **dict(np=np, ops=reference),
        **dict(pad=pad, unpad=unpad, window=window, windows_of=windows_of),
        **dict(names),
    }
    exec(compile(text, name, "exec"), space)
    return space[re.findall(r"^def (\w+)", text, re.MULTILINE)[-1]]
