"""Cases of every op: settings worth running, and how the arrays of a case are drawn."""

import sys
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np

from minise.gradcheck.strategies.drawing import draw_arrays
from minise.ops import reference
from minise.ops.checks import Array, parse
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeezes import SQUEEZES

OPS = sorted(n.removesuffix("_forward") for n in reference.FUNCTIONS if n.endswith("_forward"))


class Case(NamedTuple):
    """An op with the sizes of its axes and its settings."""

    op: str
    sizes: dict[str, Any]
    settings: dict[str, Any] = {}  # noqa: RUF012, a NamedTuple's default is never changed
    exact: bool = True  # whether small integers leave nothing that depends on the order of sums


def line(op: str) -> str:
    """Return the op's line in SHAPES."""
    shapes: dict[str, str] = sys.modules[getattr(reference, f"{op}_forward").__module__].SHAPES
    return shapes[op]


def optional(op: str) -> list[str]:
    """Return the names of the arrays that may be None."""
    return [argument.name for argument in parse(line(op)) if argument.optional]


def draw(
    case: Case,
    rng: np.random.Generator,
    dtype: Any = np.float64,
    *,
    integers: bool = False,
    without: Collection[str] = (),
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arrays that go by position, and all that goes by keyword."""
    drawn, keywords = draw_arrays(
        line(case.op), case.sizes, rng, dtype, integers=integers, without=without, **case.settings
    )
    arrays: list[Any] = drawn
    if "running_var" in keywords:
        arrays[0] = spread(arrays[0].shape, rng, integers).astype(dtype)
        if integers:
            running_var = keywords["running_var"]
            running_var[...] = np.resize([3, 15], running_var.shape)
    return arrays, {**keywords, **case.settings}


def spread(shape: tuple[int, ...], rng: np.random.Generator, integers: bool) -> Array:
    """Return images whose channels have variances that are not small, and that differ.

    Were they equal, the statistics of one channel would do for another, and a backward that mixes
    them up would look right. Integers have variance 3 in N * H * W = 4, 8, 16, … pixels, and in
    every other channel of 8, 16, … variance 15, so that with eps = 1 rstd is 1/2 or 1/4, exactly.
    Other numbers lie 1 to 2 apart: pixels that are nearly equal would lose their digits when
    their mean is taken off.
    """
    N, C, H, W = shape
    count = N * H * W

    def channel(c: int) -> Array:
        if integers:
            wide = c % 2 and count % 8 == 0
            one = np.resize([5, 5, 3, 1, -5, -5, -3, -1] if wide else [-3, 1, 1, 1], count)
        else:
            one = (np.arange(count) + rng.random(count) / 2) * rng.uniform(1, 2)
        return np.asarray(rng.permutation(one) + rng.integers(-3, 4))

    rows = np.stack([channel(c) for c in range(C)])
    images: Array = rows.reshape(C, N, H, W).swapaxes(0, 1)
    return images


def forward_of(ops: Any, op: str, keywords: dict[str, Any]) -> Callable[..., Any]:
    """Return forward with its keywords filled in; their arrays follow the dtype of the inputs."""
    function = getattr(ops, f"{op}_forward")

    def forward(*inputs: Any) -> Any:
        dtype = inputs[0].dtype
        same = {k: v.astype(dtype) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
        return function(*inputs, **same)

    forward.__name__ = f"{op}_forward"
    forward.complex_step = ops is reference  # type: ignore[attr-defined]
    return forward


def functions(
    ops: Any, op: str, keywords: dict[str, Any]
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[[Any], Array] | None]:
    """Return forward with its keywords filled in, backward, and branches or None."""
    backward = getattr(ops, f"{op}_backward")
    return forward_of(ops, op, keywords), backward, getattr(ops, f"{op}_branches", None)


def direction(
    out: Array, rng: np.random.Generator, *, integers: bool = False, scale: float = 1
) -> Array:
    """Return a random dout."""
    values = rng.integers(-3, 4, out.shape) if integers else rng.standard_normal(out.shape)
    return np.asarray(values * scale, out.dtype)


# Settings worth running, each for a way through the code that no other takes. H is never W, and no
# two axes are of one size in all cases of an op, so that none can be taken for another.

IMAGE = dict(N=2, C=4, H=4, W=8)  # powers of two: means of integers are exact
ODD = dict(N=2, C=3, H=6, W=7)
CONV = dict(N=2, C=4, H=6, W=7, K=6, KH=3, KW=2)
MATRIX = dict(N=4, I=3, O=5)
SE = dict(N=2, C=4, H=2, W=4, R=3)
TAIL = dict(ODD, R=2)
LOGITS = dict(N=4, K=6)
NORM: list[tuple[Any, ...]] = [
    ("training", IMAGE, dict(training=True, eps=1.0)),
    ("training, momentum", IMAGE, dict(training=True, momentum=0.5, eps=1.0)),
    ("evaluation", IMAGE, dict(training=False, eps=1.0)),
    ("training, small eps", ODD, dict(training=True), False),
    ("evaluation, small eps", ODD, dict(training=False), False),
]

TABLE: dict[str, list[tuple[Any, ...]]] = {
    "add": [("four axes", {"...": (2, 3, 4, 5)}), ("no axis", {"...": ()})],
    "avg_pool2d": [
        ("plain", ODD, dict(kernel=(2, 3))),
        ("overlap", ODD, dict(kernel=(3, 2), stride=(1, 1))),
        ("remainder", ODD, dict(kernel=(2, 3), stride=(3, 2))),
        ("stride above kernel", ODD, dict(kernel=(1, 2), stride=(2, 3))),
        ("padding", ODD, dict(kernel=(3, 4), stride=(2, 3), padding=(1, 2))),
        (
            "padding not counted",
            ODD,
            dict(kernel=(3, 4), stride=(2, 3), padding=(1, 2), count_include_pad=False),
        ),
        ("ceil mode", ODD, dict(kernel=(3, 2), stride=(2, 3), ceil_mode=True)),
        (
            "ceil mode with padding",
            ODD,
            dict(kernel=(3, 3), stride=(3, 3), padding=(1, 1), ceil_mode=True),
        ),
        (
            "ceil mode, padding not counted",
            ODD,
            dict(
                kernel=(3, 3),
                stride=(3, 3),
                padding=(1, 1),
                ceil_mode=True,
                count_include_pad=False,
            ),
        ),
    ],
    "batch_norm2d": NORM,
    "batch_norm2d_add_relu": NORM,
    "batch_norm2d_relu": NORM,
    "channel_scale": [("plain", ODD)],
    "channel_shuffle": [
        ("two of three", dict(ODD, C=6), dict(groups=2)),
        ("three of two", dict(ODD, C=6), dict(groups=3)),
        ("one group", ODD, dict(groups=1)),
        ("every channel a group", ODD, dict(groups=3)),
    ],
    "concat": [
        ("three", {"N": 2, "_": (3, 1, 2), "H": 3, "W": 4}),
        ("one", {"N": 2, "_": (3,), "H": 3, "W": 4}),
    ],
    "conv2d": [
        ("plain", CONV),
        ("remainder", CONV, dict(stride=(2, 3))),
        ("stride above kernel", CONV, dict(stride=(4, 3))),
        ("padding", CONV, dict(padding=(1, 2))),
        ("padding above kernel", CONV, dict(padding=(3, 3))),
        ("dilation", CONV, dict(dilation=(2, 3))),
        ("groups", CONV, dict(groups=2)),
        ("depthwise", dict(CONV, K=4), dict(groups=4, padding=(1, 0))),
        ("depthwise, two filters each", dict(CONV, K=8), dict(groups=4)),
        ("1x1", dict(CONV, KH=1, KW=1), dict(stride=(2, 2))),
        ("as large as the image", dict(CONV, KH=6, KW=7)),
        ("all", CONV, dict(stride=(3, 2), padding=(2, 1), dilation=(2, 3), groups=2)),
    ],
    "dropout": [
        ("half", {"...": (2, 3, 4, 5)}, dict(p=0.5)),
        ("none", {"...": (3,)}, dict(p=0.0)),
        ("fifth", {"...": (3, 4)}, dict(p=0.2)),
    ],
    "flatten": [("plain", ODD)],
    "global_avg_pool2d": [("plain", IMAGE), ("odd", ODD, {}, False)],
    "global_max_pool2d": [("plain", ODD)],
    "hard_sigmoid": [("four axes", {"...": (2, 3, 4, 5)}), ("no axis", {"...": ()})],
    "linear": [("plain", MATRIX)],
    "max_pool2d": [
        ("plain", ODD, dict(kernel=(2, 3))),
        ("overlap", ODD, dict(kernel=(3, 2), stride=(1, 1))),
        ("remainder", ODD, dict(kernel=(2, 3), stride=(3, 2))),
        ("stride above kernel", ODD, dict(kernel=(1, 2), stride=(2, 3))),
        ("padding", ODD, dict(kernel=(3, 4), stride=(2, 3), padding=(1, 2))),
        ("ceil mode", ODD, dict(kernel=(3, 2), stride=(2, 3), ceil_mode=True)),
        (
            "ceil mode with padding",
            ODD,
            dict(kernel=(3, 3), stride=(3, 3), padding=(1, 1), ceil_mode=True),
        ),
    ],
    "relu": [("four axes", {"...": (2, 3, 4, 5)}), ("no axis", {"...": ()})],
    "se_block_tail": [
        ("training, relu", SE, dict(training=True, gate="relu", eps=1.0)),
        ("evaluation, relu", SE, dict(training=False, gate="relu", eps=1.0)),
        *((f"training, {gate}", TAIL, dict(training=True, gate=gate), False) for gate in GATES),
        ("evaluation, sigmoid", TAIL, dict(training=False, momentum=0.5), False),
    ],
    "sigmoid": [("four axes", {"...": (2, 3, 4, 5)}, {}, False), ("no axis", {"...": ()})],
    "softmax_cross_entropy": [
        ("plain", LOGITS, {}, False),
        ("smoothing", LOGITS, dict(label_smoothing=0.1), False),
        ("all smooth", LOGITS, dict(label_smoothing=1), False),
    ],
    "squeeze_excite": [
        *((f"{squeeze}, relu", SE, dict(squeeze=squeeze, gate="relu")) for squeeze in SQUEEZES),
        *((f"avg, {gate}", TAIL, dict(gate=gate), False) for gate in GATES if gate != "relu"),
        ("none, sigmoid", SE, dict(squeeze="none"), False),
        ("max, hard_sigmoid", SE, dict(squeeze="max", gate="hard_sigmoid"), False),
    ],
    "tanh": [("four axes", {"...": (2, 3, 4, 5)}, {}, False), ("no axis", {"...": ()})],
}
CASES = {op: {name: Case(op, *rest) for name, *rest in rows} for op, rows in TABLE.items()}
