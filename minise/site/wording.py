"""Numbers of the article as text, and a test of what its words say about them."""

from collections.abc import Mapping

from minise.analysis.intervals import Mean

POINTS = 100  # percentage points in 1
NO_BREAK = "\N{NO-BREAK SPACE}"
WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


def word(count: int) -> str:
    """Return a small number as a word, a larger one in digits.

    Examples
    --------
    >>> word(3), word(40)
    ('three', '40')
    """
    return WORDS[count] if count < len(WORDS) else str(count)


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign, a true minus where it is negative.

    Examples
    --------
    >>> signed(0.356), signed(-0.01)
    ('+0.36', '\N{MINUS SIGN}0.01')
    """
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def percent(share: float, digits: int = 0) -> str:
    """Return a share as a percentage, without a line break before the sign."""
    return f"{POINTS * share:.{digits}f}{NO_BREAK}%"


def interval(mean: Mean, digits: int = 2) -> str:
    """Return the ends of an interval, such as "+0.28 to +0.72"."""
    return f"{signed(mean.low, digits)} to {signed(mean.high, digits)}"


def require(statements: Mapping[str, bool], remedy: str) -> None:
    """Test statements of the article: whether each holds, by its words.

    Raises
    ------
    ValueError
        For the first statement that does not hold; `remedy` says what to correct.
    """
    for statement, holds in statements.items():
        if not holds:
            raise ValueError(f"article: the text says that {statement}, {remedy}")
