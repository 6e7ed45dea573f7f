"""Matrix products of cupy_backends.cuda.libs.cublas (CuPy 14.2), on raw addresses in host memory.

Matrices are column-major, alpha and beta are addresses of host scalars, and addresses are not
checked: with a wrong size or stride, memory beyond an array is read and written, as on a GPU. NumPy
computes the sums in the operands' dtype. For TF32, the operands' 13 lowest bits are cut off.
"""

import ctypes
import operator
from inspect import Parameter, Signature

import numpy as np

from tests.ops.cuda.capture import check_cublas

GEMM = "intptr_t handle, int transa, int transb, int m, int n, int k, size_t alpha, "
# CuPy's own text; every argument may be passed by name
SIGNATURES = (
    f"sgemm({GEMM}size_t A, int lda, size_t B, int ldb, size_t beta, size_t C, int ldc)",
    f"dgemm({GEMM}size_t A, int lda, size_t B, int ldb, size_t beta, size_t C, int ldc)",
    f"sgemmStridedBatched({GEMM}size_t A, int lda, long long strideA, size_t B, int ldb, "
    "long long strideB, size_t beta, size_t C, int ldc, long long strideC, int batchCount)",
    f"dgemmStridedBatched({GEMM}size_t A, int lda, long long strideA, size_t B, int ldb, "
    "long long strideB, size_t beta, size_t C, int ldc, long long strideC, int batchCount)",
    f"gemmEx({GEMM}size_t A, int Atype, int lda, size_t B, int Btype, int ldb, size_t beta, "
    "size_t C, int Ctype, int ldc, int computeType, int algo)",
    f"gemmStridedBatchedEx({GEMM}size_t A, int Atype, int lda, long long strideA, size_t B, "
    "int Btype, int ldb, long long strideB, size_t beta, size_t C, int Ctype, int ldc, "
    "long long strideC, int batchCount, int computeType, int algo)",
)
LIMITS = {  # of C's integers
    "int": (-(2**31), 2**31 - 1),
    "long long": (-(2**63), 2**63 - 1),
    "intptr_t": (-(2**63), 2**63 - 1),
    "size_t": (0, 2**64 - 1),
}
CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_OP_C = 0, 1, 2
CUBLAS_POINTER_MODE_HOST, CUBLAS_POINTER_MODE_DEVICE = 0, 1
CUBLAS_GEMM_DEFAULT, CUBLAS_GEMM_DEFAULT_TENSOR_OP = -1, 99
CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_PEDANTIC, CUBLAS_COMPUTE_32F_FAST_TF32 = 68, 69, 77
CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_64F_PEDANTIC = 70, 71
CUDA_R_32F, CUDA_R_64F = 0, 1  # of cupy.cuda.runtime; as compute types, as cupy.matmul has them
SINGLE = {
    CUDA_R_32F,
    CUBLAS_COMPUTE_32F,
    CUBLAS_COMPUTE_32F_PEDANTIC,
    CUBLAS_COMPUTE_32F_FAST_TF32,
}
DOUBLE = {CUDA_R_64F, CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_64F_PEDANTIC}
INVALID_VALUE, NOT_SUPPORTED = 7, 15
HANDLE = 1


class CUBLASError(RuntimeError):
    """A status other than success."""

    def __init__(self, status):
        self.status = status
        names = {INVALID_VALUE: "INVALID_VALUE", NOT_SUPPORTED: "NOT_SUPPORTED"}
        super().__init__(f"CUBLAS_STATUS_{names[status]}")


def get_cublas_handle():
    """Return the handle, as cupy.cuda.get_cublas_handle does."""
    return HANDLE


def function_of(text):
    """Return the name and the function of a signature: it converts arguments as Cython does."""
    name, _, listed = text.rstrip(")").partition("(")
    types = {part.rpartition(" ")[2]: part.rpartition(" ")[0] for part in listed.split(", ")}
    signature = Signature([Parameter(key, Parameter.POSITIONAL_OR_KEYWORD) for key in types])
    kind = {"s": CUDA_R_32F, "d": CUDA_R_64F}.get(name[0])
    implied = (
        {} if kind is None else dict.fromkeys(("Atype", "Btype", "Ctype", "computeType"), kind)
    )

    def function(*arguments, **keywords):
        bound = signature.bind(*arguments, **keywords).arguments
        values = {key: converted(value, types[key]) for key, value in bound.items()}
        multiply(**implied, **values)

    function.__signature__ = signature
    return name, function


def converted(value, kind):
    """Return an integer; raise TypeError or OverflowError if the C type cannot hold the value."""
    number, (low, high) = operator.index(value), LIMITS[kind]
    if not low <= number <= high:
        raise OverflowError(f"value too large to convert to {kind}")
    return number


def multiply(
    *,
    handle,
    transa,
    transb,
    m,
    n,
    k,
    alpha,
    beta,
    computeType,
    batchCount=1,
    algo=CUBLAS_GEMM_DEFAULT,
    **operands,
):
    """Compute C = alpha op(A) op(B) + beta C for each matrix of a batch."""
    check_cublas()
    check(handle == HANDLE and {transa, transb} <= {CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_OP_C})
    check(min(m, n, k, batchCount) >= 0)
    types = {operands[f"{name}type"] for name in "ABC"}
    single = types == {CUDA_R_32F} and computeType in SINGLE
    check(single or (types == {CUDA_R_64F} and computeType in DOUBLE), NOT_SUPPORTED)
    dtype, scalar = (np.float32, ctypes.c_float) if single else (np.float64, ctypes.c_double)
    shapes = {"A": (k, m) if transa else (m, k), "B": (n, k) if transb else (k, n), "C": (m, n)}
    left, right, out = (
        matrices(
            operands[name],
            (batchCount, *shape),
            operands[f"ld{name.lower()}"],
            operands.get(f"stride{name}", 0),
            dtype,
        )
        for name, shape in shapes.items()
    )
    factor, share = (dtype(scalar.from_address(address).value) for address in (alpha, beta))
    left, right = (a.swapaxes(1, 2) if t else a for a, t in ((left, transa), (right, transb)))
    if computeType == CUBLAS_COMPUTE_32F_FAST_TF32:
        left, right = cut_to_tf32(left), cut_to_tf32(right)
    product = factor * (left @ right) if factor else np.zeros(out.shape, dtype)
    out[...] = product + share * out if share else product  # C is not read if beta is 0


def check(valid, status=INVALID_VALUE):
    if not valid:
        raise CUBLASError(status)


def matrices(address, shape, ld, stride, dtype):
    """Return the matrices at an address as an array (batch, rows, columns), a view of memory."""
    batch, rows, columns = shape
    check(ld >= max(1, rows))
    size = np.dtype(dtype).itemsize
    if 0 in shape:
        return np.empty(shape, dtype)
    count = (batch - 1) * stride + (columns - 1) * ld + rows
    memory = (ctypes.c_char * (count * size)).from_address(address)
    return np.ndarray(shape, dtype, memory, strides=(stride * size, size, ld * size))


def cut_to_tf32(array):
    """Return float32 numbers without the 13 lowest bits of their significands."""
    return (np.ascontiguousarray(array).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


globals().update(function_of(text) for text in SIGNATURES)
