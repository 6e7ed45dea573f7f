"""Property tests of a user's op: drawing, shrinking, and the program that reproduces a failure."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minise.gradcheck.strategies import PLAIN, Case, cases
from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.gradcheck.strategies.reproduce import array_literal
from minise.ops import reference

# derandomised, so that the same mistakes show in every run
phases = Phase.generate, Phase.shrink
steady = settings(derandomize=True, database=None, phases=phases)
few = settings(steady, max_examples=30)

# a user's ops, and one mistake for each property that a case draws
OPS = """
import numpy as np

def forward(x, s, bias=None, *, stride=1, shift=0.0):
    y = x[:, :, ::stride, ::stride]
    out = y * s[:, :, None, None] + shift
    return (out if bias is None else out + bias[:, None, None]), (x, s, bias, stride)

def backward(dout, cache):
    x, s, bias, stride = cache
    dx = np.zeros(x.shape)
    dx[:, :, ::stride, ::stride] = dout * s[:, :, None, None]
    ds = (dout * x[:, :, ::stride, ::stride]).sum(axis=(2, 3))
    return dx, ds, None if bias is None else dout.sum(axis=(0, 2, 3))

def mean_for_sum(dout, cache):
    dx, ds, dbias = backward(dout, cache)
    return dx, ds / dout[0, 0].size, dbias

def stride_forgotten(dout, cache):
    dx, ds, dbias = backward(dout, cache)
    return dx * cache[3], ds, dbias

def memory_order(dout, cache):
    dx, ds, dbias = backward(dout, cache)
    return dx.ravel("C").reshape(dx.shape) * (1 + (not cache[0].flags.c_contiguous)), ds, dbias

def gradient_of_none(dout, cache):
    return *backward(dout, cache)[:2], dout.sum(axis=(0, 2, 3))

def two_mistakes(dout, cache):
    dx, ds, dbias = backward(dout, cache)
    return (dx if dx.size % 2 else 2 * dx), (ds if ds.size % 2 else 2 * ds), dbias

def crash(dout, cache):
    raise ZeroDivisionError("no rows")

class Methods:
    @staticmethod
    def forward(x):
        return x * x, x

    @staticmethod
    def backward(dout, x):
        return (dout * x,)
"""
LINE = "x: N C H W, s: N C, bias?: C"


@pytest.fixture
def my_ops(tmp_path, monkeypatch):
    """Write the user's ops as a module in a folder on sys.path, and import it."""
    (tmp_path / "my_ops.py").write_text(OPS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_ops", raising=False)
    import my_ops

    yield my_ops
    del sys.modules["my_ops"]


def failing(forward, backward, strategy, **options):
    """Return the smallest failing case and its message."""
    seen = []

    @steady
    @given(case=strategy)
    def test(case):
        seen.append(case)
        case.assert_gradients(forward, backward, **options)

    with pytest.raises(AssertionError) as raised:
        test()
    return seen[-1], str(raised.value)


def split(message):
    report, program = message.split("\n\nThis program reproduces the failure:\n\n")
    return report, program


def run(program, cwd="/"):
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


# Drawing


@pytest.mark.parametrize(
    ("op", "line", "more"),
    [
        ("linear", "x: N I, weight: O I, bias?: O", {}),
        ("add", "a: ..., b: ...", {}),
        ("concat", "*xs: N _ H W", {}),
        ("dropout", "x: ..., mask: ... bool", dict(p=st.sampled_from([0.0, 0.5]))),
        ("flatten", "x: N C H W", dict(H=st.integers(1, 3))),
        ("softmax_cross_entropy", "logits: N K, labels: N int", {}),
        ("channel_shuffle", "x: N C H W", dict(C=6, groups=st.sampled_from([1, 2, 3]))),
        (
            "conv2d",
            "x: N C H W, weight: K C/groups KH KW, bias?: K",
            dict(
                K=6,
                H=st.integers(2, 4),
                W=3,
                KH=st.integers(1, 2),
                KW=st.integers(1, 3),
                stride=st.sampled_from([(1, 1), (2, 1)]),
            ),
        ),
        (
            "batch_norm2d",
            "x: N C H W, gamma: C, beta: C; running_mean: C, running_var: C",
            dict(N=st.integers(2, 3), training=st.booleans(), eps=1.0),
        ),
    ],
)
def test_right_ops_pass(op, line, more):
    mode = "directional" if ";" in line else "auto"  # arrays by keyword stay float64
    forward, backward = (getattr(reference, f"{op}_{way}") for way in ("forward", "backward"))

    @few
    @given(case=cases(line, **more))
    def test(case):
        assert case.assert_gradients(forward, backward, mode=mode).ok

    test()


def test_sizes_settings_and_layouts_are_drawn():
    seen = []

    @steady
    @given(case=cases(LINE, C=3, N=st.integers(2, 3), stride=st.integers(1, 2), shift=0.5))
    def test(case):
        seen.append(case)

    test()
    assert {case.sizes["C"] for case in seen} == {3}
    assert {case.sizes["N"] for case in seen} == {2, 3}
    assert {case.sizes["H"] for case in seen} == {1, 2, 3, 4}
    assert {case.settings["stride"] for case in seen} == {1, 2}
    assert {case.settings["shift"] for case in seen} == {0.5}
    assert {case.layout for case in seen} == {PLAIN, *LAYOUTS}
    assert {case.inputs[2] is None for case in seen} == {True, False}
    for case in seen:
        x, s, bias = case.inputs
        assert x.shape == tuple(case.sizes[axis] for axis in "NCHW")
        assert s.shape == x.shape[:2]
        assert bias is None or bias.shape == (3,)
        assert x.dtype == np.float64
        assert case.names == ["x", "s", "bias"]


def test_custom_values():
    positive = {"x": lambda rng, shape, sizes: rng.uniform(1, 2, shape)}
    rows = {"rows": lambda rng, shape, sizes: rng.integers(0, sizes["V"], shape)}

    @few
    @given(case=cases("x: ...", values=positive))
    def test_log(case):
        assert all(1 <= value < 2 for value in case.inputs[0].flat)
        case.assert_gradients(lambda x: (np.log(x), x), lambda dout, x: (dout / x,))

    @few
    @given(case=cases("rows: N int, table: V D", values=rows))
    def test_lookup(case):
        def backward(dout, cache):
            rows, shape = cache
            dtable = np.zeros(shape)
            np.add.at(dtable, rows, dout)
            return None, dtable

        case.assert_gradients(lambda rows, table: (table[rows], (rows, table.shape)), backward)

    test_log()
    test_lookup()


def test_the_numbers_depend_on_the_seed_alone():
    seen = {}

    @steady
    @given(case=cases("x: N", N=2, layouts=[PLAIN]))
    def test(case):
        numbers = seen.setdefault(case.seed, case.inputs[0])
        np.testing.assert_array_equal(numbers, case.inputs[0])

    test()
    assert len({numbers.tobytes() for numbers in seen.values()}) == len(seen) > 10


# Shrinking


@pytest.mark.parametrize(
    ("mistake", "smallest"),
    [
        ("mean_for_sum", "Case(N=1, C=1, H=1, W=2, stride=1, seed=0)"),
        ("stride_forgotten", "Case(N=1, C=1, H=1, W=1, stride=2, seed=0)"),
        ("gradient_of_none", "Case(N=1, C=1, H=1, W=1, stride=1, bias=None, seed=0)"),
        ("memory_order", "Case(N=1, C=1, H=1, W=2, stride=1, layout='backwards', seed=0)"),
        ("two_mistakes", "Case(N=1, C=1, H=1, W=2, stride=1, seed=0)"),
    ],
)
def test_a_mistake_shrinks_to_the_smallest_case(my_ops, mistake, smallest):
    strategy = cases(LINE, stride=st.integers(1, 2))
    failures = [failing(my_ops.forward, getattr(my_ops, mistake), strategy) for _ in range(2)]
    assert [repr(case) for case, _ in failures] == [smallest] * 2
    assert failures[0][1] == failures[1][1]


def test_the_repr_of_a_case_is_one_line():
    more = dict(settings={"shift": 1.5, "mean": np.ones(3)}, sizes={"...": (2,), "_": (1, 2)})
    case = Case([None, np.ones(2)], **more, seed=7, names=["a", "b"], layout="backwards")
    text = "Case(shape=(2,), sizes=(1, 2), shift=1.5, a=None, layout='backwards', seed=7)"
    assert repr(case) == text


# The program that reproduces a failure


@pytest.mark.parametrize(
    ("mistake", "options"),
    [
        ("mean_for_sum", {}),
        ("mean_for_sum", dict(mode="jacobian", names=["image", "scale", "offset"])),
        ("mean_for_sum", dict(rng=5, linear=("s",))),
        ("stride_forgotten", {}),
        ("gradient_of_none", {}),
        ("memory_order", {}),
    ],
)
def test_the_program_fails_alike_until_the_mistake_is_corrected(my_ops, mistake, options):
    strategy = cases(LINE, stride=st.integers(1, 2), shift=0.1)
    _, message = failing(my_ops.forward, getattr(my_ops, mistake), strategy, **options)
    report, program = split(message)
    done = run(program)
    assert done.returncode == 1
    assert done.stderr.endswith(f"AssertionError: {report}\n")
    done = run(
        program.replace(f"{mistake}, inputs", "backward, inputs").replace(mistake, "backward")
    )
    assert (done.returncode, done.stderr) == (0, "")


def without_relu_backward(dout, cache):
    return reference.batch_norm2d_backward(dout, cache.norm)


def test_arrays_by_keyword_options_and_partial_functions_are_written_too():
    line = "x: N C H W, gamma: C, beta: C; running_mean: C, running_var: C"
    forward = partial(reference.batch_norm2d_relu_forward, eps=0.5)
    options = dict(mode="directional", branches=reference.batch_norm2d_relu_branches)
    strategy = cases(line, N=2, training=False)
    _, message = failing(forward, without_relu_backward, strategy, **options)
    report, program = split(message)
    assert "partial(partial(batch_norm2d_relu_forward, eps=0.5), " in program
    assert "running_var=np.array([" in program
    assert "branches=batch_norm2d_relu_branches" in program
    done = run(program)
    assert done.stderr.endswith(f"AssertionError: {report}\n")


def test_a_module_in_a_package(tmp_path, monkeypatch):
    folder = tmp_path / "my_package" / "inner"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "ops.py").write_text(OPS)
    monkeypatch.syspath_prepend(str(tmp_path))
    from my_package.inner.ops import Methods

    _, message = failing(Methods.forward, Methods.backward, cases("x: ..."))
    report, program = split(message)
    assert f"sys.path.insert(0, {str(tmp_path)!r})" in program
    assert "from my_package.inner.ops import Methods" in program
    assert "assert_gradients(Methods.forward, Methods.backward, inputs, rng=0)" in program
    assert run(program).stderr.endswith(f"AssertionError: {report}\n")


def test_two_functions_of_one_name_and_a_setting_without_a_literal(tmp_path, monkeypatch):
    (tmp_path / "my_forward.py").write_text("def square(x, limit):\n    return x * x, x\n")
    (tmp_path / "my_backward.py").write_text("def square(dout, x):\n    return (dout * x,)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_backward
    import my_forward

    strategy = cases("x: ...", limit=float("inf"), **{"...": (2, 1)})
    case, message = failing(my_forward.square, my_backward.square, strategy)
    assert case.inputs[0].shape == (2, 1)
    report, program = split(message)
    assert run(program).stderr.endswith(f"AssertionError: {report}\n")


def test_functions_that_cannot_be_imported_are_left_to_fill_in():
    def local_forward(x):
        return x * x, x

    report, program = split(failing(local_forward, lambda dout, x: (dout,), cases("x: N"))[1])
    assert "local_forward = ...  # fill in: tests.gradcheck.test_strategies.test_func" in program
    assert "backward = ...  # fill in: " in program
    assert "assert_gradients(local_forward, backward, inputs, rng=0)" in program
    program = program.replace("local_forward = ...", "local_forward = lambda x: (x * x, x)")
    done = run(program.replace("backward = ...  #", "backward = lambda dout, x: (dout,)  #"))
    name = report.split("\n")[1].partition(",")[0]
    assert done.stderr.strip().endswith(f"AssertionError: {report.replace(name, '<lambda>')}")


def test_other_errors_pass_with_the_program_as_a_note(my_ops):
    @steady
    @given(case=cases(LINE))
    def test(case):
        case.assert_gradients(my_ops.forward, my_ops.crash)

    with pytest.raises(ZeroDivisionError, match="no rows") as raised:
        test()
    (note,) = [
        note for note in raised.value.__notes__ if note.startswith("This program reproduces")
    ]
    done = run(note.partition("\n\n")[2])
    assert done.stderr.endswith("ZeroDivisionError: no rows\n")


def test_a_forward_that_writes_its_input_is_repeated_from_the_input_before():
    def forward(x):
        x *= 2
        return x * x, x

    case = Case([np.array([1.0, 3.0])], {}, {"N": 2}, 0, ["x"])
    with pytest.raises(AssertionError) as raised:
        case.assert_gradients(forward, lambda dout, x: (dout,))
    assert "np.array([1.0, 3.0]),  # x" in str(raised.value)


@given(
    array=hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.int8, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=3),
        elements=dict(allow_nan=False, allow_infinity=False),
    )
)
def test_a_literal_is_exact(array):
    again = eval(array_literal(array), {"np": np})
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert again.tobytes() == array.tobytes()


def test_the_program_of_a_case_that_passes(my_ops):
    case = Case([np.ones((2, 2))], {}, {"N": 2, "C": 2}, 3, ["x"], "backwards")
    program = case.program(my_ops.Methods.forward, reference.relu_backward)
    assert "from minise.gradcheck.strategies.drawing import backwards" in program
    assert "    backwards(np.array([[1.0, 1.0],\n [1.0, 1.0]])),  # x" in program
    assert "rng=3)" in program


# Messages


@pytest.mark.parametrize(
    ("line", "more", "error", "message"),
    [
        (3, {}, TypeError, "line is a int, expected a string such as 'x: N C H W"),
        ("", {}, ValueError, "the line '' has '', expected a name, a colon and axes"),
        ("x N C", {}, ValueError, "has 'x N C', expected a name, a colon and axes: 'x: N C H W'"),
        ("x: N C,", {}, ValueError, "has '', expected a name"),
        ("x: N-1", {}, ValueError, "has 'x: N-1', expected a name"),
        ("; mean: C", {}, ValueError, "has '', expected a name"),
        ("x: N, x: C", {}, ValueError, "has x twice, expected different names"),
        ("x: N ...", {}, ValueError, r"x has the axes \(N, ...\), expected '...' alone"),
        ("x: N C", dict(M=3), ValueError, "M is not an axis of 'x: N C', expected any of N, C"),
        ("x: N C", dict(x=3), ValueError, "x is an array of 'x: N C', expected the name of an a"),
        ("x: N C", dict(N=0), ValueError, "N is 0, expected at least 1"),
        ("x: N C", dict(N="3"), TypeError, "N is '3', expected an integer of at least 1"),
        ("x: C, w: C/groups", dict(C=4, groups=3), ValueError, "groups is 3, expected a divisor"),
        ("x: C, w: C/groups", dict(groups=0), ValueError, "groups is 0, expected at least 1"),
        ("x: N", dict(layouts=["fortran"]), ValueError, "layouts has 'fortran', expected any of c"),
        ("x: N", dict(layouts=[]), ValueError, "layouts is empty, expected any of contiguous, b"),
        ("x: N", dict(values={"y": None}), ValueError, "values has 'y', expected any of x"),
    ],
)
def test_messages(line, more, error, message):
    with pytest.raises(error, match=f"^cases: .*{message}"):
        cases(line, **more)


def run_once(strategy, function=lambda case: None):
    @settings(steady, max_examples=1)
    @given(case=strategy)
    def test(case):
        function(case)

    test()


def test_messages_about_what_is_drawn():
    with pytest.raises(ValueError, match="^cases: N is 0, expected at least 1"):
        run_once(cases("x: N", N=st.just(0)))
    with pytest.raises(ValueError, match="^cases: groups is 0, expected at least 1"):
        run_once(cases("x: C, w: C/groups", groups=st.just(0)))
    short = {"x": lambda rng, shape, sizes: np.zeros(7)}
    with pytest.raises(ValueError, match=r"values\['x'\] returns shape \(7,\), expected \(2,\)"):
        run_once(cases("x: N", N=2, values=short))


@pytest.mark.parametrize(
    ("line", "more", "message"),
    [
        ("x: N C H W", {}, "does not take the arrays x: missing a required argument: 's'"),
        ("x: N, s: N, b: N, c: N", {}, "does not take the arrays x, s, b, c: too many positional"),
        ("x: N, s: N", dict(steps=2), "the arrays x, s and the settings steps: got an unexpected"),
    ],
)
def test_a_forward_of_other_arguments(my_ops, line, more, message):
    with pytest.raises(TypeError, match=rf"^forward\(x, s, bias=None.*{message}.*in the line"):
        run_once(cases(line, **more), lambda case: case.assert_gradients(my_ops.forward, None))
