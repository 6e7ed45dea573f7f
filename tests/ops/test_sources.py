"""Conventions of the ops' files: caches, SHAPES, names, exports, the lines of `reference`.

They apply to minise's own files. A user's back end may have other annotations, names and lines, so
the conventions are not rules of minise/contract.
"""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest

from minise.contract.rules import cache_class
from minise.contract.spec import SPECS
from minise.ops import cuda, jit, reference
from minise.ops.backend import Backend
from minise.ops.shapes import parse
from tests.ops.cases import OPS, line, optional
from tests.ops.loops import over_backends, over_ops

ARRAY_FUNCTIONS = {"asarray", "asnumpy", "sgd_update"}  # not ops
INFERENCE = {
    n for n in reference.__all__ if n.startswith(("fold_", "prepare_", "run_"))
}  # not ops either


def classes(kind):
    """Return the class of a cache and of the NamedTuples in it."""
    parts = [hint for hint in get_type_hints(kind).values() if hasattr(hint, "_fields")]
    return [kind, *(nested for part in parts for nested in classes(part))]


# Caches and SHAPES


@over_ops
def test_every_field_of_a_cache_states_its_shape(op):
    own = cache_class(op)
    assert own.__module__ == getattr(reference, f"{op}_forward").__module__
    assert issubclass(own, tuple)
    for kind in classes(own):
        assert not kind._field_defaults
        lines = re.findall(r"^    (\w+: .*)", inspect.getsource(kind), re.MULTILINE)
        assert [text.partition(":")[0] for text in lines] == [*kind._fields]
        for text in lines:
            assert "Array" not in text or re.search(r"  # (\(|each \(|of )", text), text
        parts = [hasattr(hint, "_fields") for hint in get_type_hints(kind).values()]
        kinds = [part or "Array" in text for part, text in zip(parts, lines, strict=True)]
        assert kinds == sorted(kinds, reverse=True)  # arrays and NamedTuples first, then settings


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


# Names


@over_backends
def test_same_names_and_signatures(ops):
    assert ops.__all__ == reference.__all__ == sorted(reference.__all__)
    for function in reference.__all__:
        expected = inspect.signature(getattr(reference, function))
        assert inspect.signature(getattr(ops, function)) == expected


def test_the_protocol_has_the_references_names_and_signatures():
    """mypy checks modules against the protocol; this test checks the protocol, with defaults."""
    own = {name: value for name, value in vars(Backend).items() if name[0] != "_"}
    assert own.keys() == {*reference.__all__, "folds", "on_compile", "require", "using"}
    for name in own.keys() - {"folds"}:
        expected = inspect.signature(getattr(reference, name)).parameters.values()
        _, *parameters = inspect.signature(own[name]).parameters.values()
        assert [(p.name, p.kind, p.default) for p in parameters] == [
            (p.name, p.kind, p.default) for p in expected
        ], name


@over_backends
def test_configuration_is_in_every_back_end(ops):
    assert ops.folds is True
    assert ops.require() is None
    with ops.on_compile(lambda *kernel: None):
        pass
    assert callable(ops.using(threads=1).relu_forward)


@pytest.mark.parametrize("package", [reference, jit, cuda], ids=lambda package: package.__name__)
def test_packages_export_the_functions_of_their_files(package):
    """The reference supplies the others."""
    files = sorted({p.stem for p in Path(package.__file__).parent.glob("*.py")} - {"__init__"})
    for module in (package, *(import_module(f"{package.__name__}.{file}") for file in files)):
        for name, value in vars(module).items():
            if name in reference.__all__ and value.__module__ == module.__name__:
                function = getattr(package, name)
                inner = [
                    getattr(function, attribute, None) for attribute in ("__wrapped__", "func")
                ]
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


def test_branches_where_there_are_kinks():
    names = {n.removesuffix("_branches") for n in reference.__all__ if n.endswith("_branches")}
    assert names == {op for op, spec in SPECS.items() if spec.kinks}


# The source


@over_ops
def test_every_intermediate_has_one_name_and_one_line(op):
    for half in ("forward", "backward", "branches"):
        function = getattr(reference, f"{op}_{half}", None)
        if function is not None:
            check_lines(function)


def check_lines(function):
    """Assert that a function assigns each intermediate once, one per line."""
    tree = ast.parse(inspect.getsource(function))
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
            is_plain = re.search(r"^cache(\.\w+)?$|\.shape(\[[:\d]+\])?$", source)
            assert is_plain or re.match(r"\w+_(forward|backward)\(", source), source
            parts = [p.value if isinstance(p, ast.Starred) else p for p in target.elts]
            names += [part.id for part in parts if part.id != "_"]
        else:
            assert isinstance(target, ast.Name)
            names.append(target.id)
    assert len(names) == len(set(names))
    assert len(lines) == len(set(lines))
