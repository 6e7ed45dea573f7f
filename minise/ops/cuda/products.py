"""Products of stacks of matrices by cuBLAS.

cuBLAS stores matrices by columns. A row-major matrix of the product out = a @ b is a transposed
matrix in that order, so the call computes out.T = b.T @ a.T without copying an operand.
"""

from typing import Any, NamedTuple

import numpy as np

NUMBERS = {dtype: np.array([0, 1], dtype) for dtype in "fd"}  # alpha and beta, by address


class Settings(NamedTuple):
    """Arguments of a cuBLAS call that depend on dtype and precision only."""

    kind: int  # cuBLAS's number of the dtype
    compute: int  # cuBLAS's number of the precision of the sums
    alpha: int  # address of the factor of the product: 1
    beta: int  # address of the factor of the old values of out: 1 to add to them, or 0


def settings_of(cublas: Any, dtype: str, *, tf32: bool, add: bool) -> Settings:
    """Return the settings for dtype "f" or "d"; tf32 rounds float32 operands to TF32."""
    single = cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else cublas.CUBLAS_COMPUTE_32F
    kind, compute = (0, single) if dtype == "f" else (1, cublas.CUBLAS_COMPUTE_64F)
    numbers = NUMBERS[dtype]
    at_zero = numbers.ctypes.data
    at_one = at_zero + numbers.itemsize
    return Settings(kind, compute, at_one, at_one if add else at_zero)


class Matrix(NamedTuple):
    """A stack of matrices in memory."""

    by_columns: bool  # column-major: the last axis is not contiguous, the one before it is
    leading: int  # distance between rows (or columns, if by_columns), in numbers
    stride: int  # distance between matrices, in numbers; 0 for one matrix


def matrix_of(array: Any) -> Matrix:
    """Return the memory layout of an array (batch, rows, columns) or (rows, columns).

    Raises
    ------
    ValueError
        If neither rows nor columns are contiguous.
    """
    *_, rows, columns = array.shape
    *batch, row, column = (stride // array.dtype.itemsize for stride in array.strides)
    stride = batch[0] if batch else 0
    if column == 1 or columns == 1:
        return Matrix(False, max(row, columns), stride)
    if row == 1 or rows == 1:
        return Matrix(True, max(column, rows), stride)
    raise ValueError(
        f"multiply: a matrix has strides {array.strides}, expected contiguous rows or columns"
    )


class Product(NamedTuple):
    """The integers of a cuBLAS call for out = a @ b, which is out.T = b.T @ a.T by columns."""

    batch: int
    N: int
    M: int
    K: int
    b: Matrix
    a: Matrix
    out: Matrix


def product_of(a: Any, b: Any, out: Any) -> Product:
    """Check the operands of out = a @ b and return its Product.

    Raises
    ------
    TypeError, ValueError
        If the shapes, dtypes or layouts of the three arrays do not allow the product.
    """
    if not a.dtype == b.dtype == out.dtype:
        raise TypeError(f"multiply: dtypes are {a.dtype}, {b.dtype}, {out.dtype}, expected one")
    batch, M, N = out.shape if out.ndim == 3 else (1, *out.shape)
    K = a.shape[-1]
    for array, wanted in ((a, (M, K)), (b, (K, N))):
        if array.shape not in (wanted, (batch, *wanted)):
            raise ValueError(
                f"multiply: shapes are {a.shape}, {b.shape} and {out.shape}, expected (batch, M, "
                "K), (batch, K, N) and (batch, M, N)"
            )
    product = Product(batch, N, M, K, matrix_of(b), matrix_of(a), matrix_of(out))
    if product.out.by_columns:
        raise ValueError(f"multiply: out has strides {out.strides}, expected contiguous rows")
    largest = max(batch, N, M, K, *(matrix.leading for matrix in product[4:]))
    if largest > np.iinfo(np.int32).max:
        raise ValueError(f"multiply: a size is {largest}, expected a 32-bit integer")
    return product


def multiply(
    cublas: Any, handle: int, product: Product, addresses: tuple[int, int, int], settings: Settings
) -> None:
    """Call cuBLAS, in CuPy's module, for a product; addresses are those of a, b and out."""
    batch, N, M, K, b, a, out = product
    at_a, at_b, at_out = addresses
    kind, compute, alpha, beta = settings
    cublas.gemmStridedBatchedEx(
        *(handle, int(b.by_columns), int(a.by_columns), N, M, K, alpha),
        *(at_b, kind, b.leading, b.stride, at_a, kind, a.leading, a.stride),
        *(beta, at_out, kind, out.leading, out.stride),
        *(batch, compute, cublas.CUBLAS_GEMM_DEFAULT),
    )
