"""Count the operations of a recorded call, by kind: one rule per op, forward and backward.

Kinds whose unit is a multiply-accumulate (MAC), or the operation in parentheses:

    conv         products of convolutions, also those with the zeros of the padding
    fc           products of dense layers
    se_fc        products of the two dense layers of an SE block
    gate         (multiplication) elements that a gate scales
    squeeze      (addition) elements of x that a squeeze reads, the maximum as the mean; in
                 backward elements of dx, to which the gradient of the squeeze is added

Kinds whose unit is one addition, multiplication, division, comparison or exponential, once for each
element of an image; work per channel is not counted:

    excite       biases, ReLU and gate function of an SE block
    bias         biases of convolutions and dense layers
    norm         batch normalisation
    activation   ReLU and other functions of one element, and dropout
    pool         pooling
    sum          sums of arrays, and products with a constant

A fused op counts as the ops that it replaces. Backward counts every gradient that it returns, and
what it computes again. `WEIGHTS` defines the conventions by which kinds are added.
"""

from collections import Counter
from collections.abc import Callable
from math import prod
from typing import Any, Literal, NamedTuple, get_args

from minise.ops.wrapper import FORWARD, Call

Counts = Counter[str]  # operations by kind
Count = Callable[[Call], dict[str, int]]
Convention = Literal["macs", "flops", "all"]

CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
MAC_KINDS = ("conv", "fc", "se_fc", "gate")
SE_KINDS = ("se_fc", "gate", "squeeze", "excite")  # of an SE block
KINDS = (*MAC_KINDS, "squeeze", "excite", "bias", "norm", "activation", "pool", "sum")
WEIGHTS: dict[Convention, dict[str, int]] = {
    "macs": dict.fromkeys(MAC_KINDS, 1),  # of the paper's tables
    "flops": dict.fromkeys(MAC_KINDS, 2),
    "all": dict.fromkeys(KINDS, 1) | dict(conv=2, fc=2, se_fc=2),
}
# operations per element of each function of one element: forward, and dx from dout and the cache
ACTIVATIONS = {
    "relu": (1, 1),  # a comparison; a selection
    "sigmoid": (4, 3),  # 1 / (1 + exp(-x)); dout * s * (1 - s)
    "tanh": (1, 3),  # tanh; dout * (1 - s * s)
    "hard_sigmoid": (4, 3),  # (x + 3) / 6 and two comparisons; dout / 6 and two comparisons
    "silu": (5, 4),  # x * sigmoid(x); dout * (s + out * (1 - s))
}
UNCOUNTED = (  # ops without arithmetic, and the loss, which is not part of a net
    "concat",
    "channel_shuffle",
    "flatten",
    "softmax_cross_entropy",
)


class Rule(NamedTuple):
    """The operations of an op; each function maps a call to the number by kind."""

    forward: Count
    backward: Count


def count(call: Call) -> Counts:
    """Return the operations of one recorded call by kind; none for an op without a rule."""
    rule = RULES.get(call.op)
    if rule is None:
        return Counter()
    return Counter(rule.forward(call) if call.direction == FORWARD else rule.backward(call))


def operations(counts: Counts, convention: Convention = "macs") -> int:
    """Return the number of operations by a convention.

    "macs" adds convolutions, dense layers, those of SE blocks, and one multiplication for each
    element that a gate scales, as in the paper's tables. "flops" is twice that number. "all" counts
    a MAC as two operations, and every operation of the other kinds as one.
    """
    weights = WEIGHTS[convention]
    return sum(weights.get(kind, 0) * number for kind, number in counts.items())


def macs(call: Call) -> int:
    """Return the multiply-accumulates of one recorded call."""
    return operations(count(call))


def _conv2d_forward(call: Call) -> dict[str, int]:
    """Count KH KW C / groups products for each element of out, and its bias."""
    out, (_, weight, *bias) = call.results[0], call.arrays
    return {"conv": out.size * prod(weight.shape[1:]), "bias": _if_any(bias, out.size)}


def _conv2d_backward(call: Call) -> dict[str, int]:
    """Count forward's products for dweight, and for dx if it is computed; dbias sums dout."""
    dout, (dx, _, dbias) = call.arrays[0], call.results
    products = dout.size * prod(call.cache.weight.shape[1:])
    plus = call.settings.get("plus")
    return {
        "conv": products * (1 + (dx is not None)),
        "bias": _if_any([dbias], dout.size),
        "sum": 0 if plus is None else plus.size,
    }


def _linear_forward(call: Call) -> dict[str, int]:
    """Count I products for each element of out, and its bias."""
    out, (_, weight, *bias) = call.results[0], call.arrays
    return {"fc": out.size * weight.shape[1], "bias": _if_any(bias, out.size)}


def _linear_backward(call: Call) -> dict[str, int]:
    """Count forward's products for dx, and for dweight; dbias sums dout."""
    dout, (dx, _, dbias) = call.arrays[0], call.results
    products = dout.size * call.cache.weight.shape[1]
    return {"fc": products * (1 + (dx is not None)), "bias": _if_any([dbias], dout.size)}


def _norm_forward(call: Call) -> dict[str, int]:
    """Count x - mean, * rstd, * gamma, + beta; in training also mean and variance (1 + 2)."""
    return {"norm": call.arrays[0].size * (7 if call.settings["training"] else 4)}


def _norm_backward(call: Call) -> dict[str, int]:
    """Count xhat again (2), dbeta (1), dgamma (2), dx (2); in training dx has 3 more."""
    return {"norm": call.arrays[0].size * (10 if call.cache.training else 7)}


def _squeeze_excite_forward(call: Call) -> dict[str, int]:
    """Count x * s, the elements of x that are squeezed, and both dense layers for each z."""
    settings = call.settings.get("squeeze", "avg"), call.settings.get("gate", "sigmoid")
    x, *dense = call.arrays
    if call.op == "se_block_tail":  # gamma, beta, the dense layers, the shortcut
        dense = dense[2:6]
    return _excitation(x, dense, *settings, backward=False)


def _squeeze_excite_backward(call: Call) -> dict[str, int]:
    """Count dout * s, the sum of dout * x, dz, dh, dw1, dw2, and dz + dx at every pixel."""
    w1, b1, w2, b2, _, _, _, *settings = call.cache.gates
    return _excitation(call.arrays[0], [w1, b1, w2, b2], *settings, backward=True)


def _excitation(
    x: Any, dense: list[Any], squeeze: str, gate: str, *, backward: bool
) -> dict[str, int]:
    w1, b1, w2, b2 = dense
    uses = x.size // x.shape[1] if squeeze == "none" else len(x)  # of each weight
    biases = sum(bias.size for bias in (b1, b2) if bias is not None)
    functions = len(w1) + len(w2) * ACTIVATIONS[gate][backward]  # the ReLU and the gate
    return {
        "se_fc": uses * (w1.size + w2.size) * (1 + backward),
        "gate": x.size * (1 + backward),
        "squeeze": 0 if squeeze == "none" and not backward else x.size,
        "excite": uses * (biases + functions),
    }


def _window(kernel: Any) -> int:
    return prod(kernel) if isinstance(kernel, tuple | list) else kernel * kernel


def _pool_forward(call: Call) -> dict[str, int]:
    """Count KH KW operations for each element of out: comparisons, or additions and a division."""
    return {"pool": call.results[0].size * _window(call.settings["kernel"])}


def _avg_pool_backward(call: Call) -> dict[str, int]:
    """Count a division, and KH KW additions, for each element of dout."""
    return {"pool": call.arrays[0].size * (1 + _window(call.cache.kernel))}


def _per_element(kind: str, forward: int, backward: int) -> Rule:
    """Return a rule of operations for each element of the first array: of x, and of dout."""
    return Rule(
        lambda call: {kind: forward * call.arrays[0].size},
        lambda call: {kind: backward * call.arrays[0].size},
    )


def _joined(*rules: Rule) -> Rule:
    """Return the rule of a fused op: the sum of those of ops on arrays of the same size."""

    def total(call: Call, counts: list[Count]) -> Counts:
        return sum((Counter(part(call)) for part in counts), Counter())

    forward, backward = ([getattr(rule, half) for rule in rules] for half in Rule._fields)
    return Rule(lambda call: total(call, forward), lambda call: total(call, backward))


def _if_any(arrays: list[Any], number: int) -> int:
    """Return the number, or 0 if all optional arrays are None."""
    return number if any(array is not None for array in arrays) else 0


NORM = Rule(_norm_forward, _norm_backward)
SE = Rule(_squeeze_excite_forward, _squeeze_excite_backward)
SUM = _per_element("sum", 1, 0)  # the gradient of both terms is dout itself
ACTIVATION = {name: _per_element("activation", *both) for name, both in ACTIVATIONS.items()}
RULES: dict[str, Rule] = {
    "conv2d": Rule(_conv2d_forward, _conv2d_backward),
    "linear": Rule(_linear_forward, _linear_backward),
    "squeeze_excite": SE,
    "channel_scale": _per_element("gate", 1, 2),  # x * s; dout * s and the sum of dout * x
    "batch_norm2d": NORM,
    "batch_norm2d_relu": _joined(NORM, ACTIVATION["relu"]),
    "batch_norm2d_add_relu": _joined(NORM, SUM, ACTIVATION["relu"]),
    "se_block_tail": _joined(NORM, SE, SUM, ACTIVATION["relu"]),
    **ACTIVATION,
    "dropout": _per_element("activation", 2, 2),  # a selection and a division
    "max_pool2d": Rule(_pool_forward, _per_element("pool", 0, 1).backward),
    "avg_pool2d": Rule(_pool_forward, _avg_pool_backward),
    "global_avg_pool2d": _per_element("pool", 1, 1),  # an addition; a division per channel
    "global_max_pool2d": _per_element("pool", 1, 1),  # a comparison; an assignment per channel
    "add": SUM,
    "shake": _per_element("sum", 3, 2),  # alpha * x1 + (1 - alpha) * x2; a product for each
    **dict.fromkeys(UNCOUNTED, _per_element("sum", 0, 0)),
}
