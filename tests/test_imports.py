"""What an import loads: a library must not make its users wait for what they do not use."""

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
    """Return, for each of the statements that a process runs, the heavy packages loaded by then."""
    code = "\n".join(["import sys", *(f"{one}\nprint(*sys.modules)" for one in statements)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ({name.partition(".")[0] for name in line.split()} for line in done.stdout.splitlines())
    return {one: loaded & HEAVY for one, loaded in zip(statements, names, strict=True)}


def test_imports_are_light():
    assert loaded_by(*LIGHT) == {statement: set() for statement in LIGHT}


def test_the_check_bites():
    heavy = "import minise.cli.train"
    assert loaded_by(heavy) == {heavy: {"rich", "tyro"}}
