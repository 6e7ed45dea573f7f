"""Tables of words and numbers, as Markdown."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table whose first column is flush left and whose others are flush right.

    Raises
    ------
    ValueError
        If a row has another number of cells than the head.

    Examples
    --------
    >>> print(table(["net", "parameters"], [["resnet20", "269,722"]]))
    | net | parameters |
    |:---|---:|
    | resnet20 | 269,722 |
    """
    lines = ["| " + " | ".join(head) + " |", "|:---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        if len(row) != len(head):
            raise ValueError(f"table: a row has {len(row)} cells, expected {len(head)} as the head")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)
