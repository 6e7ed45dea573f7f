"""The fake of cuBLAS: column-major products at raw addresses, with CuPy's signatures."""

from pathlib import Path

import numpy as np
import pytest

from tests.ops.cuda import fake_cublas as cublas
from tests.ops.cuda.device import device

HANDLE = cublas.get_cublas_handle()
M, N, K, BATCH = 3, 4, 5, 2


def address(array):
    return array.ctypes.data


def drawn(rng, rows, columns, ld, gap, dtype):
    """Return integers as column-major matrices (BATCH, rows, columns) in a larger memory.

    The leading dimension is ld, gap elements separate the matrices, and the other elements are NaN.
    """
    memory = np.full((BATCH, columns * ld + gap), np.nan, dtype)
    matrices = memory[:, : columns * ld].reshape(BATCH, columns, ld)[:, :, :rows].swapaxes(1, 2)
    matrices[...] = rng.integers(-3, 4, matrices.shape)
    return memory, matrices


@pytest.mark.parametrize("prefix", ["s", "d"])
@pytest.mark.parametrize("transa", [0, 1])
@pytest.mark.parametrize("transb", [0, 1])
def test_strided_products(prefix, transa, transb):
    """Small integers: equal to the bit, and nothing outside the matrices is written."""
    dtype = np.float32 if prefix == "s" else np.float64
    rng = np.random.default_rng(0)
    shape_a, shape_b = (K, M) if transa else (M, K), (N, K) if transb else (K, N)
    a_memory, a = drawn(rng, *shape_a, shape_a[0] + 2, 3, dtype)
    b_memory, b = drawn(rng, *shape_b, shape_b[0] + 1, 0, dtype)
    c_memory, c = drawn(rng, M, N, M + 3, 1, dtype)
    alpha, beta = np.array(2, dtype), np.array(-1, dtype)
    left, right = a.swapaxes(1, 2) if transa else a, b.swapaxes(1, 2) if transb else b
    expected = 2 * (left @ right) - c
    outside = np.isnan(c_memory).sum()
    arguments = [
        *(HANDLE, transa, transb, M, N, K, address(alpha)),
        *(address(a_memory), shape_a[0] + 2, a_memory.shape[1]),
        *(address(b_memory), shape_b[0] + 1, b_memory.shape[1]),
        *(address(beta), address(c_memory), M + 3, c_memory.shape[1], BATCH),
    ]
    before = c_memory.copy()
    getattr(cublas, f"{prefix}gemmStridedBatched")(*arguments)
    np.testing.assert_array_equal(c, expected)
    assert np.isnan(c_memory).sum() == outside
    c_memory[...] = before
    kind = cublas.CUDA_R_32F if prefix == "s" else cublas.CUDA_R_64F
    for position in (8, 12, 17):  # in front of each leading dimension
        arguments.insert(position, kind)
    cublas.gemmStridedBatchedEx(*arguments, kind, cublas.CUBLAS_GEMM_DEFAULT)
    np.testing.assert_array_equal(c, expected)


@pytest.mark.parametrize("prefix", ["s", "d"])
def test_a_row_major_product(prefix):
    """A product of row-major matrices exchanges its operands, as cupy.matmul does."""
    dtype = np.float32 if prefix == "s" else np.float64
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((M, K), (K, N)))
    out, unit, zero = np.full((M, N), np.nan, dtype), np.array(1, dtype), np.array(0, dtype)
    operands = address(unit), address(b), N, address(a), K, address(zero), address(out), N
    getattr(cublas, f"{prefix}gemm")(HANDLE, 0, 0, N, M, K, *operands)
    np.testing.assert_array_equal(out, a @ b)  # beta = 0: the NaNs of out are not read
    kind = cublas.CUDA_R_32F if prefix == "s" else cublas.CUDA_R_64F
    out[...] = np.nan
    cublas.gemmEx(
        **dict(handle=HANDLE, transa=0, transb=0, m=N, n=M, k=K),
        **dict(alpha=address(unit), A=address(b), Atype=kind, lda=N),
        **dict(B=address(a), Btype=kind, ldb=K, beta=address(zero)),
        **dict(C=address(out), Ctype=kind, ldc=N, computeType=kind, algo=-1),
    )
    np.testing.assert_array_equal(out, a @ b)


def test_a_stride_of_zero_takes_one_matrix_for_all():
    rng = np.random.default_rng(2)
    (a_memory, a), (b_memory, b) = (drawn(rng, *s, s[0], 0, float) for s in ((M, K), (K, N)))
    out, unit, zero = np.empty((BATCH, N, M)), np.array(1.0), np.array(0.0)
    cublas.dgemmStridedBatched(
        *(HANDLE, 0, 0, M, N, K, address(unit), address(a_memory), M, 0),
        *(address(b_memory), K, K * N, address(zero), address(out), M, M * N, BATCH),
    )
    np.testing.assert_array_equal(out.swapaxes(1, 2), a[:1] @ b)


@pytest.mark.parametrize(
    ("compute", "expected"),
    [(cublas.CUBLAS_COMPUTE_32F, 1 + 2**-11), (cublas.CUBLAS_COMPUTE_32F_FAST_TF32, 1)],
)
def test_the_compute_type_selects_tf32(compute, expected):
    a, unit, out = (np.array([v], np.float32) for v in (1 + 2**-11, 1, 0))
    cublas.gemmEx(
        *(HANDLE, 0, 0, 1, 1, 1, address(unit), address(a), 0, 1, address(unit), 0, 1),
        *(address(np.zeros(1, np.float32)), address(out), 0, 1, compute, -1),
    )
    assert out[0] == np.float32(expected)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        (dict(lda=M - 1), "INVALID_VALUE"),
        (dict(ldc=M - 1), "INVALID_VALUE"),
        (dict(transb=3), "INVALID_VALUE"),
        (dict(m=-1), "INVALID_VALUE"),
        (dict(handle=0), "INVALID_VALUE"),
        (dict(Btype=cublas.CUDA_R_64F), "NOT_SUPPORTED"),
        (dict(computeType=cublas.CUBLAS_COMPUTE_64F), "NOT_SUPPORTED"),
        (dict(k=2**31), "value too large to convert to int"),
        (dict(A=-8), "value too large to convert to size_t"),
        (dict(n=4.0), "cannot be interpreted as an integer"),
        (dict(strides=1), "unexpected keyword argument 'strides'"),
    ],
)
def test_refuses(changed, error):
    a = np.zeros(M * N * K, np.float32)
    arguments = dict(
        **dict(handle=HANDLE, transa=0, transb=0, m=M, n=N, k=K, alpha=address(a)),
        **dict(A=address(a), Atype=0, lda=M, B=address(a), Btype=0, ldb=K, beta=address(a)),
        **dict(C=address(a), Ctype=0, ldc=M, computeType=68, algo=-1),
    )
    cublas.gemmEx(**arguments)
    with pytest.raises((RuntimeError, OverflowError, TypeError), match=error):
        cublas.gemmEx(**{**arguments, **changed})


def test_refuses_a_capture():
    stream = device.cuda.Stream(non_blocking=True)
    a = np.zeros(1)
    arguments = HANDLE, 0, 0, 1, 1, 1, address(a), address(a), 1, address(a), 1, address(a)
    with stream:
        stream.begin_capture()
        with pytest.raises(NotImplementedError, match="^calling cuBLAS API during stream capture"):
            cublas.dgemm(*arguments, address(a), 1)
        stream.end_capture()
    cublas.dgemm(*arguments, address(a), 1)


def test_the_signatures_are_those_of_cupy():
    """CuPy's library contains them as text; it cannot be loaded without cuBLAS."""
    cupy_backends = pytest.importorskip("cupy_backends")
    (library,) = Path(cupy_backends.__file__).parent.glob("cuda/libs/cublas.*.so")
    content = library.read_bytes()
    for text in cublas.SIGNATURES:
        assert text.encode() + b"\0" in content
