"""Streams, capture and graphs of the stand-in device, with the interface of cupy.cuda.

Kernels run immediately, in the order of their calls. On a stream that is capturing they are
recorded, and run when the graph is launched. Calls that CuPy 14.2 and CUDA refuse during a capture
raise errors of the same types and texts. Not modelled: streams do not run concurrently, so a
missing synchronisation between two streams goes unnoticed; kernels can be loaded in a capture.
"""

import itertools

import numpy as np

# functions that call cuBLAS in CuPy 14.2 (einsum: if an index is summed over two arrays)
PRODUCTS = {"dot", "einsum", "inner", "matmul", "tensordot", "vdot"}
# functions that only launch kernels in CuPy 14.2, as ufuncs do: read in its sources
CAPTURABLE = {
    *("all", "any", "arange", "argmax", "argmin", "ascontiguousarray", "astype", "broadcast_to"),
    *("concatenate", "copy", "fill", "getitem", "max", "mean", "min", "ones_like", "ravel"),
    *("reduce", "repeat", "reshape", "squeeze", "sum", "swapaxes", "take_along_axis", "transpose"),
    *("where", "zeros_like"),
}
MAX_COPIES = 8  # arrays that concatenate copies one by one


class CUDARuntimeError(RuntimeError):
    """An error of the CUDA runtime, as CuPy raises it."""


UNSUPPORTED = "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"
INVALIDATED = (
    "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture"
)
ILLEGAL = "cudaErrorIllegalState: the operation cannot be performed in the present state"


class Graph:
    """The recorded calls of a capture; like a CUDA graph, it keeps no array in use."""

    def __init__(self, calls):
        self._calls = calls

    def launch(self, stream=None):
        """Run the calls, or record them if the stream is capturing."""
        for call in self._calls:
            enqueue(call, stream)


class Stream:
    """A stream; within its context it is the current one."""

    def __init__(self, *, null=False, non_blocking=False):
        assert null or non_blocking, "the device of the tests has no blocking stream but the null"
        self.ptr = 0 if null else next(addresses)
        self._calls, self._valid = None, True

    def __enter__(self):
        current.append(self)
        return self

    def __exit__(self, *_):
        current.pop()

    def begin_capture(self):
        """Record the calls on this stream from here on, instead of running them."""
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self._calls is not None:
            raise CUDARuntimeError(ILLEGAL)
        self._calls = []
        captures.append(self)

    def end_capture(self):
        """Return the recorded calls as a Graph."""
        if self._calls is None:
            raise CUDARuntimeError(ILLEGAL)
        graph, valid = Graph(self._calls), self._valid
        self._calls, self._valid = None, True
        captures.remove(self)
        if not valid:
            raise CUDARuntimeError(INVALIDATED)
        return graph

    def is_capturing(self):
        """Return True during a capture; raise RuntimeError after an error has invalidated it."""
        if not self._valid:
            raise RuntimeError(
                "the stream was capturing, but an error has invalidated the capture sequence"
            )
        return self._calls is not None

    def synchronize(self):
        """Wait for the stream; this is not permitted during a capture, and invalidates it."""
        if self._calls is not None:
            self._valid = False
            raise CUDARuntimeError(UNSUPPORTED)


addresses = itertools.count(2)  # 0 and 1 stand for CUDA's default stream
current = [Stream(null=True)]  # the last one is the current stream
captures = []  # streams that are capturing


class Device:
    """The only device."""

    id = 0

    def synchronize(self):
        """Wait for all streams; this is not permitted while one captures, and invalidates it."""
        for stream in captures:
            stream._valid = False
        if captures:
            raise CUDARuntimeError(UNSUPPORTED)


def get_current_stream():
    """Return the stream on which kernels run."""
    return current[-1]


def enqueue(call, stream=None):
    """Run a call on a stream, the current one by default, or record it if that is capturing."""
    stream = stream or get_current_stream()
    if stream.is_capturing():
        stream._calls.append(call)
    else:
        call()


def check_copy(direction):
    """Raise RuntimeError for a copy between host and device ("H2D" or "D2H") during a capture."""
    if get_current_stream().is_capturing():
        raise RuntimeError(
            f"the current stream is capturing, so {direction} transfers are disallowed"
        )


def check_cublas():
    """Raise NotImplementedError for a call of cuBLAS during a capture."""
    if get_current_stream().is_capturing():
        raise NotImplementedError(
            "calling cuBLAS API during stream capture is currently unsupported"
        )


def check_capturable(name, function, arguments):
    """Raise as CuPy does if a function cannot be captured; fail if that is unknown."""
    if name in PRODUCTS:
        check_cublas()
    if name == "where" and len(arguments) == 1:
        check_copy("D2H")  # the number of elements
    if name == "concatenate" and len(arguments[0]) > MAX_COPIES:
        check_copy("H2D")  # the addresses of the arrays
    assert isinstance(function, np.ufunc) or name in CAPTURABLE, (
        f"whether CuPy can capture {name} is unknown: read its source, and add it to CAPTURABLE"
    )
