"""Launch kernels through CuPy, which is imported on first use."""

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from minise.ops.cuda.launcher import ALIGNMENT, STATIC_SHARED_BYTES, Launcher
from minise.ops.cuda.plan import Plan, table
from minise.ops.cuda.products import Product, Settings, multiply, product_of, settings_of
from minise.ops.cuda.requirements import first_line, require


@contextmanager
def _preserved_locale() -> Iterator[None]:
    """Restore this thread's locale: NVRTC 12.4 sets "C", and files would be read as ASCII."""
    uselocale = getattr(ctypes.CDLL(None), "uselocale", None) if os.name == "posix" else None
    if uselocale is None:
        yield
        return
    uselocale.restype, uselocale.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    before = uselocale(None)
    try:
        yield
    finally:
        uselocale(before)


class KernelFault(RuntimeError):
    """A kernel failed on the GPU, for example by an access outside an array."""


class Cupy(Launcher):
    """Runs kernels on CuPy's current device and stream.

    With the environment variable MINISE_CUDA_SYNC=1, every launch waits for its kernel: a fault is
    then reported under the kernel's name, instead of at a later call that waits for the GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tf32 = os.environ.get("CUPY_TF32", "0") not in ("", "0")  # CuPy's own variable
        self._modules: dict[tuple[Any, ...], Any] = {}  # by source and device
        self._kernels: dict[tuple[Any, ...], Any] = {}  # by source, device and name
        self._products: dict[tuple[Any, ...], Product] = {}  # by shapes, strides and dtype
        self._settings: dict[tuple[str, bool, bool], Settings] = {}  # of products
        self._limits: dict[int, int] = {}  # by device
        self._synchronous = os.environ.get("MINISE_CUDA_SYNC", "0") not in ("", "0")

    @cached_property
    def xp(self) -> Any:
        """The module cupy; raises CudaMissing if kernels cannot run."""
        require()
        import cupy

        return cupy

    @cached_property
    def _device(self) -> Callable[[], int]:
        """The function that returns the current device's number."""
        device: Callable[[], int] = self.xp.cuda.runtime.getDevice
        return device

    def dependencies(self) -> dict[str, str]:
        """Return the current device, and the versions of driver, CUDA's libraries and CuPy."""
        cuda, core = self.xp.cuda, getattr(self.xp, "_core", None)
        chosen: list[int] = getattr(core, "get_reduction_accelerators", list)()
        properties = cuda.runtime.getDeviceProperties(self._device())
        return {
            "GPU": f"{properties['name'].decode()}, {properties['multiProcessorCount']} SMs",
            "CUDA driver": str(cuda.runtime.driverGetVersion()),
            "CUDA runtime": str(cuda.runtime.runtimeGetVersion()),
            "NVRTC": ".".join(map(str, cuda.nvrtc.getVersion())),
            "cuBLAS": str(cuda.cublas.getVersion(cuda.device.get_cublas_handle())),
            "CuPy version": self.xp.__version__,
            "CuPy accelerators": ", ".join(map(str, chosen)) or "none",
        }

    def shared_limit(self) -> int:
        """Return the maximum shared memory of a block on the current device, in bytes."""
        device = self._device()
        if device not in self._limits:
            runtime = self.xp.cuda.runtime
            attribute = runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin
            self._limits[device] = int(runtime.deviceGetAttribute(attribute, device))
        return self._limits[device]

    def address(self, array: Any) -> int:
        """Return the address of an array's first element."""
        return int(array.data.ptr)

    def ready(self, array: Any) -> bool:
        """Return True if a kernel can read an array: C-contiguous, aligned, on the device."""
        data = array.data
        contiguous = array._c_contiguous  # array.flags would build an object
        return contiguous and not data.ptr % ALIGNMENT and data.device_id == self._device()

    def on_current_device(self, array: Any) -> bool:
        """Return True if an array is on the current device."""
        return bool(array.data.device_id == self._device())

    def run(self, plan: Plan, arrays: Sequence[Any]) -> None:
        """Launch a kernel on the current stream; its first launch on a device compiles it."""
        device = self._device()
        function = plan.functions.get(device)
        if function is None:
            function = plan.functions[device] = self._function(plan, device)
        if plan.entries:
            arrays = [_by_value(array, plan.entries) for array in arrays]
        function(plan.blocks, plan.threads, (*arrays, *plan.scalars), plan.shared)
        if self._synchronous:
            self._wait(plan.kernel)

    def _function(self, plan: Plan, device: int) -> Any:
        """Return a plan's kernel for the current device; its source is compiled on first use."""
        key = plan.source.file, plan.source.defines, device
        if (*key, plan.kernel) not in self._kernels:
            if key not in self._modules:
                options = ("-std=c++17", *plan.source.defines)
                self._modules[key] = self.xp.RawModule(code=plan.source.text, options=options)
            self._kernels[(*key, plan.kernel)] = self._modules[key].get_function(plan.kernel)
        kernel = self._kernels[(*key, plan.kernel)]
        with _preserved_locale():
            function = kernel.kernel  # RawKernel would look it up by device at every launch
        if plan.shared > max(STATIC_SHARED_BYTES, kernel.max_dynamic_shared_size_bytes):
            kernel.max_dynamic_shared_size_bytes = plan.shared
        return function

    def multiply(self, a: Any, b: Any, out: Any, *, add: bool = False) -> None:
        """Write the products of stacks of matrices, by one call of cuBLAS."""
        dtype = out.dtype.char
        key = a.shape, a.strides, b.shape, b.strides, out.shape, out.strides, dtype
        product = self._products.get(key)
        if product is None:
            product = self._products[key] = product_of(a, b, out)
        cublas, choice = self.xp.cuda.cublas, (dtype, self.tf32, add)
        settings = self._settings.get(choice)
        if settings is None:
            settings = settings_of(cublas, dtype, tf32=self.tf32, add=add)
            self._settings[choice] = settings
        addresses = a.data.ptr, b.data.ptr, out.data.ptr
        handle = self.xp.cuda.device.get_cublas_handle()
        multiply(cublas, handle, product, addresses, settings)
        if self._synchronous:
            self._wait("a matrix product")

    def _wait(self, name: str) -> None:
        """Wait for the current stream; raise KernelFault if a kernel of this name failed."""
        try:
            self.xp.cuda.get_current_stream().synchronize()
        except Exception as error:  # CuPy's own classes for CUDA errors
            raise KernelFault(
                f"{name} failed on the GPU ({first_line(error)}): run it under compute-sanitizer "
                "to see the address; start Python again, because the GPU's context is lost"
            ) from error


def _by_value(array: Any, entries: int) -> Any:
    """Return a list of arrays as the table of their addresses, any other argument unchanged."""
    if not isinstance(array, list):
        return array
    return table([entry.data.ptr for entry in array], np.uint64, entries)
