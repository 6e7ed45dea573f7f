"""Compiles .cu files for GPUs that are not there: by NVRTC from its wheel, or by nvcc.

Both print what each kernel takes of a chip: registers, and numbers that found no register and are
spilled to memory.
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
NEEDED = "pip install 'minise[nvrtc]', or put nvcc on the PATH"


class CompilerError(AssertionError):
    """A source does not compile."""


class Use(NamedTuple):
    """What one kernel takes of a chip."""

    registers: int  # of a thread
    spilled: int  # bytes stored and loaded again
    stack: int  # bytes


@cache
def compiler():
    """Return a function of source, chip and defines, which returns a report; None without one."""
    library = nvrtc()
    if library is not None:
        return lambda text, chip, defines: by_nvrtc(library, text, chip, defines)
    return by_nvcc if shutil.which("nvcc") else None


def uses(text, chip, defines):
    """Return what every kernel of a source takes, by name."""
    report = compiler()(text, chip, defines)
    return {
        kernel: Use(int(registers), int(stores) + int(loads), int(stack))
        for kernel, stack, stores, loads, registers in REPORT.findall(report)
    }


def nvrtc():
    """Return the library that the wheel of NVRTC brings, or None."""
    if importlib.util.find_spec("nvidia") is None:
        return None
    for folder in importlib.util.find_spec("nvidia").submodule_search_locations:
        for found in sorted(Path(folder).glob("*/lib/libnvrtc.so.1*")):
            for builtins in found.parent.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins))  # or NVRTC looks for it by name, and not here
            return ctypes.CDLL(str(found))
    return None


def by_nvrtc(library, text, chip, defines):
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    options = [f"-arch=sm_{chip}", "-std=c++17", "--ptxas-options=-v", *defines]
    given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
    failed = library.nvrtcCompileProgram(program, len(options), given)
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
