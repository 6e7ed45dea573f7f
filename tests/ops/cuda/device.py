"""Arrays on the CPU with the restrictions of CuPy's arrays.

They do not mix with NumPy arrays, and count every read of a value by the host, for which a program
would wait for the GPU. Pools poison the memory of freed arrays (memory.py), and functions
are recorded while a stream is capturing (capture.py). NumPy's functions accept them, as they accept
CuPy's (NEP 13 and 18). The module has only the names of CuPy that are used.
"""

import operator
import sys
import warnings
from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from tests.ops.cuda import fake_cublas
from tests.ops.cuda.capture import (
    CUDARuntimeError,
    Device,
    Stream,
    check_capturable,
    check_copy,
    enqueue,
    get_current_stream,
)
from tests.ops.cuda.memory import MemoryPool, allocate, owner, unowned, using_allocator

NAMES = ["arange", "ascontiguousarray", "exp", "log", "matmul", "nan", "sqrt", "where"]


class DeviceArray(NDArrayOperatorsMixin):
    """An array that does not mix with NumPy arrays."""

    host_reads = 0  # of values, by all arrays
    called: ClassVar = set()  # names of NumPy functions called with these arrays

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __getattr__(self, name):
        if name.startswith("__array_"):  # interfaces by which NumPy would read the values
            raise AttributeError(name)
        value = getattr(self.array, name)
        if isinstance(value, np.ndarray):
            return DeviceArray(value)
        if not callable(value):
            return value
        return partial(call, name, method_named(name), self)

    @property
    def data(self):
        """CuPy's MemoryPointer."""
        return SimpleNamespace(ptr=self.array.ctypes.data)

    def __array_ufunc__(self, ufunc, method, *inputs, **settings):
        DeviceArray.called.add(ufunc.__name__)
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return call(ufunc.__name__, function, *inputs, **settings)

    def __array_function__(self, function, types, arguments, settings):
        DeviceArray.called.add(function.__name__)
        settings = {key: value for key, value in settings.items() if key != "like"}
        return call(function.__name__, function, *arguments, **settings)

    def __getitem__(self, index):
        parts = index if isinstance(index, tuple) else (index,)
        for part in parts:
            if isinstance(part, list):
                check_copy("H2D")
            if isinstance(part, DeviceArray) and part.dtype == bool:
                check_copy("D2H")  # the number of elements
        if not any(part is Ellipsis for part in parts):
            parts = (*parts, ...)  # so that an element is a view too
        return call("getitem", operator.getitem, self, parts)

    def __setitem__(self, index, value):
        if isinstance(value, tuple | list):
            check_copy("H2D")
        arguments = [unowned_in(unwrapped(part)) for part in (self, index, value)]
        enqueue(lambda: operator.setitem(*arguments))

    def __len__(self):
        return len(self.array)

    def get(self):
        return np.array(self._read())

    def _read(self):
        if self.array.size:
            check_copy("D2H")
        DeviceArray.host_reads += 1
        return self.array

    def __bool__(self):
        return bool(self._read())

    def __int__(self):
        return int(self._read())

    def __float__(self):
        return float(self._read())

    def item(self, *index):
        return self._read().item(*index)

    def tolist(self):
        return self._read().tolist()


def method_named(name):
    """Return a method as a function of the array and its arguments."""
    return lambda array, *arguments, **settings: getattr(array, name)(*arguments, **settings)


def call(name, function, *arguments, **settings):
    """Call a NumPy function with device arrays; record the call if the stream is capturing.

    A recorded call is also executed, for the shape of its result, which is a poisoned array until
    the graph runs. A view calls no CUDA function, so it is not recorded.
    """
    outs = settings.get("out")
    arguments = unwrapped(arguments)
    settings = {key: unwrapped(setting) for key, setting in settings.items()}
    if not get_current_stream().is_capturing():
        result = placed(function(*arguments, **settings), arguments)
        return result if outs is None else first(outs)
    check_capturable(name, function, arguments)
    later, later_settings = unowned_in(arguments), unowned_in(settings)
    if outs is not None or name == "fill":
        enqueue(lambda: function(*later, **later_settings))
        return None if outs is None else first(outs)
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        result = function(*arguments, **settings)
    out = placed(result, arguments, copy=False)
    if not shares_memory(out.array, arguments):
        target = unowned(out.array)
        enqueue(lambda: operator.setitem(target, ..., function(*later, **later_settings)))
    return out


def first(outs):
    return outs[0] if isinstance(outs, tuple) else outs


def shares_memory(result, arguments):
    """Return True if a result is in the memory of an argument."""
    owners = [owner(part) for part in arrays_in(arguments)]
    return any(owner(result) is candidate for candidate in owners)


def arrays_in(value):
    if isinstance(value, tuple | list):
        return [array for item in value for array in arrays_in(item)]
    return [value] if isinstance(value, np.ndarray) else []


def unowned_in(value):
    """Return arguments with arrays that do not keep their memory in use."""
    if isinstance(value, tuple | list):
        return type(value)(unowned_in(item) for item in value)
    if isinstance(value, dict):
        return {key: unowned_in(item) for key, item in value.items()}
    return unowned(value) if isinstance(value, np.ndarray) else value


def unwrapped(value):
    """Return the NumPy array of a device array; raise TypeError for a NumPy array."""
    if isinstance(value, DeviceArray):
        return value.array
    if isinstance(value, tuple | list):
        return type(value)(unwrapped(item) for item in value)
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value


def placed(value, arguments=(), *, copy=True):
    """Return NumPy's results as device arrays in a pool's memory; views stay where they are."""
    if isinstance(value, tuple | list):
        return type(value)(placed(item, arguments, copy=copy) for item in value)
    if not isinstance(value, np.ndarray | np.generic):
        return value
    array = np.asarray(value)
    if shares_memory(array, arguments):
        return DeviceArray(array)
    strides = None if array.flags.c_contiguous else np.empty_like(array).strides
    out = allocate(array.shape, array.dtype, strides)
    if copy:
        out[...] = array
    return DeviceArray(out)


def _asarray(values, dtype=None):
    """Copy values to the device; return a device array unchanged."""
    if isinstance(values, DeviceArray):
        return values if dtype in (None, values.dtype) else values.astype(dtype)
    host = np.array(values, dtype)
    if host.ndim:
        check_copy("H2D")
    out = allocate(host.shape, host.dtype)
    target = unowned(out)
    enqueue(lambda: operator.setitem(target, ..., host))
    return DeviceArray(out)


def _empty(shape, dtype=float):
    """Return an uninitialised array: here it is full of NaN or of -1."""
    return DeviceArray(allocate(shape, dtype))


class Module:
    """The stand-in of the module cupy."""

    __name__ = "device"
    ndarray = DeviceArray
    asarray = staticmethod(_asarray)
    empty = staticmethod(_empty)
    cuda = SimpleNamespace(
        Device=Device,
        MemoryPool=MemoryPool,
        Stream=Stream,
        cublas=fake_cublas,
        get_cublas_handle=fake_cublas.get_cublas_handle,
        get_current_stream=get_current_stream,
        runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError),
        using_allocator=using_allocator,
    )

    def __getattr__(self, name):
        if name not in NAMES:
            raise AttributeError(f"the module of the tests has no {name}")
        value = getattr(np, name)
        return partial(call, name, value) if callable(value) else value


device = Module()
# messages name an array's library by the module of its class
DeviceArray.__module__ = Module.__name__
sys.modules[Module.__name__] = device
