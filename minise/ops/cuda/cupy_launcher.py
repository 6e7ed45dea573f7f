"""Kernels on a GPU, through CuPy; and what is missing where that cannot be.

Nothing here imports CuPy before it is needed, so that `import minise.ops.cuda` works everywhere.
"""

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from minise.ops.cuda.launcher import STATIC_LIMIT, Launcher, Source

INSTALL = "pip install 'minise[cuda]'"


class CudaMissing(ImportError):
    """Kernels cannot run here; the message says what is missing and what to do."""


def missing() -> str | None:
    """Return what is missing for kernels to run on a GPU and what to do about it, or None."""
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed: {INSTALL}"
    try:
        import cupy
    except ImportError as error:  # its own libraries are missing, or it was made for another NumPy
        return f"CuPy cannot be imported ({_first_line(error)}): {INSTALL}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy has error classes of its own for CUDA's
        return _no_driver(_first_line(error), cupy.cuda.runtime.runtimeGetVersion())
    if count == 0:
        return "the NVIDIA driver shows no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES"
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as error:  # RuntimeError, ImportError or an error class of its loader
        return f"NVRTC, which compiles the kernels, is not found ({_first_line(error)}): {INSTALL}"
    return None


def require() -> None:
    """Raise CudaMissing, an ImportError, if anything is missing for kernels to run here."""
    problem = missing()
    if problem is not None:
        raise CudaMissing(f"the cuda back end cannot run: {problem}")


def _no_driver(error: str, runtime: int) -> str:
    cuda = f"{runtime // 1000}.{runtime % 1000 // 10}"
    if "NoDevice" in error:
        return f"no GPU is found ({error}): see nvidia-smi and CUDA_VISIBLE_DEVICES"
    return (
        f"CuPy is installed, but no NVIDIA driver for CUDA {cuda} ({error}): install one, such as "
        "apt install nvidia-driver-570; nvidia-smi shows it"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def describe() -> str:
    """Return the GPU with its memory and the versions that kernels run on, or what is missing."""
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
        """CuPy's module. Raises CudaMissing where kernels cannot run."""
        require()
        import cupy

        return cupy

    def shared_limit(self) -> int:
        """Return how many bytes of shared memory a block of the current device may ask for."""
        runtime = self.xp.cuda.runtime
        device = runtime.getDevice()
        if device not in self._limits:
            most = runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin
            self._limits[device] = int(runtime.deviceGetAttribute(most, device))
        return self._limits[device]

    def address(self, array: Any) -> int:
        """Return where an array's first number lies."""
        return int(array.data.ptr)

    def here(self, array: Any) -> bool:
        """Tell whether an array lies on the current device."""
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
        """Start a kernel on the current stream; the first time on a device it is compiled."""
        function = self._function(source, kernel)
        if shared > max(STATIC_LIMIT, function.max_dynamic_shared_size_bytes):
            function.max_dynamic_shared_size_bytes = shared
        # CuPy takes no None for a pointer; a null pointer is eight bytes of zero
        given = [np.uint64(0) if argument is None else argument for argument in arguments]
        function(blocks, (threads,), given, shared_mem=shared)

    def _function(self, source: Source, kernel: str) -> Any:
        """Return a kernel for the current device, whose source is compiled when first asked for."""
        place = source.file, source.defines, self.xp.cuda.runtime.getDevice()
        if (*place, kernel) not in self._kernels:
            if place not in self._modules:
                options = ("-std=c++17", *source.defines)
                self._modules[place] = self.xp.RawModule(code=source.text, options=options)
            self._kernels[(*place, kernel)] = self._modules[place].get_function(kernel)
        return self._kernels[(*place, kernel)]
