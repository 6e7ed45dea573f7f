"""The tiles of a matrix product compute what their plain loops do, and touch nothing else."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.ops.jit.vector.simd import lanes_of
from minise.ops.jit.vector.tile import (
    MIN_ROWS,
    ROWS,
    add_rows,
    add_rows_loops,
    add_tile,
    add_tile_loops,
    copy,
    copy_loops,
    set_tile,
    set_tile_loops,
    zero,
    zero_loops,
)
from minise.ops.jit.vector.transpose import transpose, transpose_loops
from tests.ops.cases import SEEDS, few

over_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
pytestmark = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="without Numba the plain loops themselves run"
)


@numba.njit
def run_add_tile(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, vectors, c, c0, c_row):
    add_tile(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, vectors, c, c0, c_row)


@numba.njit
def run_set_tile(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, vectors, c, c0, c_row):
    set_tile(a, a0, a_row, a_step, runs, count, b, b0, b_step, b_vector, vectors, c, c0, c_row)


@numba.njit
def run_add_rows(a, a0, rows, row_count, runs, count, b, b0, b_vector, vectors, sets, c, c0, c_row):
    right = b, b0, b_vector, vectors, sets, c, c0, c_row
    add_rows(a, a0, rows, row_count, runs, count, *right)


@numba.njit
def run_transpose(source, at, stride, target, to):
    transpose(source, at, stride, target, to)


@numba.njit
def run_copy(source, at, target, to, count):
    copy(source, at, target, to, count)


@numba.njit
def run_zero(target, to, count):
    zero(target, to, count)


@over_dtypes
@few
@given(
    count=st.integers(0, 11),
    runs=st.lists(st.integers(0, 30), max_size=4),
    steps=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    vectors=st.integers(1, 2),
    panels=st.booleans(),
    room=st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 7)),
    seed=SEEDS,
)
@pytest.mark.parametrize(
    ("run", "loops"), [(run_add_tile, add_tile_loops), (run_set_tile, set_tile_loops)]
)
def test_tile(run, loops, dtype, count, runs, steps, vectors, panels, room, seed):
    """Small integers, so == ; NaN around every array would show a stray read.

    The vectors of a step are neighbours, or each is in a panel of its own.
    """
    rng = np.random.default_rng(seed)
    lanes, step_count = lanes_of(np.dtype(dtype)), len(runs) * count
    a_row, a_step = steps
    wide = vectors * lanes
    b_step, c_row = (lanes if panels else wide) + room[1], wide + room[2]
    b_vector = step_count * b_step if panels else lanes
    reach = max(runs, default=0) + (ROWS - 1) * a_row + max(0, count - 1) * a_step + 1
    a = guarded(rng.integers(-3, 4, reach), room[0], dtype)
    b = guarded(np.full((vectors if panels else 1) * step_count * b_step, np.nan), 3, dtype)
    for v, step in np.ndindex(vectors, step_count):
        begin = 3 + v * b_vector + step * b_step
        b[begin : begin + lanes] = rng.integers(-3, 4, lanes)
    c = guarded(rng.integers(-3, 4, (ROWS, c_row)), 5, dtype)
    if loops is set_tile_loops:  # does not read what it sets
        for row in range(ROWS):
            c[5 + row * c_row : 5 + row * c_row + wide] = np.nan
    same = c.copy()
    left, right = (room[0], a_row, a_step, np.array(runs, np.intp), count), (b_step, b_vector)
    run(a, *left, b, 3, *right, vectors, c, 5, c_row)
    loops(a, *left, b, 3, *right, vectors, same, 5, c_row)
    np.testing.assert_array_equal(c, same)
    assert np.isnan(c[:5]).all()
    assert np.isfinite(c[5 : 5 + ROWS * c_row]).all()
    assert np.isnan(c[5 + ROWS * c_row :]).all()


@over_dtypes
@few
@given(
    row_count=st.integers(1, 21),
    count=st.integers(0, 9),
    runs=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    vectors=st.integers(1, 2),
    sets=st.booleans(),
    room=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    seed=SEEDS,
)
def test_rows(dtype, row_count, count, runs, vectors, sets, room, seed):
    """Rows are anywhere in a; rows after the last are written only where there is room."""
    rng = np.random.default_rng(seed)
    lanes, step_count = lanes_of(np.dtype(dtype)), len(runs) * count
    exact = sets and row_count >= MIN_ROWS
    space = row_count if exact else row_count + MIN_ROWS
    rows = np.zeros(row_count + MIN_ROWS, np.intp)
    rows[:row_count] = rng.integers(0, 50, row_count)
    a = guarded(rng.integers(-3, 4, 50 + max(runs) + count), room[0], dtype)
    b = guarded(rng.integers(-3, 4, (vectors, step_count, lanes)), 3, dtype)
    c_row = vectors * lanes + room[1]
    c = guarded(rng.integers(-3, 4, (space, c_row)), 5, dtype)
    if sets:  # does not read what it sets
        c[5:-9].reshape(space, c_row)[:, : vectors * lanes] = np.nan
    same = c.copy()
    left = a, room[0], rows, row_count, np.array(runs, np.intp), count
    right = b, 3, step_count * lanes, vectors, sets
    run_add_rows(*left, *right, c, 5, c_row)
    add_rows_loops(*left, *right, same, 5, c_row)
    end = 5 + row_count * c_row
    np.testing.assert_array_equal(c[:end], same[:end])
    assert np.isnan(c[:5]).all()
    assert np.isnan(c[5 + space * c_row :]).all()


@over_dtypes
def test_transpose(dtype):
    lanes = lanes_of(np.dtype(dtype))
    source = np.arange(3 + lanes * (lanes + 2), dtype=dtype)
    target = guarded(np.zeros((lanes, lanes)), 5, dtype)
    same = target.copy()
    run_transpose(source, 3, lanes + 2, target, 5)
    transpose_loops(source, 3, lanes + 2, same, 5)
    np.testing.assert_array_equal(target, same)
    block = source[3:].reshape(lanes, lanes + 2)[:, :lanes]
    np.testing.assert_array_equal(target[5:-9].reshape(lanes, lanes), block.T)


def guarded(values, before, dtype):
    """Return the values flat, with NaN before and after them."""
    row = np.full(before + values.size + 9, np.nan, dtype)
    row[before : before + values.size] = values.ravel()
    return row


@over_dtypes
def test_copy_and_zero(dtype):
    source, target = np.arange(20, dtype=dtype), np.full(20, np.nan, dtype)
    same = target.copy()
    run_copy(source, 3, target, 5, 7)
    copy_loops(source, 3, same, 5, 7)
    np.testing.assert_array_equal(target, same)
    run_zero(target, 6, 2)
    zero_loops(same, 6, 2)
    np.testing.assert_array_equal(target, same)
