"""List the instructions of machine code with nvdisasm, from its wheel or from the CUDA toolkit."""

import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.ops.cuda.compiler import in_wheels

SECTION = re.compile(r"\.section\s+\.text\.(\w+)")
LABEL = re.compile(r"(\.L_\w+):")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(.+?)\s*;")
TARGET = re.compile(r"BRA.*`\((\.L_\w+)\)")
REGISTERS = re.compile(r"\bR(\d+)(\.64)?")
WIDE_LOAD = re.compile(r"LDG?\.\S*128")
DIVISION = re.compile(r"I2F\S*\.RP|CALL.*__cuda_sm\d+_(?:div|rem)_[su]")
NEEDED = "pip install -e '.[nvrtc]', or put nvdisasm on the PATH"


class Instruction(NamedTuple):
    """One instruction of a kernel."""

    text: str  # such as "LDG.E.128 R8, desc[UR4][R14.64]", without its predicate
    in_loop: bool

    @property
    def divides(self):
        """True for the first instruction of an integer division, which the hardware lacks."""
        return DIVISION.match(self.text) is not None

    @property
    def loads_wide(self):
        """True for a load of 16 bytes from global memory, into four registers."""
        return WIDE_LOAD.match(self.text) is not None


@cache
def disassembler():
    """Return the path of nvdisasm, or None."""
    return next(iter(in_wheels("*/bin/nvdisasm")), shutil.which("nvdisasm"))


@cache
def instructions(code):
    """Return the Instructions of every kernel in machine code, by the kernel's name."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(code)
        command = [disassembler(), "--print-code", "--no-dataflow", file.name]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    _, *parts = SECTION.split(listing)
    return {kernel: in_order(part) for kernel, part in zip(parts[::2], parts[1::2], strict=True)}


def in_order(listing):
    """Return the Instructions of one kernel; a backward jump closes a loop."""
    texts, labels, loops = [], {}, []
    for line in listing.splitlines():
        if match := LABEL.match(line):
            labels[match[1]] = len(texts)
        elif match := INSTRUCTION.search(line):
            texts.append(match[1])
            target = TARGET.match(match[1])
            if target and target[1] in labels:
                loops.append(range(labels[target[1]], len(texts)))
    return [Instruction(text, any(k in loop for loop in loops)) for k, text in enumerate(texts)]


def in_flight(body):
    """Return the largest number of wide loads that a thread waits for at a time.

    A thread waits at an instruction that names the register of a pending load.
    """
    pending, maximum = [], 0
    for instruction in body:
        if any(set(loaded) & registers(instruction.text) for loaded in pending):
            pending = []
        if instruction.loads_wide:
            first = min(registers(instruction.text.partition(",")[0]))
            pending.append(range(first, first + 4))
            maximum = max(maximum, len(pending))
    return maximum


def registers(text):
    """Return the numbers of the registers that an instruction names; R2.64 is also R3."""
    return {
        int(number) + k
        for number, double in REGISTERS.findall(text)
        for k in range(2 if double else 1)
    }
