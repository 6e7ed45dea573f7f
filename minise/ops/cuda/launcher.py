"""Launchers: read a .cu file, check and convert a kernel's arguments, and launch the kernel.

Host code receives its launcher as an argument. `Cupy` (cupy_launcher.py) runs kernels on a GPU; the
tests have a launcher that runs the same sources on the CPU. Their base class reads sources and
checks arguments against the kernel's parameters: a kernel cannot check them, and would misread an
array of another dtype or a non-contiguous array.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array

THREADS = 256  # per block, for most kernels: eight warps
WARP = 32
ALIGNMENT = 16  # bytes that a lane reads at once
MAX_BLOCKS = 2**31 - 1
STATIC_SHARED_BYTES = 48 << 10  # shared memory of a block without an opt-in
KERNEL = re.compile(
    r'extern "C" __global__ void(?: __launch_bounds__\([\d, ]+\))? (\w+)\(([^)]*)\)'
)


class Parameter(NamedTuple):
    """One parameter of a kernel."""

    name: str
    type: str  # "real", "double", "int" or "long long"
    pointer: bool
    written: bool  # a pointer that is not const


class Source(NamedTuple):
    """The source text of a .cu file and the compiler options for one dtype."""

    file: str
    text: str  # begins with common.cuh: compiler caches ignore changes of included files
    defines: tuple[str, ...]


@cache
def source(file: str, dtype: Any) -> Source:
    """Return the Source of a .cu file of this folder, for float32 or float64."""
    folder = files("minise.ops.cuda")
    text = "\n".join((folder / name).read_text() for name in ("common.cuh", file))
    return Source(file, text, ("-DREAL=float" if dtype == np.float32 else "-DREAL=double",))


@cache
def parameters(text: str) -> dict[str, list[Parameter]]:
    """Return the parameters of every kernel of a source, by the kernel's name."""
    bare = re.sub(r"//[^\n]*", "", text)
    return {
        name: [_parameter(" ".join(part.split())) for part in listed.split(",")]
        for name, listed in KERNEL.findall(bare)
    }


def _parameter(declared: str) -> Parameter:
    words = declared.replace("*", " ").split()
    pointer, constant = "*" in declared, words[0] == "const"
    type_words = [word for word in words[:-1] if word not in ("const", "__restrict__")]
    return Parameter(words[-1], " ".join(type_words), pointer, pointer and not constant)


class Launcher(ABC):
    """Launches kernels on arrays of one library."""

    squeeze_excite = "auto"  # "simple" or "tile" overrides the rule of squeeze_excite.py

    @property
    @abstractmethod
    def xp(self) -> Any:
        """The array library: the module cupy, or its stand-in in tests."""

    @abstractmethod
    def shared_limit(self) -> int:
        """Return the maximum shared memory of a block, in bytes: at least 48 KB."""

    @abstractmethod
    def address(self, array: Any) -> int:
        """Return the address of an array's first element."""

    @abstractmethod
    def run(
        self,
        source: Source,
        kernel: str,
        blocks: tuple[int, ...],
        threads: int,
        arguments: Sequence[Any],
        shared: int,
    ) -> None:
        """Launch a kernel with arrays and with NumPy scalars of its parameters' types."""

    def on_current_device(self, array: Any) -> bool:
        """Return True if an array is on the device that runs the kernels."""
        return True

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """Return values as an array of the library."""
        return self.xp.asarray(values, dtype)

    def asnumpy(self, array: Any) -> Array:
        """Return an array of the library as NumPy's; waits for pending kernels."""
        return array.get()

    def contiguous(self, array: Any) -> Any:
        """Return the array, or a copy that is C-contiguous and aligned to 16 bytes."""
        ordered = self.xp.ascontiguousarray(array)
        return ordered.copy() if self.address(ordered) % ALIGNMENT else ordered

    def launch(
        self,
        file: str,
        kernel: str,
        blocks: int | tuple[int, ...],
        *arguments: Any,
        dtype: Any,
        threads: int = THREADS,
        shared: int = 0,
    ) -> None:
        """Launch a kernel on the current stream, without waiting for it.

        Parameters
        ----------
        file, kernel : str
            Names such as "squeeze_excite.cu" and "scale".
        blocks : int or tuple of int
            Number of blocks, along up to three axes.
        *arguments : array, None, int or float
            The kernel's arguments; None is a null pointer.
        dtype : dtype
            The type of `real`.
        threads : int
            Threads per block.
        shared : int
            Dynamic shared memory of a block, in bytes.
        """
        unit = source(file, np.dtype(dtype))
        expected = parameters(unit.text)[kernel]
        grid = blocks if isinstance(blocks, tuple) else (blocks,)
        assert len(arguments) == len(expected), f"{kernel} takes {len(expected)} arguments"
        assert 0 < grid[0] <= MAX_BLOCKS, f"{kernel}: blocks is {grid[0]}, expected 1..{MAX_BLOCKS}"
        typed = [
            self._typed(kernel, parameter, argument, np.dtype(dtype))
            for parameter, argument in zip(expected, arguments, strict=True)
        ]
        self.run(unit, kernel, grid, threads, typed, shared)

    def _typed(self, kernel: str, parameter: Parameter, argument: Any, real: Any) -> Any:
        """Return an argument as a scalar or array of the parameter's type."""
        kinds = {"real": real, "double": np.float64, "int": np.int32, "long long": np.int64}
        dtype = np.dtype(kinds[parameter.type])
        where = f"{kernel}: {parameter.name}"
        if not parameter.pointer:
            limits = np.iinfo(dtype) if dtype.kind == "i" else None
            inside = limits is None or limits.min <= argument <= limits.max
            assert inside, f"{where} is {argument}, expected a value of {dtype}"
            return dtype.type(argument)
        if argument is None:
            return None
        assert isinstance(argument, self.xp.ndarray), f"{where} is a {type(argument).__name__}"
        assert argument.dtype == dtype, f"{where} is {argument.dtype}, expected {dtype}"
        assert argument.flags.c_contiguous, f"{where} is not C-contiguous"
        assert self.on_current_device(argument), f"{where} is on another device"
        return argument


def warps(rows: int) -> int:
    """Return the number of blocks for one warp per row."""
    return -(-rows // (THREADS // WARP))


def blocks_of(elements: int) -> int:
    """Return the number of blocks for one thread per element."""
    return -(-elements // THREADS)
