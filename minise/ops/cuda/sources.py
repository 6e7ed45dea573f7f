"""Sources of kernels: the text of a .cu file, and the parameters that its kernels declare."""

import re
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

KERNEL = re.compile(
    r'extern "C" __global__ void(?: __launch_bounds__\([\d, ]+\))? (\w+)\(([^)]*)\)'
)


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
