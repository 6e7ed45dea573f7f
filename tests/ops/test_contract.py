"""The contract's ten rules, over every op, back end and setting, found by listing the modules."""

import ast
import inspect
import re
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from minise.gradcheck.strategies.drawing import LAYOUTS, read_only
from minise.ops import cuda, jit, reference
from minise.ops.backend import Backend
from minise.ops.checks import parse
from tests.ops.cases import (
    BACKENDS,
    CASES,
    OPS,
    STRATEGIES,
    all_close,
    all_equal,
    count_of,
    direction,
    draw,
    forward_of,
    line,
    magnitudes,
    optional,
)

ARRAY_FUNCTIONS = {"asarray", "asnumpy", "sgd_update"}  # of a back end, but no ops
INFERENCE = {n for n in reference.__all__ if n.startswith(("fold_", "prepare_", "run_"))}  # nor
KINKS = {"global_max_pool2d", "hard_sigmoid", "max_pool2d", "relu", "squeeze_excite"}
KINKS |= {"batch_norm2d_add_relu", "batch_norm2d_relu", "se_block_tail"}

over_ops = pytest.mark.parametrize("op", OPS)
over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)
over_cases = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{op}-{name.replace(' ', '_')}")
        for op in OPS
        for name, case in CASES.get(op, {}).items()
    ],
)


def rng():
    return np.random.default_rng(0)


def run(ops, case, inputs, keywords, dout=None):
    """Return out, cache, dout and the gradients."""
    out, cache = getattr(ops, f"{case.op}_forward")(*inputs, **keywords)
    dout = direction(out, np.random.default_rng(1)) if dout is None else dout
    return out, cache, dout, getattr(ops, f"{case.op}_backward")(dout, cache)


def flat(cache):
    """Return every array of a cache."""
    for field in cache:
        if isinstance(field, np.ndarray):
            yield field
        elif isinstance(field, tuple):
            yield from flat(field)


def frozen(field):
    """Return a cache, or a field of one, with read-only arrays."""
    if isinstance(field, np.ndarray):
        return read_only(field)
    if isinstance(field, tuple):
        parts = map(frozen, field)
        return type(field)(*parts) if hasattr(field, "_fields") else tuple(parts)
    return field


def fields(cache):
    """Return the fields of a cache, and of the NamedTuples in it, by name."""
    found = cache._asdict()
    for value in cache:
        found |= fields(value) if hasattr(value, "_fields") else {}
    return found


def classes(kind):
    """Return the class of a cache, and those of the NamedTuples in it."""
    parts = [one for one in get_type_hints(kind).values() if hasattr(one, "_fields")]
    return [kind, *(one for part in parts for one in classes(part))]


def test_every_op_has_cases_and_a_strategy():
    assert sorted(CASES) == OPS
    assert sorted(STRATEGIES) == OPS


# Rules 1 and 2: gradients and caches


@over_cases
@over_backends
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bare", [False, True], ids=["full", "bare"])
def test_gradients_are_like_the_inputs(ops, case, dtype, bare):
    without = optional(case.op) if bare else ()
    inputs, keywords = draw(case, rng(), dtype, without=without)
    out, _, _, gradients = run(ops, case, inputs, keywords)
    assert type(gradients) is tuple
    assert out.dtype == dtype
    for value, gradient in zip(inputs, gradients, strict=True):
        if value is None or value.dtype.kind != "f":
            assert gradient is None
        else:
            assert (gradient.shape, gradient.dtype) == (value.shape, value.dtype)


@over_cases
@over_backends
def test_caches(ops, case):
    inputs, keywords = draw(case, rng(), without=optional(case.op))
    _, cache = getattr(ops, f"{case.op}_forward")(*inputs, **keywords)
    name = "".join(part.capitalize() for part in case.op.split("_")) + "Cache"
    assert type(cache).__name__ == name
    assert type(cache).__module__ == getattr(reference, f"{case.op}_forward").__module__
    assert isinstance(cache, tuple)
    nested = [type(value) for value in cache if hasattr(value, "_fields")]
    assert classes(type(cache)) == [type(cache), *nested]
    assert not any(kind._field_defaults for kind in classes(type(cache)))
    for argument, value in zip(parse(line(case.op)), inputs, strict=False):
        if argument.optional:
            assert value is None
            assert fields(cache)[argument.name] is None
    for setting, value in case.settings.items():
        if setting in fields(cache):
            assert fields(cache)[setting] == value


@over_ops
def test_every_field_of_a_cache_tells_its_shape(op):
    module = inspect.getmodule(getattr(reference, f"{op}_forward"))
    name = "".join(part.capitalize() for part in op.split("_")) + "Cache"
    for kind in classes(getattr(module, name)):
        lines = re.findall(r"^    (\w+: .*)", inspect.getsource(kind), re.MULTILINE)
        assert [text.partition(":")[0] for text in lines] == [*kind._fields]
        for text in lines:
            assert "Array" not in text or re.search(r"  # (\(|each \(|of )", text), text
        parts = [hasattr(hint, "_fields") for hint in get_type_hints(kind).values()]
        kinds = [part or "Array" in text for part, text in zip(parts, lines, strict=True)]
        assert kinds == sorted(kinds, reverse=True)  # arrays and what holds some, then settings


# Rule 3: SHAPES


@over_ops
def test_lines_name_what_the_signature_names(op):
    parameters = inspect.signature(getattr(reference, f"{op}_forward")).parameters.values()
    arguments = parse(line(op))
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    keyword = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert positional == [a.name for a in arguments if not a.keyword]
    assert {a.name for a in arguments if a.keyword} <= set(keyword)
    for parameter in parameters:
        if parameter.name in optional(op):
            assert "None" in str(parameter.annotation)
        elif parameter.name in positional:
            assert parameter.default is parameter.empty
            assert "None" not in str(parameter.annotation)


@over_ops
def test_every_line_belongs_to_an_op(op):
    module = inspect.getmodule(getattr(reference, f"{op}_forward"))
    assert set(module.SHAPES) <= set(OPS)


# Rule 4: purity


@over_cases
@over_backends
def test_nothing_is_written(ops, case):
    inputs, keywords = draw(case, rng())
    arrays = [a for a in (*inputs, *keywords.values()) if isinstance(a, np.ndarray)]
    kept = [a.copy() for a in arrays]
    out, cache, dout, first = run(ops, case, inputs, keywords)
    held = [out, dout, *flat(cache), *(g for g in first if g is not None)]
    before = [a.copy() for a in held]
    second = getattr(ops, f"{case.op}_backward")(dout, cache)
    all_equal((*arrays, *held), (*kept, *before))
    all_equal(second, first)


@over_cases
@over_backends
def test_read_only_arrays_will_do(ops, case):
    inputs, keywords = draw(case, rng())
    out, cache, dout, gradients = run(ops, case, inputs, keywords)
    locked = {k: frozen(v) for k, v in keywords.items()}
    out2, cache2 = getattr(ops, f"{case.op}_forward")(*map(frozen, inputs), **locked)
    all_equal([out2, *flat(cache2)], [out, *flat(cache)])
    all_equal(getattr(ops, f"{case.op}_backward")(read_only(dout), frozen(cache2)), gradients)


@over_cases
@over_backends
def test_out_is_a_new_array(ops, case):
    inputs, keywords = draw(case, rng())
    out, _ = getattr(ops, f"{case.op}_forward")(*inputs, **keywords)
    for value in inputs:
        assert not np.shares_memory(out, value)


# Rule 5: dtypes and strides


@over_cases
def test_complex_numbers_for_complex_steps(case):
    inputs, keywords = draw(case, rng())
    promoted = [a.astype(complex) if a.dtype.kind == "f" else a for a in inputs]
    forward = forward_of(reference, case.op, keywords)
    out, cache = forward(*promoted)
    assert out.dtype == complex
    for value, gradient in zip(
        promoted, getattr(reference, f"{case.op}_backward")(out, cache), strict=True
    ):
        assert gradient is None if value.dtype.kind != "c" else gradient.dtype == complex


@over_cases
@over_backends
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_settings_that_are_numpys_change_no_dtype(ops, case, dtype):
    inputs, keywords = draw(case, rng(), dtype)
    scalars = {float: np.float64, int: np.int64, bool: np.bool_}
    numpys = {k: scalars.get(type(v), lambda v: v)(v) for k, v in keywords.items()}
    out, cache, _, gradients = run(ops, case, inputs, numpys)
    assert out.dtype == dtype
    assert {a.dtype for a in flat(cache) if a.dtype.kind == "f"} <= {np.dtype(dtype)}
    assert {g.dtype for g in gradients if g is not None} == {np.dtype(dtype)}
    all_equal(gradients, run(ops, case, inputs, keywords)[3])


@over_cases
@over_backends
def test_pairs_may_be_lists(ops, case):
    """Of NumPy's integers, too: the bits are those that tuples give."""
    inputs, keywords = draw(case, rng(), np.float32)
    lists = {k: list(np.array(v)) if isinstance(v, tuple) else v for k, v in keywords.items()}
    out, _, dout, gradients = run(ops, case, inputs, keywords)
    out2, _, _, gradients2 = run(ops, case, inputs, lists, dout)
    all_equal([out2, *gradients2], [out, *gradients])


@over_cases
@over_backends
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(ops, case, layout):
    """Small integers add up exactly in any order, so the numbers are equal, not only close."""
    lay_out = LAYOUTS[layout]
    inputs, keywords = draw(case, rng(), integers=True)
    out, _ = getattr(ops, f"{case.op}_forward")(*inputs, **keywords)
    dout = direction(out, rng(), integers=True)
    out, _, _, gradients = run(ops, case, inputs, keywords, dout)
    laid = {k: lay_out(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    out2, _, _, gradients2 = run(ops, case, map(lay_out, inputs), laid, lay_out(dout))
    if case.exact:
        all_equal([out2, *gradients2], [out, *gradients])
    else:  # an exponential may round differently from one stride to the next
        terms = magnitudes(case.op, inputs, keywords, dout)
        all_close([out2, *gradients2], [out, *gradients], terms, count_of(inputs, out))


# Rule 6: one signature


@over_backends
def test_same_names_and_signatures(ops):
    assert ops.__all__ == reference.__all__ == sorted(reference.__all__)
    for function in reference.__all__:
        expected = inspect.signature(getattr(reference, function))
        assert inspect.signature(getattr(ops, function)) == expected


def test_the_protocol_has_the_references_names_and_signatures():
    """mypy holds the modules to it; here it is held to them, defaults included."""
    own = {name: value for name, value in vars(Backend).items() if name[0] != "_"}
    assert own.keys() == {*reference.__all__, "folds", "on_compile", "require", "using"}
    for name in own.keys() - {"folds"}:
        wanted = inspect.signature(getattr(reference, name)).parameters.values()
        _, *parameters = inspect.signature(own[name]).parameters.values()
        assert [(p.name, p.kind, p.default) for p in parameters] == [
            (p.name, p.kind, p.default) for p in wanted
        ], name


@over_backends
def test_what_is_no_op_is_in_every_back_end_too(ops):
    assert ops.folds is True
    assert ops.require() is None
    with ops.on_compile(lambda *told: None):
        pass
    assert callable(ops.using(threads=1).relu_forward)


@pytest.mark.parametrize("package", [reference, jit, cuda], ids=lambda one: one.__name__)
def test_a_function_is_taken_from_the_file_that_has_it(package):
    """What no file of the package has is the reference's."""
    files = sorted({p.stem for p in Path(package.__file__).parent.glob("*.py")} - {"__init__"})
    for module in (package, *(import_module(f"{package.__name__}.{file}") for file in files)):
        for name, value in vars(module).items():
            if name in reference.__all__ and value.__module__ == module.__name__:
                function = getattr(package, name)
                inner = [getattr(function, held, None) for held in ("__wrapped__", "func")]
                assert value in (function, *inner), name


def test_every_name_is_half_of_an_op():
    backward = {n.removesuffix("_backward") for n in reference.__all__ if n.endswith("_backward")}
    branches = {n.removesuffix("_branches") for n in reference.__all__ if n.endswith("_branches")}
    assert sorted(backward) == OPS
    others = ARRAY_FUNCTIONS | INFERENCE
    assert len(reference.__all__) == 2 * len(OPS) + len(branches) + len(others)
    assert set(reference.__all__) >= ARRAY_FUNCTIONS


def test_every_step_of_inference_is_prepared_and_run():
    steps = {n.removeprefix("run_") for n in INFERENCE if n.startswith("run_")}
    assert {f"{half}_{step}" for half in ("prepare", "run") for step in steps} == {
        n for n in INFERENCE if not n.startswith("fold_")
    }
    assert steps < set(OPS)


@over_ops
def test_backward_takes_dout_and_cache(op):
    parameters = inspect.signature(getattr(reference, f"{op}_backward")).parameters
    settings = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert [name for name in parameters if name not in settings] == ["dout", "cache"]
    assert settings == (dict(plus=None, needs_dx=True) if op == "conv2d" else {})


# Rule 7: refusals


@over_cases
@over_backends
def test_refuses_what_it_does_not_take(ops, case):
    op = case.op
    inputs, keywords = draw(case, rng())
    forward = partial(getattr(ops, f"{op}_forward"), **keywords)
    backward = getattr(ops, f"{op}_backward")
    out, cache = forward(*inputs)
    first = parse(line(op))[0]
    name = re.escape(f"{first.name}[0]" if first.many else first.name)
    with pytest.raises(TypeError, match=f"^{op}: {name} has dtype float16, expected float32 or"):
        forward(*(a.astype(np.float16) for a in inputs))
    with pytest.raises(TypeError, match=f"^{op}: {name} is a (list|float), expected an array"):
        forward(inputs[0].tolist(), *inputs[1:])
    with pytest.raises(TypeError, match=f"^{op}: {name} is a NoneType, expected an array"):
        forward(None, *inputs[1:])
    if inputs[0].ndim:
        with pytest.raises(ValueError, match=f"^{op}: {name} has shape .* every axis at least 1"):
            forward(inputs[0][:0], *inputs[1:])
    with pytest.raises(TypeError, match=f"^{op}: dout is a float, expected an array"):
        backward(1.0, cache)
    with pytest.raises(ValueError, match=f"^{op}: dout has shape .*, expected .* as out"):
        backward(out[..., None], cache)
    with pytest.raises(TypeError, match=f"^{op}: dout has dtype float32, expected float64 as out"):
        backward(np.asarray(out, np.float32), cache)


@over_cases
@over_backends
def test_refuses_two_dtypes(ops, case):
    inputs, keywords = draw(case, rng())
    forward = getattr(ops, f"{case.op}_forward")
    floats = [k for k, a in enumerate(inputs) if a.dtype.kind == "f"]
    for k in floats[1:]:
        mixed = [a.astype(np.float32) if i == k else a for i, a in enumerate(inputs)]
        with pytest.raises(TypeError, match=f"^{case.op}: .* has dtype float32, expected float64"):
            forward(*mixed, **keywords)


# Rule 8: determinism


@over_cases
@over_backends
def test_same_bits_from_run_to_run(ops, case):
    inputs, keywords = draw(case, rng(), np.float32)
    runs = []
    for _ in range(3):
        out, cache, _, gradients = run(ops, case, inputs, keywords)
        arrays = [out, *flat(cache), *gradients]
        runs.append([None if a is None else np.asarray(a).tobytes() for a in arrays])
    assert runs[0] == runs[1] == runs[2]


# Rule 9: NaN


@over_cases
@over_backends
def test_nan_in_nan_out(ops, case):
    """One NaN in each array in turn, where it matters most: at the largest gradient."""
    inputs, keywords = draw(case, rng())
    _, _, _, gradients = run(ops, case, inputs, keywords)
    for k, gradient in enumerate(gradients):
        if gradient is None or not gradient.any():
            continue  # of labels and masks, and of an array that does not reach out
        poisoned = [a.copy() for a in inputs]
        poisoned[k].flat[abs(gradient).argmax()] = np.nan
        out, _ = getattr(ops, f"{case.op}_forward")(*poisoned, **keywords)
        same, _ = getattr(reference, f"{case.op}_forward")(*poisoned, **keywords)
        found, expected = np.isnan(out), np.isnan(same)
        assert found.any()
        assert (found | ~expected).all()
        if case.op == "conv2d":  # fast ways to do it mix the numbers of an image, never of two
            found, expected = found.any(axis=(1, 2, 3)), expected.any(axis=(1, 2, 3))
        np.testing.assert_array_equal(found, expected)


# Rule 10: branches


def test_branches_where_there_are_kinks():
    names = {n.removesuffix("_branches") for n in reference.__all__ if n.endswith("_branches")}
    assert names == KINKS


@over_backends
@over_cases
def test_branches(ops, case):
    if case.op not in KINKS:
        assert not hasattr(ops, f"{case.op}_branches")
        return
    branches = getattr(ops, f"{case.op}_branches")
    assert branches is getattr(reference, f"{case.op}_branches")
    inputs, keywords = draw(case, rng())
    cache = run(ops, case, inputs, keywords)[1]
    assert branches(cache).dtype.kind == "i"
    moved = [0.5 - 3 * a for a in inputs]  # mirrored: every maximum and most signs change
    cache2 = run(ops, case, moved, keywords)[1]
    if inputs[0].ndim:
        assert not np.array_equal(branches(cache), branches(cache2))


# The source


@pytest.mark.parametrize("function", sorted(set(reference.__all__) - ARRAY_FUNCTIONS - INFERENCE))
def test_every_intermediate_has_one_name_and_one_line(function):
    tree = ast.parse(inspect.getsource(getattr(reference, function)))
    nodes = list(ast.walk(tree))
    assert not [n for n in nodes if isinstance(n, ast.AugAssign | ast.NamedExpr | ast.Delete)]
    names, lines = [], []
    for node in nodes:
        if not isinstance(node, ast.Assign):
            continue
        (target,) = node.targets
        lines.append(node.lineno)
        if isinstance(target, ast.Tuple):
            source = ast.unparse(node.value)
            plain = re.search(r"^cache(\.\w+)?$|\.shape(\[[:\d]+\])?$", source)
            assert plain or re.match(r"\w+_(forward|backward)\(", source), source
            parts = [p.value if isinstance(p, ast.Starred) else p for p in target.elts]
            names += [part.id for part in parts if part.id != "_"]
        else:
            assert isinstance(target, ast.Name)
            names.append(target.id)
    assert len(names) == len(set(names))
    assert len(lines) == len(set(lines))
