"""Forward and backward of an op on fixed arrays of the stand-in device, as a graph or without."""

import contextlib

import numpy as np

from minise.contract.case import draw
from minise.contract.spec import CASES
from minise.gradcheck.slopes.arrays import mapped
from minise.ops.cuda.backend import Backend
from tests.ops.cuda.device import device
from tests.ops.cuda.emulator import Emulator

cuda = device.cuda


def back_end(**settings):
    return Backend(Emulator(device)).using(**settings)


def on_device(value):
    """Return NumPy arrays in a structure as device arrays."""
    return mapped(value, lambda a: device.asarray(a) if isinstance(a, np.ndarray) else a)


def bytes_of(value):
    """Return the bytes of all device arrays in a structure, in order."""
    arrays = []
    mapped(value, lambda a: arrays.append(a) if isinstance(a, device.ndarray) else a)
    return [(array.shape, array.dtype.str, array.get().tobytes()) for array in arrays]


class Step:
    """Forward and backward of an op whose arrays keep their addresses, as in a training step."""

    def __init__(self, ops, case, dtype=np.float32):
        self.ops, self.case, self.dtype = ops, case, dtype
        self.stream = cuda.Stream(non_blocking=True)
        self.inputs, self.keywords = on_device(self.draw(0))
        with np.errstate(all="ignore"):
            out, _ = self.forward()
        self.dout = device.empty(out.shape, dtype)

    def draw(self, seed):
        rng = np.random.default_rng(seed)
        return draw(self.case, rng, self.dtype)

    def forward(self):
        return getattr(self.ops, f"{self.case.op}_forward")(*self.inputs, **self.keywords)

    def backward(self, cache):
        return getattr(self.ops, f"{self.case.op}_backward")(self.dout, cache)

    def run(self):
        """Return out, cache and gradients."""
        out, cache = self.forward()
        return out, cache, self.backward(cache)

    def fill(self, seed):
        """Change the values of all arrays."""
        inputs, keywords = on_device(self.draw(seed))
        pairs = [*zip(self.inputs, inputs, strict=True)]
        pairs += [(self.keywords[key], values) for key, values in keywords.items()]
        for array, values in pairs:
            if isinstance(array, device.ndarray):
                array[...] = values
        rng = np.random.default_rng(seed + 100)
        self.dout[...] = device.asarray(rng.standard_normal(self.dout.shape), self.dtype)

    def capture(self, function, pool=None):
        """Return the graph of a function and its results, which are poison until a launch."""
        allocator = contextlib.nullcontext() if pool is None else cuda.using_allocator(pool.malloc)
        with self.stream, allocator:
            self.stream.begin_capture()
            try:
                results = function()
            finally:
                graph = self.stream.end_capture()
        return graph, results

    def check_replays(self):
        """Launch the graph twice on other values, and compare with run."""
        pool = cuda.MemoryPool()
        graph, results = self.capture(self.run, pool)
        for seed in (1, 2):
            self.fill(seed)
            graph.launch(self.stream)
            self.stream.synchronize()
            assert bytes_of(results) == bytes_of(self.run())


def step_of(op, dtype=np.float32, **settings):
    """Return a Step of the first case of an op."""
    return Step(back_end(**settings), next(iter(CASES[op].values())), dtype)
