"""The architectures that share a file of minise/models, and the counts of their nets."""

import re
import sys
from dataclasses import dataclass
from functools import cached_property
from inspect import getdoc
from typing import NamedTuple

from minise.analysis.cost import NetCost
from minise.analysis.paper import OK, TABLES, compare
from minise.analysis.paper.declare import Net, PaperTable
from minise.models.architecture import Architecture
from minise.models.named import ARCHITECTURES

ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
SENET = "1709.01507"
WITH_MACS = ("2", "3")  # tables with MACs of whole nets


class Twins(NamedTuple):
    """A plain net, and the same with SE blocks of the default settings."""

    name: str
    architecture: Architecture
    plain: NetCost
    with_se: NetCost

    def printed(self) -> str:
        """Return the paper's MACs of both, such as "3.86 → 3.87 G", or ""."""
        for key in WITH_MACS:
            rows = {row.net.name: row for row in TABLES[key].rows if row.net}
            if self.name in rows:
                table = PaperTable("", (rows[self.name], rows[f"se_{self.name}"]))
                lines = [line for line in compare(table) if "macs" in line.convention]
                text = f"{' → '.join(line.printed for line in lines)} {lines[0].unit}"
                differs = any(line.status != OK for line in lines)
                return f"{text}, differs: `minise reproduce {key}`" if differs else text
        return ""


@dataclass(frozen=True)
class Family:
    """The architectures of a file.

    Attributes
    ----------
    file : str
        Name of the file in minise/models, without .py.
    architectures : dict
        By the name of the plain net.
    """

    file: str
    architectures: dict[str, Architecture]

    @property
    def text(self) -> str:
        """The file's docstring."""
        return getdoc(sys.modules[f"minise.models.{self.file}"]) or ""

    @property
    def title(self) -> str:
        """What the first line of the docstring names, such as "BN-Inception"."""
        first = self.text.partition("\n")[0]
        return re.split(r"[,:.](?: |$)", first, maxsplit=1)[0]

    @property
    def story(self) -> str:
        """The docstring, without a first line that says no more than the title."""
        first, _, rest = self.text.partition("\n")
        return (
            rest.strip("\n") if first == f"{self.title}, plain and with SE blocks." else self.text
        )

    @property
    def source(self) -> str:
        """The arXiv identifier of the paper that introduced the architecture."""
        _, _, source = self.text.partition("Source:")
        return (ARXIV.findall(source) or [SENET])[0]

    @cached_property
    def twins(self) -> list[Twins]:
        """The nets of the family with their costs."""
        return [
            Twins(
                name,
                architecture,
                Net(name, size=architecture.size).cost(),
                Net(f"se_{name}", size=architecture.size).cost(),
            )
            for name, architecture in self.architectures.items()
        ]

    def tables(self) -> list[str]:
        """Return the names of the paper's tables that have a net of the family."""
        names = {*self.architectures, *(f"se_{name}" for name in self.architectures)}
        return [
            key
            for key, table in TABLES.items()
            if any(row.net is not None and row.net.name in names for row in table.rows)
        ]


def families() -> list[Family]:
    """Return the architectures of `models.names()` by file, in that order."""
    files: dict[str, dict[str, Architecture]] = {}
    for name, architecture in ARCHITECTURES.items():
        builder = getattr(architecture.builder, "func", architecture.builder)
        file = builder.__module__.rpartition(".")[2]
        files.setdefault(file, {})[name] = architecture
    return [Family(file, architectures) for file, architectures in files.items()]
