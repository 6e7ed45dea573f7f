"""Ops in a captured graph: the same bits as without it, and what CuPy refuses during a capture."""

import contextlib
import operator

import numpy as np
import pytest

from minise.contract.case import OPS
from minise.contract.spec import CASES
from tests.ops.cuda.device import device
from tests.ops.cuda.steps import Step, back_end, bytes_of, step_of

cuda = device.cuda
# ops whose forward or backward calls cuBLAS, which CuPy cannot capture
PRODUCTS = {"conv2d", "linear", "squeeze_excite max", "squeeze_excite none"}
# ops that cannot be captured for another reason, by name with the reason: a read of a value on the
# host, or a copy from the host
NOT_CAPTURED: dict[str, str] = {}


def kind_of(case):
    """Return the op, with squeeze where it is not "avg"."""
    squeeze = case.settings.get("squeeze", "avg")
    return case.op if squeeze == "avg" else f"{case.op} {squeeze}"


@pytest.mark.parametrize("op", OPS)
def test_which_ops_can_be_captured(op):
    for case in CASES[op].values():
        step, kind = Step(back_end(), case), kind_of(case)
        if kind in PRODUCTS:
            with pytest.raises(NotImplementedError, match="^calling cuBLAS API during stream"):
                step.capture(step.run)
        elif kind in NOT_CAPTURED:
            with pytest.raises(RuntimeError, match="^the current stream is capturing, so"):
                step.capture(step.run)
        else:
            step.check_replays()


def test_the_tables_name_ops_that_exist():
    kinds = {kind_of(case) for op in OPS for case in CASES[op].values()}
    assert kinds >= PRODUCTS | {*NOT_CAPTURED}


@pytest.mark.parametrize("kernels", ["simple", "tile"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_captured_se_block(kernels, dtype):
    step = step_of("squeeze_excite", dtype=dtype, squeeze_excite=kernels)
    step.check_replays()
    launched = step.ops.launcher.launches
    assert ("tile_forward" in launched) == (kernels == "tile")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_captured_se_block_tail(dtype):
    step_of("se_block_tail", dtype=dtype).check_replays()


def test_a_captured_update_changes_its_parameter_at_every_launch():
    ops, stream = back_end(), cuda.Stream(non_blocking=True)
    param, grad, velocity = (device.asarray(np.full(5, v)) for v in (1.0, 2.0, 0.0))
    settings = dict(rate=0.5, momentum=0.0, nesterov=False, weight_decay=0.0)
    with stream:
        stream.begin_capture()
        ops.sgd_update(param, grad, velocity, **settings)
        graph = stream.end_capture()
        assert param.tolist() == [1.0] * 5
        graph.launch()
        graph.launch()
    assert param.tolist() == [-1.0] * 5


def numbers(*shape):
    return device.asarray(np.random.default_rng(len(shape)).uniform(1, 2, shape))


def test_a_captured_copy_of_many_arrays():
    ops, stream, arrays = back_end(), cuda.Stream(non_blocking=True), [numbers(3), numbers(2, 5)]
    with stream:
        stream.begin_capture()
        copies = ops.copies(arrays)
        graph = stream.end_capture()
        for array in arrays:
            array *= 2
        graph.launch()
    assert bytes_of(copies) == bytes_of(arrays)


def test_which_steps_of_inference_can_be_captured():
    ops, stream, x = back_end(), cuda.Stream(non_blocking=True), numbers(2, 3, 4, 5)
    running = dict(running_mean=numbers(3), running_var=numbers(3))
    norm = ops.prepare_batch_norm2d(numbers(3), numbers(3), **running, relu=True)
    conv = ops.prepare_conv2d(numbers(6, 3, 3, 3))
    with stream:
        stream.begin_capture()
        out = ops.run_batch_norm2d(norm, x)
        with pytest.raises(NotImplementedError, match="^calling cuBLAS API during stream"):
            ops.run_conv2d(conv, x)
        graph = stream.end_capture()
        x *= -2
        graph.launch()
    assert bytes_of(out) == bytes_of(ops.run_batch_norm2d(norm, x))


# What a capture refuses, as in CuPy 14.2


@pytest.fixture
def stream():
    """Yield a stream that is capturing."""
    stream = cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        yield stream
        with contextlib.suppress(cuda.runtime.CUDARuntimeError):  # the test may have ended it
            stream.end_capture()


H2D = RuntimeError, "^the current stream is capturing, so H2D transfers are disallowed$"
D2H = RuntimeError, "^the current stream is capturing, so D2H transfers are disallowed$"
CUBLAS = NotImplementedError, "^calling cuBLAS API during stream capture is currently unsupported$"
UNSUPPORTED = (
    cuda.runtime.CUDARuntimeError,
    "^cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing$",
)
X = device.asarray(np.arange(9.0).reshape(3, 3))
REFUSED = {
    "asarray of an array": (lambda: device.asarray(np.ones(3)), H2D),
    "asarray of a list": (lambda: device.asarray([1, 2]), H2D),
    "an index of the host": (lambda: X[[0, 1]], H2D),
    "values of the host": (lambda: operator.setitem(X, 0, [1, 2, 3]), H2D),
    "concatenation of many arrays": (lambda: np.concatenate([X] * 9), H2D),
    "get": (lambda: X.get(), D2H),
    "float": (lambda: float(X[0, 0]), D2H),
    "int": (lambda: int(X[0, 0]), D2H),
    "bool": (lambda: bool(X[0, 0] > 0), D2H),
    "item": (lambda: X[0, 0].item(), D2H),
    "tolist": (lambda: X.tolist(), D2H),
    "a boolean index": (lambda: X[X > 0], D2H),
    "where with one argument": (lambda: device.where(X), D2H),
    "matmul": (lambda: device.matmul(X, X), CUBLAS),
    "@": (lambda: X @ X, CUBLAS),
    "dot": (lambda: X.dot(X), CUBLAS),
    "a dot of NumPy": (lambda: np.dot(X, X), CUBLAS),
    "the launcher's product": (lambda: back_end().launcher.multiply(X, X, X), CUBLAS),
    "einsum": (lambda: np.einsum("ij,jk->ik", X, X), CUBLAS),
    "the device's synchronisation": (lambda: cuda.Device().synchronize(), UNSUPPORTED),
    "the stream's synchronisation": (lambda: cuda.get_current_stream().synchronize(), UNSUPPORTED),
    "a second capture": (
        lambda: cuda.get_current_stream().begin_capture(),
        (cuda.runtime.CUDARuntimeError, "^cudaErrorIllegalState: the operation cannot be"),
    ),
}


@pytest.mark.parametrize("call", REFUSED)
def test_refuses(stream, call):
    function, (error, message) = REFUSED[call]
    with pytest.raises(error, match=message):
        function()


def test_asks_whether_an_unknown_function_can_be_captured(stream):
    with pytest.raises(AssertionError, match="^whether CuPy can capture sort is unknown: read its"):
        np.sort(X)


def test_an_error_of_cupy_leaves_the_capture_valid(stream):
    with pytest.raises(RuntimeError):
        X.get()
    stream.end_capture().launch()


def test_a_synchronisation_makes_the_capture_invalid(stream):
    with pytest.raises(RuntimeError):
        cuda.Device().synchronize()
    with pytest.raises(RuntimeError, match="^the stream was capturing, but an error has invalida"):
        X + 1
    with pytest.raises(RuntimeError, match="^cudaErrorStreamCaptureInvalidated: operation failed"):
        stream.end_capture()
    assert (X + 1).get()[0, 0] == 1  # the stream can be used again
    stream.begin_capture()
    stream.end_capture()


def test_refuses_a_capture_of_the_default_stream():
    default = cuda.get_current_stream()
    with pytest.raises(RuntimeError, match=r"^cannot capture on the default \(legacy\) stream$"):
        default.begin_capture()
    with pytest.raises(RuntimeError, match="^cudaErrorIllegalState"):
        default.end_capture()


def test_a_capture_does_not_concern_other_streams(stream):
    with cuda.Stream(non_blocking=True):
        assert (X + 1).get()[0, 0] == 1


# What a capture records


def test_results_are_poison_until_the_launch(stream):
    x = X + 0
    y = x * 2
    x[0, 0] = 7
    total = y.sum() + device.asarray(1)  # a scalar is a kernel's argument
    first_row, transposed, element = y[0], y.T, y[2, 2]  # views, no calls of CUDA
    x += 1
    later = x[0, 0] + 0
    graph = stream.end_capture()
    assert np.isnan(y.get()).all()
    assert np.isnan(float(total))
    graph.launch()
    assert (float(total), float(later)) == (73.0, 8.0)
    assert (first_row.tolist(), transposed[2].tolist()) == ([0, 2, 4], [4, 10, 16])
    y += 1
    assert float(element) == 17


def test_a_graph_in_a_capture_belongs_to_the_outer_graph(stream):
    x = X + 0
    inner = stream.end_capture()
    stream.begin_capture()
    inner.launch()
    outer = stream.end_capture()
    assert np.isnan(x.get()).all()
    outer.launch()
    assert x.get()[2, 2] == 8


def test_cupy_has_the_same_names():
    cupy = pytest.importorskip("cupy")
    for name in vars(cuda).keys() - {"cublas", "runtime"}:  # cublas cannot be imported without it
        assert hasattr(cupy.cuda, name)
    for name in ("Stream", "Device", "MemoryPool"):
        public = {key for key in vars(getattr(cuda, name)) if not key.startswith("_")}
        assert public <= {*dir(getattr(cupy.cuda, name)), "ptr"}
