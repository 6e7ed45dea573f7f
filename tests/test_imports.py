"""Imports of minise must not load heavy packages that the user does not need."""

import subprocess
import sys

HEAVY = {"numba", "cupy", "matplotlib", "rich", "tyro", "safetensors", "PIL", "hypothesis", "torch"}


LIGHT = (
    "import minise",
    "from minise.ops import cuda, reference, wrap",
    "from minise import analysis, data, gradcheck, lessons, models, nn, train, walk",
    "from minise.grading import exercise",
    "from minise.bench import compare, gpu, ladder, peers, profile, scaling, workloads",
)


def loaded_by(*statements):
    """Run statements in a new process; return the heavy packages loaded after each of them."""
    code = "\n".join(["import sys", *(f"{line}\nprint(*sys.modules)" for line in statements)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ({name.partition(".")[0] for name in line.split()} for line in done.stdout.splitlines())
    return {line: loaded & HEAVY for line, loaded in zip(statements, names, strict=True)}


def test_imports_are_light():
    assert loaded_by(*LIGHT) == {statement: set() for statement in LIGHT}


def test_the_check_bites():
    heavy = "import minise.cli.train"
    assert loaded_by(heavy) == {heavy: {"rich", "tyro"}}
