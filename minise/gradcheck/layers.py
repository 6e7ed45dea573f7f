"""Check a layer or a net as it stands: its dx and the gradient of every parameter."""

from typing import Any

import numpy as np

from minise.gradcheck import adapters
from minise.gradcheck.check import asserted, check
from minise.gradcheck.plus import with_contract
from minise.gradcheck.report import Report


def check_layer(
    layer: Any,
    x: Any,
    rng: np.random.Generator | int | None = None,
    *,
    training: bool = True,
    **settings: Any,
) -> Report:
    """Check a layer's or a net's backward at x, and report on dx and on every parameter.

    Where backward takes plus, dx must then be dx + plus; where it takes needs_dx, the gradients of
    the parameters must be the same without dx.

    Parameters
    ----------
    layer : object
        A layer or a net of minise; or one of your own that `adapters.layer` takes: with ``params``,
        a dict of arrays by name, a forward that returns the cache or keeps it, and a backward. What
        is checked is a copy in float64; the layer stays as it is.
    x : ndarray
        What forward takes; floats are taken in float64.
    rng : numpy.random.Generator or int, optional
        As `check` takes it.
    training : bool
        Passed to forward behind x, where it takes a second argument.
    **settings
        mode, branches and linear, as `check` takes them.

    Returns
    -------
    Report
        Of "x" and of the parameters by their dotted names.

    Raises
    ------
    TypeError
        If the layer has no params or cannot be copied.
    ValueError, TypeError
        As `check` does.

    Examples
    --------
    >>> from minise import nn
    >>> net = nn.Chain(nn.Conv2d(3, 4, 3, rng=0), nn.ReLU(), nn.GlobalAvgPool2d())
    >>> check_layer(net, np.random.default_rng(1).standard_normal((2, 3, 5, 5))).ok
    True
    """
    pair = _pair(layer, x, training)
    return with_contract(check(*pair, rng, **settings), layer, *pair)


def assert_layer_gradients(
    layer: Any,
    x: Any,
    rng: np.random.Generator | int | None = None,
    *,
    training: bool = True,
    allow_unchecked: bool = False,
    **settings: Any,
) -> Report:
    """Assert that a layer's or a net's backward is the transpose of its forward's derivative.

    Parameters
    ----------
    layer, x, rng, training, **settings
        As `check_layer` takes them.
    allow_unchecked : bool
        Whether gradients that could not be checked pass.

    Returns
    -------
    Report
        Of the check.

    Raises
    ------
    AssertionError
        With the report, as `assert_gradients` raises it.
    """
    __tracebackhide__ = True  # pytest then shows the report, and no line of ours
    report = check_layer(layer, x, rng, training=training, **settings)
    return asserted(report, allow_unchecked)


def _pair(layer: Any, x: Any, training: bool) -> tuple[Any, Any, list[Any]]:
    has_flag = adapters.takes(getattr(layer, "forward", None), "x", training)
    forward, backward, params = adapters.layer(layer, training if has_flag else None)
    return forward, backward, [_as_float64(one) for one in (x, *params.values())]


def _as_float64(value: Any) -> Any:
    return value.astype(np.float64) if getattr(value, "dtype", np.dtype("O")).kind == "f" else value
