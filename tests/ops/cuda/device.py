"""Arrays on the CPU with the restrictions of CuPy's arrays.

They do not mix with NumPy arrays, and count every read of a value by the host, for which a program
would wait for the GPU. NumPy's functions accept them, as they accept CuPy's (NEP 13 and 18). The
module has only the names of CuPy that are used.
"""

import sys
from typing import ClassVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

NAMES = ["arange", "ascontiguousarray", "exp", "log", "matmul", "nan", "sqrt", "where"]


class DeviceArray(NDArrayOperatorsMixin):
    """An array that does not mix with NumPy arrays."""

    host_reads = 0  # of values, by all arrays
    called: ClassVar = set()  # names of NumPy functions called with these arrays

    def __init__(self, array):
        self.array = array

    def __getattr__(self, name):
        value = getattr(self.array, name)
        return on_device(value) if isinstance(value, np.ndarray) else lifted(value)

    def __array_ufunc__(self, ufunc, method, *inputs, **settings):
        DeviceArray.called.add(ufunc.__name__)
        outs = settings.get("out")
        result = lifted(getattr(ufunc, method))(*inputs, **settings)
        return outs[0] if outs else result

    def __array_function__(self, function, types, arguments, settings):
        DeviceArray.called.add(function.__name__)
        settings = {key: value for key, value in settings.items() if key != "like"}
        return lifted(function)(*arguments, **settings)

    def __getitem__(self, index):
        return on_device(self.array[unwrapped(index)])

    def __setitem__(self, index, value):
        self.array[unwrapped(index)] = unwrapped(value)

    def __len__(self):
        return len(self.array)

    def get(self):
        return np.array(self._read())

    def _read(self):
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


def lifted(value):
    """Return a NumPy function as a function of device arrays; return any other value unchanged."""
    if not callable(value):
        return value
    return lambda *arguments, **settings: on_device(
        value(
            *map(unwrapped, arguments),
            **{key: unwrapped(setting) for key, setting in settings.items()},
        )
    )


def unwrapped(value):
    """Return the NumPy array of a device array; raise TypeError for a NumPy array."""
    if isinstance(value, DeviceArray):
        return value.array
    if isinstance(value, tuple | list):
        return type(value)(unwrapped(item) for item in value)
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value


def on_device(value):
    """Return a NumPy array or scalar as a device array."""
    if isinstance(value, tuple | list):
        return type(value)(on_device(item) for item in value)
    return DeviceArray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def _asarray(values, dtype=None):
    """Copy values to the device; return a device array unchanged."""
    if isinstance(values, DeviceArray):
        return values if dtype in (None, values.dtype) else values.astype(dtype)
    return on_device(np.array(values, dtype))


def _empty(shape, dtype=float):
    """Return an uninitialised array: here it is full of NaN or of -1."""
    return on_device(np.full(shape, np.nan if np.dtype(dtype).kind == "f" else -1, dtype))


class Module:
    """The stand-in of the module cupy."""

    __name__ = "device"
    ndarray = DeviceArray
    asarray = staticmethod(_asarray)
    empty = staticmethod(_empty)

    def __getattr__(self, name):
        if name not in NAMES:
            raise AttributeError(f"the module of the tests has no {name}")
        return lifted(getattr(np, name))


device = Module()
# messages name an array's library by the module of its class
DeviceArray.__module__ = Module.__name__
sys.modules[Module.__name__] = device
