"""How a table of the paper is declared: nets, the numbers printed for them, and explanations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from minise import models
from minise.analysis.cost import NetCost, cost_of
from minise.ops import cost

Convention = Callable[[NetCost], float]
UNITS = {"G": 1e9, "M": 1e6, "%": 1e-2, "MiB": 2.0**20, "": 1.0}


@dataclass(frozen=True)
class Net:
    """A net by its name and settings, at an image size.

    Parameters
    ----------
    name : str
        One of models.names().
    settings : mapping
        Settings of models.build.
    size : int
        Rows and columns of the image.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    size: int = 224

    def cost(self) -> NetCost:
        """Return the costs of the net, counted once per process."""
        return _cost(self.name, tuple(sorted(self.settings.items())), self.size)

    def but(self, size: int | None = None, **settings: Any) -> "Net":
        """Return this net with other settings or another image size."""
        return Net(self.name, {**self.settings, **settings}, self.size if size is None else size)


@cache
def _cost(name: str, settings: tuple[tuple[str, Any], ...], size: int) -> NetCost:
    shapes: Any = cost.Shapes()
    return cost_of(models.build(name, ops=shapes, **dict(settings)), size)


@dataclass(frozen=True)
class Reading:
    """A second way to count, which an explanation names with its result.

    Parameters
    ----------
    text : str
        What is different, such as "with biases in the SE blocks".
    convention : callable, optional
        Another convention; by default that of the row.
    net : Net, optional
        Another net; by default that of the row.
    base : Net, optional
        If set, the increase over this net.
    fits : bool
        Whether the result agrees with the printed number, as an explanation claims.
    rounded_down : bool
        Whether the count is rounded down instead of to the nearest digit.
    """

    text: str
    convention: Convention | None = None
    net: Net | None = None
    base: Net | None = None
    fits: bool = False
    rounded_down: bool = False


@dataclass(frozen=True)
class Printed:
    """A number that the paper prints, and how we count it.

    Parameters
    ----------
    convention : callable
        Returns our number for the costs of a net.
    text : str
        The printed digits, such as "3.86"; "" if the paper prints none.
    unit : str
        A key of UNITS.
    because : str
        A sentence that explains a difference, or a remark where there is none.
    readings : tuple of Reading
        Other ways to count that the sentence refers to.
    """

    convention: Convention
    text: str = ""
    unit: str = "M"
    because: str = ""
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Parameters
    ----------
    label : str
        The paper's name of the row.
    net : Net, optional
        Our net; None if minise has no such net.
    errors : str
        The paper's errors in percent, top-1 / top-5, which minise does not reproduce.
    printed : tuple of Printed
        The counts of the row.
    base : Net, optional
        If set, our number is the increase over this net: relative for the unit "%".
    """

    label: str
    net: Net | None
    errors: str = ""
    printed: tuple[Printed, ...] = ()
    base: Net | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: its title, its rows, and remarks on all of it."""

    title: str
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()
    errors_of: str = "top-1/top-5\nerror, %"
