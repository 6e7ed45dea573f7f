"""The verb that shows every number of a backward pass: `minise walk`."""

from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from minise.cli.words import FAILED, Failure, misuse, say


def walk(
    subject: tyro.conf.Positional[str] = "",
    shape: tuple[int, ...] | None = None,
    seed: int = 0,
    settings: tuple[str, ...] = (),
    file: Path | None = None,
    ops: str = "reference",
    html: Path | None = None,
    all: Path | None = None,
) -> int:
    """Walk through an op, forward and backward: every line of code, its formula, its numbers.

    Every gradient is checked, entry by entry, against forward's own slopes. Exit status 1 says that
    one is wrong.

    Example: minise walk se --settings squeeze=max --html se.html

    Args:
        subject: se, conv, pool, batch-norm, linear, loss, the name of any other op, or block (a
            residual SE block) or net.
        shape: Of x, such as 2 3 2 2.
        seed: Of the random numbers.
        settings: Of the op, such as gate=tanh, or stride=2 or stride=2,1 (rows, columns).
        file: A .npz file with the arrays of your own case by name, and dout if you like.
        ops: reference, or a file of your own such as my_ops.py.
        html: Write a page to click through, instead of text.
        all: Write the pages of all ops with an index into this folder.
    """
    with misuse():
        from minise.walk.cases import case, read_settings  # refuses an op without specification
        from minise.walk.page import check_target, write_page
        from minise.walk.text import lines

    console = Console()
    if all is not None:
        from minise.walk.pages import write_pages

        with misuse():
            written = write_pages(all, seed)
        say(console, f"{len(written)} pages and {all / 'index.html'}")
        return 0
    with misuse():
        if not subject:
            raise ValueError("walk: what? expected a subject, such as se, or --all FOLDER")
        if html is not None:
            check_target(html)
        own = read_settings(subject, settings)
        chosen = case(subject, shape, seed, own)
        if file is not None:
            from minise.walk.files import from_file

            chosen = from_file(file, chosen, own)
        found = chosen.trace(ops=_load(ops), seed=seed)
        if html is not None:
            write_page(found, html)
    if html is not None:
        say(console, f"{html}: {len(found.steps)} steps, {html.stat().st_size / 1e3:,.0f} kB")
    else:
        for line in lines(found):
            console.print(line, highlight=False, soft_wrap=not console.is_terminal)
    if not found.ok:
        first = next(step for step in found.steps if step.check and not step.check.ok)
        where = f"{first.file}:{first.line}"
        raise Failure(f"{first.name} is not forward's gradient, see {where}: {first.code}", FAILED)
    return 0


def _load(ops: str) -> Any:
    from minise.ops.backend import is_file, load_ops

    if ops != "reference" and not is_file(ops) and not Path(ops).is_dir():
        hint = f": did you mean {ops}.py?" if Path(f"{ops}.py").is_file() else ""
        raise ValueError(
            f"walk: ops is {ops!r}, expected reference or a .py file: lines of NumPy are shown, "
            f"which a compiled back end has not{hint}"
        )
    return load_ops(ops)
