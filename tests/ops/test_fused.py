"""Fused ops: by hand, against the ops they combine, by their closed form, and their messages."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.contract.conform import check_op
from minise.ops import reference
from minise.ops.reference import fused
from minise.ops.reference.gates import gate_backward, gate_forward
from minise.ops.reference.squeeze_excite import Gates
from minise.ops.shapes import check_gradient
from tests.ops.cases import (
    BACKENDS,
    CASES,
    SEEDS,
    STRATEGIES,
    Case,
    all_equal,
    direction,
    draw,
    few,
    without,
)
from tests.ops.loops import each

over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)
FUSED = ["batch_norm2d_relu", "batch_norm2d_add_relu", "se_block_tail"]
over_ops = pytest.mark.parametrize("op", FUSED)
FRESH = dict(running_mean=np.zeros(1), running_var=np.ones(1))
ONE = np.array([1.0])


def row(*pixels):
    """Return one image of one channel and one row."""
    return np.array([[[[float(pixel) for pixel in pixels]]]])


@over_backends
def test_batch_norm2d_relu_by_hand(ops):
    x = row(-3, 1, 1, 1) + 7  # mean 7, variance 3: with eps = 1 rstd is 1/2
    out, cache = ops.batch_norm2d_relu_forward(
        x, 10 * ONE, 2 * ONE, **FRESH, training=True, eps=1.0, momentum=0.25
    )
    assert out.tolist() == row(0, 2 + 5, 2 + 5, 2 + 5).tolist()  # the first would be 2 - 15
    assert cache.running_mean.tolist() == [0.75 * 0 + 0.25 * 7]
    assert cache.running_var.tolist() == [0.75 * 1 + 0.25 * (9 + 1 + 1 + 1) / 3]
    dx, dgamma, dbeta = ops.batch_norm2d_relu_backward(row(4, 2, 0, 0), cache)
    mean, slope = 2 / 4, 2 * 1 / 2 / 4  # of g = (0, 2, 0, 0), and of g xhat
    assert dbeta.tolist() == [2]
    assert dgamma.tolist() == [2 * 1 / 2]
    first, other = 5 * (3 / 2 * slope - mean), 5 * (-1 / 2 * slope - mean)
    assert dx.tolist() == row(first, other + 5 * 2, other, other).tolist()


@over_backends
def test_batch_norm2d_add_relu_by_hand(ops):
    x, shortcut = row(-3, 1, 1, 1) + 7, row(20, -8, 1, -7)
    out, cache = ops.batch_norm2d_add_relu_forward(
        x, 10 * ONE, 2 * ONE, shortcut, **FRESH, training=True, eps=1.0
    )
    assert out.tolist() == row(2 - 15 + 20, 0, 2 + 5 + 1, 0).tolist()  # 7 - 8 and 7 - 7 are cut
    dx, dgamma, dbeta, dshortcut = ops.batch_norm2d_add_relu_backward(row(4, 9, 2, 9), cache)
    assert dshortcut.tolist() == row(4, 0, 2, 0).tolist()
    assert dbeta.tolist() == [4 + 2]
    assert dgamma.tolist() == [4 * -3 / 2 + 2 * 1 / 2]
    mean, slope = (4 + 2) / 4, (-6 + 1) / 4
    first, other = 5 * (3 / 2 * slope - mean), 5 * (-1 / 2 * slope - mean)
    assert dx.tolist() == row(first + 5 * 4, other, other + 5 * 2, other).tolist()


@over_backends
def test_se_block_tail_by_hand(ops):
    out, cache = ops.se_block_tail_forward(
        row(5, 13),
        2 * ONE,
        ONE,
        np.array([[1.0]]),
        -ONE,
        np.array([[1 / 4]]),
        None,
        row(0, 1 / 2),
        running_mean=7 * ONE,
        running_var=3 * ONE,
        training=False,
        gate="relu",
        eps=1.0,
    )  # xhat = (-1, 3), y = (-1, 7), z = 3, h = 3 - 1, s = 2 / 4
    assert out.tolist() == row(0, 7 / 2 + 1 / 2).tolist()  # the first would be -1 / 2 + 0
    moments = cache.zhat, cache.gates.z, cache.gates.h, cache.gates.s
    assert [moment.tolist() for moment in moments] == [[[[[a]]]] for a in (1, 3, 2, 1 / 2)]
    gradients = ops.se_block_tail_backward(row(9, 2), cache)
    dx, dgamma, dbeta, dw1, db1, dw2, db2, dshortcut = gradients
    dv = 2 * 7  # g = (0, 2) times y
    du = dv / 4
    first, second = du / 2, 2 / 2 + du / 2  # through the gate; through scale and gate
    assert dshortcut.tolist() == row(0, 2).tolist()
    assert (dw2.tolist(), db2, dw1.tolist(), db1.tolist()) == ([[dv * 2]], None, [[du * 3]], [du])
    assert dbeta.tolist() == [first + second]
    assert dgamma.tolist() == [-first + 3 * second]
    assert dx.tolist() == row(first, second).tolist()  # gamma rstd = 2 / 2


# The composition


def composed(ops, op, inputs, dout, *, gate="sigmoid", **settings):
    """Return out, the gradients and both running statistics, from a sequence of ops."""
    x, gamma, beta, *dense = inputs
    y, norm_cache = ops.batch_norm2d_forward(x, gamma, beta, **settings)
    shortcut = dense.pop() if dense else None
    if dense:
        y, se_cache = ops.squeeze_excite_forward(y, *dense, gate=gate)
    if shortcut is not None:
        y, add_cache = ops.add_forward(y, shortcut)
    out, relu_cache = ops.relu_forward(y)
    more = []
    (dy,) = ops.relu_backward(dout, relu_cache)
    if shortcut is not None:
        dy, dshortcut = ops.add_backward(dy, add_cache)
        more = [dshortcut]
    if dense:
        dy, *ddense = ops.squeeze_excite_backward(dy, se_cache)
        more = [*ddense, *more]
    gradients = ops.batch_norm2d_backward(dy, norm_cache)
    return [out, *gradients, *more, norm_cache.running_mean, norm_cache.running_var]


@over_ops
@few
@given(data=st.data(), seed=SEEDS, dtype=st.sampled_from([np.float32, np.float64]))
def test_equals_its_parts(op, data, seed, dtype):
    """Bit for bit, at any setting, in training and in evaluation."""
    case, bare = data.draw(STRATEGIES[op]), data.draw(without(op))
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng, dtype, without=bare)
    out, cache = getattr(reference, f"{op}_forward")(*inputs, **keywords)
    dout = direction(out, rng)
    gradients = getattr(reference, f"{op}_backward")(dout, cache)
    ours = [out, *gradients, cache.running_mean, cache.running_var]
    all_equal(ours, composed(reference, op, inputs, dout, **keywords))


@over_backends
@over_ops
@pytest.mark.parametrize("training", [True, False])
def test_the_running_statistics_are_read_from_every_cache(ops, op, training):
    """Layers read them as attributes, as they do with batch_norm2d's cache."""
    inputs, keywords = draw(next(iter(CASES[op].values())), np.random.default_rng(0))
    keywords["training"] = training
    _, cache = getattr(ops, f"{op}_forward")(*inputs, **keywords)
    keywords.pop("gate", None)
    _, norm = ops.batch_norm2d_forward(*inputs[:3], **keywords)
    all_equal([cache.running_mean, cache.running_var], [norm.running_mean, norm.running_var])
    assert cache.training is training
    assert type(cache.norm) is type(norm)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = cache.nothing


@over_backends
@over_ops
def test_a_cache_holds_no_image_but_x_and_out(ops, op):
    """Intermediate images are recomputed, to save memory."""
    inputs, keywords = draw(next(iter(CASES[op].values())), np.random.default_rng(0))
    out, cache = getattr(ops, f"{op}_forward")(*inputs, **keywords)
    arrays = [a for part in (cache, *cache) if isinstance(part, tuple) for a in part]
    images = [a for a in arrays if getattr(a, "shape", ()) == out.shape]
    assert len(images) == 2
    all_equal(images, [out, inputs[0]])


# The closed form of fused.py's docstring, as a back end


def closed_forward(op, x, gamma, beta, w1, b1, w2, b2, shortcut, keywords):
    """Return out and a cache, from the statistics of rows and without a pass for the squeeze."""
    gate = keywords.get("gate", "sigmoid")
    training, eps = keywords["training"], keywords.get("eps", 1e-5)
    norm = {name: value for name, value in keywords.items() if name != "gate"}
    _, cache = reference.batch_norm2d_forward(x, gamma, beta, **norm)  # checks, statistics
    mean_image = x.mean(axis=(2, 3))
    mean = mean_image.mean(axis=0) if training else keywords["running_mean"]
    centred = x - mean[:, None, None]
    batch = (centred * centred).sum(axis=(2, 3)).sum(axis=0) / (x.size // len(gamma))
    var = batch if training else keywords["running_var"]
    rstd = 1 / np.sqrt(var + x.dtype.type(eps))
    zhat = (mean_image - mean) * rstd
    z = gamma * zhat + beta
    h, s = None, np.ones_like(z)
    if w1 is not None:
        u = z @ w1.T + (0 if b1 is None else b1)
        h = np.where(u <= 0, 0, u)
        s = gate_forward(h @ w2.T + (0 if b2 is None else b2), gate)
    scale = (s * gamma * rstd)[:, :, None, None]
    shift = (s * beta)[:, :, None, None]
    total = centred * scale + shift + (0 if shortcut is None else shortcut)
    out = np.where(total <= 0, 0, total)
    norm = cache._replace(mean=mean, rstd=rstd)
    if op == "se_block_tail":
        z, h, s, zhat = (a[:, :, None, None] for a in (z, h, s, zhat))
        gates = Gates(w1, b1, w2, b2, z, h, s, "avg", gate)
        return out, fused.SeBlockTailCache(norm, gates, zhat, out)
    kind = getattr(fused, "".join(part.capitalize() for part in op.split("_")) + "Cache")
    return out, kind(norm, out)


def closed_backward(dout, c):
    """Return the gradients of batch norm's arrays, SE's arrays and the shortcut, from two sums."""
    N, C, H, W = c.x.shape
    M, gates = N * H * W, getattr(c, "gates", None)
    s = np.ones((N, C), c.x.dtype) if gates is None else gates.s[:, :, 0, 0]
    g = np.where(c.out <= 0, 0, dout)
    sum_g = g.sum(axis=(2, 3))
    sum_gx = (g * (c.x - c.mean[:, None, None])).sum(axis=(2, 3))
    sum_gxhat = c.rstd * sum_gx
    ds = c.gamma * sum_gxhat + c.beta * sum_g
    dense, dz, zhat = (), np.zeros_like(s), np.zeros_like(s)
    if gates is not None:
        z, h, zhat = (a[:, :, 0, 0] for a in (gates.z, gates.h, c.zhat))
        dv = gate_backward(ds, s, gates.gate)
        du = np.where(h <= 0, 0, dv @ gates.w2)
        dz = du @ gates.w1
        db1, db2 = (None if a is None else a.sum(axis=0) for a in (du, dv))
        dense = (
            du.T @ z,
            None if gates.b1 is None else db1,
            dv.T @ h,
            None if gates.b2 is None else db2,
        )
    dbeta = (s * sum_g + dz).sum(axis=0)
    dgamma = (s * sum_gxhat + dz * zhat).sum(axis=0)
    k = c.gamma * c.rstd
    a = k * s
    b = k * (dz / (H * W) - (dbeta / M if c.training else 0))
    d = k * dgamma / M * c.rstd if c.training else np.zeros_like(k)
    dx = a[:, :, None, None] * g + b[:, :, None, None]
    dx = dx - d[:, None, None] * (c.x - c.mean[:, None, None])
    return dx, dgamma, dbeta, dense, g


def batch_norm2d_relu_forward(
    x, gamma, beta, *, running_mean, running_var, training, momentum=0.1, eps=1e-5
):
    keywords = dict(locals())
    arrays = [keywords.pop(name) for name in ("x", "gamma", "beta")]
    reference.batch_norm2d_relu_forward(*arrays, **keywords)  # for its messages
    return closed_forward("batch_norm2d_relu", *arrays, None, None, None, None, None, keywords)


def batch_norm2d_relu_backward(dout, cache):
    check_gradient("batch_norm2d_relu", dout, cache.out)
    return closed_backward(dout, cache)[:3]


def batch_norm2d_add_relu_forward(
    x, gamma, beta, shortcut, *, running_mean, running_var, training, momentum=0.1, eps=1e-5
):
    keywords = dict(locals())
    arrays = [keywords.pop(name) for name in ("x", "gamma", "beta", "shortcut")]
    reference.batch_norm2d_add_relu_forward(*arrays, **keywords)
    *norm, shortcut = arrays
    return closed_forward(
        "batch_norm2d_add_relu", *norm, None, None, None, None, shortcut, keywords
    )


def batch_norm2d_add_relu_backward(dout, cache):
    check_gradient("batch_norm2d_add_relu", dout, cache.out)
    dx, dgamma, dbeta, _, g = closed_backward(dout, cache)
    return dx, dgamma, dbeta, g


def se_block_tail_forward(
    x,
    gamma,
    beta,
    w1,
    b1,
    w2,
    b2,
    shortcut,
    *,
    running_mean,
    running_var,
    training,
    gate="sigmoid",
    momentum=0.1,
    eps=1e-5,
):
    keywords = dict(locals())
    names = ("x", "gamma", "beta", "w1", "b1", "w2", "b2", "shortcut")
    arrays = [keywords.pop(name) for name in names]
    reference.se_block_tail_forward(*arrays, **keywords)
    return closed_forward("se_block_tail", *arrays, keywords)


def se_block_tail_backward(dout, cache):
    check_gradient("se_block_tail", dout, cache.out)
    dx, dgamma, dbeta, dense, g = closed_backward(dout, cache)
    return dx, dgamma, dbeta, *dense, g


CLOSED = SimpleNamespace(
    **{
        f"{op}_{half}": globals()[f"{op}_{half}"]
        for op in FUSED
        for half in ("forward", "backward")
    },
    **{f"{op}_branches": getattr(reference, f"{op}_branches") for op in FUSED},
)


@over_ops
@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.long)])
def test_the_closed_form_conforms(op, count):
    """Every rule of the contract, with float32 too: the bounds allow any order of summation."""
    assert check_op(CLOSED, op, count)[:4] == (op, count, "", "")


@over_ops
def test_a_channel_switched_off(op):
    """With gamma = 0, a common initial value, z does not depend on x, but dgamma is not zero."""
    rng = np.random.default_rng(0)
    for case in CASES[op].values():
        inputs, keywords = draw(case, rng)
        inputs[1][...] = 0
        inputs[2][...] = 1
        inputs[-1][...] = 1
        out, cache = getattr(reference, f"{op}_forward")(*inputs, **keywords)
        dout = direction(out, rng)
        expected = getattr(reference, f"{op}_backward")(dout, cache)
        assert expected[1].any()
        ours = getattr(CLOSED, f"{op}_backward")(dout, cache)
        np.testing.assert_allclose(ours[1], expected[1], rtol=1e-12, atol=1e-12)


# Settings, NaN, kinks


@over_backends
@over_ops
def test_statistics_are_batch_norms(ops, op):
    for case in CASES[op].values():
        inputs, keywords = draw(case, np.random.default_rng(0))
        _, cache = getattr(ops, f"{op}_forward")(*inputs, **keywords)
        keywords.pop("gate", None)
        _, norm = ops.batch_norm2d_forward(*inputs[:3], **keywords)
        for name in ("mean", "rstd", "running_mean", "running_var"):
            np.testing.assert_allclose(getattr(cache, name), getattr(norm, name), rtol=1e-13)


@over_backends
@over_ops
def test_nan_in_the_statistics(ops, op):
    case = next(case for case in CASES[op].values() if not case.settings["training"])
    inputs, keywords = draw(case, np.random.default_rng(0))
    for name in ("running_mean", "running_var"):
        poisoned = keywords[name].copy()
        poisoned[1] = np.nan
        out, _ = getattr(ops, f"{op}_forward")(*inputs, **{**keywords, name: poisoned})
        assert np.isnan(out[:, 1]).all()


@over_backends
@pytest.mark.parametrize("op", FUSED[1:])
def test_a_nan_in_the_shortcut_stays_at_its_pixel(ops, op):
    case = next(iter(CASES[op].values()))
    inputs, keywords = draw(case, np.random.default_rng(0))
    inputs[-1][1, 2, 1, 3] = np.nan
    out, _ = getattr(ops, f"{op}_forward")(*inputs, **keywords)
    assert np.argwhere(np.isnan(out)).tolist() == [[1, 2, 1, 3]]


@over_backends
@over_ops
def test_a_clipped_relu_stops_a_nan(ops, op):
    """A slope of 0 selects 0: a NaN in dout does not propagate where out is 0."""
    for case in CASES[op].values():
        rng = np.random.default_rng(1)
        inputs, keywords = draw(case, rng)
        out, cache = getattr(ops, f"{op}_forward")(*inputs, **keywords)
        dout = direction(out, rng)
        poisoned = np.where(out <= 0, np.nan, dout)
        backward = getattr(ops, f"{op}_backward")
        assert np.isnan(poisoned).any()
        all_equal(backward(poisoned, cache), backward(np.where(out <= 0, 0, dout), cache))


@over_backends
def test_inactive_units_stop_a_nan(ops):
    """In the tail's dense layers too: the gradient of a clipped gate or inactive unit is 0."""
    case = Case("se_block_tail", dict(N=2, C=3, H=2, W=3, R=2), dict(training=True, gate="relu"))
    inputs, keywords = draw(case, np.random.default_rng(0))
    inputs[6][...] = -99  # b2: every gate is clipped
    inputs[7][...] = 1
    out, cache = ops.se_block_tail_forward(*inputs, **keywords)
    assert (out == 1).all()
    gradients = ops.se_block_tail_backward(np.full_like(out, np.nan), cache)
    assert all((gradient == 0).all() for gradient in gradients[3:7])


@over_backends
def test_branches_count_every_kink(ops):
    rng = np.random.default_rng(0)
    for op in FUSED[:2]:
        inputs, keywords = draw(CASES[op]["training"], rng)
        out, cache = getattr(ops, f"{op}_forward")(*inputs, **keywords)
        assert getattr(ops, f"{op}_branches")(cache).tolist() == (out > 0).tolist()
    inputs, keywords = draw(CASES["se_block_tail"]["training, relu"], rng)
    out, cache = ops.se_block_tail_forward(*inputs, **keywords)
    parts = [(part > 0).ravel() for part in (cache.gates.h, cache.gates.s, out)]
    assert ops.se_block_tail_branches(cache).tolist() == np.concatenate(parts).tolist()


@over_backends
@over_ops
@each(
    "setting, kind, message",
    [
        (dict(training=1), TypeError, r"training is 1, expected True or False: pass bool\(...\)"),
        (dict(momentum=1.5), ValueError, "momentum is 1.5, expected a number from 0 to 1"),
        (dict(eps=0), ValueError, "eps is 0, expected a small number above 0, such as 1e-5"),
        (dict(running_mean=np.ones(9)), ValueError, r"running_mean has shape \(9,\), .* C = 4"),
        (dict(running_var=None), TypeError, "running_var is a NoneType, expected an array"),
    ],
)
def test_settings_that_are_refused(ops, op, setting, kind, message):
    case = next(case for case in CASES[op].values() if case.sizes["C"] == 4)
    inputs, keywords = draw(case, np.random.default_rng(0))
    with pytest.raises(kind, match=f"^{op}: {message}"):
        getattr(ops, f"{op}_forward")(*inputs, **{**keywords, **setting})


@over_backends
@over_ops
def test_one_value_per_channel(ops, op):
    case = Case(op, dict(N=1, C=3, H=1, W=1, R=2), dict(training=True))
    inputs, keywords = draw(case._replace(sizes={**case.sizes, "W": 2}), np.random.default_rng(0))
    narrow = [a[..., :1] if a.ndim == 4 else a for a in inputs]
    with pytest.raises(ValueError, match=rf"^{op}: x has shape \(1, 3, 1, 1\), .* above 1 in tr"):
        getattr(ops, f"{op}_forward")(*narrow, **keywords)
    out, _ = getattr(ops, f"{op}_forward")(*narrow, **{**keywords, "training": False})
    assert out.shape == (1, 3, 1, 1)


@over_backends
def test_messages(ops):
    case = Case("se_block_tail", dict(N=2, C=4, H=3, W=5, R=2), dict(training=True))
    inputs, keywords = draw(case, np.random.default_rng(0))
    x, gamma, beta, w1, b1, w2, b2, shortcut = inputs
    forward = ops.se_block_tail_forward
    with pytest.raises(ValueError, match="^se_block_tail: gate is 'sigmod', expected one of sig"):
        forward(*inputs, **keywords, gate="sigmod")
    with pytest.raises(ValueError, match=r"^se_block_tail: shortcut has shape .* H = 3 as in x"):
        forward(x, gamma, beta, w1, b1, w2, b2, shortcut[:, :, :2], **keywords)
    with pytest.raises(ValueError, match=r"^se_block_tail: w2 has shape \(2, 4\), .* C = 4 as in"):
        forward(x, gamma, beta, w1, b1, w2.T, b2, shortcut, **keywords)
    with pytest.raises(TypeError, match="^se_block_tail: shortcut is a NoneType, expected an arr"):
        forward(x, gamma, beta, w1, None, w2, None, None, **keywords)
    op = "batch_norm2d_add_relu"
    with pytest.raises(ValueError, match=rf"^{op}: shortcut has shape .* C = 4 as in x"):
        ops.batch_norm2d_add_relu_forward(x, gamma, beta, shortcut[:, :2], **keywords)
    with pytest.raises(TypeError, match=rf"^{op}: shortcut has dtype float32, expected float64"):
        ops.batch_norm2d_add_relu_forward(x, gamma, beta, shortcut.astype(np.float32), **keywords)
