"""Check that kernels can run on this machine: CuPy, a driver, a GPU, NVRTC and cuBLAS."""

import importlib.metadata
import importlib.util
from contextlib import suppress
from typing import Any

INSTALL = "pip install -e '.[cuda13]', or '.[cuda12]' for a driver below 580"


class CudaMissing(ImportError):
    """Kernels cannot run on this machine; the message names the missing part and the fix."""


def missing() -> str | None:
    """Return the missing part and its fix as text, or None if kernels can run on a GPU."""
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed: {INSTALL}"
    if len(builds := _cupy_builds()) > 1:
        names = " and ".join(builds)
        return (
            f"{names} are both installed, but replace each other's files: "
            f"pip uninstall {' '.join(builds)}, then {INSTALL}"
        )
    try:
        import cupy
    except ImportError as error:  # missing libraries, or built for another NumPy
        return f"CuPy cannot be imported ({first_line(error)}): {INSTALL}"
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except Exception as error:  # CuPy's own classes for CUDA errors
        return _no_device(first_line(error), runtime.runtimeGetVersion(), runtime)
    if count == 0:
        return "the NVIDIA driver shows no GPU: see nvidia-smi and CUDA_VISIBLE_DEVICES"
    try:
        library = "NVRTC, which compiles the kernels,"
        cupy.cuda.nvrtc.getVersion()
        library = "cuBLAS, which multiplies matrices,"
        _ = cupy.cuda.cublas  # loads it
    except Exception as error:  # RuntimeError, ImportError or an error of CuPy's loader
        return f"{library} is not found ({first_line(error)}): {INSTALL}"
    return None


def _cupy_builds() -> list[str]:
    """Return the names of the installed distributions of CuPy."""
    builds = []
    for name in ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x"):
        with suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)
            builds.append(name)
    return builds


def require() -> None:
    """Raise CudaMissing, an ImportError, if kernels cannot run on this machine."""
    problem = missing()
    if problem is not None:
        raise CudaMissing(f"the cuda back end cannot run: {problem}")


def _no_device(error: str, version: int, runtime: Any) -> str:
    """Return why CuPy finds no device, for its CUDA version, such as 13000."""
    if "NoDevice" in error:
        return f"no GPU is found ({error}): see nvidia-smi and CUDA_VISIBLE_DEVICES"
    try:
        supported = runtime.driverGetVersion()
    except Exception:  # CuPy's own classes for CUDA errors
        supported = 0
    if 0 < supported < version:
        build = f"cupy-cuda{version // 1000}x"
        older = f"pip uninstall {build}, then pip install -e '.[cuda12]'"
        remedy = (
            f"{older}, or install a newer driver" if version >= 13000 else "install a newer driver"
        )
        return (
            f"CuPy is built for CUDA {_cuda(version)}, but the driver supports CUDA "
            f"{_cuda(supported)} at most ({error}): {remedy}"
        )
    older = ", or pip install -e '.[cuda12]' for an older one" if version >= 13000 else ""
    return (
        f"CuPy is installed, but no NVIDIA driver for CUDA {_cuda(version)} ({error}): install "
        f"one, such as apt install nvidia-driver-580{older}; nvidia-smi shows it"
    )


def _cuda(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class."""
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
        f"CUDA {_cuda(runtime)}, CuPy {cupy.__version__}"
    )
