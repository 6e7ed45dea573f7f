"""Every vector operation has the bits of its specification *_lanes, including the sign of zero."""

import itertools
import platform
from fractions import Fraction

import numba
import numpy as np
import pytest

from minise.ops.jit.vector import simd
from minise.ops.jit.vector.simd import (
    HAS_FMA,
    VECTOR_BYTES,
    filled,
    filled_lanes,
    fma,
    fma_lanes,
    lanes_of,
    load,
    store,
    where_positive,
    where_positive_lanes,
)

over_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
pytestmark = pytest.mark.skipif(simd.AS_LOOPS, reason="without Numba the specification itself runs")
AT = 3  # index of the first vector: not aligned to a cache line
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    1 / 3,
    -0.1,
    np.inf,
    -np.inf,
    np.nan,
    1e-40,
    -1e15,
    7.5,
]  # no product overflows


def rows(dtype):
    """Return all triples of special numbers in three rows, zero-padded to full vectors."""
    triples = np.array(list(itertools.product(SPECIAL, repeat=3)), dtype).T
    lanes = lanes_of(np.dtype(dtype))
    short = -triples.shape[1] % lanes
    return np.ascontiguousarray(np.pad(triples, [(0, 0), (AT, short)]))


def same(ours, theirs):
    """Assert that numbers are equal, NaN at the same places, and zeros of the same sign."""
    np.testing.assert_array_equal(ours, theirs)
    number = ~np.isnan(theirs)
    np.testing.assert_array_equal(np.signbit(ours[number]), np.signbit(theirs[number]))


def runner(operation):
    """Return a compiled function that applies an operation to all vectors of three rows."""

    @numba.njit
    def run(a, b, c, out):
        for i in range(AT, len(out), lanes_of(out.dtype)):
            store(operation(load(a, i), load(b, i), load(c, i)), out, i)

    return run


def both(emitted, written, dtype):
    """Return the results of the compiled operation and of its specification in NumPy."""
    inputs, out = rows(dtype), np.full_like(rows(dtype)[0], np.nan)
    runner(numba.njit(emitted))(*inputs, out)
    with np.errstate(all="ignore"):
        expected = written(*inputs[:, AT:])
    assert np.isnan(out[:AT]).all()
    assert expected.dtype == dtype
    return out[AT:], expected


OPERATIONS = {  # of vectors a, b, c: to compile, and for NumPy if its code differs
    "a": (lambda a, b, c: a,),
    "a + b": (lambda a, b, c: a + b,),
    "a - b": (lambda a, b, c: a - b,),
    "a * b": (lambda a, b, c: a * b,),
    "a + 0.1": (lambda a, b, c: a + 0.1,),
    "0.1 + a": (lambda a, b, c: 0.1 + a,),
    "a - 3": (lambda a, b, c: a - 3,),
    "3 - a": (lambda a, b, c: 3 - a,),
    "0.1 * a": (lambda a, b, c: 0.1 * a,),
    "a * -2": (lambda a, b, c: a * -2,),
    "products of sums": (lambda a, b, c: (a + b) * (b - c),),
    "where_positive": (
        lambda a, b, c: where_positive(a, b),
        lambda a, b, c: where_positive_lanes(a, b),
    ),
    "relu": (lambda a, b, c: where_positive(a, a), lambda a, b, c: where_positive_lanes(a, a)),
    "where_positive of a number": (
        lambda a, b, c: where_positive(0.1, b),
        lambda a, b, c: where_positive_lanes(filled_as(a, 0.1), b),
    ),
    "where_positive by a number": (
        lambda a, b, c: where_positive(a, -0.0),
        lambda a, b, c: where_positive_lanes(a, filled_as(a, -0.0)),
    ),
}


def filled_as(a, number):
    return np.full_like(a, number)


@over_dtypes
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(dtype, name):
    emitted, *written = OPERATIONS[name]
    same(*both(emitted, (written or [emitted])[0], dtype))


@over_dtypes
def test_fma_rounds_once_or_twice(dtype):
    """With FMA, the nearest number to a * b + c; without, the bits of the specification."""
    ours, theirs = both(lambda a, b, c: fma(a, b, c), fma_lanes, dtype)
    if not HAS_FMA:
        same(ours, theirs)
        return
    a, b, c = rows(dtype)[:, AT:]
    finite = np.isfinite(theirs)
    np.testing.assert_array_equal(ours[~finite], theirs[~finite])
    for i in np.flatnonzero(finite):
        exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
        error = abs(Fraction(float(ours[i])) - exact)
        assert 2 * error <= Fraction(float(np.spacing(abs(ours[i]))))
        if exact == 0:
            assert np.signbit(ours[i]) == np.signbit(theirs[i])


@over_dtypes
def test_numbers_beside_vectors_in_fma(dtype):
    """Products with powers of two are exact, so one rounding and two give the same bits."""
    for emitted, written in (
        (lambda a, b, c: fma(4.0, b, c), lambda a, b, c: 4 * b + c),
        (lambda a, b, c: fma(a, -2, c), lambda a, b, c: a * -2 + c),
        (lambda a, b, c: fma(0.5, b, 0.1), lambda a, b, c: 0.5 * b + filled_as(b, 0.1)),
    ):
        ours, theirs = both(emitted, written, dtype)
        normal = abs(theirs) >= np.finfo(dtype).tiny  # half of a subnormal number is rounded
        np.testing.assert_array_equal(ours[normal], theirs[normal])
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))


@over_dtypes
def test_a_fused_product_is_seen(dtype):
    """(1 + e) (1 - e) - 1 = -e e with one rounding, 0 with two."""
    e = float(np.finfo(dtype).eps)
    out = np.zeros(lanes_of(np.dtype(dtype)), dtype)

    @numba.njit
    def run(out, e):
        ones = filled(1.0, out)
        store(fma(ones + e, ones - e, -1.0), out, 0)

    run(out, e)
    assert (out == (-e * e if HAS_FMA else 0)).all()


@over_dtypes
def test_filled(dtype):
    out = np.full(3 * lanes_of(np.dtype(dtype)), np.nan, dtype)

    @numba.njit
    def run(number, out, at):
        store(filled(number, out), out, at)

    lanes = lanes_of(np.dtype(dtype))
    for number in (0.1, -0.0, np.nan, 3):
        run(number, out, lanes)
        same(out[lanes:-lanes], filled_lanes(number, out))
        assert np.isnan(out[:lanes]).all()
        assert np.isnan(out[-lanes:]).all()


@over_dtypes
def test_load_and_store_at_any_place(dtype):
    """They access exactly the lanes of a vector, at any index."""
    lanes = lanes_of(np.dtype(dtype))
    source = np.arange(1, 4 * lanes, dtype=dtype)

    @numba.njit
    def run(source, at, target, to):
        store(load(source, at), target, to)

    for at, to in itertools.product(range(0, 2 * lanes, 3), range(lanes)):
        target, expected = (np.full(3 * lanes, np.nan, dtype) for _ in range(2))
        run(source, at, target, to)
        simd.store_lanes(simd.load_lanes(source, at), expected, to)
        np.testing.assert_array_equal(target, expected)


def test_a_vector_is_whole_numbers():
    assert VECTOR_BYTES in (16, 32, 64)
    assert lanes_of(np.dtype(np.float32)) == 2 * lanes_of(np.dtype(np.float64)) == VECTOR_BYTES // 4


@numba.njit
def _product(a, b, out):
    store(fma(load(a, 0), load(b, 0), load(out, 0)), out, 0)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="x86's names of registers"
)
@over_dtypes
def test_the_code_has_registers_of_this_width(dtype):
    """LLVM would split a vector wider than the processor's; a narrower one would waste lanes."""
    row = np.ones(lanes_of(np.dtype(dtype)), dtype)
    _product(row, row, row)
    (code,) = [
        text
        for kinds, text in _product.inspect_asm().items()
        if kinds[0].dtype == numba.from_dtype(np.dtype(dtype))
    ]
    arithmetic = [line for line in code.splitlines() if "fmadd" in line or "mulp" in line]
    names = {16: "%xmm", 32: "%ymm", 64: "%zmm"}
    assert arithmetic
    assert all(names[VECTOR_BYTES] in line for line in arithmetic)
    assert ("fmadd" in arithmetic[0]) == HAS_FMA
