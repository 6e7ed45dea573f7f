"""The tables of tutorials/pages/reference.md that are made from docstrings.

`python -m tests.tables` writes them; tests/test_readme.py compares.
"""

import ast
import re
from pathlib import Path

from minise.cli.verbs import VERBS, function_of
from tests.ops.places import REFERENCE, functions_of, ops_of, shapes_of, tree_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "tutorials" / "pages" / "reference.md"


def first_line(docstring):
    """Return the first line of a docstring, or "" where there is none."""
    return (docstring or "").partition("\n")[0]


def table_of_ops():
    """Return a row for every op: the first line of its forward's docstring."""
    rows = ["| op | what its forward does |", "|---|---|"]
    for path in sorted((ROOT / REFERENCE).glob("*.py")):
        functions = functions_of(tree_of(path))
        for op in ops_of(functions) if shapes_of(tree_of(path)) else ():
            first = first_line(ast.get_docstring(functions[f"{op}_forward"]))
            rows.append(f"| [{op}](../../{path.relative_to(ROOT)}) | {first} |")
    return "\n".join(rows) + "\n"


def table_of_verbs():
    """Return a row for every verb of the command line: the first line of its docstring."""
    rows = [f"| `{verb}` | {first_line(function_of(verb).__doc__)} |" for verb in VERBS]
    return "\n".join(["| verb | what it does |", "|---|---|", *rows]) + "\n"


def with_tables(page):
    """Return the text of the page with its tables of ops and verbs renewed."""
    for title, table in (("op", table_of_ops()), ("verb", table_of_verbs())):
        page, count = re.subn(
            rf"\| {title} \|.*\n(\|.*\n)+", lambda _, table=table: table, page, count=1
        )
        assert count == 1, title
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
