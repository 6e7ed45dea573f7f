"""The tape of a trace computes every step, as recorded and for other inputs."""

import numpy as np
import pytest

from minise import nn
from minise.ops.backend import load_ops
from minise.tracing.tape import UNKNOWN
from minise.walk import trace
from minise.walk.cases import case
from tests.walk.pages import PAGES, walk_of
from tests.walk.students import RIGHT, module

LARGEST = "block.html"  # its tape takes as long as all others
FILES = [pytest.param(p.file, marks=pytest.mark.long if p.file == LARGEST else ()) for p in PAGES]


@pytest.fixture(scope="module", params=FILES)
def walked(request):
    return walk_of(request.param)


def test_every_step_of_every_page_is_on_the_tape(walked):
    live = walked.live
    assert None not in live.steps
    assert all(node is not None for row in live.reads for node in row)
    assert {node.op for node in live.tape.nodes}.isdisjoint({UNKNOWN})
    for step, origin in zip(walked.steps, live.origins, strict=True):
        assert (origin is not None) == (step.check is not None and step.route is None)


def test_the_tape_reproduces_every_step_to_the_bit(walked):
    values = walked.live.tape.evaluate(walked.inputs)
    for step, node, reads in zip(walked.steps, walked.live.steps, walked.live.reads, strict=True):
        np.testing.assert_array_equal(values[node], step.value, strict=False)
        for read, read_node in zip(step.reads, reads, strict=True):
            np.testing.assert_array_equal(values[read_node], read.value)


def test_a_step_reads_only_what_it_depends_on(walked):
    """The node of a read is an ancestor of the step's node, or the node itself."""
    nodes = walked.live.tape.nodes
    for step, node, reads in zip(walked.steps, walked.live.steps, walked.live.reads, strict=True):
        above, todo = set(), [node]
        while todo:
            number = todo.pop()
            if number not in above:
                above.add(number)
                todo += nodes[number].arguments
        for read, read_node in zip(step.reads, reads, strict=True):
            if read.derivative is not None and np.any(read.derivative):
                assert read_node in above, (step.name, read.name)


def student(tmp_path, old="", new=""):
    path = tmp_path / "mine.py"
    ops = module(path, RIGHT.replace(old, new))
    return trace("squeeze_excite", case("se").x, ops=ops, file=path)


def names_off_the_tape(walked):
    pairs = zip(walked.live.steps, walked.steps, strict=True)
    return [step.name for node, step in pairs if node is None]


def test_a_students_file_is_recorded_too(tmp_path):
    assert names_off_the_tape(student(tmp_path)) == []


def test_a_net_that_uses_a_students_op_is_recorded_whole(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(RIGHT)
    rng = np.random.default_rng(0)
    net = nn.SEBlock(2, nn.SE(reduction=1), rng=rng, dtype=float)
    walked = trace(net, rng.standard_normal((1, 2, 2, 1)), ops=load_ops(str(path)))
    assert {step.file for step in walked.steps} == {"mine.py"}
    assert names_off_the_tape(walked) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("s = 1 / (1 + np.exp(-v))", "s = 1 / (1 + np.exp(-np.array(v.tolist())))"),
        ("h = np.maximum(u, 0)", "h = np.nan_to_num(np.maximum(u, 0))"),
        ("h = np.maximum(u, 0)", "h = np.maximum(u, 0) if u.max() > 1e9 else np.maximum(u, 0)"),
    ],
    ids=["floats", "an unknown function", "a branch"],
)  # fmt: skip
def test_what_the_tape_cannot_repeat_is_marked(old, new, tmp_path):
    off = names_off_the_tape(student(tmp_path, old, new))
    assert ("h" in off) == ("h = " in old and "if" not in new)
    assert "u" not in off


def test_a_class_that_refuses_taped_arrays_has_no_tape(tmp_path):
    guard = "    if type(x) is not np.ndarray: raise TypeError('a plain array')\n    z = x.mean"
    assert student(tmp_path, "    z = x.mean", guard).live is None


def test_a_branch_on_a_value_is_a_guard(tmp_path):
    """With an x that takes the other branch, the tape computes nothing after it."""
    branch = "s = 1 / (1 + np.exp(-v)) if x[0, 0, 0, 0] > 0 else np.tanh(v)"
    walked = student(tmp_path, "s = 1 / (1 + np.exp(-v))", branch)
    inputs = dict(walked.inputs)
    step = next(k for k, step in enumerate(walked.steps) if step.name == "s")
    v = next(k for k, step in enumerate(walked.steps) if step.name == "v")
    inputs["x"] = -inputs["x"]
    values = walked.live.tape.evaluate(inputs)
    assert values[walked.live.steps[v]] is not None
    assert walked.live.steps[step] is None or values[walked.live.steps[step]] is None


def test_running_statistics_are_shown_before_the_update():
    net = nn.Chain(("bn", nn.BatchNorm2d(2, dtype=float)), ("pool", nn.GlobalAvgPool2d()))
    walked = trace(net, np.random.default_rng(0).standard_normal((2, 2, 2, 2)))
    running = [value for name, value in walked.inputs.items() if "running_mean" in name]
    np.testing.assert_array_equal(running, [[0, 0]])
