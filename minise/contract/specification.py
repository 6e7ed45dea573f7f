"""The test specification of an op, and checks that every op has exactly one."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from minise.contract.bounds import Magnitudes
from minise.contract.case import Case
from minise.contract.mistakes import Mistake
from minise.contract.strategies import Strategy


class SpecError(ValueError):
    """An invalid set of specifications; the message has one line per problem."""


@dataclass(frozen=True)
class Spec:
    """The test specification of an op.

    Attributes
    ----------
    op : str
        Name of the op.
    cases : dict of str to Case
        Test cases, by name: one for each path through the code. Any two axes have different sizes
        in at least one case, so that swapped axes are detected.
    strategy : Hypothesis strategy of Case
        Draws random cases for the rules of the contract: axes of size 1 and up, every setting.
    magnitudes : callable
        magnitudes(inputs, keywords, dout) returns the sums of the absolute terms of out and of each
        gradient, elementwise: see minise/contract/bounds.py.
    long_sums : tuple of Case
        Sizes at which the op sums 2^16 terms or more; in float32 the results must be equally
        accurate in every memory layout. () if the op has no long sums.
    walk : Case
        The example of `minise walk`, small enough to follow every number.
    mistakes : dict of str to Mistake
        Wrong backward passes, by name, that every gradient check must catch.
    rounds_integers : bool
        True if some drawn case rounds even with small-integer inputs.
    kinks : bool
        True if the derivative is discontinuous somewhere: the op then has `<op>_branches`.
    nan_spreads : {"nowhere", "image"}
        How far a fast algorithm may spread a NaN (rule 9): convolution, over the whole image.
    """

    op: str
    cases: dict[str, Case]
    strategy: Strategy
    magnitudes: Magnitudes
    long_sums: tuple[Case, ...]
    walk: Case
    mistakes: dict[str, Mistake]
    rounds_integers: bool = True
    kinks: bool = False
    nan_spreads: str = "nowhere"


def collect(files: Mapping[str, Iterable[Spec]], families: Mapping[str, str]) -> dict[str, Spec]:
    """Return the specification of each op, in the order of the ops.

    Parameters
    ----------
    files : mapping of str to iterable of Spec
        The specifications in each file of minise/contract/spec, by file name.
    families : mapping of str to str
        For each op, the name of the reference file that defines it.

    Raises
    ------
    SpecError
        If an op has no specification, or two, or one in a file of another name than the reference
        file; if a specification has no case or no mistake, or one of another op; if the reference
        does not have the op.
    """
    specs: dict[str, Spec] = {}
    problems: list[str] = []
    for file, listed in files.items():
        for spec in listed:
            problems += _misplaced(spec.op, file, families)
            problems += _incomplete(spec, file)
            if spec.op in specs:
                problems.append(f"{spec.op} has two specifications: delete one of them")
            specs[spec.op] = spec
    problems += [_missing(op, file) for op, file in families.items() if op not in specs]
    if problems:
        raise SpecError("\n".join(problems))
    return {op: specs[op] for op in families}


def _path(file: str) -> str:
    return f"minise/contract/spec/{file}.py"


def _missing(op: str, file: str) -> str:
    required = ", ".join(f"{f.name}=..." for f in fields(Spec)[1:] if f.default is MISSING)
    return (
        f"{op} has no specification, but minise.ops.reference has the op: add "
        f"Spec(op={op!r}, {required}) to SPECS in {_path(file)}; help('{Spec.__module__}') "
        "documents each argument"
    )


def _misplaced(op: str, file: str, families: Mapping[str, str]) -> list[str]:
    if op not in families:
        return [
            f"{_path(file)} has a specification of {op}, but minise.ops.reference has no "
            f"{op}_forward: write it in minise/ops/reference and declare it in "
            "minise/ops/protocol.py, or delete its specification"
        ]
    if families[op] != file:
        return [
            f"{_path(file)} has the specification of {op}, expected it in {_path(families[op])}, "
            f"because minise/ops/reference/{families[op]}.py defines the op: move it"
        ]
    return []


def _incomplete(spec: Spec, file: str) -> list[str]:
    """Return the problems of a specification: missing parts, and cases of another op."""
    problems = []
    if not spec.cases:
        problems.append(
            f"{spec.op} has no case, expected at least one: add "
            f'"plain": Case({spec.op!r}, sizes, settings) to its cases in {_path(file)}'
        )
    if not spec.mistakes:
        problems.append(
            f"{spec.op} has no mistake, expected at least one wrong backward: add "
            f'"dx is zero": Mistake(case, scaled(0, 0), {{"zero"}}) to its mistakes in '
            f"{_path(file)}"
        )
    cases = {f"case {name!r}": case for name, case in spec.cases.items()}
    cases |= {f"mistake {name!r}": mistake.case for name, mistake in spec.mistakes.items()}
    problems += [
        f"{spec.op}: {name} is a case of {case.op}, expected {spec.op}: see {_path(file)}"
        for name, case in (cases | {"walk": spec.walk}).items()
        if case.op != spec.op
    ]
    return problems


def check_back_ends(back_ends: Mapping[str, Any]) -> None:
    """Raise SpecError unless all back ends have the same ops, each with forward and backward.

    Parameters
    ----------
    back_ends : mapping of str to module or object
        Two or more back ends by name.

    Raises
    ------
    SpecError
        If an op is missing somewhere; the message lists the back ends that have it.
    """
    names = {name for ops in back_ends.values() for name in dir(ops)}
    functions = [name for name in names if name.endswith(("_forward", "_backward"))]
    problems = []
    for op in sorted({function.rpartition("_")[0] for function in functions}):
        pair = f"{op}_forward", f"{op}_backward"
        missing_by_name = {
            name: [function for function in pair if not hasattr(ops, function)]
            for name, ops in back_ends.items()
        }
        complete = [name for name, missing in missing_by_name.items() if not missing]
        problems += [
            f"{op}: {name} has no {' and no '.join(missing)}, expected every back end to have "
            f"every op (complete in: {', '.join(complete) or 'none'}): add it to {name}, or delete "
            "it from the others"
            for name, missing in missing_by_name.items()
            if missing
        ]
    if problems:
        raise SpecError("\n".join(problems))
