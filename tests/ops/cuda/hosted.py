"""The cuda back end for tests that know NumPy's arrays only: they go to the device and come back.

So the tests of all ops run on it as they stand, in the emulator and, marked gpu, on a GPU.
"""

import functools

import numpy as np

from minise.ops import reference
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.cupy_launcher import Cupy
from tests.ops.cuda.device import DeviceArray, device
from tests.ops.cuda.emulator import Emulator


class Hosted:
    """A back end whose functions take and return NumPy's arrays, and caches of them."""

    def __init__(self, ops):
        self.ops = ops
        self.__all__ = ops.__all__

    def __getattr__(self, name):
        if name.startswith("_") or name == "ops":
            raise AttributeError(name)
        function = getattr(self.ops, name)
        if not callable(function):
            return function
        if name.endswith("_branches") or name in ("asarray", "asnumpy"):
            return getattr(reference, name)
        if name == "using":
            return lambda **settings: Hosted(function(**settings))
        launcher = self.ops.launcher

        @functools.wraps(function)
        def run(*arguments, **settings):
            given = [there(launcher, one) for one in arguments]
            result = function(
                *given, **{key: there(launcher, value) for key, value in settings.items()}
            )
            for before, after in zip(arguments, given, strict=True):
                compare(name, before, back(after))
            return back(result)

        return run


def there(launcher, value):
    """Return NumPy's arrays as the launcher's; in the emulator they are the same memory."""
    if isinstance(value, np.ndarray):
        emulated = launcher.xp.ndarray is DeviceArray
        return DeviceArray(value) if emulated else launcher.asarray(value)
    if isinstance(value, tuple):
        parts = [there(launcher, one) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, dict):
        return {key: there(launcher, one) for key, one in value.items()}
    return value


def back(value):
    """Undo there."""
    if isinstance(value, DeviceArray):
        return value.held
    if isinstance(value, tuple):
        parts = [back(one) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, dict):
        return {key: back(one) for key, one in value.items()}
    return value.get() if hasattr(value, "get") else value


def compare(name, before, after):
    """Hand back what sgd_update wrote; nothing else may be written."""
    if not isinstance(before, np.ndarray):
        return
    if name == "sgd_update":
        before[...] = after
    else:
        np.testing.assert_array_equal(before, after)


emulated = Hosted(Backend(Emulator(device)))
on_gpu = Hosted(Backend(Cupy()))
