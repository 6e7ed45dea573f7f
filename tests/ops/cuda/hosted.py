"""The cuda back end for tests that know NumPy's arrays only: they go to the device and come back.

So the tests of all ops run on it as they stand, in the emulator and, marked gpu, on a GPU.
"""

import functools

import numpy as np

from minise.gradcheck.slopes.arrays import mapped
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

    def on_device(part):
        if not isinstance(part, np.ndarray):
            return part
        emulated = launcher.xp.ndarray is DeviceArray
        return DeviceArray(part) if emulated else launcher.asarray(part)

    return mapped(value, on_device)


def back(value):
    """Undo there."""

    def on_host(part):
        if isinstance(part, DeviceArray):
            return part.held
        return part.get() if hasattr(part, "get") else part

    return mapped(value, on_host)


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
