"""Every missing part of an op is reported in one line that names the file."""

import shutil
from pathlib import Path

import pytest

from tests.ops.places import TABLE, missing

ROOT = Path(__file__).parents[2]
FILES = ("minise/ops", "minise/contract", "tests/ops", "tutorials/pages")
CUBE = """

class CubeCache(NamedTuple):
    x: Array


def cube_forward(x: Array, *, scale: float = 1) -> tuple[Array, CubeCache]:
    return scale * x**3, CubeCache(x)


def cube_backward(dout: Array, cache: CubeCache) -> tuple[Array]:
    return (3 * dout * cache.x**2,)
"""
DECLARED = """
    def cube_forward(self, x: Array, *, scale: float=1) -> tuple[Array, Any]: ...
    def cube_backward(self, dout: Array, cache: Any) -> tuple[Array]: ...
"""
FORWARD, BACKWARD = (line.strip() for line in DECLARED.strip().splitlines())
ADDED = {  # the parts of a complete op: file, text before the insertion, inserted text
    "minise/ops/reference/activation.py": ("", CUBE),
    "minise/ops/reference/activation.py SHAPES": ("SHAPES = {", '\n    "cube": "x: ...",'),
    "minise/ops/protocol.py": ("class Backend(Protocol):", DECLARED),
    "minise/ops/jit/activation.py": ("", "\n\ndef cube_forward(x):\n    pass\n"),
    "minise/contract/spec/activation.py": (
        "",
        '\nCUBE = Spec(op="cube")\nSPECS = (*SPECS, CUBE)\n',
    ),
    "tests/ops/test_activation.py": ("", '\nOP = "cube"\n'),
    TABLE: ("", "\n| [cube](../../minise/ops/reference/activation.py) | x * x * x |\n"),
}


def test_every_op_is_complete():
    assert missing(ROOT) == []


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Return a copy of all files that are read."""
    root = tmp_path_factory.mktemp("root")
    for name in FILES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    return root


@pytest.fixture
def lines(copy):
    """Return a function from edits, like ADDED, to the report's lines about cube.

    Lines about other ops are left out, so that an incomplete new op fails only one test.
    """
    texts = {}

    def report(edits):
        for key, (anchor, text) in edits.items():
            path = copy / key.split()[0]
            path.parent.mkdir(exist_ok=True)
            before = path.read_text() if path.exists() else None
            texts.setdefault(path, before)
            start = (before or "").index(anchor) + len(anchor) if anchor else len(before or "")
            path.write_text((before or "")[:start] + text + (before or "")[start:])
        return [line for line in missing(copy) if line.startswith("op cube: ")]

    yield report
    for path, text in texts.items():
        path.write_text(text) if text is not None else path.unlink()


def test_a_complete_op_is_complete(lines):
    assert lines(ADDED) == []


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        (
            "minise/ops/reference/activation.py SHAPES",
            "SHAPES in minise/ops/reference/activation.py has no line for it: add its arrays "
            'and their axes, such as "cube": "x: N C H W"',
        ),
        (
            "minise/ops/reference/activation.py",
            "minise/ops/protocol.py declares it, but no file of minise/ops/reference has "
            "cube_forward: add it to the file of its family, and cube_backward below it",
        ),
        (
            "minise/ops/jit/activation.py",
            "minise/ops/jit/activation.py has neither cube_forward nor cube_backward: add one",
        ),
        (
            "minise/contract/spec/activation.py",
            "minise/contract/spec/activation.py has no Spec of it: add one to SPECS",
        ),
        (
            "tests/ops/test_activation.py",
            "tests/ops/test_activation.py does not test it: add a test by hand",
        ),
        (
            TABLE,
            f"{TABLE} has no row for it in the table of ops: run `python -m tests.tables`",
        ),
    ],
)
def test_a_missing_part_is_reported(lines, left_out, expected):
    assert lines({key: ADDED[key] for key in ADDED if key != left_out}) == [f"op cube: {expected}"]


def test_a_specification_left_out_of_specs_is_reported(lines):
    spec = "minise/contract/spec/activation.py"
    edits = ADDED | {spec: ("", '\nCUBE = Spec(op="cube")\n')}
    assert lines(edits) == [f"op cube: {spec} has no Spec of it: add one to SPECS"]


def test_an_op_of_jit_alone_is_reported(lines):
    jit = "minise/ops/jit/activation.py"
    (line,) = lines({jit: ADDED[jit]})
    assert line.startswith(
        f"op cube: {jit} has it, but neither minise/ops/protocol.py nor a file of"
    )


def test_missing_declarations_are_reported(lines):
    protocol = "minise/ops/protocol.py"
    assert lines({key: ADDED[key] for key in ADDED if key != protocol}) == [
        f"op cube: class Backend in {protocol} does not declare {name}: add `{line}`"
        for name, line in (("cube_forward", FORWARD), ("cube_backward", BACKWARD))
    ]


@pytest.mark.parametrize("half", ["forward", "backward"])
def test_forward_without_backward_is_reported_and_vice_versa(half, lines):
    file, other = "minise/ops/reference/activation.py", {"forward": "backward"}.get(half, "forward")
    text = CUBE.replace(f"cube_{half}", "_cube")
    assert lines(ADDED | {file: ("", text)}) == [
        f"op cube: {file} has cube_{other}, but no cube_{half}: add it"
    ]


def test_undeclared_branches_are_reported(lines):
    file = "minise/ops/reference/activation.py"
    text = CUBE + "\n\ndef cube_branches(cache: CubeCache) -> Array:\n    return cache.x > 0\n"
    (line,) = lines(ADDED | {file: ("", text)})
    assert line.endswith("add `def cube_branches(self, cache: Any) -> Array: ...`")


def test_a_new_file_must_be_imported(lines):
    edits = {key.replace("activation", "powers"): ADDED[key] for key in ADDED}
    del edits["minise/ops/reference/powers.py SHAPES"]
    powers = edits["minise/ops/reference/powers.py"][1]
    edits["minise/ops/reference/powers.py"] = ("", 'SHAPES = {"cube": "x: ..."}\n' + powers)
    assert lines(edits) == [
        f"op cube: minise/ops/{package}/__init__.py lacks the line of its file: "
        f"add `from minise.ops.{package}.powers import *`"
        for package in ("reference", "jit")
    ]
