"""Find bank conflicts: accesses to shared memory that take a warp several wavefronts.

Shared memory has 32 banks of four bytes. An access takes as many wavefronts as the largest number
of distinct words in one bank, counted for the whole warp at up to four bytes per lane, and summed
over halves of the warp at eight and over quarters at sixteen. The minimum is one for each part.

The emulator records every access of the source with its lane. An access of a warp consists of the
accesses of its lanes at one location of the source, between the same barriers or shuffles, in the
same iteration of all enclosing loops. Not visible: accesses that the compiler merges, removes or
adds (spills, in particular), other orders of divergent branches, and sizes that no case has.
"""

import ctypes
import re
import subprocess
from collections import defaultdict
from functools import cache
from importlib.resources import files
from typing import NamedTuple
from unittest import mock

import numpy as np

from minise.ops.cuda.sources import parameters
from tests.ops.cuda import emulator
from tests.ops.cuda.emulator import HEADER, Emulator, compile_to, digest, translated

BANKS, WORD = 32, 4  # bytes
COMMON = files("minise.ops.cuda") / "common.cuh"
HOOKS = HEADER.with_name("banks.cc")
FAST = ["-O2", "-fno-omit-frame-pointer"]
TRACED = ["-O0", "-g1", "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"]
COLUMNS = ["warp", "lane", "moment", "location", "caller", "offset", "bytes"]


class Traffic(NamedTuple):
    """Wavefronts of all warps' accesses from one line of a kernel."""

    kernel: str
    location: str  # "file:line", and the caller's if it is another line of the source
    wavefronts: int
    minimum: int

    def __str__(self):
        factor = self.wavefronts / self.minimum
        return f"{self.kernel}: {self.location}: {factor:.2f} times the wavefronts"


class Recorder(Emulator):
    """An emulator that records the accesses to shared memory."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.traffic = []

    def run(self, plan, arrays):
        text = self.edit(plan.source.text)
        library, path = recording(text, plan.source.defines)
        library.banks_clear()
        with mock.patch.object(emulator, "compiled", return_value=library):
            super().run(plan, arrays)
        self.traffic += traffic(plan, text, library, path, recorded(library))


def recording(text, defines):
    """Return a source as a library that records its accesses, and the library's path."""
    program, hooks = translated(text), HOOKS.read_text(encoding="utf-8")
    path = emulator.folder() / f"{digest(program, *defines, hooks)}.so"
    if not path.exists():
        unit, recorder = path.with_suffix(".o"), emulator.folder() / f"{digest(hooks)}.o"
        if not recorder.exists():
            compile_to(recorder, [*FAST, "-x", "c++", "-c", str(HOOKS)])
        include = ["-include", str(HEADER)]
        compile_to(unit, [*TRACED, *defines, *include, "-c", "-x", "c++", "-"], program)
        compile_to(path, [str(recorder), str(unit), "-Wl,-z,defs"])
    return loaded(path, tuple(parameters(text))), path


@cache
def loaded(path, kernels):
    library = ctypes.CDLL(str(path))
    library.banks_library.restype = ctypes.c_uint64
    library.banks_accesses.restype = ctypes.POINTER(ctypes.c_uint64)
    for kernel in kernels:
        getattr(library, f"emulate_{kernel}").restype = ctypes.c_char_p
    return library


def recorded(library):
    """Return the accesses of the last launch, an array of shape (accesses, len(COLUMNS))."""
    count = ctypes.c_size_t()
    first = library.banks_accesses(ctypes.byref(count))
    if count.value == 0:
        return np.zeros((0, len(COLUMNS)), np.uint64)
    return np.ctypeslib.as_array(first, (count.value, len(COLUMNS))).copy()


def traffic(plan, text, library, path, accesses):
    """Return the Traffic of a launch, for each line that accesses shared memory."""
    if not len(accesses):
        return []
    together = defaultdict(list)
    for _, lane, moment, location, caller, offset, size in accesses.tolist():
        together[location, caller, moment].append((lane, offset, size))
    sums = defaultdict(lambda: np.zeros(2, int))
    for (location, caller, _), lanes in together.items():
        sums[location, caller] += wavefronts(lanes)
    addresses = {address for pair in sums for address in pair}
    start = library.banks_library(ctypes.c_void_p(min(addresses)))
    names = lines(path, text, plan.source.file, start, addresses)
    return [
        Traffic(plan.kernel, " from ".join(filter(None, map(names.get, pair))), *count.tolist())
        for pair, count in sums.items()
    ]


def wavefronts(lanes):
    """Return the wavefronts of one access by (lane, offset, bytes) of a warp, and their minimum."""
    size = max(size for _, _, size in lanes)
    parts = defaultdict(set)
    for lane, offset, _ in lanes:
        words = range(offset // WORD, (offset + size - 1) // WORD + 1)
        parts[lane // max(1, BANKS * WORD // max(size, WORD))].update(words)
    taken = sum(max(np.bincount([word % BANKS for word in words])) for words in parts.values())
    return taken, len(parts)


def lines(path, text, file, start, addresses):
    """Return "file:line" by address in a library, without those outside the source."""
    ordered = sorted(addresses)
    command = ["addr2line", "-e", str(path), *(hex(address - start - 1) for address in ordered)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    before = COMMON.read_text(encoding="utf-8").count("\n") + 1
    names = {}
    for address, line in zip(ordered, re.findall(r":(\d+|\?)", listing), strict=True):
        if line not in "0?" and int(line) <= text.count("\n"):
            number = int(line)
            names[address] = (
                f"common.cuh:{number}" if number <= before else f"{file}:{number - before}"
            )
    return names
