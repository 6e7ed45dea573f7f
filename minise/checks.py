"""Checks of arguments: integers, numbers, choices, flags, pairs, with messages for users."""

import difflib
import operator
import os
import shlex
from collections.abc import Collection, Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # its dtype is checked at every call
Pair: TypeAlias = tuple[int, int]  # (rows, columns)
StrPath: TypeAlias = str | os.PathLike[str]


def as_path(path: StrPath) -> Path:
    """Return a path with ~ replaced by the home folder; ~NAME of an unknown user is kept."""
    return Path(os.path.expanduser(path))  # Path.expanduser raises RuntimeError for that user


def as_absolute(path: StrPath) -> Path:
    """Return the absolute path of the same file or folder, with its links if possible."""
    path = as_path(path)
    absolute = os.path.abspath(path)  # wrong for link/../name if the link leads to another folder
    real = os.path.realpath(path)
    return Path(absolute if os.path.realpath(absolute) == real else real)


def check_choice(op: str, setting: str, value: str, choices: Collection[str]) -> None:
    """Check that a setting is one of its choices."""
    if value not in choices:
        raise ValueError(
            f"{op}: {setting} is {value!r}, expected one of {', '.join(choices)}"
            f"{did_you_mean(value, choices)}"
        )


def did_you_mean(value: object, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ": did you mean …?" with the choices closest to value, case ignored, or "".

    Choices that begin with value, of at least three characters, are the closest.
    """
    by_case, word = {choice.casefold(): choice for choice in choices}, str(value).casefold()
    begins = len(word) > 2 and word not in by_case
    longer = [name for name in by_case if begins and name.startswith(word)]
    matches = difflib.get_close_matches(word, by_case, 2, cutoff)
    close = list(dict.fromkeys([*sorted(longer, key=len), *matches]))[:2]
    return f": did you mean {' or '.join(by_case[match] for match in close)}?" if close else ""


def escaped(text: str) -> str:
    """Return text from a file or an argument with unprintable characters as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def as_word(path: StrPath) -> str:
    """Return a path as one word of a shell's command, with unprintable characters as escapes."""
    text = os.fspath(path)
    if text.isprintable():
        return shlex.quote(text)
    return "$'{}'".format("".join(map(_in_bash, text)))


def _in_bash(character: str) -> str:
    """Return a character as it is written between $' and ' in bash, zsh and ksh."""
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))


def check_one_algorithm(ops: str, algorithm: str | None) -> None:
    """Check that algorithm is None or "auto", for a back end with only one algorithm."""
    if algorithm not in (None, "auto"):
        raise ValueError(
            f"ops {ops!r} has one algorithm only, but algorithm is {algorithm!r}: leave it out, "
            "or choose ops 'jit'"
        )


def check_flag(op: str, setting: str, value: bool) -> None:
    """Check that a setting is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{op}: {setting} is {value!r}, expected True or False: pass bool(...)")


def check_integer(op: str, setting: str, value: int, least: int) -> int:
    """Return a setting as Python's int; check that it is an integer of at least `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        wanted = f"expected an integer of at least {least}"
        raise TypeError(f"{op}: {setting} is {value!r}, {wanted}: pass int(...)") from None
    if number < least:
        raise ValueError(f"{op}: {setting} is {value}, expected at least {least}")
    return number


def as_generator(op: str, rng: Any) -> np.random.Generator:
    """Return rng if it is a random generator, or a new one from an integer seed of 0 or more."""
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not hasattr(rng, "__index__"):
        kind = type(rng).__name__
        raise TypeError(
            f"{op}: rng is a {kind}, expected a numpy.random.Generator, an integer seed or None: "
            "pass np.random.default_rng(seed)"
        )
    check_integer(op, "rng", rng, 0)
    return np.random.default_rng(int(rng))


def check_pair(op: str, setting: str, value: Pair, least: int) -> None:
    """Check that a setting is a pair (rows, columns) of integers of at least `least`."""
    if type(value) is tuple and len(value) == 2:  # fast path for the usual case
        rows, columns = value
        if type(rows) is type(columns) is int and rows >= least <= columns:
            return
    if not isinstance(value, tuple | list) or len(value) != 2:
        wanted = "expected a pair (rows, columns)"
        raise TypeError(f"{op}: {setting} is {value!r}, {wanted}: pass ({value!r}, {value!r})")
    for axis, number in zip(("rows", "columns"), value, strict=True):
        check_integer(op, f"{setting} ({axis})", number, least)


def as_pairs(*pairs: Pair) -> tuple[Pair, ...]:
    """Return checked pairs, which may be lists, as tuples of Python's integers."""
    return tuple((int(rows), int(columns)) for rows, columns in pairs)


def check_number(op: str, setting: str, value: float, text: str, low: float, high: float) -> float:
    """Return a setting as Python's float; check that it is a real number in low..high.

    `text` describes the range in the message. A NumPy float64 would promote float32 arrays to
    float64.
    """
    if not isinstance(value, Real) or not low <= value <= high:
        raise ValueError(f"{op}: {setting} is {value!r}, expected {text}")
    return float(value)


def check_divisor(op: str, setting: str, value: int, axis: str, size: int) -> None:
    """Check that a setting divides the size of an axis; the message names the nearest divisors."""
    if size % value:
        divisors = [divisor for divisor in range(1, size + 1) if size % divisor == 0]
        below = max(divisor for divisor in divisors if divisor <= value)
        above = min((divisor for divisor in divisors if divisor > value), default=below)
        nearest = " or ".join(map(str, sorted({below, above})))
        raise ValueError(
            f"{op}: {setting} is {value}, expected a divisor of {axis} = {size}: use {nearest}"
        )


def check_within(function: str, name: str, value: int, low: int, high: int, hint: str) -> None:
    """Check that value is an integer in low..high, both included; hint ends the message."""
    check_integer(function, name, value, low)
    if value > high:
        raise ValueError(f"{function}: {name} is {value}, expected at most {high}: {hint}")


def check_triple(function: str, name: str, value: Sequence[float]) -> tuple[float, float, float]:
    """Return value as three floats, one per channel."""
    try:
        red, green, blue = (float(v) for v in value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{function}: {name} is {value!r}, expected three numbers: pass one for each of red, "
            "green, blue"
        ) from None
    return red, green, blue
