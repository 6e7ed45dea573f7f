"""Tests that loop over cases in one test, so that only ops and back ends have a test id.

Like `pytest.mark.parametrize`, but all rows belong to one test: every row runs, and one error lists
the failing rows, each with its values and the start of its message, with the first row's traceback.
"""

import functools
import inspect

import numpy as np
import pytest

from tests.ops.cases import BACKENDS, CASES, OPS

over_ops = pytest.mark.parametrize("op", OPS)
over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)


def each(names, rows):
    """Return a decorator that runs a test once per row, a value for each argument in names."""
    names = names.split(", ")
    rows = [row if len(names) > 1 else (row,) for row in rows]
    labels = [", ".join(map(short_text, row)) for row in rows]
    assert len(set(labels)) == len(rows) > 0

    def decorate(test):
        def loop(**arguments):
            pairs = zip(labels, rows, strict=True)
            values = {label: dict(zip(names, row, strict=True)) for label, row in pairs}
            run_all(test, arguments, values)

        return with_signature(loop, test, set(names))

    return decorate


def over_cases(test):
    """Turn a test of one case into a test of one op that loops over the op's cases."""

    def loop(op, **arguments):
        values = {f"{op}, {name}": dict(case=case) for name, case in CASES[op].items()}
        run_all(test, arguments, values)

    return over_ops(with_signature(loop, test, {"case"}, "op"))


def run_all(test, arguments, values):
    """Run a test with each set of further arguments, and raise one error for all failures."""
    errors = {}
    for label, further in values.items():
        try:
            test(**arguments, **further)
        except (Exception, pytest.fail.Exception) as error:
            errors[label] = error
    if errors:
        lines = [f"{label}: {type(e).__name__}: {message_of(e)}" for label, e in errors.items()]
        text = f"{len(errors)} of {len(values)} fail:\n" + "\n".join(lines)
        raise AssertionError(text) from next(iter(errors.values()))


def message_of(error):
    """Return the indented lines of a loop's error, or the first 200 characters of another error."""
    text = str(error).strip()
    if isinstance(error.__cause__, Exception | pytest.fail.Exception) and " fail:\n" in text:
        return text.replace("\n", "\n    ")
    return " ".join(text.split())[:200]


def short_text(value):
    """Return the text of a value for the list of failures."""
    if isinstance(value, type):
        return value.__name__
    return np.array2string(value) if isinstance(value, np.ndarray) else str(value)


def with_signature(loop, test, without, *more):
    """Return loop with the test's name and marks, and its parameters without some and with more."""
    names = [n for n in inspect.signature(test).parameters if n not in without]
    functools.update_wrapper(loop, test)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in (*names, *more)]
    loop.__signature__ = inspect.Signature(parameters)
    return loop
