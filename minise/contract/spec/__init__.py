"""The test specification of each op, in one file per family, named as in minise.ops.reference.

Every module of this package describes a family of ops and lists their specifications in `SPECS`.
"""

from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from minise.checks import Array
from minise.contract.case import OPS, Case, family
from minise.contract.mistakes import Mistake
from minise.contract.specification import Spec, SpecError, collect
from minise.contract.strategies import Strategy


def specs_of(module: Any) -> tuple[Spec, ...]:
    """Return the SPECS of a module of this package, checked to be a tuple of Spec."""
    specs = getattr(module, "SPECS", None)
    if not isinstance(specs, tuple) or not all(isinstance(spec, Spec) for spec in specs):
        raise SpecError(
            f"{module.__file__}: SPECS is {type(specs).__name__}, expected a tuple of Spec: end "
            "the file with SPECS = (...,), or move helpers out of minise/contract/spec"
        )
    return specs


SPECS: dict[str, Spec] = collect(
    {m.name: specs_of(import_module(f"{__name__}.{m.name}")) for m in iter_modules(__path__)},
    {op: family(op) for op in OPS},
)
CASES: dict[str, dict[str, Case]] = {op: spec.cases for op, spec in SPECS.items()}
STRATEGIES: dict[str, Strategy] = {op: spec.strategy for op, spec in SPECS.items()}
MISTAKES: dict[str, Mistake] = {
    f"{op}: {name}": mistake
    for op, spec in SPECS.items()
    for name, mistake in spec.mistakes.items()
}


def magnitudes(op: str, inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Return the magnitudes of an op's out and of each gradient, see bounds.py."""
    return SPECS[op].magnitudes(inputs, keywords, dout)
