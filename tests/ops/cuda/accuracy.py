"""Measure the kernels' error against the reference in float64, on shapes with edge cases."""

import numpy as np

from minise.contract.case import Case, direction, draw
from minise.ops import reference
from minise.ops.cuda.backend import Backend
from tests.ops.cuda.device import device
from tests.ops.cuda.emulator import Emulator
from tests.ops.cuda.hosted import Hosted

# Tolerance of ||out - expected|| / ||expected|| in float32. The longest serial sum has the 98 terms
# of a lane that owns 3136 pixels, or R = 64 (all other sums are trees), so that the rounding error
# is at most 98 * 6e-8 = 6e-6, and usually about sqrt(98) * 6e-8.
REL_TOL_FLOAT32 = 1e-5

SHAPES = {
    "all sizes one": dict(N=1, C=1, H=1, W=5, R=1),
    "odd, H*W no multiple of 4": dict(N=2, C=3, H=5, W=7, R=2),
    "C no multiple of a warp": dict(N=1, C=37, H=7, W=7, R=6),
    "rows of 7x7 in groups": dict(N=2, C=36, H=7, W=7, R=3),
    "the longest rows in groups": dict(N=1, C=4, H=9, W=14, R=2),
    "the shortest rows in groups": dict(N=3, C=8, H=1, W=5, R=1),
    "groups of four lanes": dict(N=3, C=40, H=4, W=4, R=5),
    "rows longer than a warp holds": dict(N=2, C=3, H=33, W=40, R=2),
    "rows longer than a warp holds, odd": dict(N=1, C=2, H=15, W=17, R=1),
    "more images than lanes": dict(N=35, C=2, H=2, W=3, R=9),
    "more hidden units than warps": dict(N=2, C=70, H=3, W=4, R=40),
    "large dense layers": dict(N=9, C=92, H=2, W=1, R=90),
}
# For x with a mean of 100000 standard deviations: a lane sums 24 centred squares in float32, all
# further sums are in float64.
REL_TOL_MOMENTS = 24 * np.finfo(np.float32).eps
GATES = ("sigmoid", "tanh", "relu", "hard_sigmoid")


def backend(**settings):
    """Return the back end in the emulator, with NumPy arrays."""
    return Hosted(Backend(Emulator(device, **settings)))


def simple_backend(**settings):
    """Return the back end in the emulator, with the tile kernels disabled."""
    return Hosted(Backend(Emulator(device, **settings)).using(squeeze_excite="simple"))


def cases():
    """Yield cases of all ops that together run every kernel but the update."""
    for k, sizes in enumerate(SHAPES.values()):
        image = {axis: sizes[axis] for axis in "NCHW"}
        gate = GATES[k % 4]
        yield Case("squeeze_excite", sizes, dict(gate=gate))
        yield Case("se_block_tail", sizes, dict(gate=gate, training=k % 3 != 2))
        for op in ("batch_norm2d", "batch_norm2d_relu", "batch_norm2d_add_relu"):
            yield Case(op, image, dict(training=k % 2 == 0))
    yield from windows()
    yield from losses()


def losses():
    """Yield cases of the loss, with more rows than warps and more classes than lanes."""
    for N, K, label_smoothing in ((1, 2, 0.0), (9, 2, 0.1), (5, 1000, 0.0), (300, 33, 1.0)):
        settings = dict(label_smoothing=label_smoothing)
        yield Case("softmax_cross_entropy", dict(N=N, K=K), settings)


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


def max_relative_error(ops, case, seed=0, dtype=np.float32):
    """Return the largest relative error of out and of all gradients, against the reference.

    Elements that a kernel has not written are NaN: the error is then infinite.
    """
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng, dtype)
    if "w1" in reference_names(case):
        inputs = [inputs[0], *(_scaled(a) for a in inputs[1:])]
    wide = [_widened(value) for value in inputs]
    wide_keywords = {key: _widened(value) for key, value in keywords.items()}
    out, cache = getattr(reference, f"{case.op}_forward")(*wide, **wide_keywords)
    dout = direction(out, rng).astype(dtype)
    expected = [out, *getattr(reference, f"{case.op}_backward")(dout.astype(np.float64), cache)]
    with np.errstate(all="ignore"):  # a GPU does not warn
        mine, my_cache = getattr(ops, f"{case.op}_forward")(*inputs, **keywords)
        results = [mine, *getattr(ops, f"{case.op}_backward")(dout, my_cache)]
    return max(
        relative_error(a, b)
        for a, b in zip(results, expected, strict=True)
        if b is not None and b.any()
    )


def _widened(value):
    """Return an array of float numbers in float64, anything else unchanged."""
    floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(np.float64) if floats else value


def reference_names(case):
    return getattr(reference, f"{case.op}_forward").__code__.co_varnames


def _scaled(array):
    """Return weights scaled so that gates do not saturate."""
    return array / np.sqrt(array.shape[-1], dtype=array.dtype) if array.ndim == 2 else array


def relative_error(result, expected):
    """Return ||result - expected|| / ||expected||, or infinity if result is not finite."""
    if not np.isfinite(result).all():
        return np.inf
    return float(np.linalg.norm((result - expected).ravel()) / np.linalg.norm(expected.ravel()))


def relative_error_of_moments(ops):
    """Return the largest relative error of mean and variance for a mean of 100000 deviations.

    In float32, mean(x ** 2) - mean ** 2 would have no correct digit.
    """
    x = (np.random.default_rng(0).standard_normal((4, 3, 24, 25)) + 1e5).astype(np.float32)
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    statistics = dict(running_mean=zeros, running_var=ones, training=True, momentum=1.0)
    _, cache = ops.batch_norm2d_forward(x, ones, zeros, **statistics)
    wide = x.astype(np.float64)
    return max(
        relative_error(cache.running_var, wide.var(axis=(0, 2, 3), ddof=1)),
        relative_error(cache.running_mean, wide.mean(axis=(0, 2, 3))),
    )
