"""Wrong backward passes by name, over all ops: what a gradient check must catch.

Each is a function of the right gradients, dout and the cache, beside the case in which it shows
and the kinds of diagnosis that would put its author on the right track.
"""

from typing import Any, NamedTuple

import numpy as np

from minise.ops import reference
from minise.ops.reference.gates import gate_backward
from minise.ops.reference.windows import pad, window, windows_of
from tests.ops.cases import CASES, Case


class Mistake(NamedTuple):
    """A wrong backward and where it shows."""

    case: Case
    wrong: Any  # (gradients, dout, cache) -> gradients
    kinds: set[str]  # of diagnosis
    integers: bool = False  # draw small integers, so that numbers tie


def put(gradients, k, value):
    """Return the gradients with the k-th replaced."""
    return (*gradients[:k], value, *gradients[k + 1 :])


def scaled(k, factor):
    return lambda g, d, c: put(g, k, g[k] * (factor(d, c) if callable(factor) else factor))


def where_of(c, kernel, dilation=(1, 1)):
    ceil_mode = getattr(c, "ceil_mode", False)
    return windows_of(c.x.shape[2:], kernel, c.stride, c.padding, dilation, ceil_mode)


def assigned(shares, c, kernel, dilation=(1, 1)):
    """Write each offset's share over what stands there, as if windows did not overlap."""
    where = where_of(c, kernel, dilation)
    dpadded = np.zeros_like(pad(c.x, where))
    for (i, j), share in zip(where.offsets(), shares, strict=True):
        window(dpadded, where, i, j)[...] = share
    return dpadded


def cropped(dpadded, c, top, left):
    H, W = c.x.shape[2:]
    return dpadded[..., top : top + H, left : left + W]


def conv_assigned(g, d, c):
    kernel = c.weight.shape[2:]
    shares = [np.einsum("kc,nkpq->ncpq", c.weight[:, :, i, j], d) for i, j in np.ndindex(*kernel)]
    dpadded = assigned(shares, c, kernel, c.dilation)
    return put(g, 0, cropped(dpadded, c, *c.padding))


def conv_uncropped(g, d, c):
    free = c._replace(x=pad(c.x, where_of(c, c.weight.shape[2:], c.dilation)), padding=(0, 0))
    return put(g, 0, cropped(reference.conv2d_backward(d, free)[0], c, 0, 0))


def conv_with(**settings):
    """Return a backward that scatters dx as under other settings."""

    def wrong(g, d, c):
        kernel = c.weight.shape[2:]
        where = where_of(c, kernel, c.dilation)
        other = where._replace(**settings)
        dpadded = np.zeros_like(pad(c.x, where))
        for i, j in where.offsets():
            share = np.einsum("kc,nkpq->ncpq", c.weight[:, :, i, j], d)
            window(dpadded, other, i, j)[...] += share
        return put(g, 0, cropped(dpadded, c, *c.padding))

    return wrong


def conv_flipped(g, d, c):
    flipped = c._replace(weight=c.weight[..., ::-1, ::-1])
    return put(g, 0, reference.conv2d_backward(d, flipped)[0])


def max_shares(d, c):
    """Return for each offset what it gives to its pixels."""
    where = where_of(c, c.kernel)
    place = pad(np.arange(c.x[0, 0].size).reshape(c.x.shape[2:]), where, -1)
    for i, j in where.offsets():
        yield np.where(c.argmax == window(place, where, i, j), d, 0)


def max_assigned(g, d, c):
    return (cropped(assigned(max_shares(d, c), c, c.kernel), c, *c.padding),)


def max_to_ties(g, d, c):
    where = where_of(c, c.kernel)
    padded, out = pad(c.x, where, -np.inf), reference.max_pool2d_forward(c.x, **settings_of(c))[0]
    dpadded = np.zeros_like(padded)
    for i, j in where.offsets():
        tied = window(padded, where, i, j) == out
        window(dpadded, where, i, j)[...] += np.where(tied, d, 0)
    return (cropped(dpadded, c, *c.padding),)


def settings_of(c):
    names = ("kernel", "stride", "padding", "ceil_mode")
    return {name: getattr(c, name) for name in names}


def avg_assigned(g, d, c):
    size = c.kernel[0] * c.kernel[1]
    dpadded = assigned([d / size] * size, c, c.kernel)
    return (cropped(dpadded, c, *c.padding),)


def avg_by_other_divisor(g, d, c):
    return reference.avg_pool2d_backward(d, c._replace(count_include_pad=not c.count_include_pad))


def norm_parts(d, c):
    xhat = (c.x - c.mean[:, None, None]) * c.rstd[:, None, None]
    scale = (c.gamma * c.rstd)[:, None, None]
    means = [one.mean(axis=(0, 2, 3))[:, None, None] for one in (d, d * xhat)]
    return xhat, scale, *means


def norm_without(mean, variance):
    def wrong(g, d, c):
        xhat, scale, dmean, dvar = norm_parts(d, c)
        return put(g, 0, scale * (d - (0 if mean else dmean) - (0 if variance else xhat * dvar)))

    return wrong


def norm_unbiased(g, d, c):
    xhat, scale, dmean, dvar = norm_parts(d, c)
    M = c.x.size // len(c.gamma)
    return put(g, 0, scale * (d - dmean - xhat * dvar * M / (M - 1)))


def norm_without_eps(g, d, c):
    rstd = 1 / np.sqrt(1 / c.rstd**2 - c.eps)
    return put(g, 0, g[0] * (rstd / c.rstd)[:, None, None])


def norm_as_training(g, d, c):
    return reference.batch_norm2d_backward(d, c._replace(training=True))


def norm_with(direct, variance):
    """Return a backward of batch norm whose routes take rstd from functions of the right rstd.

    Behind a fused op the gradient at batch norm's output is that of the right backward.
    """

    def wrong(g, d, c):
        dy = behind_norm(g, d, c)
        M, centred = c.x.size // len(c.gamma), c.x - c.mean[:, None, None]
        dxhat = dy * c.gamma[:, None, None]
        dvar = -0.5 * variance(c.rstd) ** 3 * (dxhat * centred).sum(axis=(0, 2, 3))
        dcentred = dxhat * direct(c.rstd) + (2 / M * dvar)[:, None, None] * centred
        dmean = -dcentred.sum(axis=(0, 2, 3))
        return put(g, 0, dcentred + dmean[:, None, None] / M)

    return wrong


def over_channels(rstd):
    """Return rstd as it should stand beside images."""
    return rstd[:, None, None]


def behind_norm(g, d, c):
    """Return the gradient at the output of the batch normalisation, also of one in a fused op."""
    if not hasattr(c, "out"):
        return d
    dtotal = cut(d, c.out)
    if not hasattr(c, "gates"):
        return dtotal
    return dtotal * c.gates.s + tail_dz(g, d, c) / c.x[0, 0].size


def cut(d, out):
    """Return dout behind the ReLU."""
    return np.where(out <= 0, 0, d)


def norm_backward(d, c):
    """Return dx, dgamma, dbeta of the batch normalisation in a fused op."""
    return reference.batch_norm2d_backward(d, c.norm)


def normalised(c):
    """Return xhat and y of a fused op."""
    xhat = (c.x - c.mean[:, None, None]) * c.rstd[:, None, None]
    return xhat, c.gamma[:, None, None] * xhat + c.beta[:, None, None]


def fused_masked_by(sides):
    """Return a backward of batch norm and ReLU whose mask is told by another array than out."""

    def wrong(g, d, c):
        dy = cut(d, sides(c))
        return (*norm_backward(dy, c), *([dy] if len(g) == 4 else []))

    return wrong


def fused_without_mean(g, d, c):
    M = c.x.size // len(c.gamma)
    return put(g, 0, g[0] + (c.gamma * c.rstd * g[2] / M)[:, None, None])


def fused_without_variance(g, d, c):
    M, (xhat, _) = c.x.size // len(c.gamma), normalised(c)
    return put(g, 0, g[0] + (c.gamma * c.rstd * g[1] / M)[:, None, None] * xhat)


def tail_dz(g, d, c):
    """Return dz of the tail."""
    _, y = normalised(c)
    ds = (cut(d, c.out) * y).sum(axis=(2, 3), keepdims=True)
    dh = np.einsum("cr,ncij->nrij", c.gates.w2, gate_backward(ds, c.gates.s, c.gates.gate))
    return np.einsum("rc,nrij->ncij", c.gates.w1, cut(dh, c.gates.h))


def tail_with(dy):
    """Return a backward whose gradient behind the batch normalisation is dy(g, s, dz, H * W)."""

    def wrong(g, d, c):
        dgated, dz = cut(d, c.out), tail_dz(g, d, c)
        return (*norm_backward(dy(dgated, c.gates.s, dz, c.x[0, 0].size), c), *g[3:])

    return wrong


def tail_dgamma_of(moment):
    """Return a backward whose dgamma takes its route through the gate by another moment."""

    def wrong(g, d, c):
        xhat, _ = normalised(c)
        direct = (cut(d, c.out) * c.gates.s * xhat).sum(axis=(0, 2, 3))
        return put(g, 1, direct + (tail_dz(g, d, c) * moment(c)).sum(axis=(0, 2, 3)))

    return wrong


def tail_masked_by_branch(g, d, c):
    _, y = normalised(c)
    return put(g, 7, cut(d, y * c.gates.s))


def tail_slope_of_one(g, d, c):
    _, y = normalised(c)
    return put(g, 6, (cut(d, c.out) * y).sum(axis=(0, 2, 3)))


def through_scale(g, d, c):
    return d * c.gates.s


def one_hot(c):
    return np.arange(c.logprob.shape[1]) == c.labels[:, None]


SQUARE = Case("conv2d", dict(N=2, C=3, H=5, W=6, K=4, KH=3, KW=3), dict(padding=(1, 1)))
MATRIX = Case("linear", dict(N=4, I=5, O=5))
TIES = Case("max_pool2d", dict(N=2, C=3, H=5, W=6), dict(kernel=(3, 2), stride=(1, 2)))
CHANNELS = Case("concat", {"N": 2, "_": (3, 3), "H": 4, "W": 3})
SE = Case("squeeze_excite", dict(N=5, C=6, H=3, W=5, R=4))
SE_SQUARE = Case("squeeze_excite", dict(N=3, C=4, H=3, W=5, R=4))
NORM = Case("batch_norm2d", dict(N=3, C=4, H=3, W=5), dict(training=True, eps=0.1))
EVALUATION = Case("batch_norm2d", dict(N=3, C=4, H=3, W=5), dict(training=False, eps=0.1))
NORM_RELU = Case("batch_norm2d_relu", *NORM[1:])
NORM_ADD_RELU = Case("batch_norm2d_add_relu", *NORM[1:])
TAIL = Case("se_block_tail", dict(N=5, C=6, H=3, W=5, R=4), dict(training=True, eps=0.1))
NARROW_TAIL = Case("se_block_tail", dict(N=4, C=6, H=1, W=3, R=4), dict(training=False, eps=1.0))
LOGITS = Case("softmax_cross_entropy", dict(N=4, K=6))
SMOOTH = Case("softmax_cross_entropy", dict(N=4, K=6), dict(label_smoothing=0.2))
ANY = {"...": (3, 4, 5)}
SUM = {"missing mean term"}
FUSED = dict(N=2, C=3, H=2, W=3)  # C = W, so that a forgotten [:, None, None] broadcasts
MIXED = {  # rstd in the direct route, and in that through the variance
    "rstd of one channel for all": (lambda r: r[0], lambda r: r),
    "rstd along the rows": (lambda r: r, lambda r: r),
    "the mean of rstd in dvar": (over_channels, lambda r: r.mean()),
}

MISTAKES = {
    # convolution
    "conv2d: dx is assigned, not added, where windows overlap": Mistake(
        SQUARE, conv_assigned, {"not accumulated", "unknown"}
    ),
    "conv2d: dx with the kernel not turned round": Mistake(SQUARE, conv_flipped, {"unknown"}),
    "conv2d: dx not cropped by the padding": Mistake(SQUARE, conv_uncropped, {"shifted"}),
    "conv2d: dx ignores the stride": Mistake(
        CASES["conv2d"]["remainder"], conv_with(stride=(1, 1)), {"unknown", "not accumulated"}
    ),
    "conv2d: dx ignores the dilation": Mistake(
        CASES["conv2d"]["dilation"], conv_with(dilation=(1, 1)), {"unknown", "not accumulated"}
    ),
    "conv2d: dx is shifted by a row": Mistake(
        SQUARE, lambda g, d, c: put(g, 0, np.roll(g[0], 1, axis=2)), {"shifted"}
    ),
    "conv2d: dx is accumulated twice": Mistake(SQUARE, scaled(0, 2), {"factor 2"}),
    "conv2d: dx of the groups is swapped": Mistake(
        CASES["conv2d"]["groups"],
        lambda g, d, c: put(g, 0, np.roll(g[0], c.x.shape[1] // c.groups, axis=1)),
        {"shifted"},
    ),
    "conv2d: dweight is flipped": Mistake(
        SQUARE, lambda g, d, c: put(g, 1, g[1][..., ::-1, ::-1]), {"flipped"}
    ),
    "conv2d: dweight is transposed": Mistake(
        SQUARE, lambda g, d, c: put(g, 1, g[1].swapaxes(2, 3)), {"transposed"}
    ),
    "conv2d: dweight is a mean over images": Mistake(
        SQUARE, scaled(1, lambda d, c: 1 / len(d)), {"factor 1/N"}
    ),
    "conv2d: dbias forgets all images but the first": Mistake(
        SQUARE, lambda g, d, c: put(g, 2, d[0].sum(axis=(1, 2))), {"unknown"}
    ),
    "conv2d: dbias is a mean over windows": Mistake(
        SQUARE, scaled(2, lambda d, c: 1 / d[0, 0].size), {"factor 1/H*W", "factor 1/OH*OW"}
    ),
    # linear
    "linear: dx is zero": Mistake(MATRIX, scaled(0, 0), {"zero"}),
    "linear: dx by the transposed weight": Mistake(
        MATRIX, lambda g, d, c: put(g, 0, d @ c.weight.T), {"unknown"}
    ),
    "linear: dweight has the wrong sign": Mistake(MATRIX, scaled(1, -1), {"sign"}),
    "linear: dweight is transposed": Mistake(
        MATRIX, lambda g, d, c: put(g, 1, g[1].T), {"transposed"}
    ),
    "linear: dbias is a mean": Mistake(MATRIX, scaled(2, lambda d, c: 1 / len(d)), {"factor 1/N"}),
    # pooling
    "max_pool2d: dx is assigned, not added": Mistake(
        CASES["max_pool2d"]["overlap"], max_assigned, {"not accumulated"}
    ),
    "max_pool2d: dx goes to all of tied maxima": Mistake(
        TIES, max_to_ties, {"not accumulated", "wrong mask"}, True
    ),
    "max_pool2d: argmax counted in the padded image": Mistake(
        CASES["max_pool2d"]["padding"],
        lambda g, d, c: (np.roll(g[0], (1, 2), axis=(2, 3)),),
        {"shifted", "permuted"},
    ),
    "max_pool2d: dx is shared by the window": Mistake(TIES, scaled(0, 1 / 6), {"factor"}),
    "avg_pool2d: dx is assigned, not added": Mistake(
        CASES["avg_pool2d"]["overlap"], avg_assigned, {"not accumulated", "unknown"}
    ),
    "avg_pool2d: the padding is counted but should not be": Mistake(
        CASES["avg_pool2d"]["padding not counted"],
        avg_by_other_divisor,
        {"not accumulated", "unknown"},
    ),
    "avg_pool2d: dx is not divided": Mistake(
        CASES["avg_pool2d"]["stride above kernel"], scaled(0, 2), {"factor 2"}
    ),
    "avg_pool2d: what hangs over in ceil mode is counted": Mistake(
        CASES["avg_pool2d"]["ceil mode"],
        lambda g, d, c: (avg_assigned(g, d, c)[0],),
        {"not accumulated", "unknown"},
    ),
    "global_avg_pool2d: dx is not divided": Mistake(
        CASES["global_avg_pool2d"]["plain"],
        scaled(0, lambda d, c: c.x[0, 0].size),
        {"factor H*W"},
    ),
    "global_max_pool2d: dx goes to every pixel": Mistake(
        CASES["global_max_pool2d"]["plain"],
        lambda g, d, c: (np.broadcast_to(d[:, :, None, None], c.x.shape),),
        {"wrong mask"},
    ),
    # batch normalisation
    "batch_norm2d: dx lacks the route through the mean": Mistake(
        NORM, norm_without(True, False), {"missing mean term"}
    ),
    "batch_norm2d: dx lacks the route through the variance": Mistake(
        NORM, norm_without(False, True), {"missing variance term"}
    ),
    "batch_norm2d: dx in training as in evaluation": Mistake(
        NORM, norm_without(True, True), {"missing mean and variance terms"}
    ),
    "batch_norm2d: dx in evaluation as in training": Mistake(
        EVALUATION, norm_as_training, {"missing mean and variance terms"}
    ),
    "batch_norm2d: dx by the unbiased variance": Mistake(
        NORM, norm_unbiased, {"missing variance term"}
    ),
    "batch_norm2d: dx without eps": Mistake(NORM, norm_without_eps, {"channel factor", "factor"}),
    "batch_norm2d: dx without gamma": Mistake(
        NORM, lambda g, d, c: put(g, 0, g[0] / c.gamma[:, None, None]), {"channel factor"}
    ),
    "batch_norm2d: dgamma from x instead of xhat": Mistake(
        NORM, lambda g, d, c: put(g, 1, (d * c.x).sum(axis=(0, 2, 3))), {"unknown"}
    ),
    "batch_norm2d: dbeta is a mean": Mistake(
        NORM, scaled(2, lambda d, c: len(c.gamma) / d.size), {"factor 1/N*H*W"}
    ),
    # fused with what follows it
    "batch_norm2d_relu: the mask is forgotten": Mistake(
        NORM_RELU,
        fused_masked_by(lambda c: np.ones_like(c.out)),
        {"not accumulated", "wrong slope", "unknown"},
    ),
    "batch_norm2d_relu: the mask is taken from x": Mistake(
        NORM_RELU, fused_masked_by(lambda c: c.x), {"not accumulated", "wrong slope", "unknown"}
    ),
    "batch_norm2d_relu: the mask is taken from xhat, before beta": Mistake(
        NORM_RELU,
        fused_masked_by(lambda c: normalised(c)[0]),
        {"not accumulated", "wrong slope", "unknown"},
    ),
    "batch_norm2d_relu: dx is masked, not dout": Mistake(
        NORM_RELU,
        lambda g, d, c: put(g, 0, cut(norm_backward(d, c)[0], c.out)),
        {"one part", "not accumulated", "wrong slope", "unknown"},
    ),
    "batch_norm2d_relu: dx lacks the route through the mean": Mistake(
        NORM_RELU, fused_without_mean, {"missing mean term"}
    ),
    "batch_norm2d_relu: dx lacks the route through the variance": Mistake(
        NORM_RELU, fused_without_variance, {"missing variance term"}
    ),
    "batch_norm2d_relu: dbeta of all dout": Mistake(
        NORM_RELU,
        lambda g, d, c: put(g, 2, d.sum(axis=(0, 2, 3))),
        {"not accumulated", "wrong slope", "unknown"},
    ),
    "batch_norm2d_add_relu: the mask is dropped in dshortcut": Mistake(
        NORM_ADD_RELU, lambda g, d, c: put(g, 3, d), {"wrong mask"}
    ),
    "batch_norm2d_add_relu: the mask is taken before the sum": Mistake(
        NORM_ADD_RELU,
        fused_masked_by(lambda c: normalised(c)[1]),
        {"not accumulated", "wrong slope", "unknown"},
    ),
    "batch_norm2d_add_relu: dshortcut is forgotten": Mistake(NORM_ADD_RELU, scaled(3, 0), {"zero"}),
    "batch_norm2d_add_relu: dshortcut is scaled as dx": Mistake(
        NORM_ADD_RELU,
        lambda g, d, c: put(g, 3, g[3] * (c.gamma * c.rstd)[:, None, None]),
        {"channel factor"},
    ),
    "batch_norm2d_add_relu: dx lacks the route through the mean": Mistake(
        NORM_ADD_RELU, fused_without_mean, {"missing mean term"}
    ),
    "batch_norm2d_add_relu: dx lacks the route through the variance": Mistake(
        NORM_ADD_RELU, fused_without_variance, {"missing variance term"}
    ),
    "batch_norm2d_add_relu: dgamma of all dout": Mistake(
        NORM_ADD_RELU,
        lambda g, d, c: put(g, 1, norm_backward(d, c)[1]),
        {"not accumulated", "wrong slope", "unknown"},
    ),
    "se_block_tail: the mask is dropped in dshortcut": Mistake(
        TAIL, lambda g, d, c: put(g, 7, d), {"wrong mask"}
    ),
    "se_block_tail: the mask of dshortcut is taken before the sum": Mistake(
        TAIL, tail_masked_by_branch, {"not accumulated"}
    ),
    "se_block_tail: the route through the gate is forgotten": Mistake(
        NARROW_TAIL,
        tail_with(lambda g, s, dz, size: g * s),
        {"missing gate path", "wrong slope", "unknown"},
    ),
    "se_block_tail: the route through the scale is forgotten": Mistake(
        NARROW_TAIL,
        tail_with(lambda g, s, dz, size: dz / size + 0 * g),
        {"missing scale path", "wrong slope", "unknown"},
    ),
    "se_block_tail: dz is not divided by H * W": Mistake(
        TAIL, tail_with(lambda g, s, dz, size: g * s + dz), {"wrong slope", "unknown"}
    ),
    "se_block_tail: dx passes the gate twice": Mistake(
        TAIL, tail_with(lambda g, s, dz, size: g * s * s + dz / size), {"wrong slope", "unknown"}
    ),
    "se_block_tail: dx lacks the route through the batch's mean": Mistake(
        TAIL, fused_without_mean, {"missing mean term"}
    ),
    "se_block_tail: dx lacks the route through the batch's variance": Mistake(
        TAIL, fused_without_variance, {"missing variance term"}
    ),
    "se_block_tail: dgamma lacks the route through the gate": Mistake(
        TAIL, tail_dgamma_of(lambda c: 0 * c.gates.z), {"wrong slope", "unknown"}
    ),
    "se_block_tail: dgamma through the gate by z, not by zhat": Mistake(
        TAIL, tail_dgamma_of(lambda c: c.gates.z), {"wrong slope", "unknown"}
    ),
    "se_block_tail: dbeta lacks the route through the gate": Mistake(
        TAIL,
        lambda g, d, c: put(g, 2, (cut(d, c.out) * c.gates.s).sum(axis=(0, 2, 3))),
        {"wrong slope", "unknown"},
    ),
    "se_block_tail: db2 lacks the sigmoid's slope": Mistake(
        TAIL, tail_slope_of_one, {"wrong slope", "unknown"}
    ),
    # activations
    "relu: dx passes everywhere": Mistake(Case("relu", ANY), lambda g, d, c: (d,), {"wrong mask"}),
    "relu: dx by the sign of dout": Mistake(
        Case("relu", ANY),
        lambda g, d, c: (np.where(d > 0, d, 0),),
        {"wrong mask", "not accumulated"},
    ),
    "sigmoid: the slope is forgotten": Mistake(
        Case("sigmoid", ANY), lambda g, d, c: (d,), {"wrong slope"}
    ),
    "sigmoid: half of the slope is forgotten": Mistake(
        Case("sigmoid", ANY), lambda g, d, c: (d * c.out,), {"wrong slope"}
    ),
    "tanh: the square is forgotten": Mistake(
        Case("tanh", ANY), lambda g, d, c: (d * (1 - c.out),), {"wrong slope"}
    ),
    "hard_sigmoid: the slope goes on beyond the kinks": Mistake(
        Case("hard_sigmoid", {"...": (60, 60)}), lambda g, d, c: (d / 6,), {"wrong mask"}
    ),
    "hard_sigmoid: the slope is 1": Mistake(Case("hard_sigmoid", ANY), scaled(0, 6), {"factor"}),
    # loss
    "softmax_cross_entropy: a sum instead of a mean": Mistake(
        LOGITS, scaled(0, lambda d, c: len(c.labels)), {"factor N"}
    ),
    "softmax_cross_entropy: divided by N twice": Mistake(
        LOGITS, scaled(0, lambda d, c: 1 / len(c.labels)), {"factor 1/N"}
    ),
    "softmax_cross_entropy: the smoothing is forgotten": Mistake(
        SMOOTH,
        lambda g, d, c: reference.softmax_cross_entropy_backward(
            d, c._replace(label_smoothing=0.0)
        ),
        {"unknown", "missing mean term"},
    ),
    "softmax_cross_entropy: the label is not subtracted": Mistake(
        LOGITS,
        lambda g, d, c: put(g, 0, np.exp(c.logprob) * d / len(c.labels)),
        {"not accumulated", "wrong mask"},
    ),
    "softmax_cross_entropy: only the label's entry": Mistake(
        LOGITS, lambda g, d, c: put(g, 0, np.where(one_hot(c), g[0], 0)), {"not accumulated"}
    ),
    "softmax_cross_entropy: dout is ignored": Mistake(
        LOGITS, lambda g, d, c: put(g, 0, g[0] / d), {"factor"}
    ),
    # squeeze-and-excitation
    "squeeze_excite: dx lacks the route through the gate": Mistake(
        SE, lambda g, d, c: put(g, 0, through_scale(g, d, c)), {"missing gate path"}
    ),
    "squeeze_excite: dx lacks the route through the scale": Mistake(
        SE, lambda g, d, c: put(g, 0, g[0] - through_scale(g, d, c)), {"missing scale path"}
    ),
    "squeeze_excite: dz is not divided by H * W": Mistake(
        SE,
        lambda g, d, c: put(g, 0, g[0] + (g[0] - through_scale(g, d, c)) * (c.x[0, 0].size - 1)),
        {"missing gate path"},
    ),
    "squeeze_excite: dx is a billionth too large": Mistake(
        SE, scaled(0, 1 + 1e-9), {"nearly right"}
    ),
    "squeeze_excite: dw1 is transposed": Mistake(
        SE_SQUARE, lambda g, d, c: put(g, 1, g[1].T), {"transposed"}
    ),
    "squeeze_excite: dw1 and dw2 are swapped": Mistake(
        SE_SQUARE, lambda g, d, c: put(put(g, 1, g[3]), 3, g[1]), {"swapped"}
    ),
    "squeeze_excite: db1 has the wrong sign": Mistake(SE, scaled(2, -1), {"sign"}),
    "squeeze_excite: dw2 is off by one row": Mistake(
        SE, lambda g, d, c: put(g, 3, np.roll(g[3], 1, axis=0)), {"shifted"}
    ),
    "squeeze_excite: db2 is a mean over images": Mistake(
        SE, scaled(4, lambda d, c: 1 / len(d)), {"factor 1/N"}
    ),
    "squeeze_excite: db2 lacks the sigmoid's slope": Mistake(
        SE, lambda g, d, c: put(g, 4, (d * c.x).sum(axis=(0, 2, 3))), {"wrong slope"}
    ),
    # where paths meet
    "add: db is zero": Mistake(Case("add", ANY), scaled(1, 0), {"zero"}),
    "add: both get half": Mistake(Case("add", ANY), lambda g, d, c: (d / 2, d / 2), {"factor"}),
    "concat: the slices are swapped": Mistake(CHANNELS, lambda g, d, c: g[::-1], {"swapped"}),
    "channel_scale: ds is a mean": Mistake(
        CASES["channel_scale"]["plain"],
        scaled(1, lambda d, c: 1 / d[0, 0].size),
        {"factor 1/H*W"},
    ),
    "channel_scale: dx lacks s": Mistake(
        CASES["channel_scale"]["plain"], lambda g, d, c: put(g, 0, d), {"missing scale path"}
    ),
    "channel_shuffle: shuffled again, not back": Mistake(
        CASES["channel_shuffle"]["three of two"],
        lambda g, d, c: reference.channel_shuffle_forward(d, groups=c.groups)[:1],
        {"permuted"},
    ),
    "dropout: dx is not scaled": Mistake(CASES["dropout"]["fifth"], scaled(0, 1 - 0.2), {"factor"}),
    "flatten: dx in the order of channels-last memory": Mistake(
        CASES["flatten"]["plain"],
        lambda g, d, c: (d.reshape(len(d), *c.x.shape[2:], c.x.shape[1]).transpose(0, 3, 1, 2),),
        {"permuted", "unknown"},
    ),
    "flatten: dx is shifted by a channel": Mistake(
        CASES["flatten"]["plain"],
        lambda g, d, c: (np.roll(g[0], 1, axis=1),),
        {"shifted"},
    ),
    "dropout: the mask is inverted": Mistake(
        CASES["dropout"]["half"],
        lambda g, d, c: put(g, 0, np.where(c.mask, 0, d / (1 - c.p))),
        {"wrong mask"},
    ),
}
PLUS = {  # conv2d_backward(dout, cache, plus=plus): (gradients without plus, plus) -> gradients
    "plus is forgotten": lambda g, plus: g,
    "plus is returned in the place of dx": lambda g, plus: put(g, 0, plus),
    "plus is subtracted": lambda g, plus: put(g, 0, g[0] - plus),
    "plus is added twice": lambda g, plus: put(g, 0, g[0] + 2 * plus),
    "plus is added to its neighbour": lambda g, plus: put(g, 0, g[0] + np.roll(plus, 1)),
    "one image's plus serves all": lambda g, plus: put(g, 0, g[0] + plus[:1]),
    "plus is added to dweight too": lambda g, plus: put(
        put(g, 0, g[0] + plus), 1, g[1] + plus.mean()
    ),
    "dx is not of the shape of x": lambda g, plus: put(g, 0, (g[0] + plus)[0]),
    "dx is None": lambda g, plus: put(g, 0, None),
}
WITHOUT_DX = {  # conv2d_backward(dout, cache, needs_dx=False): gradients -> gradients
    "dweight is left out too": lambda g: (None, None, g[2]),
    "dweight is of the first image": lambda g: (None, g[1] / 2, g[2]),
    "dbias is forgotten": lambda g: (None, g[1], 0 * g[1][:, 0, 0, 0]),
    "only dx is left out, not replaced by None": lambda g: g[1:],
}
MISTAKES |= {  # between the channels: they show where channels differ
    f"{op}: {name}": Mistake(
        Case(op, {**FUSED, **more}, dict(training=True)),
        norm_with(*ways),
        {"missing variance term", "one part", "not accumulated", "wrong slope", "unknown"},
    )
    for op, more in (
        ("batch_norm2d", {}),
        ("batch_norm2d_relu", {}),
        ("batch_norm2d_add_relu", {}),
        ("se_block_tail", dict(R=2)),
    )
    for name, ways in MIXED.items()
}
