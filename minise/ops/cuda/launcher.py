"""Where kernels run: a launcher reads a .cu file, types its arguments and starts it.

Host code takes its launcher as a value. There are two: `Cupy` (cupy_launcher.py) runs kernels on a
GPU; the tests have one that runs the same sources on the CPU. What both need stands here: the
sources, and the check of arguments against the kernel's own parameters. A kernel does not see what
it is given: an array of another dtype, or one that is not contiguous, it would read as it lies.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array

THREADS = 256  # a block of most kernels: eight warps
WARP = 32
ALIGNMENT = 16  # bytes: what a lane reads at once
MOST_BLOCKS = 2**31 - 1
STATIC_LIMIT = 48 << 10  # bytes of shared memory that need not be asked for
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
    """A .cu file as it is compiled for one dtype."""

    file: str
    text: str  # with common.cuh in front: a compiler's cache does not look into included files
    defines: tuple[str, ...]


@cache
def source(file: str, dtype: Any) -> Source:
    """Return a .cu file of this folder, for float32 or float64."""
    folder = files("minise.ops.cuda")
    text = "\n".join((folder / name).read_text() for name in ("common.cuh", file))
    return Source(file, text, ("-DREAL=float" if dtype == np.float32 else "-DREAL=double",))


@cache
def parameters(text: str) -> dict[str, list[Parameter]]:
    """Return the parameters of every kernel of a source, by the kernel's name."""
    bare = re.sub(r"//[^\n]*", "", text)
    return {
        name: [_parameter(" ".join(one.split())) for one in listed.split(",")]
        for name, listed in KERNEL.findall(bare)
    }


def _parameter(declared: str) -> Parameter:
    words = declared.replace("*", " ").split()
    pointer, constant = "*" in declared, words[0] == "const"
    plain = [word for word in words[:-1] if word not in ("const", "__restrict__")]
    return Parameter(words[-1], " ".join(plain), pointer, pointer and not constant)


class Launcher(ABC):
    """Runs kernels on arrays of one library."""

    squeeze_excite = "auto"  # or "simple" or "tile", instead of squeeze_excite.py's rule

    @property
    @abstractmethod
    def xp(self) -> Any:
        """The library's module: cupy, or in tests one that looks like it."""

    @abstractmethod
    def shared_limit(self) -> int:
        """Return how many bytes of shared memory a block may ask for: 48 KB at least."""

    @abstractmethod
    def address(self, array: Any) -> int:
        """Return where an array's first number lies."""

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
        """Start a kernel; arguments are arrays and NumPy scalars of the kernel's own types."""

    def here(self, array: Any) -> bool:
        """Tell whether an array lies on the device that runs the kernels."""
        return True

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """Return values as an array of the library."""
        return self.xp.asarray(values, dtype)

    def asnumpy(self, array: Any) -> Array:
        """Return an array of the library as NumPy's; waits until its numbers are there."""
        return array.get()

    def contiguous(self, array: Any) -> Any:
        """Return an array whose numbers lie in order, the first at a multiple of 16 bytes."""
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
        """Start a kernel on the current stream, without waiting for it.

        Parameters
        ----------
        file, kernel : str
            Such as "squeeze_excite.cu", "scale".
        blocks : int or tuple of int
            How many, along up to three axes.
        *arguments : array, None, int or float
            In the kernel's order; None is a null pointer.
        dtype : dtype
            Which `real` stands for.
        threads : int
            In a block.
        shared : int
            Bytes of shared memory that a block gets when it starts.
        """
        unit = source(file, np.dtype(dtype))
        expected = parameters(unit.text)[kernel]
        grid = blocks if isinstance(blocks, tuple) else (blocks,)
        assert len(arguments) == len(expected), f"{kernel} takes {len(expected)} arguments"
        assert 0 < grid[0] <= MOST_BLOCKS, f"{kernel} is given {grid[0]} blocks"
        typed = [
            self._typed(kernel, parameter, argument, np.dtype(dtype))
            for parameter, argument in zip(expected, arguments, strict=True)
        ]
        self.run(unit, kernel, grid, threads, typed, shared)

    def _typed(self, kernel: str, parameter: Parameter, argument: Any, real: Any) -> Any:
        """Return an argument as the kernel's parameter wants it."""
        kinds = {"real": real, "double": np.float64, "int": np.int32, "long long": np.int64}
        dtype = np.dtype(kinds[parameter.type])
        where = f"{kernel}: {parameter.name}"
        if not parameter.pointer:
            limits = np.iinfo(dtype) if dtype.kind == "i" else None
            inside = limits is None or limits.min <= argument <= limits.max
            assert inside, f"{where} is {argument}, which is no {dtype}"
            return dtype.type(argument)
        if argument is None:
            return None
        assert isinstance(argument, self.xp.ndarray), f"{where} is a {type(argument).__name__}"
        assert argument.dtype == dtype, f"{where} is {argument.dtype}, expected {dtype}"
        assert argument.flags.c_contiguous, f"{where} does not lie in order"
        assert self.here(argument), f"{where} lies on another device"
        return argument


def warps(rows: int) -> int:
    """Return how many blocks give each of so many rows a warp."""
    return -(-rows // (THREADS // WARP))


def blocks_of(numbers: int) -> int:
    """Return how many blocks give each of so many numbers a thread."""
    return -(-numbers // THREADS)
