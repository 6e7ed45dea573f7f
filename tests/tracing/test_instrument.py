"""Every intermediate of a function is recorded, and any line can run on its own."""

import numpy as np
import pytest

from minise.ops import reference
from minise.ops.reference import fused
from minise.tracing.instrument import RETURN, Instrumented, Line
from tests.ops.cases import CASES, draw


def test_trace_by_hand(student):
    forward, _, path = student
    (out, _), steps = Instrumented(forward, file=path).trace(np.array([3.0]))
    seen = [
        (step.line.name, step.line.number, step.occurrence, float(step.value[0])) for step in steps
    ]
    assert seen == [
        ("y", 6, 0, 9),
        ("y", 8, 0, 9),
        ("y", 8, 1, 10),
        ("z", 9, 0, 20),
        ("z", 10, 0, 21),
    ]
    assert out[0] == 21
    assert steps[0].line.text == "y = x * x"


def test_a_tap_gets_the_scope_of_its_line(student):
    forward, _, path = student
    seen = {}

    def record(line, value, scope):
        seen.setdefault(line.number, (line.name, scope))
        return value

    Instrumented(forward, file=path).run(record, np.array([3.0]))
    assert [(number, name, sorted(scope)) for number, (name, scope) in seen.items()] == [
        (6, "y", ["x"]),
        (8, "y", ["k", "x", "y"]),
        (9, "z", ["k", "x", "y"]),
        (10, "z", ["k", "x", "y", "z"]),
        (11, "return", ["k", "x", "y", "z"]),
    ]
    assert seen[8][1]["y"] == 9  # as it was before the line


def test_a_line_runs_on_its_own(student):
    forward, backward, path = student
    instrumented = Instrumented(forward, file=path)
    by_number = {line.number: line for line in instrumented.lines}
    scope = {"x": np.array([3.0]), "y": np.array([10.0]), "z": np.array([20.0])}
    assert instrumented.run_line(by_number[9], scope) == 20
    assert instrumented.run_line(by_number[10], scope) == 21
    assert instrumented.run_line(by_number[9], scope, {"y": np.array([1.0])}) == 2
    returned = Line(RETURN, 14, "return (2 * x,)")
    assert Instrumented(backward, file=path).run_line(returned, scope) == (6,)


def test_a_global_name_may_be_overridden(student):
    def doubled(x):
        return 2 * x, None

    forward = Instrumented(fused.batch_norm2d_relu_forward)
    inputs, keywords = draw(CASES["batch_norm2d_relu"]["training"], np.random.default_rng(0))
    plain, _ = forward.run(lambda line, value, scope: value, *inputs, **keywords)
    y, _ = reference.batch_norm2d_forward(*inputs, **keywords)
    out, _ = forward.run(
        lambda line, value, scope: value, *inputs, overrides={"relu_forward": doubled}, **keywords
    )
    np.testing.assert_array_equal(out, 2 * y)
    np.testing.assert_array_equal(plain, np.maximum(y, 0))


def test_only_named_files_are_compiled(student):
    forward, _, path = student
    with pytest.raises(ValueError, match="expected a function of minise or of the `file`"):
        Instrumented(forward)
    with pytest.raises(ValueError, match="expected a function of minise or of the `file`"):
        Instrumented(forward, file=path.with_name("other.py"))
    with pytest.raises(ValueError, match="has no Python source"):
        Instrumented(np.add)


def test_a_line_may_write_into_its_array_as_in_python(student):
    *_, path = student
    text = "def doubled(x):\n    y = x\n    y *= 2\n    return x\n"
    path.write_text(text)
    namespace = {}
    exec(compile(text, str(path), "exec"), namespace)
    for in_place, expected in ((False, 3), (True, 6)):
        out, steps = Instrumented(namespace["doubled"], file=path, in_place=in_place).trace(
            np.array([3.0])
        )
        assert out[0] == expected
        assert [step.line.text for step in steps] == ["y = x", "y *= 2"]
        assert steps[-1].value[0] == 6
