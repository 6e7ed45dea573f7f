"""Compare the printed numbers of a table with our counts."""

from dataclasses import dataclass
from math import floor

from minise.analysis.paper.declare import UNITS, Convention, Net, PaperTable, Printed, Reading, Row

OK, EXPLAINED, WRONG, NO_FIGURE = "ok", "explained", "unexplained", "no figure"
REL_TOL_MACS = 3e-3  # the paper's own counts differ from exact ones by up to 0.25 %


@dataclass(frozen=True)
class Comparison:
    """One printed number beside ours.

    Attributes
    ----------
    label, errors : str
        As in the paper.
    convention : str
        Name of the function in conventions.py that counts.
    unit : str
        Unit of both numbers.
    printed : str
        The paper's digits, or "".
    ours : float or None
        Our count in that unit; None if minise has no such net.
    status : str
        "ok": equal to the last printed digit, or MACs within 0.3 %. "explained": not, with the
        reason. "unexplained": not, without a reason. "no figure": nothing to compare.
    note : str
        The reason, or a remark.
    """

    label: str
    errors: str
    convention: str
    unit: str
    printed: str
    ours: float | None
    status: str
    note: str

    @property
    def difference(self) -> float | None:
        """Our number minus the paper's, in the unit."""
        return None if self.ours is None or not self.printed else self.ours - float(self.printed)

    @property
    def relative(self) -> float | None:
        """The difference divided by the paper's number."""
        return None if self.difference is None else self.difference / float(self.printed)


def compare(table: PaperTable) -> list[Comparison]:
    """Return one comparison for each number of a table, in the order of its rows."""
    return [_compared(row, printed) for row in table.rows for printed in row.printed or (None,)]


def _compared(row: Row, printed: Printed | None) -> Comparison:
    if printed is None or row.net is None:
        note = "" if printed is None else printed.because
        text = "" if printed is None else printed.text
        return Comparison(row.label, row.errors, "", "", text, None, NO_FIGURE, note)
    ours = count(row.net, printed.convention, printed.unit, row.base)
    status = NO_FIGURE
    if printed.text:
        equal = agrees(ours, printed.text, is_macs=is_macs(printed.convention))
        status = OK if equal else EXPLAINED if printed.because else WRONG
    return Comparison(
        row.label,
        row.errors,
        printed.convention.__name__,
        printed.unit,
        printed.text,
        ours,
        status,
        note_of(row, printed),
    )


def count(net: Net, convention: Convention, unit: str, base: Net | None = None) -> float:
    """Return our number in a unit; with a base, the increase over it."""
    number = convention(net.cost())
    if base is not None:
        number -= convention(base.cost())
        if unit == "%":
            number /= convention(base.cost())
    return number / UNITS[unit]


def agrees(ours: float, text: str, *, is_macs: bool = False, rounded_down: bool = False) -> bool:
    """Return whether our number rounds to the printed digits, or MACs are within 0.3 %.

    Examples
    --------
    >>> agrees(25.61, "25.6"), agrees(25.66, "25.6"), agrees(25.66, "25.6", rounded_down=True)
    (True, False, True)
    """
    scale, printed = 10.0 ** digits_of(text), float(text)
    if rounded_down:
        return floor(ours * scale) == round(printed * scale)
    rounded = abs(ours - printed) * scale <= 0.5
    return rounded or (is_macs and abs(ours - printed) <= REL_TOL_MACS * printed)


def is_macs(convention: Convention) -> bool:
    """Return whether a convention counts multiply-accumulates."""
    return "macs" in convention.__name__


def note_of(row: Row, printed: Printed) -> str:
    """Return the explanation of a row, with the results of its other readings."""
    results = [
        f"{reading.text}: {_shown(read(row, printed, reading), printed, reading)}"
        for reading in printed.readings
    ]
    return "; ".join(filter(None, [printed.because, ", ".join(results)]))


def read(row: Row, printed: Printed, reading: Reading) -> float:
    """Return our number of a row by another reading, in the unit of the printed number."""
    net = reading.net or row.net
    assert net is not None  # a row with readings has a net
    convention = reading.convention or printed.convention
    return count(net, convention, printed.unit, reading.base or row.base)


def _shown(value: float, printed: Printed, reading: Reading) -> str:
    digits = digits_of(printed.text)
    if reading.rounded_down:
        value = floor(value * 10**digits) / 10**digits
    else:
        digits += 2
    return f"{value:,.{digits}f} {printed.unit}".rstrip()


def digits_of(text: str) -> int:
    """Return the number of digits after the point."""
    return len(text.partition(".")[2])
