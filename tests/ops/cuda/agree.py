"""How far the kernels are from the reference in float64, on shapes that are hard for them."""

import numpy as np

from minise.contract.case import Case, direction, draw
from minise.ops import reference
from minise.ops.cuda.backend import Backend
from tests.ops.cuda.device import device
from tests.ops.cuda.emulator import Emulator
from tests.ops.cuda.hosted import Hosted

# What the kernels promise in float32, ||out - expected|| / ||expected||. No sum that they take
# serially is longer than the 98 terms of a lane that owns 3136 pixels, or than R = 64 (the rest
# are trees), so that rounding, 98 * 6e-8 = 6e-6 at worst and the square root of that as a rule,
# stays below.
PROMISED = 1e-5

SHAPES = {
    "one of all": dict(N=1, C=1, H=1, W=5, R=1),
    "odd, H*W no multiple of 4": dict(N=2, C=3, H=5, W=7, R=2),
    "C no multiple of a warp": dict(N=1, C=37, H=7, W=7, R=6),
    "groups of four lanes": dict(N=3, C=40, H=4, W=4, R=5),
    "rows longer than what a warp holds": dict(N=2, C=3, H=33, W=40, R=2),
    "the same, odd": dict(N=1, C=2, H=15, W=17, R=1),
    "more images than lanes": dict(N=35, C=2, H=2, W=3, R=9),
    "more hidden units than warps": dict(N=2, C=70, H=3, W=4, R=40),
}
# Where x lies 100000 deviations off zero: lanes add up 24 centred squares in float32, the rest is
# added up in float64.
PROMISED_MOMENTS = 24 * np.finfo(np.float32).eps
GATES = ("sigmoid", "tanh", "relu", "hard_sigmoid")


def backend(**settings):
    """Return the back end in an emulator, on NumPy's arrays."""
    return Hosted(Backend(Emulator(device, **settings)))


def simple_backend(**settings):
    """Return one that makes no tile, also where there is room for it."""
    return Hosted(Backend(Emulator(device, **settings)).using(squeeze_excite="simple"))


def cases():
    """Yield every case that each kernel has to compute, by the op that runs it."""
    for k, sizes in enumerate(SHAPES.values()):
        image = {axis: sizes[axis] for axis in "NCHW"}
        gate = GATES[k % 4]
        yield Case("squeeze_excite", sizes, dict(gate=gate))
        yield Case("se_block_tail", sizes, dict(gate=gate, training=k % 3 != 2))
        for op in ("batch_norm2d", "batch_norm2d_relu", "batch_norm2d_add_relu"):
            yield Case(op, image, dict(training=k % 2 == 0))
    yield from windows()


def windows():
    """Yield cases of convolution and pooling."""
    conv = dict(N=2, C=4, H=6, W=7, K=6, KH=3, KW=2)
    pool = dict(N=2, C=3, H=6, W=7)
    hard = dict(kernel=(3, 4), stride=(2, 3), padding=(1, 2))
    yield Case("conv2d", conv, dict(padding=(1, 1)))
    yield Case("conv2d", conv, dict(stride=(3, 2), padding=(2, 1), dilation=(2, 3), groups=2))
    yield Case("conv2d", dict(conv, KH=1, KW=1))
    yield Case("max_pool2d", pool, hard)
    yield Case("max_pool2d", pool, dict(kernel=(3, 2), stride=(2, 1), ceil_mode=True))
    yield Case("avg_pool2d", pool, dict(hard, count_include_pad=False))
    yield Case("avg_pool2d", pool, dict(hard, ceil_mode=True))


def distance(ops, case, seed=0, dtype=np.float32):
    """Return the largest relative distance of out and of all gradients from the reference's.

    Arrays that a kernel has not written are NaN or what lay there: infinitely far.
    """
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng, dtype)
    if "w1" in reference_names(case):
        inputs = [inputs[0], *(_scaled(a) for a in inputs[1:])]
    wide = [None if a is None else a.astype(np.float64) for a in inputs]
    wide_keywords = {
        key: value.astype(np.float64) if isinstance(value, np.ndarray) else value
        for key, value in keywords.items()
    }
    out, cache = getattr(reference, f"{case.op}_forward")(*wide, **wide_keywords)
    dout = direction(out, rng).astype(dtype)
    expected = [out, *getattr(reference, f"{case.op}_backward")(dout.astype(np.float64), cache)]
    with np.errstate(all="ignore"):  # a GPU does not warn
        mine, my_cache = getattr(ops, f"{case.op}_forward")(*inputs, **keywords)
        came = [mine, *getattr(ops, f"{case.op}_backward")(dout, my_cache)]
    return max(
        apart(a, b) for a, b in zip(came, expected, strict=True) if b is not None and b.any()
    )


def reference_names(case):
    return getattr(reference, f"{case.op}_forward").__code__.co_varnames


def _scaled(array):
    """Return weights of such a size that gates are neither all open nor all shut."""
    return array / np.sqrt(array.shape[-1], dtype=array.dtype) if array.ndim == 2 else array


def apart(came, expected):
    """Return ||came - expected|| / ||expected||, or infinity where not every number is finite."""
    if not np.isfinite(came).all():
        return np.inf
    return float(np.linalg.norm((came - expected).ravel()) / np.linalg.norm(expected.ravel()))


def distance_of_moments(ops):
    """Return how far mean and variance are off where the mean is 100000 deviations.

    There a mean of squares has no digit left in float32.
    """
    x = (np.random.default_rng(0).standard_normal((4, 3, 24, 25)) + 1e5).astype(np.float32)
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    statistics = dict(running_mean=zero, running_var=one, training=True, momentum=1.0)
    _, cache = ops.batch_norm2d_forward(x, one, zero, **statistics)
    wide = x.astype(np.float64)
    return max(
        apart(cache.running_var, wide.var(axis=(0, 2, 3), ddof=1)),
        apart(cache.running_mean, wide.mean(axis=(0, 2, 3))),
    )
