"""The instructions of every kernel: local memory, wide accesses, divisions of integers.

Instructions are counted in the newest compiler's machine code, not as they are executed.
"""

import re
from collections import Counter

import numpy as np
import pytest

from minise.ops.cuda.sources import parameters, source
from tests.ops.cuda import compiler as nvidia
from tests.ops.cuda.compiler import build, builds, label, newest
from tests.ops.cuda.machine_code import NEEDED, disassembler, in_flight, instructions

LOCAL = "LDL", "STL"  # memory of one thread, where arrays and spills are
CALL = r"(\w+)(?:<\w+>)?\("  # of a function, in a source
LOAD, STORE = ("LDG", "LD"), ("STG", "ST")  # global memory, or memory of any kind
# The hardware has no division of integers: each is about 20 instructions, of which one or, in 64
# bits, three count here. By kernel: the largest number in all, and within loops (between
# a backward jump and its target). All other kernels have none.
DIVISIONS = {
    "avg_pool": (5, 0),
    "avg_pool_backward": (9, 1),
    "col2im": (6, 4),
    "copies": (1, 0),
    "dense_layer": (1, 0),
    "dense_layer_backward": (4, 2),
    "excite": (2, 0),
    "excite_backward": (3, 1),
    "gate_gradient": (2, 0),
    "gradient_sums": (6, 0),
    "im2col": (2, 0),
    "max_pool": (5, 0),
    "max_pool_backward": (9, 1),
    "norm_input_gradient": (1, 0),
    "normalise": (3, 0),
    "sgd_updates": (2, 0),
    "squeeze": (3, 0),
    "tile_backward": (11, 2),
    "tile_forward": (9, 0),
    "weight_gradients": (1, 0),
}
IN_FLIGHT = {  # smallest number of wide loads that a thread waits for at a time
    "gate_gradient": 4,
    "gradient_sums": 3,
    "input_gradient": 4,
    "norm_input_gradient": 4,
    "normalise": 4,
    "row_moments": 4,
    "scale": 4,
    "sgd_updates": 3,
    "squeeze": 4,
    "tile_backward": 2,
}

pytestmark = [
    pytest.mark.skipif(not newest(), reason=f"no CUDA compiler: {nvidia.NEEDED}"),
    pytest.mark.skipif(disassembler() is None, reason=f"no nvdisasm: {NEEDED}"),
]


@pytest.mark.parametrize(("compiler", "file", "dtype", "chip"), builds(newest()), ids=label)
def test_machine_code(compiler, file, dtype, chip):
    text = source(file, np.dtype(dtype)).text
    assert faults(text, build(compiler, file, dtype, chip).code) == []


# Faults planted in squeeze_excite.cu or common.cuh: a line, its replacement and the report.
LOAD_LINE = "*reinterpret_cast<const Chunk<P>*>(ALIGNED(p, sizeof(Chunk<P>)))"
LOOP_LINES = """
  for (int i = own_lane() * P; i < ROWS * hw; i += WARP * P) {
    Chunk<P> pixels = load"""
FAULTS = {
    "numbers are loaded one by one": (
        f"return {LOAD_LINE};",
        "Chunk<P> chunk; for (int k = 0; k < P; k++) chunk.at[k] = p[k]; return chunk;",
        "scale: no LDG of 16 bytes",
    ),
    "an array is indexed at run time": (
        "return sum_of_rows(sums);",
        "real turned[64]; turned[int(*x) & 63] = sums[0]; return turned[hw & 63];",
        "squeeze: LDL",
    ),
    "a loop divides integers": (
        "pixels.at[k] * map.scale + map.shift",
        "pixels.at[k] * map.scale + i % hw",
        "scale: (",
    ),
    "a thread waits for each load": (
        "#pragma unroll 4" + LOOP_LINES,
        "#pragma unroll 1" + LOOP_LINES,
        "squeeze: 1 wide loads in flight",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name):
    line, replacement, report = FAULTS[name]
    text = source("squeeze_excite.cu", np.dtype(np.float32)).text
    assert line in text

    def plant(text):
        return text.replace(line, replacement)

    code = build(*newest(), "squeeze_excite.cu", np.float32, 90, plant).code
    assert any(fault.startswith(report) for fault in faults(text, code))


def faults(text, code):
    """Return a line for each fault in the machine code of a source."""
    listed, wide = instructions(code), wide_accesses(text)
    assert set(listed) == set(wide) == set(parameters(text))
    problems = []
    for kernel, body in listed.items():
        names = Counter(instruction.text.split()[0] for instruction in body)
        problems += [f"{kernel}: {name}" for name in names if name.startswith(LOCAL)]
        for access in wide[kernel]:
            if not any(name.split(".")[0] in access and ".128" in name for name in names):
                problems.append(f"{kernel}: no {access[0]} of 16 bytes")
        if in_flight(body) < IN_FLIGHT.get(kernel, 0):
            problems.append(f"{kernel}: {in_flight(body)} wide loads in flight")
        dividing = [instruction for instruction in body if instruction.divides]
        counts = len(dividing), sum(instruction.in_loop for instruction in dividing)
        limits = DIVISIONS.get(kernel, (0, 0))
        if counts[0] > limits[0] or counts[1] > limits[1]:
            problems.append(f"{kernel}: {counts} divisions (in loops), at most {limits}")
    return problems


def wide_accesses(text):
    """Return the accesses of 16 bytes that a source promises, by kernel.

    A kernel promises them if it splits its rows by chunks, or calls a function with PACK numbers
    per lane, and that code calls load or store.
    """
    bodies = functions(text)
    promises = {}
    for kernel in parameters(text):
        called = CALL if "with_split(" in bodies[kernel] else r"(\w+)<PACK>\("
        reached, pending = set(), re.findall(called, bodies[kernel])
        while pending:
            name = pending.pop()
            if name in bodies and name not in reached:
                reached.add(name)
                pending += re.findall(CALL, bodies[name])
        promises[kernel] = [
            access for name, access in (("load", LOAD), ("store", STORE)) if name in reached
        ]
    return promises


def functions(text):
    """Return the body of every function of a source, by name."""
    bare, bodies = re.sub(r"//[^\n]*", "", text), {}
    for head in re.finditer(r"(?<!\w)(?!if|for|while|switch)(\w+)\([^()]*\)\s*\{", bare):
        depth, end = 1, head.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(bare[end], 0)
            end += 1
        bodies[head[1]] = bare[head.end() : end]
    return bodies
