"""A perturbation changes one value of a run and nothing else: by hand, and in every kind of run."""

import numpy as np
import pytest

from minise.ops import reference
from minise.tracing.instrument import Instrumented
from minise.tracing.leaves import leaves_of
from minise.tracing.perturb import (
    perturb_argument,
    perturb_assigned,
    perturb_event,
    perturb_input,
    perturb_line,
    perturb_read,
)
from minise.tracing.subject import op_subject
from tests.ops.cases import CASES, draw


def test_a_perturbed_value_changes_the_rest(student):
    forward, _, path = student
    instrumented = Instrumented(forward, file=path)
    x, u = np.array([3.0]), np.ones(1)
    for occurrence in range(3):
        run = perturb_assigned(instrumented, "y", [x], occurrence=occurrence)
        assert (run.output(1.0, u)[0], run.slope(u)[0]) == (23, 2)
    assert perturb_assigned(instrumented, "z", [x], occurrence=1).output(1.0, u)[0] == 22
    with pytest.raises(ValueError, match="'w' is assigned 0 times, .* the function assigns y, z"):
        perturb_assigned(instrumented, "w", [x]).output(1.0, u)


def test_the_function_itself_is_untouched(student):
    forward, _, path = student
    x = np.array([3.0])
    perturb_assigned(Instrumented(forward, file=path), "y", [x]).output(5.0, np.ones(1))
    assert (forward(x)[0][0], x[0]) == (21, 3)


@pytest.fixture
def excite():
    """Return inputs and settings of squeeze_excite, its forward, and the op as a Subject."""
    inputs, settings = draw(CASES["squeeze_excite"]["avg, sigmoid"], np.random.default_rng(0))
    subject = op_subject(reference, None, "squeeze_excite", inputs, settings)
    return inputs, settings, reference.squeeze_excite_forward, subject


def events_of(subject):
    """Return the events of the lines in a subject's forward, by assigned name."""
    subject.forward(subject.inputs)
    (call,) = [call for call in subject.recorder.calls if call.parent is None]
    return {event.name: event for event in call.events if event.line is not None}


@pytest.mark.parametrize("t", [0.5, 0.25j])
def test_a_function_and_a_recorded_op_give_the_same_bits(excite, t):
    inputs, settings, forward, subject = excite
    events, code = events_of(subject), Instrumented(forward)
    for name in ("z", "u", "h", "v", "s"):
        u = np.random.default_rng(1).standard_normal(np.shape(events[name].value))
        out = perturb_assigned(code, name, inputs, settings).output(t, u)
        np.testing.assert_array_equal(perturb_event(subject, events[name]).output(t, u), out)
    for k, value in enumerate(inputs):
        u = np.random.default_rng(2).standard_normal(value.shape)
        out = perturb_argument(forward, inputs, k, settings).output(t, u)
        np.testing.assert_array_equal(perturb_input(subject, k).output(t, u), out)


@pytest.mark.parametrize("t", [0.5, 0.25j])
def test_a_single_line_and_the_line_in_its_run_give_the_same_bits(excite, t):
    """``out = x * s`` is the last line: its value is the output of the op."""
    *_, subject = excite
    event = events_of(subject)["out"]
    code = subject.recorder.calls[0].source
    for leaf in leaves_of(event.line, event.scope):
        u = np.random.default_rng(1).standard_normal(leaf.value.shape)
        out = perturb_read(subject, event, leaf).output(t, u)
        alone = perturb_line(code, event.line, event.scope, leaf, lambda result: result)
        np.testing.assert_array_equal(alone.output(t, u), out)


def test_two_reads_of_x_add_up_to_its_slope(excite):
    inputs, _, _, subject = excite
    u = np.random.default_rng(1).standard_normal(inputs[0].shape)
    events = events_of(subject)
    slopes = []
    for name in ("z", "out"):
        leaves = leaves_of(events[name].line, events[name].scope)
        leaf = next(leaf for leaf in leaves if leaf.name == "x")
        slopes.append(perturb_read(subject, events[name], leaf).slope(u))
    total = perturb_input(subject, 0).slope(u)
    roundings = sum(array.size for array in inputs) * np.finfo(float).eps
    np.testing.assert_allclose(sum(slopes), total, rtol=0, atol=roundings * np.max(abs(total)))


def test_a_perturbation_may_start_from_another_point(student):
    """``x * x`` has slope 2 x, at the value that the line reads and at any other value."""
    forward, _, path = student
    code, scope = Instrumented(forward, file=path), {"x": np.array([3.0])}
    line = code.lines[0]
    assert line.text == "y = x * x"
    (leaf,) = leaves_of(line, scope)
    run, u = perturb_line(code, line, scope, leaf, lambda result: result), np.ones(1)
    assert (run.output(1.0, u)[0], run.slope(u)[0]) == (16, 6)
    assert (run.output(1.0, u, np.array([5.0]))[0], run.slope(u, np.array([5.0]))[0]) == (36, 10)
