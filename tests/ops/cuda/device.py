"""Arrays that behave like CuPy's, on the CPU: what a GPU would refuse, they refuse.

They mix with no array of NumPy's, and count every look at a number, for which a program would have
to wait. NumPy's functions work on them as on CuPy's (NEP 13 and 18). Names that CuPy's module does
not have, or that nobody has used yet, are not there.
"""

import numpy as np

NAMES = ["arange", "ascontiguousarray", "exp", "log", "matmul", "nan", "sqrt", "where"]


class DeviceArray(np.ndarray):
    """An array that only its own kind may meet."""

    looks = 0  # at numbers, by all arrays

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        given = [plain(one) for one in inputs]
        if out is not None:
            settings["out"] = tuple(plain(one) for one in out)
        result = getattr(ufunc, method)(*given, **settings)
        return out[0] if out is not None else on_device(result)

    def __array_function__(self, function, types, arguments, settings):
        settings = {key: plain(value) for key, value in settings.items() if key != "like"}
        return on_device(function(*map(plain, arguments), **settings))

    def __getitem__(self, place):
        return on_device(self.view(np.ndarray)[plain(place)])

    def __setitem__(self, place, value):
        self.view(np.ndarray)[plain(place)] = plain(value)

    def get(self):
        DeviceArray.looks += 1
        return np.array(self.view(np.ndarray))

    def _look(self):
        DeviceArray.looks += 1
        return self.view(np.ndarray)

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


def plain(value):
    """Return a device array as NumPy's, and refuse what is one of NumPy's already."""
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
    if isinstance(value, tuple | list):
        return type(value)(plain(one) for one in value)
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value


def on_device(value):
    """Return an array, or a number that NumPy has made of one, as a device array."""
    if isinstance(value, tuple | list):
        return type(value)(on_device(one) for one in value)
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value).view(DeviceArray)
    return value


def _asarray(values, dtype=None):
    """Take NumPy's arrays: this is the way onto the device. What is there already stays."""
    if isinstance(values, DeviceArray):
        return values if dtype in (None, values.dtype) else on_device(plain(values).astype(dtype))
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
        value = getattr(np, name)
        if not callable(value):
            return value
        return lambda *arguments, **settings: on_device(
            value(*map(plain, arguments), **{key: plain(one) for key, one in settings.items()})
        )


device = Module()
