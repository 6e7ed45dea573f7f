"""The specification of an op, and what is wrong with a collection of them."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from minise.contract.bounds import Magnitudes
from minise.contract.case import Case
from minise.contract.mistakes import Mistake
from minise.contract.strategies import Strategy


class SpecError(ValueError):
    """What is wrong with the specifications, a line for each problem."""


@dataclass(frozen=True)
class Spec:
    """All that verifiers must know of an op.

    Attributes
    ----------
    op : str
        Its name.
    cases : dict of str to Case
        Sizes and settings worth running, by name: for each way through the code one case that takes
        it. No two axes have the same size in all cases, so that none can be taken for another.
    strategy : Hypothesis strategy of Case
        From which the contract's rules draw: sizes down to 1, every setting.
    magnitudes : callable
        magnitudes(inputs, keywords, dout) bounds the terms of out and of each gradient, entry by
        entry: see minise/contract/bounds.py.
    long_sums : tuple of Case
        Sizes at which the op adds up 2^16 numbers or more, each of which must be as exact in
        float32 in any layout; () where it adds up none.
    walk : Case
        Small enough that a reader can follow every number: what `minise walk` shows.
    mistakes : dict of str to Mistake
        Wrong backward passes, by name, that every gradient check must catch.
    rounds_integers : bool
        Whether small integers leave something to round in some drawn case.
    kinks : bool
        Whether its slope jumps somewhere: it then has `<op>_branches`.
    nan_spreads : {"nowhere", "image"}
        How far a fast algorithm may spread a NaN (rule 9): a convolution's over its image.
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
        The specifications in each file of minise/contract/spec, by the name of the file.
    families : mapping of str to str
        For each op of the reference the name of the file that has it.

    Raises
    ------
    SpecError
        If an op has no specification, or two, or one in a file that is not named as the
        reference's; if a specification has no case or no mistake, or one of another op; if the
        reference does not have its op.
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
        f"Spec(op={op!r}, {required}) to SPECS in {_path(file)}; help('{Spec.__module__}') tells "
        "what each argument is"
    )


def _misplaced(op: str, file: str, families: Mapping[str, str]) -> list[str]:
    if op not in families:
        return [
            f"{_path(file)} has a specification of {op}, but minise.ops.reference has no "
            f"{op}_forward: write the op in minise/ops/reference, or delete its specification"
        ]
    if families[op] != file:
        return [
            f"{_path(file)} has the specification of {op}, expected it in "
            f"{_path(families[op])}, as minise/ops/reference/{families[op]}.py has the op: move it"
        ]
    return []


def _incomplete(spec: Spec, file: str) -> list[str]:
    """Return what a specification lacks, and what in it is of another op."""
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
        f"{spec.op}: its {name} is a case of {case.op}, expected {spec.op}: see {_path(file)}"
        for name, case in (cases | {"walk": spec.walk}).items()
        if case.op != spec.op
    ]
    return problems


def check_back_ends(back_ends: Mapping[str, Any]) -> None:
    """Raise unless every back end has the same ops, each with a forward and a backward.

    Parameters
    ----------
    back_ends : mapping of str to module or object
        Two or more back ends by name.

    Raises
    ------
    SpecError
        Naming each op that is missing, and the back ends that have it.
    """
    names = {name for ops in back_ends.values() for name in dir(ops)}
    halves = [name for name in names if name.endswith(("_forward", "_backward"))]
    problems = []
    for op in sorted({half.rpartition("_")[0] for half in halves}):
        lacking = {
            name: [half for half in (f"{op}_forward", f"{op}_backward") if not hasattr(ops, half)]
            for name, ops in back_ends.items()
        }
        having = ", ".join(name for name, missing in lacking.items() if not missing) or "none"
        problems += [
            f"{op}: {name} has no {' and no '.join(missing)}, but every back end must have every "
            f"op ({having} has this one): add it to {name}, or delete it from the others"
            for name, missing in lacking.items()
            if missing
        ]
    if problems:
        raise SpecError("\n".join(problems))
