"""Winograd's transforms: the identity in exact fractions, and the functions of vectors."""

from fractions import Fraction
from math import prod

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.ops.jit.convolution import rounding, transforms
from minise.ops.jit.convolution.rounding import STEPS, gamma
from minise.ops.jit.convolution.transforms import (
    IN,
    OUT,
    POINTS,
    TAP,
    transform_douts,
    transform_dweights,
    transform_inputs,
    transform_outputs,
    transform_weights,
)
from minise.ops.jit.vector.simd import lanes_of
from tests.ops.cases import SEEDS, few
from tests.ops.jit.guards import Guarded

over_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def fractions(text):
    return np.array([[Fraction(word) for word in row.split()] for row in text.strip().splitlines()])


B_T = fractions("""
    4  0 -5  0  1  0
    0 -4 -4  1  1  0
    0  4 -4 -1  1  0
    0 -2 -1  2  1  0
    0  2 -1 -2  1  0
    0  4  0 -5  0  1
""")
G = fractions("""
     1/4    0     0
    -1/6  -1/6  -1/6
    -1/6   1/6  -1/6
    1/24  1/12   1/6
    1/24 -1/12   1/6
     0      0     1
""")
A_T = fractions("""
    1  1  1  1  1  0
    0  1 -1  2 -2  0
    0  1  1  4  4  0
    0  1 -1  8 -8  1
""")
MATRICES = {  # of the functions of vectors
    "_inputs": B_T,
    "_outputs": A_T,
    "_douts": A_T.T,
    "_weights": G,
    "_dweights": G.T,
}


def test_the_matrices_follow_from_the_nodes():
    """The interpolation nodes are 0, 1, -1, 2, -2 and, last, infinity."""
    nodes = [0, 1, -1, 2, -2]
    for k, node in enumerate(nodes):
        others = [other for other in nodes if other != node]
        distance = Fraction(prod(node - other for other in others))
        assert [*reversed(np.poly(others)), 0] == list(B_T[k])
        assert [node**i / distance for i in range(TAP)] == list(G[k])
        assert [node**i for i in range(OUT)] == list(A_T[:, k])
    assert [*reversed(np.poly(nodes))] == list(B_T[5])
    assert list(G[5]) == [0, 0, 1]
    assert list(A_T[:, 5]) == [0, 0, 0, 1]


def test_it_is_the_correlation():
    """Output k has pixel j times weight i with coefficient 1 where j = k + i, and otherwise 0."""
    products = np.einsum("kp,pi,pj->kij", A_T, G, B_T)
    for k, i, j in np.ndindex(OUT, TAP, IN):
        assert products[k, i, j] == (j == k + i)


def test_it_is_the_correlation_of_tiles():
    """In two dimensions, with random integers."""
    rng = np.random.default_rng(0)
    d, g = (np.vectorize(Fraction)(rng.integers(-9, 10, (n, n))) for n in (IN, TAP))
    y = A_T @ ((G @ g @ G.T) * (B_T @ d @ B_T.T)) @ A_T.T
    for p, q in np.ndindex(OUT, OUT):
        assert y[p, q] == (d[p : p + TAP, q : q + TAP] * g).sum()


def test_the_matrices_of_the_bound():
    for ours, theirs in ((rounding.B_T, B_T), (rounding.G, G), (rounding.A_T, A_T)):
        np.testing.assert_array_equal(ours, theirs.astype(float))


class Counted:
    """A sum of terms: for each input, its exact coefficient and its number of roundings."""

    def __init__(self, terms):
        self.terms = {k: term for k, term in terms.items() if term[0]}

    def __add__(self, other):
        both = dict(self.terms)
        for k, (factor, count) in other.terms.items():
            before, most = both.get(k, (0, 0))
            assert before * factor >= 0, "a coefficient that cancels would not be bounded"
            both[k] = before + factor, max(most, count)
        return Counted({k: (factor, count + 1) for k, (factor, count) in both.items()})

    def __sub__(self, other):
        return self + Counted({k: (-factor, count) for k, (factor, count) in other.terms.items()})

    def __rmul__(self, number):
        exact = Fraction(number).limit_denominator(24)
        binary = (
            exact == Fraction(number) and abs(exact.numerator) & (abs(exact.numerator) - 1) == 0
        )
        more = 0 if binary else 1 if exact == Fraction(number) else 2  # a constant is rounded too
        return Counted(
            {k: (exact * factor, count + more) for k, (factor, count) in self.terms.items()}
        )


def fma_of(fused):
    """Return fma on Counted; if fused, the product is not rounded separately."""

    def fma(number, b, c):
        product = number * b
        if fused and product.terms:
            exact = Fraction(number).limit_denominator(24)
            less = (1 * b).terms
            once = 0 if exact == Fraction(number) else 1
            product = Counted({k: (f, less[k][1] + once) for k, (f, _) in product.terms.items()})
        return product + c

    return fma


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", MATRICES)
def test_the_source_is_the_matrix_and_rounds_as_often_as_said(name, fused, monkeypatch):
    monkeypatch.setattr(transforms, "fma", fma_of(fused))
    function = getattr(transforms, name)
    function = getattr(function, "py_func", function)  # the Python function
    matrix = MATRICES[name]
    out = function(*(Counted({k: (Fraction(1), 0)}) for k in range(matrix.shape[1])))
    coefficients = [[sum_.terms.get(k, (0, 0))[0] for k in range(matrix.shape[1])] for sum_ in out]
    np.testing.assert_array_equal(coefficients, matrix)
    roundings = max(count for sum_ in out for _, count in sum_.terms.values())
    stated = getattr(STEPS, name.strip("_"))
    assert roundings <= stated
    assert fused or roundings == stated


def drawn(rng, *shape):
    return rng.integers(-3, 4, shape).astype(float)


def both(matrix, tiles):
    """Return matrix tile matrix.T for each tile; the last two axes are the tile's."""
    matrix = matrix.astype(tiles.dtype)
    return matrix @ tiles @ matrix.T


@numba.njit
def run_inputs(band, at, wide, C, tiles, half, points, to, plane):
    transform_inputs(band, at, wide, C, tiles, half, points, to, C, plane)


@numba.njit
def run_outputs(sums, at, plane, K, tiles, rows, columns, out, to, row):
    transform_outputs(sums, at, K, plane, K, tiles, rows, columns, out, to, K, row)


@numba.njit
def run_douts(dout, at, row, K, tiles, dpoints, to, plane):
    transform_douts(dout, at, row, K, tiles, dpoints, to, K, plane)


@numba.njit
def run_weights(taps, count, out, to, plane):
    transform_weights(taps, count, out, to, plane)


@numba.njit
def run_dweights(points, count, plane, taps):
    transform_dweights(points, count, plane, taps)


SIZES = dict(vectors=st.integers(1, 2), tiles=st.integers(1, 3), room=st.integers(0, 5), seed=SEEDS)


def at_points(points, to, plane, size):
    """Return points (6, 6, …) in the flat layout of kernels: a plane per point, NaN between."""
    flat = np.full(size, np.nan)
    for point, values in enumerate(points.reshape(POINTS, -1)):
        flat[point * plane + to : point * plane + to + values.size] = values
    return flat


@over_dtypes
@few
@given(**SIZES)
def test_transform_inputs(dtype, vectors, tiles, room, seed):
    """Small integers, so == ; NaN around all arrays, and where nothing may be written."""
    C = vectors * lanes_of(np.dtype(dtype))
    wide, plane, guards = OUT * tiles + 2 + room, tiles * C + 2 * room, Guarded()
    pixels = drawn(np.random.default_rng(seed), IN, wide, C)
    band = guards.array(np.append(np.full(room, np.nan), pixels).astype(dtype))
    half = guards.array(np.full(IN * wide * C, np.nan, dtype))
    points = guards.array(np.full(POINTS * plane, np.nan, dtype))
    run_inputs(band, room, wide, C, tiles, half, points, room, plane)
    d = np.stack([pixels[:, OUT * t : OUT * t + IN] for t in range(tiles)])
    expected = both(B_T, d.transpose(0, 3, 1, 2)).transpose(2, 3, 0, 1)  # (6, 6, tiles, C)
    np.testing.assert_array_equal(points, at_points(expected, room, plane, points.size))
    guards.check()


@over_dtypes
@few
@given(rows=st.integers(1, 6), less=st.integers(0, 3), **SIZES)
def test_transform_outputs(dtype, rows, less, vectors, tiles, room, seed):
    """Results beyond the edge of out are not stored."""
    rng, guards = np.random.default_rng(seed), Guarded()
    K, columns = vectors * lanes_of(np.dtype(dtype)), OUT * tiles - less
    plane, row = tiles * K + 2 * room, columns * K + room
    m = drawn(rng, IN, IN, tiles, K)
    sums = guards.array(at_points(m, room, plane, POINTS * plane).astype(dtype))
    out = guards.array(np.full(room + OUT * row, np.nan, dtype))
    run_outputs(sums, room, plane, K, tiles, rows, columns, out, room, row)
    y = both(A_T, m.transpose(2, 3, 0, 1))  # (tiles, K, 4, 4)
    image = y.transpose(2, 0, 3, 1).reshape(OUT, OUT * tiles, K)[:rows, :columns]
    expected = np.full_like(out, np.nan)
    for r, pixels in enumerate(image):
        expected[room + r * row : room + r * row + pixels.size] = pixels.ravel()
    np.testing.assert_array_equal(out, expected)
    guards.check()


@over_dtypes
@few
@given(**SIZES)
def test_transform_douts(dtype, vectors, tiles, room, seed):
    guards = Guarded()
    K = vectors * lanes_of(np.dtype(dtype))
    row, plane = OUT * tiles * K + room, tiles * K + 2 * room
    y = drawn(np.random.default_rng(seed), OUT, OUT * tiles, K)
    rows = np.full((OUT, row), np.nan)
    rows[:, : OUT * tiles * K] = y.reshape(OUT, -1)
    dout = guards.array(np.append(np.full(room, np.nan), rows).astype(dtype))
    dpoints = guards.array(np.full(POINTS * plane, np.nan, dtype))
    run_douts(dout, room, row, K, tiles, dpoints, room, plane)
    cut = y.reshape(OUT, tiles, OUT, K).transpose(1, 3, 0, 2)
    expected = both(A_T.T, cut).transpose(2, 3, 0, 1)
    np.testing.assert_array_equal(dpoints, at_points(expected, room, plane, dpoints.size))
    guards.check()


def check_rounded(ours, numbers, matrix, steps):
    """Assert that ours (n, n, K) is matrix numbers matrix.T, up to `steps` roundings per axis.

    Multiplied by 24 * 24, all numbers are integers that fit into 64 bits; this product is one more
    rounding of ours.
    """
    integer_matrix, tiles = (
        (24 * matrix).astype(np.int64),
        numbers.transpose(2, 0, 1).astype(np.int64),
    )
    exact, terms = both(integer_matrix, tiles), both(abs(integer_matrix), abs(tiles))
    error = abs(24 * 24 * ours.transpose(2, 0, 1).astype(float) - exact)
    assert (error <= gamma(2 * steps + 1, np.finfo(ours.dtype).eps) * terms).all()


@over_dtypes
@few
@given(vectors=st.integers(1, 2), room=st.integers(0, 5), seed=SEEDS)
def test_transform_weights(dtype, vectors, room, seed):
    guards = Guarded()
    K = vectors * lanes_of(np.dtype(dtype))
    plane = K + 2 * room
    g = np.random.default_rng(seed).integers(-(2**20), 2**20, (TAP, TAP, K)).astype(dtype)
    points = guards.array(np.full(POINTS * plane, np.nan, dtype))
    run_weights(guards.array(g.ravel()), K, points, room, plane)
    transformed = points.reshape(IN, IN, plane)
    check_rounded(transformed[..., room : room + K], g, G, STEPS.weights)
    assert np.isnan(transformed[..., :room]).all()
    assert np.isnan(transformed[..., room + K :]).all()
    guards.check()


@over_dtypes
@few
@given(vectors=st.integers(1, 2), room=st.integers(0, 5), seed=SEEDS)
def test_transform_dweights(dtype, vectors, room, seed):
    guards = Guarded()
    K = vectors * lanes_of(np.dtype(dtype))
    plane = K + room
    u = np.random.default_rng(seed).integers(-(2**20), 2**20, (IN, IN, K)).astype(dtype)
    points = guards.array(at_points(u, 0, plane, POINTS * plane).astype(dtype))
    taps = guards.array(np.full(TAP * TAP * K, np.nan, dtype))
    run_dweights(points, K, plane, taps)
    check_rounded(taps.reshape(TAP, TAP, K), u, G.T, STEPS.dweights)
    guards.check()


@over_dtypes
@few
@given(vectors=st.integers(1, 2), tiles=st.integers(1, 3), seed=SEEDS)
def test_a_transpose_is_the_transpose(dtype, vectors, tiles, seed):
    """<A.T m A, y> = <m, A y A.T>, and <G g G.T, u> = <g, G.T u G>, times 24 * 24."""
    rng = np.random.default_rng(seed)
    K = vectors * lanes_of(np.dtype(dtype))
    m, y = (drawn(rng, n, tiles * K).astype(dtype) for n in (POINTS, OUT * OUT))
    out, dpoints = np.empty_like(y), np.empty_like(m)
    run_outputs(
        m.ravel(), 0, tiles * K, K, tiles, OUT, OUT * tiles, out.ravel(), 0, OUT * tiles * K
    )
    run_douts(y.ravel(), 0, OUT * tiles * K, K, tiles, dpoints.ravel(), 0, tiles * K)
    assert (out * y).sum() == (m * dpoints).sum()
    g, u = (24 * drawn(rng, n * n, K).astype(dtype) for n in (TAP, IN))
    points, taps = np.empty_like(u), np.empty_like(g)
    run_weights(g.ravel(), K, points.ravel(), 0, K)
    run_dweights(u.ravel(), K, K, taps.ravel())
    steps = 2 * (STEPS.weights + STEPS.dweights)
    terms = (both(abs(G), abs(g).T.reshape(K, TAP, TAP)).reshape(K, POINTS) * abs(u).T).sum()
    error = abs((points.astype(float) * u).sum() - (taps.astype(float) * g).sum())
    assert error <= gamma(steps, np.finfo(dtype).eps) * terms
