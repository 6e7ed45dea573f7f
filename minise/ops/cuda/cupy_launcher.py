"""Launch kernels through CuPy, and report what is missing where they cannot run.

CuPy is imported on first use, so that `import minise.ops.cuda` works on any machine.
"""

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from minise.ops.cuda.launcher import STATIC_SHARED_BYTES, Launcher, Source

INSTALL = "pip install -e '.[cuda13]', or '.[cuda12]' for a driver below 580"


class CudaMissing(ImportError):
    """Kernels cannot run on this machine; the message names the missing part and the fix."""


def missing() -> str | None:
    """Return the missing part and its fix as text, or None if kernels can run on a GPU."""
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed: {INSTALL}"
    try:
        import cupy
    except ImportError as error:  # missing libraries, or built for another NumPy
        return f"CuPy cannot be imported ({_first_line(error)}): {INSTALL}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's own classes for CUDA errors
        return _no_driver(_first_line(error), cupy.cuda.runtime.runtimeGetVersion())
    if count == 0:
        return "the NVIDIA driver shows no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES"
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # RuntimeError, ImportError or an error of CuPy's loader
        return f"NVRTC, which compiles the kernels, is not found ({_first_line(error)}): {INSTALL}"
    return None


def require() -> None:
    """Raise CudaMissing, an ImportError, if kernels cannot run on this machine."""
    problem = missing()
    if problem is not None:
        raise CudaMissing(f"the cuda back end cannot run: {problem}")


def _no_driver(error: str, runtime: int) -> str:
    cuda = f"{runtime // 1000}.{runtime % 1000 // 10}"
    if "NoDevice" in error:
        return f"no GPU is found ({error}): see nvidia-smi and CUDA_VISIBLE_DEVICES"
    older = ", or pip install -e '.[cuda12]' for an older one" if runtime >= 13000 else ""
    return (
        f"CuPy is installed, but no NVIDIA driver for CUDA {cuda} ({error}): install one, such as "
        f"apt install nvidia-driver-580{older}; nvidia-smi shows it"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def describe() -> str:
    """Return the GPU's name and memory and the versions of CUDA and CuPy, or what is missing."""
    problem = missing()
    if problem is not None:
        return problem
    import cupy

    device = cupy.cuda.Device()
    properties = cupy.cuda.runtime.getDeviceProperties(device.id)
    runtime = cupy.cuda.runtime.runtimeGetVersion()
    return (
        f"{properties['name'].decode()}, compute capability {properties['major']}."
        f"{properties['minor']}, {properties['totalGlobalMem'] / 2**30:.0f} GiB, "
        f"CUDA {runtime // 1000}.{runtime % 1000 // 10}, CuPy {cupy.__version__}"
    )


class Cupy(Launcher):
    """Runs kernels on CuPy's current device and stream."""

    def __init__(self) -> None:
        self._modules: dict[tuple[Any, ...], Any] = {}  # by source and device
        self._kernels: dict[tuple[Any, ...], Any] = {}  # by source, device and name
        self._limits: dict[int, int] = {}  # by device

    @cached_property
    def xp(self) -> Any:
        """The module cupy; raises CudaMissing if kernels cannot run."""
        require()
        import cupy

        return cupy

    def shared_limit(self) -> int:
        """Return the maximum shared memory of a block on the current device, in bytes."""
        runtime = self.xp.cuda.runtime
        device = runtime.getDevice()
        if device not in self._limits:
            attribute = runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin
            self._limits[device] = int(runtime.deviceGetAttribute(attribute, device))
        return self._limits[device]

    def address(self, array: Any) -> int:
        """Return the address of an array's first element."""
        return int(array.data.ptr)

    def on_current_device(self, array: Any) -> bool:
        """Return True if an array is on the current device."""
        return bool(array.device.id == self.xp.cuda.runtime.getDevice())

    def run(
        self,
        source: Source,
        kernel: str,
        blocks: tuple[int, ...],
        threads: int,
        arguments: Sequence[Any],
        shared: int,
    ) -> None:
        """Launch a kernel on the current stream; its first launch on a device compiles it."""
        function = self._function(source, kernel)
        if shared > max(STATIC_SHARED_BYTES, function.max_dynamic_shared_size_bytes):
            function.max_dynamic_shared_size_bytes = shared
        # CuPy does not accept None for a pointer; eight zero bytes are a null pointer
        pointers = [np.uint64(0) if argument is None else argument for argument in arguments]
        function(blocks, (threads,), pointers, shared_mem=shared)

    def _function(self, source: Source, kernel: str) -> Any:
        """Return a kernel for the current device; its source is compiled on first use."""
        key = source.file, source.defines, self.xp.cuda.runtime.getDevice()
        if (*key, kernel) not in self._kernels:
            if key not in self._modules:
                options = ("-std=c++17", *source.defines)
                self._modules[key] = self.xp.RawModule(code=source.text, options=options)
            self._kernels[(*key, kernel)] = self._modules[key].get_function(kernel)
        return self._kernels[(*key, kernel)]
