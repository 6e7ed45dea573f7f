"""The cuda back end with NumPy arrays as arguments and results.

So the tests of all ops run on it unchanged, in the emulator and, marked gpu, on a GPU.
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
    """A back end whose functions take and return NumPy arrays, and caches of them."""

    def __init__(self, ops):
        self.ops = ops
        self.__all__ = ops.__all__

    def __getattr__(self, name):
        if name.startswith("_") or name in ("ops", "in_place"):
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
            copies = [to_device(launcher, argument) for argument in arguments]
            result = function(
                *copies, **{key: to_device(launcher, value) for key, value in settings.items()}
            )
            for before, after in zip(arguments, copies, strict=True):
                compare(name, before, to_host(after))
            return to_host(result)

        return run


def to_device(launcher, value):
    """Return NumPy arrays as the launcher's; in the emulator they share memory."""

    def on_device(part):
        if not isinstance(part, np.ndarray):
            return part
        emulated = launcher.xp.ndarray is DeviceArray
        return DeviceArray(part) if emulated else launcher.asarray(part)

    return mapped(value, on_device)


def to_host(value):
    """Return the launcher's arrays as NumPy arrays."""

    def on_host(part):
        if isinstance(part, DeviceArray):
            return part.array
        return part.get() if hasattr(part, "get") else part

    return mapped(value, on_host)


def compare(name, before, after):
    """Copy the results of sgd_update; fail if another op has modified its arguments."""
    if not isinstance(before, np.ndarray):
        return
    if name == "sgd_update":
        before[...] = after
    else:
        np.testing.assert_array_equal(before, after)


emulated = Hosted(Backend(Emulator(device)))
on_gpu = Hosted(Backend(Cupy()))
