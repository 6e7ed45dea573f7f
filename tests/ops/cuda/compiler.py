"""Compile .cu files to machine code without a GPU, with the options that CuPy passes.

The compilers are all installed NVRTC wheels, or else nvcc. They report the registers of each
kernel, and the bytes that are spilled to memory for lack of registers.
"""

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import minise.ops.cuda
from minise.ops.cuda.sources import source

FILES = sorted(path.name for path in Path(minise.ops.cuda.__file__).parent.glob("*.cu"))
DTYPES = np.float32, np.float64
CHIPS = {75: "Turing", 80: "Ampere", 90: "Hopper", 100: "Blackwell"}
REPORT = re.compile(
    r"entry function '(\w+)' for 'sm_\d+'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)
NEEDED = "pip install -e '.[nvrtc]', or put nvcc on the PATH"
OPTIONS = "-std=c++17", "-ftz=true"
NVRTC_OPTIONS = "--device-as-default-execution-space", "--ptxas-options=-v"
LIBC = ctypes.CDLL(None)
LIBC.uselocale.restype, LIBC.uselocale.argtypes = ctypes.c_void_p, [ctypes.c_void_p]


class CompilerError(AssertionError):
    """A source does not compile."""


class Compiler(NamedTuple):
    """One version of NVRTC, or nvcc."""

    name: str  # such as "NVRTC 12.4"
    chips: frozenset[int]  # the compute capabilities that it compiles for
    compile: Callable  # (text, chip, defines) -> report and machine code


class Use(NamedTuple):
    """Resources of one kernel."""

    registers: int  # per thread
    spilled: int  # bytes stored and loaded again
    stack: int  # bytes


class Build(NamedTuple):
    """A source as machine code of one compiler for one chip."""

    uses: dict[str, Use]  # by kernel
    code: bytes


@cache
def compilers():
    """Return the Compilers of this machine: the versions of NVRTC, or nvcc, or none."""
    libraries = [nvrtc(path) for path in in_wheels("*/lib/libnvrtc.so.1*")]
    if libraries or not shutil.which("nvcc"):
        return tuple(sorted(libraries, key=lambda compiler: compiler.name))
    return (Compiler("nvcc", frozenset({75, 80, 90}), by_nvcc),)


def newest():
    """Return the newest of the compilers, in a tuple, which is empty without one."""
    return compilers()[-1:]


def in_wheels(pattern):
    """Return the paths in NVIDIA's wheels that match a pattern."""
    package = importlib.util.find_spec("nvidia")
    folders = package.submodule_search_locations if package else []
    return [path for folder in folders for path in sorted(Path(folder).glob(pattern))]


def builds(chosen):
    """Return (compiler, file, dtype, chip) for every build of the chosen compilers."""
    return [
        (compiler, file, dtype, chip)
        for compiler in chosen
        for file in FILES
        for dtype in DTYPES
        for chip in CHIPS
        if chip in compiler.chips
    ]


def label(value):
    """Return the name of a parameter of a test over builds."""
    return getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)


@cache
def build(compiler, file, dtype, chip, edit=lambda text: text):
    """Return the Build of a .cu file; edit changes the source text, to plant faults."""
    unit = source(file, np.dtype(dtype))
    return build_text(compiler, edit(unit.text), chip, unit.defines)


def build_text(compiler, text, chip, defines):
    report, code = compiler.compile(text, chip, defines)
    uses = {
        kernel: Use(int(registers), int(stores) + int(loads), int(stack))
        for kernel, stack, stores, loads, registers in REPORT.findall(report)
    }
    return Build(uses, code)


def nvrtc(path):
    """Return the Compiler of an NVRTC library."""
    for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins))  # NVRTC itself would search the library path only
    library = ctypes.CDLL(str(path))
    major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    chips = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(chips)
    name = f"NVRTC {major.value}.{minor.value}"
    return Compiler(name, frozenset(chips), partial(by_nvrtc, library))


def by_nvrtc(library, text, chip, defines):
    def output(name):
        size = ctypes.c_size_t()
        getattr(library, f"nvrtcGet{name}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(library, f"nvrtcGet{name}")(program, buffer)
        return buffer.raw

    program = ctypes.c_void_p()
    options = [*OPTIONS, f"-arch=sm_{chip}", *NVRTC_OPTIONS, *defines]
    option_array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
    locale = LIBC.uselocale(None)
    failed = library.nvrtcCompileProgram(program, len(options), option_array)
    LIBC.uselocale(locale)  # NVRTC 12.4 sets this thread's encoding to ASCII
    report = output("ProgramLog").rstrip(b"\0").decode()
    code = b"" if failed else output("CUBIN")
    library.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise CompilerError(report)
    return report, code


def by_nvcc(text, chip, defines):
    with tempfile.TemporaryDirectory() as folder:
        path, cubin = Path(folder) / "kernel.cu", Path(folder) / "kernel.cubin"
        path.write_text(text, encoding="utf-8")
        command = ["nvcc", "-cubin", f"-arch=sm_{chip}", *OPTIONS, "-Xptxas", "-v", *defines]
        command += ["-o", str(cubin), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CompilerError(done.stderr)
        return done.stderr, cubin.read_bytes()
