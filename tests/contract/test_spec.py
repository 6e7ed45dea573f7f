"""Each op has one specification, in the file of its family; otherwise an error tells the fix."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from minise.contract.case import OPS, family
from minise.contract.spec import CASES, MISTAKES, SPECS, STRATEGIES, magnitudes, specs_of
from minise.contract.spec.activation import RELU, TANH
from minise.contract.specification import Spec, SpecError, check_back_ends, collect
from minise.ops import cuda, jit, reference
from tests.cli.commands import call
from tests.ops.cuda.hosted import emulated

FAMILIES = {"relu": "activation", "tanh": "activation"}
BOTH = {"activation": (RELU, TANH)}


def problems(files, families=FAMILIES):
    """Return the lines of the SpecError that collect raises."""
    with pytest.raises(SpecError) as raised:
        collect(files, families)
    return str(raised.value).split("\n")


def test_every_op_has_one_specification():
    assert [*SPECS] == [*CASES] == [*STRATEGIES] == OPS
    assert all(spec.op == op for op, spec in SPECS.items())
    assert {mistake.case.op for mistake in MISTAKES.values()} == {*OPS}


def test_the_order_is_that_of_the_ops():
    assert [*collect(BOTH, {"tanh": "activation", "relu": "activation"})] == ["tanh", "relu"]


def test_magnitudes_are_those_of_the_op():
    """The magnitude of out is 1 + |x| for sigmoid, and |out| for relu, which only selects."""
    x, dout = np.array([-2.0, 3.0]), np.array([5.0, -7.0])
    out, dx = magnitudes("sigmoid", [x], {}, dout)
    assert (out.tolist(), dx.tolist()) == ([3, 4], [5, 7])
    out, dx = magnitudes("relu", [x], {}, dout)
    assert (out.tolist(), dx.tolist()) == ([0, 3], [0, 7])


def test_an_op_without_a_specification():
    (message,) = problems({"activation": [TANH]})
    assert message == (
        "relu has no specification, but minise.ops.reference has the op: add Spec(op='relu', "
        "cases=..., strategy=..., magnitudes=..., long_sums=..., walk=..., mistakes=...) to SPECS "
        "in minise/contract/spec/activation.py; help('minise.contract.specification') documents "
        "each argument"
    )


def test_an_op_of_a_new_family():
    (message,) = problems(BOTH, FAMILIES | {"attention": "attention"})
    assert message.startswith("attention has no specification")
    assert "in minise/contract/spec/attention.py" in message


def test_a_specification_without_a_case():
    (message,) = problems({"activation": [replace(RELU, cases={}), TANH]})
    assert message == (
        "relu has no case, expected at least one: add \"plain\": Case('relu', sizes, settings) to "
        "its cases in minise/contract/spec/activation.py"
    )


def test_a_specification_without_a_mistake():
    (message,) = problems({"activation": [RELU, replace(TANH, mistakes={})]})
    assert message == (
        'tanh has no mistake, expected at least one wrong backward: add "dx is zero": '
        'Mistake(case, scaled(0, 0), {"zero"}) to its mistakes in '
        "minise/contract/spec/activation.py"
    )


def test_a_specification_of_no_op_of_the_reference():
    (message,) = problems(BOTH, {"tanh": "activation"})
    assert message == (
        "minise/contract/spec/activation.py has a specification of relu, but minise.ops.reference "
        "has no relu_forward: write it in minise/ops/reference and declare it in "
        "minise/ops/protocol.py, or delete its specification"
    )


def test_a_specification_in_another_file():
    (message,) = problems({"activation": [RELU], "pool": [TANH]})
    assert message == (
        "minise/contract/spec/pool.py has the specification of tanh, expected it in "
        "minise/contract/spec/activation.py, because minise/ops/reference/activation.py defines "
        "the op: move it"
    )


def test_two_specifications():
    (message,) = problems({"activation": [RELU, TANH, RELU]})
    assert message == "relu has two specifications: delete one of them"


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        (dict(cases=TANH.cases), "case 'four axes'"),
        (dict(mistakes=TANH.mistakes), "mistake 'the square is forgotten'"),
        (dict(walk=TANH.walk), "walk"),
    ],
)
def test_a_case_of_another_op(changed, name):
    message = problems({"activation": [replace(RELU, **changed), TANH]})[0]
    assert message == (
        f"relu: {name} is a case of tanh, expected relu: see minise/contract/spec/activation.py"
    )


@pytest.mark.parametrize("specs", [None, SPECS["relu"], [SPECS["relu"]], (1,)])
def test_a_file_without_a_tuple_of_specifications(specs):
    module = SimpleNamespace(__file__="spec/a.py", **({} if specs is None else {"SPECS": specs}))
    with pytest.raises(SpecError, match="^spec/a.py: SPECS is .*, expected a tuple of Spec: end"):
        specs_of(module)


def test_all_problems_are_reported_at_once():
    lines = problems({"activation": [replace(RELU, cases={}, mistakes={})]})
    assert [line.partition(",")[0] for line in lines] == [
        "relu has no case",
        "relu has no mistake",
        "tanh has no specification",
    ]


def test_all_back_ends_have_the_same_ops():
    check_back_ends(dict(reference=reference, jit=jit, cuda=cuda, emulated=emulated))


def with_ops(*names):
    """Return a back end with the functions of some ops, all of them None."""
    functions = [f"{name}_{way}" for name in names for way in ("forward", "backward")]
    return SimpleNamespace(**dict.fromkeys(functions))


def test_an_op_of_one_back_end_only():
    with pytest.raises(SpecError) as raised:
        check_back_ends(dict(reference=with_ops("relu", "swish"), jit=with_ops("relu")))
    assert str(raised.value) == (
        "swish: jit has no swish_forward and no swish_backward, expected every back end to have "
        "every op (complete in: reference): add it to jit, or delete it from the others"
    )
    with pytest.raises(SpecError, match="^swish: reference has no swish_forward and no "):
        check_back_ends(dict(reference=with_ops("relu"), jit=with_ops("relu", "swish")))


def test_an_op_without_a_backward():
    ops = SimpleNamespace(swish_forward=None)
    with pytest.raises(
        SpecError, match=r"^swish: jit has no swish_backward, .*\(complete in: none"
    ):
        check_back_ends(dict(jit=ops))


def test_check_refuses_an_op_of_one_back_end_only(monkeypatch, capsys):
    monkeypatch.setattr(jit, "swish_forward", jit.relu_forward, raising=False)
    monkeypatch.setattr(jit, "swish_backward", jit.relu_backward, raising=False)
    status, _, err = call("check --ops jit --op relu --cases 1", capsys)
    assert status == 2
    assert "swish: minise.ops.reference has no swish_forward and no swish_backward" in err


def test_the_family_of_an_op_is_the_references_file():
    assert family("relu") == "activation"
    assert family("max_pool2d") == "pool"


def test_a_specification_requires_its_arguments():
    with pytest.raises(
        TypeError, match="'cases', 'strategy', 'magnitudes', 'long_sums', 'walk', and 'mistak"
    ):
        Spec("relu")
    with pytest.raises(AttributeError):
        RELU.op = "tanh"
