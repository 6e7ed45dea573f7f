"""The checks that the data's public functions share, beyond those of the ops."""

import os
from collections.abc import Sequence
from typing import TypeAlias

from minise.ops.checks import check_choice, check_flag, check_integer

__all__ = ["Place", "check_choice", "check_flag", "check_integer", "check_triple", "check_within"]

Place: TypeAlias = str | os.PathLike[str]


def check_within(function: str, name: str, value: int, low: int, high: int, mend: str) -> None:
    """Check that value is an integer in low..high, both included; mend says what to do if not."""
    check_integer(function, name, value, low)
    if value > high:
        raise ValueError(f"{function}: {name} is {value}, expected at most {high}: {mend}")


def check_triple(function: str, name: str, value: Sequence[float]) -> tuple[float, float, float]:
    """Return value as three floats, one a channel."""
    try:
        red, green, blue = (float(v) for v in value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{function}: {name} is {value!r}, expected three numbers: pass one for each of red, "
            "green, blue"
        ) from None
    return red, green, blue
