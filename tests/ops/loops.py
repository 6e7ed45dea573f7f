"""Tests that loop over cases inside, with an id for each op and back end only.

As `pytest.mark.parametrize`, but all rows belong to one test: every row runs, and those that fail
are listed, each with its values and the first words of its error, above the first one's traceback.
"""

import functools
import inspect

import numpy as np
import pytest

from tests.ops.cases import BACKENDS, CASES, OPS

over_ops = pytest.mark.parametrize("op", OPS)
over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)


def each(names, rows):
    """Return a decorator: a test runs once for each row of values of the arguments in names."""
    names = names.split(", ")
    rows = [row if len(names) > 1 else (row,) for row in rows]
    labels = [", ".join(map(in_short, row)) for row in rows]
    assert len(set(labels)) == len(rows) > 0

    def decorate(test):
        def loop(**arguments):
            pairs = zip(labels, rows, strict=True)
            values = {label: dict(zip(names, row, strict=True)) for label, row in pairs}
            run_all(test, arguments, values)

        return of_signature(loop, test, set(names))

    return decorate


def over_cases(test):
    """Make of a test of one case a test of one op, which loops over the op's cases."""

    def loop(op, **arguments):
        values = {f"{op}, {name}": dict(case=case) for name, case in CASES[op].items()}
        run_all(test, arguments, values)

    return over_ops(of_signature(loop, test, {"case"}, "op"))


def run_all(test, arguments, values):
    """Run a test with each set of further arguments, and raise one error for all that fail."""
    errors = {}
    for label, further in values.items():
        try:
            test(**arguments, **further)
        except (Exception, pytest.fail.Exception) as error:
            errors[label] = error
    if errors:
        lines = [f"{label}: {type(e).__name__}: {words_of(e)}" for label, e in errors.items()]
        text = f"{len(errors)} of {len(values)} fail:\n" + "\n".join(lines)
        raise AssertionError(text) from next(iter(errors.values()))


def words_of(error):
    """Return the lines of a loop's own error, indented, or the first words of another one."""
    text = str(error).strip()
    if isinstance(error.__cause__, Exception | pytest.fail.Exception) and " fail:\n" in text:
        return text.replace("\n", "\n    ")
    return " ".join(text.split())[:200]


def in_short(value):
    """Return a value as it stands in a list of what fails."""
    if isinstance(value, type):
        return value.__name__
    return np.array2string(value) if isinstance(value, np.ndarray) else str(value)


def of_signature(loop, test, without, *more):
    """Return a loop with a test's name, marks and parameters, less some and with others."""
    names = [n for n in inspect.signature(test).parameters if n not in without]
    functools.update_wrapper(loop, test)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in (*names, *more)]
    loop.__signature__ = inspect.Signature(parameters)
    return loop
