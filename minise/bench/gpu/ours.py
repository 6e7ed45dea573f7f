"""minise's ways of doing what is timed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minise import models
from minise.bench.contestants import step_of
from minise.bench.gpu.works import Shape, inputs_of
from minise.bench.works import EPS, SE, SIZE, TAIL, Work, drawn
from minise.ops import reference
from minise.ops.checks import Array
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.squeeze_excite import tile_bytes

CHECKED = 5  # images, in the comparison with float64
LIMIT = 1e-5  # of ||error|| / ||expected||, for every result


class Way(NamedTuple):
    """A way of doing an op."""

    name: str
    ops: Any


def ways_of(ops: Backend, op: str, shape: Shape) -> list[Way]:
    """Return the ways in which an op can be done at a shape; the last is the one that is chosen."""
    if op == TAIL:
        return [Way("fused", ops)]
    ways = [Way("simple", ops.using(squeeze_excite="simple"))]
    x = np.broadcast_to(np.float32(0), (1, shape.C, shape.H, shape.H))
    if tile_bytes(x, shape.R) <= ops.launcher.shared_limit():
        ways.append(Way("tile", ops))
    return ways


def settings_of(work: Work, ops: Any, dtype: Any = np.float32) -> dict[str, Any]:
    """Return what an op takes by keyword."""
    if work["op"] == SE:
        return {}
    mean, var = np.zeros(work["C"], dtype), np.ones(work["C"], dtype)
    statistics = {"running_mean": ops.asarray(mean), "running_var": ops.asarray(var)}
    return {**statistics, "training": True, "eps": EPS}


def calls_of(
    ops: Any, work: Work, sets: int
) -> tuple[list[Callable[[], Any]], list[Callable[[], Any]]]:
    """Return calls that do an op forward, and forward and backward, each on buffers of its own."""
    arrays = {name: ops.asarray(array) for name, array in inputs_of(work).items()}
    dout, keywords = arrays.pop("dout"), settings_of(work, ops)
    forward = getattr(ops, f"{work['op']}_forward")
    backward = getattr(ops, f"{work['op']}_backward")
    results: list[Any] = [None] * sets  # each lives until its turn comes again, as inputs do

    def of_set(k: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
        images = {name: a * (1 + k / sets) for name, a in arrays.items() if a.ndim == 4}
        inputs, own_dout = list((arrays | images).values()), dout * (1 + k / sets)

        def first() -> Any:
            results[k] = forward(*inputs, **keywords)
            return results[k]

        def both() -> Any:
            out, cache = forward(*inputs, **keywords)
            results[k] = out, backward(own_dout, cache)
            return results[k][1]

        return first, both

    pairs = [of_set(k) for k in range(sets)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def error_of(ops: Any, op: str, shape: Shape) -> float:
    """Return the largest ||error|| / ||expected|| of out and gradients against float64."""
    work = shape.work(op, CHECKED)
    arrays = inputs_of(work)
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    expected = _results(reference, work, wide, np.float64)
    mine = _results(ops, work, {k: ops.asarray(a) for k, a in arrays.items()}, np.float32)
    return max(relative_error(ops.asnumpy(a), b) for a, b in zip(mine, expected, strict=True))


def _results(ops: Any, work: Work, arrays: dict[str, Any], dtype: Any) -> list[Any]:
    inputs = [array for name, array in arrays.items() if name != "dout"]
    keywords = settings_of(work, ops, dtype)
    out, cache = getattr(ops, f"{work['op']}_forward")(*inputs, **keywords)
    return [out, *getattr(ops, f"{work['op']}_backward")(arrays["dout"], cache)]


def relative_error(came: Array, expected: Array) -> float:
    """Return ||came - expected|| / ||expected||, or infinity where a number is not finite."""
    if not np.isfinite(came).all():
        return np.inf
    size = np.linalg.norm(expected.ravel()) or 1  # gates that sleep for all images send back 0
    return float(np.linalg.norm((came - expected).ravel()) / size)


def training_step(
    ops: Any, batch: int, net: str = "se_resnet20", size: tuple[int, int] | None = None
) -> Callable[[], Any]:
    """Return a call that takes one step of training on images that are on the GPU."""
    images, labels = drawn((batch, 3, *(size or SIZE)), 10, np.float32)
    return step_of(models.build(net, ops=ops), ops, images, labels)
