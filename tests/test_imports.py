"""What an import loads: a library must not make its users wait for what they do not use."""

import subprocess
import sys

import pytest

HEAVY = {"numba", "cupy", "matplotlib", "rich", "tyro", "safetensors", "PIL", "hypothesis", "torch"}


def loaded_by(statement):
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import minise",
        "from minise.ops import cuda, reference, wrap",
        "from minise import analysis, data, gradcheck, lessons, models, nn, train, walk",
        "from minise.grading import exercise",
        "from minise.bench import compare, gpu, ladder, peers, profile, scaling, workloads",
    ],
)
def test_imports_are_light(statement):
    assert loaded_by(statement) & HEAVY == set()


def test_the_check_bites():
    assert loaded_by("import minise.cli.train") & HEAVY == {"rich", "tyro"}
