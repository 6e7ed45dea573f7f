"""The memory that ops on a GPU need besides their results, as conv.py allocates it.

Declared from the code, not measured: CuPy's memory pool may hold more.
"""

from math import prod
from typing import Any

from minise.checks import as_pairs
from minise.ops.cuda.conv import MAX_COLUMN_BYTES
from minise.ops.reference.windows import windows_of


def workspace(
    name: str, arguments: tuple[Any, ...], settings: dict[str, Any], results: Any
) -> tuple[list[int], int]:
    """Return an empty list, for arrays from a caching allocator, and the bytes of columns.

    Parameters
    ----------
    name : str
        A function of the back end, such as conv2d_backward.
    arguments, settings, results
        Of the call; only shapes and dtypes are read.
    """
    if name not in ("conv2d_forward", "conv2d_backward"):
        return [], 0
    x, weight, _, *pairs, _ = results[1] if name == "conv2d_forward" else arguments[1]
    stride, padding, dilation = as_pairs(*pairs)
    pointwise = weight.shape[2:] == stride == (1, 1) and padding == (0, 0)
    if pointwise and name == "conv2d_forward":
        return [], 0
    windows = windows_of(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    image = x.shape[1] * prod(weight.shape[2:]) * prod(windows.outputs) * x.itemsize
    images = max(1, min(len(x), MAX_COLUMN_BYTES // image))
    return [], images * image + (0 if name == "conv2d_forward" else weight.nbytes)
