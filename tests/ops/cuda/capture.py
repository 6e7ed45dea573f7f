"""Streams, capture and graphs of the stand-in device, with the interface of cupy.cuda.

Kernels run at once, in the order of their calls. On a stream that is capturing they are recorded,
and run when the graph is launched. What CuPy 14.2 and CUDA refuse during a capture raises here with
the same types and texts. Not modelled: streams do not run concurrently, so a missing
synchronisation between two streams goes unnoticed, and a graph may be launched on any of them.
"""

import itertools

LEGACY_STREAMS = 2  # the addresses 0 and 1 stand for CUDA's default stream


class CUDARuntimeError(RuntimeError):
    """An error of the CUDA runtime, as CuPy raises it."""

    UNSUPPORTED = (
        "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"
    )
    INVALIDATED = (
        "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture"
    )
    ILLEGAL = "cudaErrorIllegalState: the operation cannot be performed in the present state"


class Graph:
    """The recorded calls of a capture; like CUDA's, it keeps no array alive."""

    def __init__(self, calls):
        self.calls = calls

    def launch(self, stream=None):
        """Run the calls, or record them if the stream is capturing."""
        stream = stream or get_current_stream()
        for call in self.calls:
            stream.enqueue(call)


class Stream:
    """A stream; as a context manager, the current one."""

    addresses = itertools.count(LEGACY_STREAMS)
    stack = []  # noqa: RUF012, the current stream is the last one, of all instances
    captures = []  # noqa: RUF012, the streams that are capturing

    def __init__(self, *, null=False, non_blocking=False):
        assert null or non_blocking, "the device of the tests has no blocking stream but the null"
        self.ptr = 0 if null else next(Stream.addresses)
        self.calls, self.valid = None, True

    def __enter__(self):
        Stream.stack.append(self)
        return self

    def __exit__(self, *_):
        Stream.stack.pop()

    def enqueue(self, call):
        """Run a call, or record it if the stream is capturing."""
        if self.is_capturing():
            self.calls.append(call)
        else:
            call()

    def begin_capture(self):
        """Record what follows on this stream instead of running it."""
        if self.ptr < LEGACY_STREAMS:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.calls is not None:
            raise CUDARuntimeError(CUDARuntimeError.ILLEGAL)
        self.calls = []
        Stream.captures.append(self)

    def end_capture(self):
        """Return the recorded calls as a Graph."""
        if self.calls is None:
            raise CUDARuntimeError(CUDARuntimeError.ILLEGAL)
        graph, valid = Graph(self.calls), self.valid
        self.calls, self.valid = None, True
        Stream.captures.remove(self)
        if not valid:
            raise CUDARuntimeError(CUDARuntimeError.INVALIDATED)
        return graph

    def is_capturing(self):
        """Return True during a capture; raise RuntimeError after an error that has ended it."""
        if not self.valid:
            raise RuntimeError(
                "the stream was capturing, but an error has invalidated the capture sequence"
            )
        return self.calls is not None

    def synchronize(self):
        """Wait for the stream's kernels: not possible during a capture, which becomes invalid."""
        if self.calls is not None:
            self.valid = False
            raise CUDARuntimeError(CUDARuntimeError.UNSUPPORTED)


class Device:
    """The only device."""

    id = 0

    def synchronize(self):
        """Wait for all streams: not possible while one is capturing."""
        for stream in Stream.captures:
            stream.valid = False
        if Stream.captures:
            raise CUDARuntimeError(CUDARuntimeError.UNSUPPORTED)


Stream.stack.append(Stream(null=True))


def get_current_stream():
    """Return the stream on which kernels run."""
    return Stream.stack[-1]


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
