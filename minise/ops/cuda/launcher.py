"""Launchers: read a .cu file, check and convert a kernel's arguments, and launch the kernel.

Host code receives its launcher as an argument. `Cupy` (cupy_launcher.py) runs kernels on a GPU; the
tests have a launcher that runs the same sources on the CPU. Their base class reads sources and
checks arguments against the kernel's parameters: a kernel cannot check them, and would misread an
array of another dtype or a non-contiguous array.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minise.checks import Array

THREADS = 256  # per block, for most kernels: eight warps
WARP = 32
ALIGNMENT = 16  # bytes that a lane reads at once
MAX_BLOCKS = 2**31 - 1, 65_535, 65_535  # along x, y, z
MAX_PLANS = 4096
FLOATS = np.dtype(np.float32), np.dtype(np.float64)  # of arrays that kernels compute with
MAX_SHORT_ROW = 128  # pixels: four rows fit into the registers of a warp
ENTRIES = {4: 112, 8: 96}  # of a table passed by value, by the bytes of a number: see common.cuh
STATIC_SHARED_BYTES = 48 << 10  # shared memory of a block without an opt-in
KERNEL = re.compile(
    r'extern "C" __global__ void(?: __launch_bounds__\([\d, ]+\))? (\w+)\(([^)]*)\)'
)


Scalar: TypeAlias = float | tuple[float, ...]  # a tuple is passed as a table


class Parameter(NamedTuple):
    """One parameter of a kernel."""

    name: str
    type: str  # "real", "double", "int", "long long" or a table: "Arrays", "Ints", "Reals"
    pointer: bool
    written: bool  # a pointer or Arrays that is not const

    @property
    def takes_arrays(self) -> bool:
        """True for a pointer, which takes an array, and for Arrays, which takes a list of them."""
        return self.pointer or self.type == "Arrays"


class Source(NamedTuple):
    """The source text of a .cu file and the compiler options for one dtype."""

    file: str
    text: str  # begins with common.cuh: compiler caches ignore changes of included files
    defines: tuple[str, ...]


@cache
def source(file: str, dtype: Any) -> Source:
    """Return the Source of a .cu file of this folder, for float32 or float64."""
    folder = files("minise.ops.cuda")
    names = "common.cuh", file
    text = "\n".join((folder / name).read_text(encoding="utf-8") for name in names)
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
    kind = " ".join(type_words)
    return Parameter(words[-1], kind, pointer, (pointer or kind == "Arrays") and not constant)


class ArrayParameter(NamedTuple):
    """An array that a kernel takes, or a list of them."""

    name: str
    dtype: Any
    written: bool
    many: bool  # a list of arrays, whose addresses the kernel takes as a table


@dataclass(frozen=True, eq=False)
class Plan:
    """What a launch needs beside its arrays; computed once for each kernel and its settings."""

    source: Source
    kernel: str
    blocks: tuple[int, ...]
    threads: tuple[int]
    shared: int  # bytes
    arrays: tuple[ArrayParameter, ...]
    scalars: tuple[Any, ...]  # NumPy scalars and tables of the parameters' types
    entries: int  # of each table; 0 if the kernel takes no list of arrays
    functions: dict[int, Any] = field(default_factory=dict)  # the compiled kernel by device


class Launcher(ABC):
    """Launches kernels on arrays of one library."""

    squeeze_excite = "auto"  # "simple" or "tile" overrides the rule of squeeze_excite.py
    in_place = False  # whether normalisations write new running statistics into their arguments
    tf32 = False  # whether products of float32 matrices may round their operands to TF32

    def __init__(self) -> None:
        self.plans: dict[tuple[Any, ...], Plan] = {}

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
    def run(self, plan: Plan, arrays: Sequence[Any]) -> None:
        """Launch a kernel with arrays, and lists of them, as its plan describes them.

        None is a null pointer.
        """

    @abstractmethod
    def multiply(self, a: Any, b: Any, out: Any, *, add: bool = False) -> None:
        """Write the products of stacks of matrices, without waiting for them.

        Parameters
        ----------
        a, b, out : array
            (batch, M, K), (batch, K, N) and (batch, M, N); a matrix (M, K) or (K, N) is a factor of
            every product. One of the last two axes of a and b is contiguous, and the last of out.
        add : bool
            Add the products to out.
        """

    def on_current_device(self, array: Any) -> bool:
        """Return True if an array is on the device that runs the kernels."""
        return True

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """Return values as an array of the library."""
        return self.xp.asarray(values, dtype)

    def asnumpy(self, array: Any) -> Array:
        """Return an array of the library as NumPy's; waits for pending kernels."""
        return array.get()

    def ready(self, array: Any) -> bool:
        """Return True if a kernel can read an array: C-contiguous, aligned, on the device."""
        return array.flags.c_contiguous and not self.address(array) % ALIGNMENT

    def contiguous(self, array: Any) -> Any:
        """Return the array, or a copy that is C-contiguous and aligned to 16 bytes."""
        if self.ready(array):
            return array
        ordered = self.xp.ascontiguousarray(array)
        return ordered.copy() if ordered is array or not self.ready(ordered) else ordered

    def launch(
        self,
        file: str | Source,
        kernel: str,
        blocks: int | tuple[int, ...],
        arrays: Sequence[Any],
        scalars: tuple[Scalar, ...],
        *,
        dtype: Any,
        threads: int = THREADS,
        shared: int = 0,
    ) -> None:
        """Launch a kernel on the current stream, without waiting for it.

        Parameters
        ----------
        file : str or Source
            A file of this folder, such as "squeeze_excite.cu", or any other source.
        kernel : str
            Its kernel, such as "scale".
        blocks : int or tuple of int
            Number of blocks, along up to three axes.
        arrays : sequence of array or None
            The kernel's first arguments; None is a null pointer, and a parameter of type Arrays
            takes a list. An array that is only read may have any layout: the kernel reads a
            contiguous copy.
        scalars : tuple of int or float
            The kernel's last arguments; a parameter of type Ints or Reals takes a tuple.
        dtype : dtype
            The type of `real`.
        threads : int
            Threads per block.
        shared : int
            Dynamic shared memory of a block, in bytes.

        Raises
        ------
        TypeError, ValueError
            If an array or a scalar is not what the kernel takes, or the grid is too large.
        """
        key = file, kernel, blocks, scalars, dtype, threads, shared
        plan = self.plans.get(key)
        if plan is None:
            if len(self.plans) >= MAX_PLANS:  # a scalar that changes, such as the learning rate
                self.plans.clear()
            plan = self.plans[key] = _plan(*key)
        if len(arrays) != len(plan.arrays):
            raise TypeError(
                f"{kernel}: arrays are {len(arrays)}, expected {len(plan.arrays)}: "
                f"{', '.join(parameter.name for parameter in plan.arrays)}"
            )
        ndarray, ready = self.xp.ndarray, self.ready
        self.run(
            plan,
            [
                array
                if array is None
                or (type(array) is ndarray and array.dtype is parameter.dtype and ready(array))
                else self._converted(kernel, parameter, array)
                for array, parameter in zip(arrays, plan.arrays, strict=True)
            ],
        )

    def _converted(self, kernel: str, parameter: ArrayParameter, array: Any) -> Any:
        """Return an array or a list of arrays that the kernel can read, or raise an error."""
        name, dtype, written, many = parameter
        if many:
            ndarray, ready, single = self.xp.ndarray, self.ready, parameter._replace(many=False)
            return [
                entry
                if type(entry) is ndarray and entry.dtype is dtype and ready(entry)
                else self._converted(kernel, single, entry)
                for entry in array
            ]
        if type(array) is not self.xp.ndarray or array.dtype != dtype:
            library = type(array).__module__.partition(".")[0]
            kind = (
                f"{array.dtype} of {library}"
                if hasattr(array, "dtype")
                else f"a {type(array).__name__}"
            )
            raise TypeError(f"{kernel}: {name} is {kind}, expected an array of {dtype} on the GPU")
        if not self.on_current_device(array):
            raise ValueError(f"{kernel}: {name} is on another device than the current one")
        if written and not self.ready(array):
            raise ValueError(f"{kernel}: {name} is not contiguous, but written")
        return self.contiguous(array)


def _plan(
    file: str | Source,
    kernel: str,
    blocks: int | tuple[int, ...],
    scalars: tuple[Scalar, ...],
    dtype: Any,
    threads: int,
    shared: int,
) -> Plan:
    """Check the settings of a launch, and return its plan."""
    unit = file if isinstance(file, Source) else source(file, np.dtype(dtype))
    kinds = {"real": np.dtype(dtype), "double": np.float64, "int": np.int32, "long long": np.int64}
    kinds |= {"Arrays": kinds["real"], "Reals": kinds["real"], "Ints": np.int32}
    expected, entries = parameters(unit.text)[kernel], ENTRIES[np.dtype(dtype).itemsize]
    pointers = [parameter for parameter in expected if parameter.takes_arrays]
    values = expected[len(pointers) :]
    if any(parameter.takes_arrays for parameter in values):
        raise TypeError(f"{kernel}: pointers are mixed with scalars, expected pointers first")
    if len(scalars) != len(values):
        raise TypeError(
            f"{kernel}: scalars are {len(scalars)}, expected {len(values)}: "
            f"{', '.join(parameter.name for parameter in values)}"
        )
    grid = blocks if isinstance(blocks, tuple) else (blocks,)
    for axis, count, maximum in zip("xyz", grid, MAX_BLOCKS, strict=False):
        if not 0 < count <= maximum:
            raise ValueError(f"{kernel}: blocks along {axis} are {count}, expected 1..{maximum}")
    return Plan(
        unit,
        kernel,
        grid,
        (threads,),
        shared,
        tuple(
            ArrayParameter(p.name, np.dtype(kinds[p.type]), p.written, not p.pointer)
            for p in pointers
        ),
        tuple(
            _scalar(kernel, parameter, np.dtype(kinds[parameter.type]), value, entries)
            for parameter, value in zip(values, scalars, strict=True)
        ),
        0 if all(p.pointer for p in pointers) else entries,
    )


def _scalar(
    kernel: str, parameter: Parameter, dtype: Any, value: float | tuple[float, ...], entries: int
) -> Any:
    """Return a scalar or a table of a parameter's type; CuPy would pass numbers as 8 bytes."""
    limits = np.iinfo(dtype) if dtype.kind == "i" else None
    numbers = value if isinstance(value, tuple) else (value,)
    if limits is not None and not all(limits.min <= number <= limits.max for number in numbers):
        raise ValueError(
            f"{kernel}: {parameter.name} is {value}, expected a value of {dtype}, at most "
            f"{limits.max}: pass fewer or smaller images"
        )
    return table(value, dtype, entries) if isinstance(value, tuple) else dtype.type(value)


def table(numbers: Sequence[float], dtype: Any, entries: int) -> Array:
    """Return Arrays (from addresses), Ints or Reals: an array of size one, passed by value."""
    values = np.zeros(1, [("at", dtype, entries)])
    values["at"][0, : len(numbers)] = numbers
    return values


def rows_per_warp(x: Any) -> int:
    """Return the number of rows of images (N, C, H, W) that a warp reads; see common.cuh, Split."""
    _, C, H, W = x.shape
    pack = ALIGNMENT // x.dtype.itemsize
    return pack if H * W % pack and C % pack == 0 and pack < H * W <= MAX_SHORT_ROW else 1


def warps(rows: int) -> int:
    """Return the number of blocks for one warp per row."""
    return -(-rows // (THREADS // WARP))


def blocks_of(elements: int) -> int:
    """Return the number of blocks for one thread per element."""
    return -(-elements // THREADS)
