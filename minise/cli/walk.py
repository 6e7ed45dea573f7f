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
    """Show every line and number of a forward and backward pass.

    Every gradient is checked, entry by entry, against derivatives computed from forward alone.
    Exit status 1 if one is wrong.

    Example: minise walk se --settings squeeze=max --html se.html

    Args:
        subject: se, conv, pool, batch-norm, linear, loss or the name of another op; block (a
            residual SE block) or net.
        shape: Shape of x, such as 2 3 2 2.
        seed: Seed of the random inputs.
        settings: Settings of the op, such as gate=tanh, stride=2 or stride=2,1 (rows, columns).
        file: .npz file with the inputs by name, and optionally dout.
        ops: Back end: reference, or a file such as my_ops.py.
        html: Write an interactive page to this file instead of printing text.
        all: Write the pages of all ops, with an index, into this folder.
    """
    with misuse():
        from minise.pictures import picture_of
        from minise.walk.cases import case, read_settings  # refuses an op without specification
        from minise.walk.page import check_target, write_page
        from minise.walk.text import lines

    console = Console()
    if all is not None:
        from minise.walk.pages import write_pages

        with misuse():
            written = write_pages(all, seed, picture_of)
        say(console, f"{len(written)} pages and {all / 'index.html'}")
        return 0
    with misuse():
        if not subject:
            raise ValueError(
                "walk: name an op to walk through, for example `minise walk se`, or pass "
                "--all FOLDER"
            )
        if html is not None:
            check_target(html)
        own = read_settings(subject, settings)
        chosen = case(subject, shape, seed, own)
        if file is not None:
            from minise.walk.files import from_file

            chosen = from_file(file, chosen, own)
        trace = chosen.trace(ops=_load(ops), seed=seed)
        if html is not None:
            write_page(trace, html, "" if own else picture_of(chosen.name))
    if html is not None:
        say(console, f"{html}: {len(trace.steps)} steps, {html.stat().st_size / 1e3:,.0f} kB")
    else:
        for line in lines(trace):
            console.print(line, highlight=False, soft_wrap=not console.is_terminal)
    if not trace.ok:
        first, *others = trace.culprits
        where = f"{first.file}:{first.line}"
        also = "".join(f"; and {step.name}, see {step.file}:{step.line}" for step in others)
        raise Failure(
            f"{first.name} is not forward's gradient, see {where}: {first.code}{also}", FAILED
        )
    return 0


def _load(ops: str) -> Any:
    from minise.ops.backend import is_file, load_ops

    if ops != "reference" and not is_file(ops) and not Path(ops).is_dir():
        hint = f": did you mean {ops}.py?" if Path(f"{ops}.py").is_file() else ""
        raise ValueError(
            f"walk: ops is {ops!r}, expected reference or a .py file, because walk shows lines "
            f"of NumPy{hint}"
        )
    return load_ops(ops)
