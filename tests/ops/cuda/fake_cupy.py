"""A fake of the parts of CuPy that the launcher calls, without a GPU."""

import importlib.machinery
import sys
from types import ModuleType, SimpleNamespace

from minise.ops.cuda import cupy_launcher, requirements
from tests.ops.cuda import fake_cublas


class CudaError(RuntimeError):
    """Stands in for CuPy's error class."""


class FakeCuda(SimpleNamespace):
    """A fake of the module cupy.cuda, which loads cuBLAS on first access."""

    def __getattr__(self, name):
        if name == "cublas" and self.has_cublas:
            return fake_cublas
        raise ImportError('Failure finding "libcublasLt.so.13 or libcublasLt.so.12": No such file')


def fake_cupy(monkeypatch, *, devices=1, nvrtc=True, cublas=True, driver=0, version=12090):
    """Replace CuPy by a fake; devices is their number, or the text of the driver's error."""

    has_nvrtc = nvrtc

    def count():
        if isinstance(devices, int):
            return devices
        raise CudaError(devices)

    def compiler():
        if has_nvrtc:
            return 12, 9
        raise RuntimeError('Failure finding "libnvrtc.so.12": No such file\nand more')

    fake = ModuleType("cupy")
    fake.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    runtime = SimpleNamespace(
        getDeviceCount=count, runtimeGetVersion=lambda: version, driverGetVersion=lambda: driver
    )
    nvrtc = SimpleNamespace(getVersion=compiler)
    fake.cuda = FakeCuda(has_cublas=cublas, runtime=runtime, nvrtc=nvrtc)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(requirements, "_cupy_builds", lambda: ["cupy-cuda13x"])


class FakeModule:
    """A fake of CuPy's RawModule and of its kernels; records its arguments."""

    made, launched = [], []

    def __init__(self, code, options):
        FakeModule.made.append((code, options))

    def get_function(self, name):
        def launch(*arguments):
            FakeModule.launched.append((name, *arguments))

        return SimpleNamespace(kernel=launch, max_dynamic_shared_size_bytes=48 << 10)


class FakeArray:
    """A fake of CuPy's array with the address of a NumPy array."""

    def __init__(self, array, device=0):
        self.array, self.data = array, SimpleNamespace(ptr=array.ctypes.data, device_id=device)
        self._c_contiguous = array.flags.c_contiguous

    def __getattr__(self, name):
        return getattr(self.array, name)


def fake_launcher(monkeypatch, **settings):
    fake_cupy(monkeypatch)
    fake, device_of = sys.modules["cupy"], SimpleNamespace(now=0)
    fake.RawModule, fake.ndarray = FakeModule, FakeArray
    fake.cuda.device = fake_cublas
    fake.cuda.runtime.getDevice = lambda: device_of.now
    fake.cuda.runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
    fake.cuda.runtime.deviceGetAttribute = lambda attribute, device: 1000 * attribute + device
    monkeypatch.setattr(FakeModule, "made", [])
    monkeypatch.setattr(FakeModule, "launched", [])
    return cupy_launcher.Cupy(), device_of
