"""Arrays that behave like CuPy's, on the CPU: what a GPU would refuse, they refuse.

They mix with no array of NumPy's, and count every look at a number, for which a program would have
to wait. NumPy's functions work on them as on CuPy's (NEP 13 and 18). Names that CuPy's module does
not have, or that nobody has used yet, are not there.
"""

import sys
from typing import ClassVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

NAMES = ["arange", "ascontiguousarray", "exp", "log", "matmul", "nan", "sqrt", "where"]


class DeviceArray(NDArrayOperatorsMixin):
    """An array that only its own kind may meet."""

    looks = 0  # at numbers, by all arrays
    called: ClassVar = set()  # functions of NumPy that were called on any

    def __init__(self, held):
        self.held = held

    def __getattr__(self, name):
        value = getattr(self.held, name)
        return on_device(value) if isinstance(value, np.ndarray) else calling(value)

    def __array_ufunc__(self, ufunc, method, *inputs, **settings):
        DeviceArray.called.add(ufunc.__name__)
        outs = settings.get("out")
        result = calling(getattr(ufunc, method))(*inputs, **settings)
        return outs[0] if outs else result

    def __array_function__(self, function, types, arguments, settings):
        DeviceArray.called.add(function.__name__)
        settings = {key: value for key, value in settings.items() if key != "like"}
        return calling(function)(*arguments, **settings)

    def __getitem__(self, place):
        return on_device(self.held[plain(place)])

    def __setitem__(self, place, value):
        self.held[plain(place)] = plain(value)

    def __len__(self):
        return len(self.held)

    def get(self):
        return np.array(self._look())

    def _look(self):
        DeviceArray.looks += 1
        return self.held

    def __bool__(self):
        return bool(self._look())

    def __int__(self):
        return int(self._look())

    def __float__(self):
        return float(self._look())

    def item(self, *place):
        return self._look().item(*place)

    def tolist(self):
        return self._look().tolist()


def calling(value):
    """Return a function of NumPy's as one of device arrays; what is no function stays."""
    if not callable(value):
        return value
    return lambda *arguments, **settings: on_device(
        value(*map(plain, arguments), **{key: plain(one) for key, one in settings.items()})
    )


def plain(value):
    """Return a device array as NumPy's, and refuse what is one of NumPy's already."""
    if isinstance(value, DeviceArray):
        return value.held
    if isinstance(value, tuple | list):
        return type(value)(plain(one) for one in value)
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value


def on_device(value):
    """Return an array, or a number that NumPy has made of one, as a device array."""
    if isinstance(value, tuple | list):
        return type(value)(on_device(one) for one in value)
    return DeviceArray(np.asarray(value)) if isinstance(value, np.ndarray | np.generic) else value


def _asarray(values, dtype=None):
    """Take NumPy's arrays: this is the way onto the device. What is there already stays."""
    if isinstance(values, DeviceArray):
        return values if dtype in (None, values.dtype) else values.astype(dtype)
    return on_device(np.array(values, dtype))


def _empty(shape, dtype=float):
    """Return memory as a GPU may: full of anything, here of NaN or of -1."""
    return on_device(np.full(shape, np.nan if np.dtype(dtype).kind == "f" else -1, dtype))


class Module:
    """Looks like the module cupy."""

    __name__ = "device"
    ndarray = DeviceArray
    asarray = staticmethod(_asarray)
    empty = staticmethod(_empty)

    def __getattr__(self, name):
        if name not in NAMES:
            raise AttributeError(f"the module of the tests has no {name}")
        return calling(getattr(np, name))


device = Module()
# a checker finds the library of an array by the name of its module, as it finds CuPy's
DeviceArray.__module__ = Module.__name__
sys.modules[Module.__name__] = device
