"""The verb that checks a back end: `minise check`."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from minise.cli.words import FAILED, Failure, misuse, say

if TYPE_CHECKING:
    from minise.contract.conform import OpResult


def check(ops: str = "reference", op: str | None = None, cases: int = 100, seed: int = 0) -> int:
    """Check the ops of a back end: values, gradients, contract.

    python -c 'help("minise.ops")' shows the ten rules of the contract. minise's own back ends must
    satisfy all of them. In a file of your own, the ops that it defines or imports are checked. An
    op is wrong if it gives wrong numbers: a wrong gradient or value, a lost NaN, an overwritten
    input, an exception. Differences in form (signature, class of the cache, a gradient outside a
    tuple) are notes. Exit status: 1 if an op is wrong, 2 if the file cannot be loaded. For any
    other backward call minise.gradcheck.check.

    Example: minise check --op conv2d --cases 50

    Args:
        ops: Back end: reference, jit or cuda, a module such as my_package.my_ops, or a file such as
            my_ops.py.
        op: Name of the only op to check; by default all ops of the back end.
        cases: Number of random cases per op.
        seed: Seed of the random cases.
    """
    from minise.checks import check_choice, check_integer
    from minise.contract.case import OPS
    from minise.contract.specification import check_back_ends
    from minise.ops import reference
    from minise.ops.backend import BACKENDS, load_ops
    from minise.ops.user.completed import UserOps

    with misuse():
        from minise.contract.conform import check_op, ops_of  # refuses an op without specification

        check_integer("check", "cases", cases, 1)
        check_integer("check", "seed", seed, 0)
        if op is not None:
            check_choice("check", "op", op, OPS)
        back_end: Any = load_ops(ops)
        if ops in BACKENDS:
            check_back_ends({"minise.ops.reference": reference, BACKENDS[ops]: back_end})
        names = [op] if op else ops_of(back_end)
        own = isinstance(back_end, UserOps)
        if own and op and op not in back_end.ops:
            defined = ", ".join(back_end.ops) or "no op"
            raise ValueError(f"check: op is {op!r}, expected an op of {ops}, which has {defined}")
        if not names:
            raise ValueError(
                f"{ops} has no op, expected functions such as relu_forward and relu_backward"
            )
    console = Console()
    results = [check_op(back_end, name, cases, seed) for name in names]
    _show(console, results, own)
    missing = [name for name in OPS if name not in ops_of(back_end)]
    if own and missing:
        say(console, f"the ops that {ops} does not define are the reference's")
    elif missing and op is None:
        say(console, f"missing ops: {', '.join(missing)}")
    others = back_end.additional_ops() if own and op is None else []
    if others:
        say(
            console,
            f"not checked, because minise has no such op: {', '.join(others)}; "
            "call minise.gradcheck.check",
        )
    _judge(console, back_end, ops, results, own)
    return 0


def _show(console: Console, results: "list[OpResult]", own: bool) -> None:
    """Print a table of all ops, then the faults of each, then the notes on form."""
    table = Table("op", "cases", "result")
    for result in results:
        wrong = "wrong" if own else result.problem.partition("\n")[0]
        short = wrong if result.problem else "right"
        table.add_row(result.op, str(result.cases), escape(short))
    console.print(table)
    for result in results:
        if result.problem:
            say(console, f"\n{result.op}: {result.problem}")
        if result.smallest:
            say(console, f"smallest case: {result.smallest}")
    notes: dict[str, list[str]] = {}
    for result in results:
        for note in result.notes:
            notes.setdefault(note, []).append(result.op)
    if notes:
        say(console, "\nnotes on form (the numbers are right):")
    for note, ops in notes.items():
        say(console, f"  {', '.join(ops)}: {note}")


def _judge(console: Console, back_end: Any, ops: str, results: "list[OpResult]", own: bool) -> None:
    """Print that all ops are right, or raise Failure with the wrong ones."""
    broken = [result for result in results if result.problem]
    total = sum(result.cases for result in results)
    if not broken:
        say(console, f"{len(results)} ops of {ops} are right in {total:,} cases")
        return
    count = f"{len(broken)} of {len(results)} ops of {ops}"
    if own:
        places = ", ".join(f"{result.op}, {result.location}" for result in broken)
        raise Failure(f"{count} are wrong: {places}", FAILED)
    raise Failure(
        f"{count} are broken; for the rules, run python -c \"help('minise.ops')\"", FAILED
    )
