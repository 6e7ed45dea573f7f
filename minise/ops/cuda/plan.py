"""Launch plans: everything that depends on a kernel and its scalars, checked once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minise.checks import Array
from minise.ops.cuda.sources import Parameter, Source, parameters, source

MAX_BLOCKS = 2**31 - 1, 65_535, 65_535  # along x, y, z
FLOATS = np.dtype(np.float32), np.dtype(np.float64)  # of arrays that kernels compute with
ENTRIES = {4: 112, 8: 96}  # of a table passed by value, by the bytes of a number: see common.cuh

Scalar: TypeAlias = float | tuple[float, ...]  # a tuple is passed as a table


class ArrayParameter(NamedTuple):
    """An array that a kernel takes, or a list of them."""

    name: str
    dtype: Any
    written: bool
    many: bool  # a list of arrays, whose addresses the kernel takes as a table


@dataclass(frozen=True, eq=False)
class Plan:
    """The parts of a launch other than its arrays, computed once per kernel and settings."""

    source: Source
    kernel: str
    blocks: tuple[int, ...]
    threads: tuple[int]
    shared: int  # bytes
    arrays: tuple[ArrayParameter, ...]
    scalars: tuple[Any, ...]  # NumPy scalars and tables of the parameters' types
    entries: int  # of each table; 0 if the kernel takes no list of arrays
    functions: dict[int, Any] = field(default_factory=dict)  # the compiled kernel by device


def plan_of(
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
