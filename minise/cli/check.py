"""The verb that checks a back end: `minise check`."""

from rich.console import Console
from rich.table import Table

from minise.cli.words import FAILED, Failure, misuse, say


def check(ops: str = "reference", op: str | None = None, cases: int = 100, seed: int = 0) -> int:
    """Check a back end against the reference: every rule of the contract, every gradient.

    The contract, ten rules, is what help("minise.ops") shows. To check a backward of any other kind
    call minise.gradcheck.check.

    Example: minise check --op conv2d --cases 50

    Args:
        ops: Its name, a module such as my_package.my_ops, or a file such as my_ops.py.
        op: One op; by default all that the back end has.
        cases: How many are drawn for each op.
        seed: Of the random numbers that draw them.
    """
    from minise.gradcheck.cases import OPS
    from minise.gradcheck.conform import check_op
    from minise.ops.backends import load_ops
    from minise.ops.checks import check_choice, check_integer

    with misuse():
        back_end = load_ops(ops)
        check_integer("check", "cases", cases, 1)
        check_integer("check", "seed", seed, 0)
        if op is not None:
            check_choice("check", "op", op, OPS)
        names = [op] if op else [name for name in OPS if hasattr(back_end, f"{name}_forward")]
        if not names:
            raise ValueError(
                f"{ops} has no op, expected functions such as relu_forward and relu_backward"
            )
    console = Console()
    table = Table("op", "cases", "result")
    results = [check_op(back_end, name, cases, seed) for name in names]
    for result in results:
        table.add_row(result.op, str(result.cases), result.problem.partition("\n")[0] or "right")
    console.print(table)
    broken = [result for result in results if result.problem]
    for result in broken:
        say(console, f"\n{result.op}: {result.problem}")
        if result.smallest:
            say(console, f"smallest case: {result.smallest}")
    missing = [name for name in OPS if name not in names]
    if missing and op is None:
        say(console, f"not there: {', '.join(missing)}")
    if broken:
        contract = "the rules: python -c \"help('minise.ops')\""
        raise Failure(
            f"{len(broken)} of {len(results)} ops of {ops} are broken; {contract}", FAILED
        )
    total = sum(result.cases for result in results)
    say(console, f"{len(results)} ops of {ops} are right in {total:,} cases")
    return 0
