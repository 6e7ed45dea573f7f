"""All tables that are compared, by the name that `minise reproduce` takes."""

from minise.analysis.paper.ablations import (
    GATE,
    NO_SQUEEZE,
    REDUCTION,
    SITE_3X3,
    SITES,
    SQUEEZE,
    STAGES,
)
from minise.analysis.paper.cifar import CIFAR
from minise.analysis.paper.declare import PaperTable
from minise.analysis.paper.imagenet import MOBILE, OVERHEAD, SINGLE_CROP
from minise.analysis.paper.senet154 import SENET154
from minise.checks import did_you_mean

TABLES: dict[str, PaperTable] = {
    "2": SINGLE_CROP,
    "3": MOBILE,
    "overhead": OVERHEAD,
    "10": REDUCTION,
    "11": SQUEEZE,
    "12": GATE,
    "13": STAGES,
    "14": SITES,
    "15": SITE_3X3,
    "16": NO_SQUEEZE,
    "cifar": CIFAR,
    "senet154": SENET154,
}


def tables_of(name: str) -> dict[str, PaperTable]:
    """Return the table of a name, or all tables for "all", by name.

    Raises
    ------
    ValueError
        If there is no such table.
    """
    if name == "all":
        return dict(TABLES)
    if name not in TABLES:
        names = [*TABLES, "all"]
        hint = did_you_mean(name, names) or ": minise reproduce lists them"
        raise ValueError(f"reproduce: table is {name!r}, expected one of {', '.join(names)}{hint}")
    return {name: TABLES[name]}
