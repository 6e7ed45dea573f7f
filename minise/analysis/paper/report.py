"""Show comparisons with the paper as text, Markdown and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from minise.analysis import conventions
from minise.analysis.paper.comparison import Comparison, digits_of
from minise.analysis.paper.declare import PaperTable

if TYPE_CHECKING:
    from rich.table import Table

LEFT = ("row", "by", "status")  # columns of text
NOT_TRAINED = "Errors are the paper's: these nets are not trained here."


def table_of(table: PaperTable, comparisons: Sequence[Comparison]) -> "Table":
    """Return the comparisons as a table for rich to print."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    view = Table(
        title=Text(table.title), title_justify="left", box=box.SIMPLE, padding=0, show_edge=False
    )
    for name in heads(table, comparisons):
        view.add_column(name, justify="left" if name in LEFT else "right", overflow="fold")
    for cells in rows_of(comparisons):
        view.add_row(*map(Text, cells))
    return view


def heads(table: PaperTable, comparisons: Sequence[Comparison]) -> list[str]:
    """Return the titles of the columns; a line break stands where a title may be wrapped."""
    errors = [table.errors_of] if with_errors(comparisons) else []
    return ["row", *errors, "paper", "ours", "ours\n- paper", "in %", "by", "status"]


def with_errors(comparisons: Sequence[Comparison]) -> bool:
    """Return whether the paper has errors for a row."""
    return any(line.errors for line in comparisons)


def rows_of(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Return the cells of each row; what repeats the row above is left out."""
    letters, marks = letters_of(comparisons), marks_of(comparisons)
    has_errors = with_errors(comparisons)
    rows: list[tuple[str, ...]] = []
    before: tuple[str, ...] = ()
    for line in comparisons:
        name = (line.label, line.errors) if has_errors else (line.label,)
        status = " ".join(filter(None, (line.status, marks.get(line.note, ""))))
        rows.append(
            (
                *(name if name != before else [""] * len(name)),
                _with_unit(line.printed, line),
                _with_unit(_number(line.ours, line), line),
                _number(line.difference, line, signed=True),
                "" if line.relative is None else f"{100 * line.relative:+.2f}",
                letters.get(line.convention, ""),
                status,
            )
        )
        before = name
    return rows


def _with_unit(text: str, line: Comparison) -> str:
    return f"{text} {line.unit}".rstrip() if text else ""


def _number(value: float | None, line: Comparison, *, signed: bool = False) -> str:
    """Return a number with two digits more than the paper prints."""
    if value is None:
        return ""
    digits = digits_of(line.printed) + 2 if line.printed else 3
    return f"{round(value, digits) + 0.0:{'+' if signed else ''},.{digits}f}"  # no "-0.00"


def letters_of(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Return a letter for each convention that a table uses."""
    names = dict.fromkeys(line.convention for line in comparisons if line.convention)
    return dict(zip(names, "abcdefgh", strict=False))


def marks_of(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Return a mark, such as "1", for each note of a table."""
    notes = dict.fromkeys(line.note for line in comparisons if line.note)
    return {note: str(number) for number, note in enumerate(notes, 1)}


def notes_of(table: PaperTable, comparisons: Sequence[Comparison]) -> list[str]:
    """Return the lines below a table: its conventions, explanations and remarks."""
    lines = [f"{letter}: {_first_line(name)}" for name, letter in letters_of(comparisons).items()]
    lines += [
        f"{mark}: {note[:1].upper()}{note[1:]}." for note, mark in marks_of(comparisons).items()
    ]
    lines += table.remarks
    return [*lines, NOT_TRAINED] if with_errors(comparisons) else lines


def _first_line(convention: str) -> str:
    return (getattr(conventions, convention).__doc__ or "").partition("\n")[0].rstrip(".")


def as_markdown(table: PaperTable, comparisons: Sequence[Comparison]) -> str:
    """Return the comparisons as a table in Markdown, with its title and notes."""
    names = [name.replace("\n", " ") for name in heads(table, comparisons)]
    sides = ["---" if name in LEFT else "---:" for name in names]
    rows = [names, sides, *rows_of(comparisons)]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    notes = [f"- {note}" for note in notes_of(table, comparisons)]
    return "\n".join([f"## {table.title}", "", *lines, "", *notes, ""])


def as_json(tables: Mapping[str, tuple[PaperTable, Sequence[Comparison]]]) -> str:
    """Return the comparisons of several tables as JSON, by the name of the table."""
    return json.dumps(
        {
            name: {
                "title": table.title,
                "rows": [
                    {**asdict(line), "difference": line.difference, "relative": line.relative}
                    for line in comparisons
                ],
                "conventions": {key: _first_line(key) for key in letters_of(comparisons)},
                "remarks": list(table.remarks),
            }
            for name, (table, comparisons) in tables.items()
        },
        indent=1,
        ensure_ascii=False,
    )
