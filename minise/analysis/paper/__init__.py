"""The tables of "Squeeze-and-Excitation Networks" beside our counts, each difference explained.

Source: Hu, Shen, Albanie, Sun and Wu, arXiv:1709.01507v4. What the paper prints is declared here;
our numbers are counted from the nets that minise builds, by the convention that is named.
"""

from minise.analysis.paper.comparison import EXPLAINED, NO_FIGURE, OK, WRONG, Comparison, compare
from minise.analysis.paper.report import as_json, as_markdown, notes_of, table_of
from minise.analysis.paper.tables import TABLES, tables_of

__all__ = [
    "EXPLAINED",
    "NO_FIGURE",
    "OK",
    "TABLES",
    "WRONG",
    "Comparison",
    "as_json",
    "as_markdown",
    "compare",
    "notes_of",
    "table_of",
    "tables_of",
]
