"""The article's case of small integers, computed by the reference ops and written as fractions.

The biases b2 are chosen so that v is (ln 3, 0): then the gates are 3/4 and 1/2, and every number of
both passes is a fraction with a small denominator.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import log, log10

import numpy as np

from minise.checks import Array
from minise.gradcheck import check
from minise.ops import reference
from minise.ops.reference.squeeze_excite import SqueezeExciteCache
from minise.site.wording import require, word
from minise.walk.steps import BACKWARD, FORWARD, Trace
from minise.walk.trace import trace

X = np.array([[[[1.0, 3.0], [5.0, 3.0]], [[2.0, 0.0], [1.0, 1.0]]]])  # N = 1, C = 2, H = W = 2
W1, B1 = np.array([[1.0, -1.0]]), np.array([0.0])  # R = 1
W2, B2 = np.array([[2.0], [-1.0]]), np.array([log(3) - 4, 2.0])
DOUT = np.array([[[[1.0, 0.0], [2.0, -1.0]], [[-2.0, 1.0], [0.0, 0.0]]]])
ARRAYS = (X, W1, B1, W2, B2)
DOUT_EXERCISE = np.array([[[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]]])
LARGEST_DENOMINATOR = 64
MAX_ERROR = 1e-12  # of a number that is written as a fraction
REMEDY = "which does not hold: correct the op, or the numbers in minise/site/by_hand.py"
COMPLEX_STEP = 1e-30  # so small that only rounding is left of the error


@cache
def case(exercise: bool = False) -> Trace:
    """Return the trace of the case, with every intermediate of both passes."""
    return trace("squeeze_excite", list(ARRAYS), DOUT_EXERCISE if exercise else DOUT)


def intermediates(exercise: bool = False) -> dict[str, Array]:
    """Return every array of the case by its name in the code of the op."""
    traced = case(exercise)
    return {**traced.inputs, **{step.name: step.value for step in traced.steps}}


def step_number(name: str) -> int:
    """Return the number, in the address of the walk's page, of the step that computes `name`.

    Raises
    ------
    ValueError
        If no step has this name.
    """
    numbers = {step.name: step.number + 1 for step in case().steps}  # the page counts from 1
    if name not in numbers:
        raise ValueError(f"article: {name} is no step of the walk, expected {', '.join(numbers)}")
    return numbers[name]


def fraction(value: float) -> str:
    r"""Return a number as LaTeX: an integer, or a fraction.

    Raises
    ------
    ValueError
        If it is no fraction with a small denominator.

    Examples
    --------
    >>> fraction(2.0), fraction(-0.75)
    ('2', '-\\frac{3}{4}')
    """
    exact = Fraction(value).limit_denominator(LARGEST_DENOMINATOR)
    if abs(float(exact) - value) > MAX_ERROR:
        raise ValueError(
            f"article: {value!r} is a number of the case by hand, expected a fraction with a "
            f"denominator up to {LARGEST_DENOMINATOR}: choose other numbers in by_hand.py"
        )
    sign, top = ("-" if exact < 0 else ""), abs(exact.numerator)
    return (
        f"{sign}{top}"
        if exact.denominator == 1
        else rf"{sign}\frac{{{top}}}{{{exact.denominator}}}"
    )


def matrix(rows: Array) -> str:
    """Return a matrix of fractions as LaTeX."""
    lines = [" & ".join(map(fraction, row)) for row in rows]
    return r"\begin{pmatrix} " + r" \\ ".join(lines) + r" \end{pmatrix}"


def vector(values: Sequence[float] | Array) -> str:
    """Return numbers as LaTeX: one alone, several in parentheses."""
    texts = [fraction(float(value)) for value in np.ravel(values)]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def logarithms(values: Array) -> str:
    r"""Return numbers as LaTeX, each an integer or ln 3 plus an integer.

    Examples
    --------
    >>> logarithms(np.array([log(3) - 4, 0.0]))
    '(\\ln(3) - 4,\\; 0)'
    """
    texts = []
    for value in map(float, values):
        rest = round(value - log(3))
        if abs(value - log(3) - rest) > MAX_ERROR:
            texts.append(fraction(value))
        else:
            texts.append(rf"\ln(3) {'-' if rest < 0 else '+'} {abs(rest)}" if rest else r"\ln(3)")
    return "(" + r",\; ".join(texts) + ")"


def numbers() -> dict[str, str]:
    """Return the numbers of the case as LaTeX, by placeholder."""
    arrays = intermediates()
    texts = {"w1": matrix(W1), "w2": matrix(W2), "b1": vector(B1)}
    texts |= {"b2": logarithms(B2), "v": logarithms(arrays["v"].ravel())}
    for direction in (FORWARD, BACKWARD):
        texts[f"steps_{direction}"] = word(len(case().passes(direction)))
    for name in ("z", "u", "h", "s", "ds", "dv", "dh", "du", "dz", "db1", "db2"):
        texts[name] = vector(arrays[name])
    texts["w2h"] = vector(W2 @ arrays["h"].ravel())
    texts["slope"] = vector(arrays["s"] * (1 - arrays["s"]))
    texts |= {"dw1": matrix(arrays["dw1"]), "dw2": matrix(arrays["dw2"])}
    for name in ("x", "out", "dout", "dx_scale", "dx"):
        texts |= {f"{name}_{c + 1}": matrix(arrays[name][0, c]) for c in range(2)}
    texts["jacobian"] = matrix(gate_jacobian())
    texts["first_gate"] = fraction(float(arrays["s"].flat[0]))
    texts |= {"pixels": word(X[0, 0].size), "entries": word(X.size)}
    for c in range(2):
        value = arrays["dx_gate"].flat[c]
        texts[f"dx_gate_{c + 1}"] = f"{'+' if value > 0 else ''} {fraction(float(value))}"
    last = arrays["dx_scale"][0, 0, 1, 1], arrays["dx"][0, 0, 1, 1]
    texts["last_scale"], texts["last_dx"] = map(fraction, last)
    answer = intermediates(exercise=True)
    for name in ("ds", "dv", "dh", "dz", "dx_gate"):
        texts[f"answer_{name}"] = vector(answer[name])
    texts |= {f"answer_dx_{c + 1}": matrix(answer["dx"][0, c]) for c in range(2)}
    return {f"hand_{name}": text for name, text in texts.items()}


def gate_jacobian() -> Array:
    """Return the derivative of each gate with respect to each mean, (C, C), line by line."""
    arrays = intermediates()
    s, on = arrays["s"].ravel(), (arrays["u"].ravel() > 0).astype(float)
    return (s * (1 - s))[:, None] * (W2 * on) @ W1


def complex_step_error() -> float:
    """Return the largest difference of backward from a complex step of forward, all entries.

    An entry a becomes a + i h. Forward has complex numbers throughout, so the imaginary part of the
    loss is h times its derivative: no difference of two close numbers is taken.
    """
    gradients = reference.squeeze_excite_backward(
        DOUT, reference.squeeze_excite_forward(*ARRAYS)[1]
    )
    errors = []
    for k, gradient in enumerate(gradients):
        assert gradient is not None
        for index in np.ndindex(gradient.shape):
            moved = [array.astype(complex) for array in ARRAYS]
            moved[k][index] += 1j * COMPLEX_STEP
            out, _ = reference.squeeze_excite_forward(*moved)
            slope = (DOUT * out).sum().imag / COMPLEX_STEP
            errors.append(abs(slope - gradient[index]))
    return float(max(errors))


def checks() -> dict[str, str]:
    """Return the results of the checks of backward."""
    wrong = check(reference.squeeze_excite_forward, without_gate_route, list(ARRAYS))
    return {
        "check_step": rf"10^{{{round(log10(COMPLEX_STEP))}}}",
        "check_entries": str(sum(array.size for array in ARRAYS)),
        "check_error": scientific(complex_step_error()),
        "check_report": str(wrong),
    }


def without_gate_route(dout: Array, cache: SqueezeExciteCache) -> tuple[Array | None, ...]:
    """Return the gradients of squeeze_excite, with dx = dout * s only."""
    _, *others = reference.squeeze_excite_backward(dout, cache)
    return dout * cache.gates.s, *others


def scientific(value: float) -> str:
    r"""Return a number as LaTeX with one digit.

    Examples
    --------
    >>> scientific(3.55e-15)
    '4 \\cdot 10^{-15}'
    """
    digit, _, power = f"{value:.0e}".partition("e")
    return rf"{digit} \cdot 10^{{{int(power)}}}" if value else "0"


def check_claims() -> None:
    """Test what the text says about the case by hand.

    Raises
    ------
    ValueError
        If a statement does not hold.
    """
    agrees = case().ok and case(exercise=True).ok
    require({"each gradient agrees with forward": agrees}, REMEDY)
    arrays, answer = intermediates(), intermediates(exercise=True)
    last = arrays["dx_scale"][0, 0, 1, 1], arrays["dx"][0, 0, 1, 1]
    dz = gate_jacobian().T @ arrays["ds"].ravel()
    require(
        {
            "each entry agrees with the complex step": complex_step_error() < MAX_ERROR,
            "the hidden unit is positive": bool((arrays["u"] > 0).all()),
            "the gate route turns the sign of the last pixel": last[0] < 0 < last[1],
            "dout is zero in the lower row of channel two": not DOUT[0, 1, 1].any(),
            "G^T ds is dz": np.allclose(dz, arrays["dz"].ravel()),
            "all entries of the answer differ from zero": bool(answer["dx"].all()),
        },
        REMEDY,
    )
