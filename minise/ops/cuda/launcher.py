"""Launchers: check and convert the arrays of a kernel, and launch it.

Host code receives its launcher as an argument. `Cupy` (cupy_launcher.py) runs kernels on a GPU; the
tests have a launcher that runs the same sources on the CPU. Their base class checks arguments
against the kernel's parameters: a kernel cannot check them, and would misread an array of another
dtype or a non-contiguous array.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from minise.checks import Array
from minise.ops.cuda.plan import ArrayParameter, Plan, Scalar, plan_of
from minise.ops.cuda.sources import Source

THREADS = 256  # per block, for most kernels: eight warps
WARP = 32
ALIGNMENT = 16  # bytes that a lane reads at once
MAX_PLANS = 4096
MAX_SHORT_ROW = 128  # pixels: four rows fit into the registers of a warp
STATIC_SHARED_BYTES = 48 << 10  # shared memory of a block without an opt-in


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

    def dependencies(self) -> dict[str, str]:
        """Return GPU, driver and libraries, on which the bits of results depend, by title."""
        return {}

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
            If an array or a scalar does not match its parameter, or the grid is too large.
        """
        key = file, kernel, blocks, scalars, dtype, threads, shared
        plan = self.plans.get(key)
        if plan is None:
            if len(self.plans) >= MAX_PLANS:  # a scalar that changes, such as the learning rate
                self.plans.clear()
            plan = self.plans[key] = plan_of(*key)
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
            raise ValueError(f"{kernel}: {name} is on another device, expected the current one")
        if written and not self.ready(array):
            raise ValueError(f"{kernel}: {name} is not contiguous, expected a contiguous output")
        return self.contiguous(array)


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
