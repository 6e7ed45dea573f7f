"""A launcher that runs the .cu files on the CPU: g++ compiles emulator.h with each source.

Each array is copied between two guard zones of signalling NaNs: a read outside the array returns
NaN, and a write outside changes a zone.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from platformdirs import user_cache_path

from minise.ops.cuda.launcher import Launcher
from minise.ops.cuda.plan import table
from minise.ops.cuda.products import multiply, product_of, settings_of
from minise.ops.cuda.sources import parameters
from tests.ops.cuda import fake_cublas
from tests.ops.cuda.capture import enqueue
from tests.ops.cuda.device import DeviceArray, unowned_in

HEADER = Path(__file__).with_name("emulator.h")
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-shared", "-w", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE"]
DYNAMIC = re.compile(r"extern __shared__ (?:__align__\(\d+\) )?(\w+) (\w+)\[\];")
STATIC = re.compile(r"__shared__ (\w+) (\w+)((?:\[\w+\])+);")
ZONE = 4096  # guard zone, in words of four bytes
HOPPER_SHARED_BYTES = 227 << 10  # per block, at compute capability 9.0


class EmulatorError(AssertionError):
    """A kernel did something that is undefined or an error on a GPU."""


class Emulator(Launcher):
    """Runs kernels on NumPy arrays or on the arrays of device.py.

    seed selects the order of threads, resident the number of blocks that run concurrently, and edit
    changes the source text, to plant bugs.
    """

    def __init__(
        self, xp=np, *, seed=0, resident=1, shared=HOPPER_SHARED_BYTES, edit=lambda text: text
    ):
        super().__init__()
        self._xp, self.seed, self.resident = xp, seed, resident
        self.shared, self.edit = shared, edit
        self.launches = []  # names of kernels, and "multiply", in order

    @property
    def xp(self):
        return self._xp

    def shared_limit(self):
        return self.shared

    def address(self, array):
        return array.ctypes.data

    def run(self, plan, arrays):
        """Run a kernel, or record it if the current stream is capturing."""
        self.launches.append(plan.kernel)
        if plan.shared > self.shared:
            raise EmulatorError(
                f"{plan.kernel}: shared memory is {plan.shared} bytes, expected at most "
                f"{self.shared}"
            )
        enqueue(partial(self.execute, plan, unowned_in([on_host(array) for array in arrays])))

    def execute(self, plan, arrays):
        kernel, text = plan.kernel, self.edit(plan.source.text)
        function = getattr(compiled(text, plan.source.defines), f"emulate_{kernel}")
        buffers = {}
        addresses = [
            table([address_of(entry, written, buffers) for entry in array], np.uint64, plan.entries)
            if many
            else np.uint64(address_of(array, written, buffers))
            for array, (_, _, written, many) in zip(arrays, plan.arrays, strict=True)
        ]
        cells = [np.asarray(cell) for cell in (*addresses, *plan.scalars)]
        grid = (*plan.blocks, 1, 1)[:3]
        launch = (ctypes.c_uint * 7)(*grid, *plan.threads, plan.shared, self.seed, self.resident)
        pointers = (ctypes.c_void_p * len(cells))(*(cell.ctypes.data for cell in cells))
        error = function(launch, pointers)
        if error:
            raise EmulatorError(f"{kernel}: {error.decode()}")
        for buffer in buffers.values():
            buffer.write_back(kernel)

    def multiply(self, a, b, out, *, add=False):
        """Multiply through the fake of cuBLAS, with the arguments of a call on a GPU."""
        self.launches.append("multiply")
        product = product_of(a, b, out)
        settings = settings_of(fake_cublas, out.dtype.char, tf32=self.tf32, add=add)
        addresses = tuple(self.address(array) for array in (a, b, out))
        handle = fake_cublas.get_cublas_handle()
        multiply(fake_cublas, handle, product, addresses, settings)


def on_host(array):
    """Return the NumPy array of a device array, also in a list; return anything else unchanged."""
    if isinstance(array, list):
        return [on_host(entry) for entry in array]
    return array.array if isinstance(array, DeviceArray) else array


class Buffer:
    """A copy of an array between two guard zones, at an address of the same alignment."""

    def __init__(self, array):
        self.array, self.written = array, False
        size = 2 * ZONE + array.nbytes // 4 + 130
        mixed = np.arange(size, dtype=np.uint32) * np.uint32(2654435761)
        self.raw = (mixed >> np.uint32(14) | signalling(array.dtype)).view(np.uint8)
        start = self.raw.ctypes.data + 4 * ZONE
        self.low = 4 * ZONE + (array.ctypes.data - start) % 256
        self.high = self.low + array.nbytes
        self.raw[self.low : self.high] = flat(array)
        self.initial = self.raw.copy()

    def write_back(self, kernel):
        shape = self.array.shape
        for zone in (slice(None, self.low), slice(self.high, None)):
            if (self.raw[zone] != self.initial[zone]).any():
                raise EmulatorError(f"{kernel}: wrote outside an array of shape {shape}")
        if self.written:
            flat(self.array)[:] = self.raw[self.low : self.high]
        elif (self.raw != self.initial).any():
            raise EmulatorError(f"{kernel}: wrote an array of shape {shape}, declared const")


def signalling(dtype):
    """Return the upper bits of a signalling NaN; any arithmetic changes it."""
    return np.uint32(0x7FA00000 if dtype == np.float32 else 0x7FF40000)


def flat(array):
    """Return the bytes of a contiguous array, as a view."""
    return array.reshape(-1).view(np.uint8)


def address_of(array, written, buffers):
    if array is None:
        return 0
    buffer = buffers.setdefault((array.ctypes.data, array.nbytes), None) or Buffer(array)
    buffers[array.ctypes.data, array.nbytes] = buffer
    buffer.written |= written
    return buffer.raw.ctypes.data + buffer.low


@cache
def compiled(text, defines):
    """Return a source as a library, compiled once and cached on disk."""
    program = translated(text)
    library = folder() / f"{digest(program, *defines)}.so"
    if not library.exists():
        header = compiled_header()
        compile_to(library, [*defines, "-include", str(header), "-x", "c++", "-"], program)
    loaded = ctypes.CDLL(str(library))
    for kernel in parameters(text):
        getattr(loaded, f"emulate_{kernel}").restype = ctypes.c_char_p
    return loaded


@cache
def compiled_header():
    """Return the path of a copy of emulator.h with its precompiled header."""
    header = folder() / digest() / HEADER.name
    if not header.with_suffix(".h.gch").exists():
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_bytes(HEADER.read_bytes())
        compile_to(header.with_suffix(".h.gch"), ["-x", "c++-header", str(header)])
    return header


def folder():
    return Path(os.environ.get("MINISE_CACHE") or user_cache_path("minise")) / "emulator"


def digest(*parts):
    return hashlib.sha256(repr((HEADER.read_text(), FLAGS, parts)).encode()).hexdigest()[:24]


def compile_to(target, arguments, program=None):
    if shutil.which("g++") is None:
        pytest.skip("no g++, which compiles the emulator: apt install g++")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}")
    command = ["g++", *FLAGS, *arguments, "-o", str(temporary)]
    done = subprocess.run(command, input=program, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulatorError(done.stderr[:4000])
    temporary.replace(target)  # atomic: another process may compile the same source


def translated(text):
    """Return a source as C++, with the emulator's shared arrays and one entry point per kernel."""
    body = DYNAMIC.sub(r"\1* \2 = emulator::dynamic_shared<\1>();", text)
    body = STATIC.sub(
        r"typedef \1 \2_array \3; auto& \2 = emulator::shared<\2_array, __COUNTER__>();", body
    )
    entries = []
    for kernel, declared in parameters(text).items():
        arguments = (
            f"*({parameter.type}{'*' if parameter.pointer else ''}*)cells[{k}]"
            for k, parameter in enumerate(declared)
        )
        entries.append(
            f'extern "C" const char* emulate_{kernel}(emulator::Launch* launch, void** cells) {{ '
            f"static std::string error; error = emulator::run(*launch, [=] {{ {kernel}("
            f"{', '.join(arguments)}); }}); return error.empty() ? nullptr : error.c_str(); }}"
        )
    return f"#line 1\n{body}\n" + "\n".join(entries) + "\n"
