"""Random functions scaled or shifted by 1e-30 to 1e80, each with a right and a wrong backward."""

from typing import Any, NamedTuple

import numpy as np

SCALES = (-30, 80)  # powers of ten


def square(x):
    return x * x, lambda dout: dout * 2 * x


def sine(x):
    return np.sin(x), lambda dout: dout * np.cos(x)


def exponential(x):
    return np.exp(x), lambda dout: dout * np.exp(x)


def hyperbolic_tangent(x):
    return np.tanh(x), lambda dout: dout * (1 - np.tanh(x) ** 2)


def cube(x):
    return x * x * x, lambda dout: dout * 3 * x * x


def linear(x):
    return 3 * x, lambda dout: 3 * dout


def normalised(x):
    centred = x - x.mean()
    rstd = 1 / np.sqrt((centred * centred).mean() + 1e-5)
    xhat = centred * rstd
    return xhat, lambda dout: rstd * (dout - dout.mean() - xhat * (dout * xhat).mean())


def relu(x):
    return np.where(x.real > 0, x, 0), lambda dout: np.where(x > 0, dout, 0)


def signed_square(x):
    return x * abs(x), lambda dout: dout * 2 * abs(x)


def weighted_sum_squared(x):
    weights = (np.arange(x.size) + 1).reshape(x.shape) / x.size
    total = (weights * x).sum()
    return total * total, lambda dout: dout * 2 * total * weights


FOR_INPUTS_OF_ANY_SIZE = (square, cube, linear, relu, signed_square, weighted_sum_squared)
FUNCTIONS = (*FOR_INPUTS_OF_ANY_SIZE, sine, exponential, hyperbolic_tangent, normalised)


def one_entry(gradient, rng):
    wrong = gradient.copy()
    wrong.flat[rng.integers(wrong.size)] *= 1.5
    return wrong


MISTAKES = (
    lambda gradient, rng: -gradient,
    lambda gradient, rng: gradient / 2,
    lambda gradient, rng: gradient * 0,
    lambda gradient, rng: 2 * gradient,
    lambda gradient, rng: gradient.ravel()[::-1].reshape(gradient.shape),
    lambda gradient, rng: gradient * (1 + 10 ** rng.uniform(-6, -2)),
    one_entry,
    lambda gradient, rng: gradient + 0.01 * abs(gradient).max(),
    lambda gradient, rng: gradient * (1 + 10 ** rng.uniform(-12, -6)),
)


class DrawnPair(NamedTuple):
    """A forward with a right and a wrong backward."""

    forward: Any
    right: Any
    wrong: Any
    inputs: list[Any]
    error: float  # relative error of the wrong gradient
    text: str  # describes the draw


def drawn_pair(seed: int) -> DrawnPair:
    """Return a function of 1 to 25 numbers with out or input scaled, or out shifted."""
    rng = np.random.default_rng(seed)
    function, mistake = FUNCTIONS[rng.integers(10)], MISTAKES[rng.integers(9)]
    x = rng.standard_normal(rng.integers(1, 6, rng.integers(1, 3)))
    target, size = ("out", "in", "shift")[rng.integers(3)], float(10 ** rng.uniform(*SCALES))
    factor, shift = (size if target == "out" else 1.0), (size if target == "shift" else 0.0)
    x = x * size if target == "in" and function in FOR_INPUTS_OF_ANY_SIZE else x

    def forward(x):
        return factor * function(x)[0] + shift, x

    def right(dout, x):
        return (np.asarray(function(x)[1](factor * dout)),)

    def wrong(dout, x):
        return (np.asarray(mistake(right(dout, x)[0], np.random.default_rng(seed))),)

    dout = np.random.default_rng(1).standard_normal(np.shape(function(x)[0]))
    (exact,), (changed,) = right(dout, x), wrong(dout, x)
    largest = max(float(abs(exact).max()), 5e-324)
    unit = exact / largest
    error = float(np.linalg.norm(changed / largest - unit)) / max(np.linalg.norm(unit), 1e-300)
    text = f"seed {seed}: {function.__name__}, {target} by {size:.1e}"
    return DrawnPair(forward, right, wrong, [x], error, text)
