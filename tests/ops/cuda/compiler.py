"""Compile .cu files without a GPU, with NVRTC from its wheel or with nvcc.

Both report the registers of each kernel, and the bytes that are spilled to memory for lack of
registers.
"""

import ctypes
import importlib.util
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

REPORT = re.compile(
    r"entry function '(\w+)' for 'sm_\d+'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)
NEEDED = "pip install -e '.[nvrtc]', or put nvcc on the PATH"


class CompilerError(AssertionError):
    """A source does not compile."""


class Use(NamedTuple):
    """Resources of one kernel."""

    registers: int  # per thread
    spilled: int  # bytes stored and loaded again
    stack: int  # bytes


@cache
def compiler():
    """Return a compiler, a function (source, chip, defines) -> report, or None without one."""
    library = nvrtc()
    if library is not None:
        return lambda text, chip, defines: by_nvrtc(library, text, chip, defines)
    return by_nvcc if shutil.which("nvcc") else None


def uses(text, chip, defines):
    """Return the Use of every kernel of a source, by name."""
    report = compiler()(text, chip, defines)
    return {
        kernel: Use(int(registers), int(stores) + int(loads), int(stack))
        for kernel, stack, stores, loads, registers in REPORT.findall(report)
    }


def nvrtc():
    """Return the library of the NVRTC wheel, or None."""
    if importlib.util.find_spec("nvidia") is None:
        return None
    for folder in importlib.util.find_spec("nvidia").submodule_search_locations:
        for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.1*")):
            for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins))  # NVRTC itself would search the library path only
            return ctypes.CDLL(str(path))
    return None


def by_nvrtc(library, text, chip, defines):
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    options = [f"-arch=sm_{chip}", "-std=c++17", "--ptxas-options=-v", *defines]
    option_array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
    failed = library.nvrtcCompileProgram(program, len(options), option_array)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise CompilerError(log.value.decode())
    return log.value.decode()


def by_nvcc(text, chip, defines):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.cu"
        source.write_text(text)
        command = ["nvcc", "-cubin", f"-arch=sm_{chip}", "-std=c++17", "-Xptxas", "-v", *defines]
        command += ["-o", str(source.with_suffix(".cubin")), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompilerError(done.stderr)
    return done.stderr
