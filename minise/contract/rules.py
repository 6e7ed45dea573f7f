"""The contract's rules on form: gradients, caches, memory, dtypes, names, messages, branches.

Each rule is a function of a run (a case on one back end) and raises Broken. values.py has the rules
on numbers; rule 3, on the SHAPES of reference files, does not apply to other back ends.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, get_type_hints

import numpy as np

from minise.contract.run import (
    Broken,
    Run,
    backward_of,
    equal_arrays,
    first_difference,
    frozen,
    host_arguments,
    rerun,
)
from minise.gradcheck.slopes.arrays import host
from minise.ops import reference
from minise.ops.user.errors import OpsError
from minise.ops.user.fit import bare


def gradients_match_the_inputs(run: Run) -> None:
    """Rule 1: backward returns a tuple of one gradient for each array, of its shape and dtype."""
    rule = "rule 1, gradients"
    if type(run.gradients) is not tuple:
        kind = type(run.gradients).__name__
        raise run.broken(rule, f"backward returns a {kind}, expected a tuple")
    if len(run.gradients) != len(run.inputs):
        text = f"{len(run.gradients)} gradients for {len(run.inputs)} inputs"
        raise run.broken(rule, text)
    for name, array, gradient in zip(run.names, run.inputs, run.gradients, strict=True):
        has_gradient = array is not None and array.dtype.kind == "f"
        if (gradient is not None) != has_gradient:
            actual, expected = ("None", "an array") if has_gradient else ("an array", "None")
            raise run.broken(rule, f"d{name} is {actual}, expected {expected}")
        if has_gradient and (gradient.shape, gradient.dtype) != (array.shape, array.dtype):
            text = f"d{name} is {gradient.dtype} {gradient.shape}, expected {array.dtype} "
            raise run.broken(rule, f"{text}{array.shape}")


def cache_class(op: str) -> Any:
    """Return the class of an op's cache, defined in the op's reference file."""
    module = inspect.getmodule(getattr(reference, f"{op}_forward"))
    return getattr(module, "".join(part.capitalize() for part in op.split("_")) + "Cache")


def cache_has_the_reference_class(run: Run) -> None:
    """Rule 2: the cache, and each NamedTuple in it, has the class that the reference declares."""
    _check_class("the cache", run.cache, cache_class(run.case.op), run)


def _check_class(name: str, value: Any, kind: Any, run: Run) -> None:
    if type(value) is not kind:
        text = f"{name} is a {type(value).__name__}, expected a {kind.__name__}"
        raise run.broken("rule 2, cache", text)
    for field, hint in get_type_hints(kind).items():
        part = getattr(value, field)
        if hasattr(hint, "_fields"):
            _check_class(field, part, hint, run)
        elif hasattr(part, "_fields"):
            text = f"{field} is a {type(part).__name__}, declared as {hint}"
            raise run.broken("rule 2, cache", text)


def fields_of(cache: Any) -> dict[str, Any]:
    """Return the fields of a cache, nested NamedTuples included, by name."""
    fields: dict[str, Any] = cache._asdict()
    for value in cache:
        fields |= fields_of(value) if hasattr(value, "_fields") else {}
    return fields


def cache_holds_the_arguments(run: Run) -> None:
    """Rule 2: the cache stores None for an omitted array, and the settings passed to forward."""
    fields = fields_of(run.cache)
    for name, array in zip(run.names, run.inputs, strict=True):
        if array is not None:
            continue
        if name not in fields:
            raise run.broken(
                "rule 2, cache", f"the cache has no field {name}, expected {name} = None"
            )
        if fields[name] is not None:
            raise run.broken("rule 2, cache", f"{name} is not None in the cache, expected None")
    for name, value in run.case.settings.items():
        if value is not None and name in fields and fields[name] != value:
            text = f"{name} is {fields[name]!r} in the cache, expected {value!r}"
            raise run.broken("rule 2, cache", text)


def inputs_are_not_written(run: Run) -> None:
    """Rule 4: neither forward nor backward writes to an argument of forward."""
    inputs = {*run.names, *run.keywords}
    _check_unchanged(run, [snapshot for snapshot in run.snapshots if snapshot[0] in inputs])


def caches_are_not_written(run: Run) -> None:
    """Rule 4: neither the first nor a second backward writes to dout, out, cache or a gradient.

    The second backward returns the same gradients as the first.
    """
    _check_unchanged(run, run.snapshots)
    first = run._replace(gradients=tuple(map(_copy, run.gradients)))
    second = run._replace(gradients=backward_of(run))
    _check_unchanged(run, run.snapshots)
    name = first_difference(first, run)
    if name:
        raise run.broken("rule 4, pure", f"a second backward writes to the first backward's {name}")
    name = first_difference(run, second)
    if name:
        raise run.broken("rule 4, pure", f"a second backward returns a different {name}")


def _copy(array: Any) -> Any:
    return None if array is None else np.array(host(array))


def _check_unchanged(run: Run, arrays: list[tuple[str, Any, Any]]) -> None:
    for name, array, copy in arrays:
        if not equal_arrays(copy, host(array)):
            raise run.broken("rule 4, pure", f"{name} was written")


def read_only_arrays_are_accepted(run: Run) -> None:
    """Rule 4: inputs, dout and the cache may be read-only, with the same results."""
    if not run.is_numpy:
        return
    try:
        second = rerun(run, inputs=frozen(run.inputs), keywords=frozen(run.keywords))
        read_only = second._replace(dout=frozen(run.dout), cache=frozen(second.cache))
        gradients = backward_of(read_only)
    except (TypeError, ValueError) as error:
        raise run.broken("rule 4, read-only arrays", f"are rejected: {error}") from error
    name = first_difference(run, second._replace(gradients=gradients), cache=True)
    if name:
        raise run.broken("rule 4, read-only arrays", f"change {name}")


def out_is_a_new_array(run: Run) -> None:
    """Rule 4: out shares no memory with an input, so that writing to out changes no input."""
    for name, array in zip(run.names, run.inputs, strict=True):
        if run.is_numpy and array is not None and np.shares_memory(run.out, array):
            raise run.broken("rule 4, out", f"out shares memory with {name}")


def dtype_is_kept(run: Run) -> None:
    """Rule 5: out, gradients and the float arrays in the cache have the dtype of the inputs."""
    for name, array in run.results(cache=True).items():
        if array is None or (name.startswith("cache") and array.dtype.kind not in "fc"):
            continue
        if array.dtype != run.dtype:
            text = f"{name} is {array.dtype}, expected {run.dtype}"
            raise run.broken("rule 5, dtype in = dtype out", text)


def out_has_the_shape(run: Run, expected: Run) -> None:
    """Rule 5: out has the same shape as the reference's out."""
    if run.out.shape != expected.out.shape:
        text = f"out has shape {run.out.shape}, expected {expected.out.shape}"
        raise run.broken("rule 5, shape", text)


def settings_may_be_numpy_scalars(run: Run) -> None:
    """Rule 5: settings may be NumPy scalars, with the same results and dtypes."""
    scalar_types: dict[type, Any] = {float: np.float64, int: np.int64, bool: np.bool_}
    keywords = {k: scalar_types.get(type(v), lambda v: v)(v) for k, v in run.keywords.items()}
    second = rerun(run, keywords=keywords)
    dtype_is_kept(second)
    name = first_difference(run, second)
    if name:
        raise run.broken("rule 5, settings", f"settings as NumPy scalars change {name}")


def pairs_may_be_lists(run: Run) -> None:
    """Rule 5: pairs of integers may be lists, also of NumPy integers."""
    lists = {k: list(np.array(v)) if isinstance(v, tuple) else v for k, v in run.keywords.items()}
    name = first_difference(run, rerun(run, keywords=lists))
    if name:
        raise run.broken("rule 5, settings", f"settings as lists change {name}")


def names_and_signatures(ops: Any, op: str) -> None:
    """Rule 6: the functions of an op have the same names and signatures as in the reference."""
    required = [f"{op}_forward", f"{op}_backward"]
    required += [f"{op}_branches"] if hasattr(reference, f"{op}_branches") else []
    for name in required:
        function = getattr(ops, name, None)
        if function is None:
            raise Broken("rule 6, names", f"{name} is missing", op)
        expected, actual = (inspect.signature(f) for f in (getattr(reference, name), function))
        parameters = [(p.name, p.kind, p.default) for p in expected.parameters.values()]
        if parameters != [(p.name, p.kind, p.default) for p in actual.parameters.values()]:
            text = f"{name}({bare(actual)}), expected {name}({bare(expected)})"
            raise Broken("rule 6, signatures", text, op)


class Misuse(NamedTuple):
    """A call with an invalid argument, and the exception that it must raise."""

    argument: str  # "float16", "a list", "dout of float32"
    call: Callable[[], Any]
    error: type[Exception]
    words: str  # a regular expression for the message after the op's name


def misuses(run: Run) -> Iterator[Misuse]:
    """Yield invalid calls of an op; the first two, float16 and lists, also apply to user files."""
    (first, *rest), keywords = host_arguments(run)
    forward = partial(getattr(run.ops, f"{run.case.op}_forward"), **keywords)
    backward = getattr(run.ops, f"{run.case.op}_backward")
    name, dtype = re.escape(run.names[0]), run.dtype
    other = np.dtype(np.float32 if dtype == np.float64 else np.float64)
    floats = [a is not None and a.dtype.kind == "f" for a in (first, *rest)]
    pairs = [*zip((first, *rest), floats, strict=True)]
    half = [a.astype(np.float16) if is_float else a for a, is_float in pairs]
    words = f"{name} has dtype float16, expected float32 or"
    yield Misuse("float16", partial(forward, *half), TypeError, words)
    words = f"{name} is a (list|float), expected an array"
    yield Misuse("a list", partial(forward, first.tolist(), *rest), TypeError, words)
    words = f"{name} is a NoneType, expected an array"
    yield Misuse("None", partial(forward, None, *rest), TypeError, words)
    if first.ndim:
        words = f"{name} has shape .* every axis at least 1"
        yield Misuse("an empty array", partial(forward, first[:0], *rest), ValueError, words)
    for k in np.flatnonzero(floats)[1:]:
        mixed = [a.astype(other) if i == k else a for i, a in enumerate((first, *rest))]
        words = f".* has dtype {other}, expected {dtype}"
        yield Misuse(f"{run.names[k]} of {other}", partial(forward, *mixed), TypeError, words)
    words = "dout is a float, expected an array"
    yield Misuse("a float as dout", partial(backward, 1.0, run.cache), TypeError, words)
    longer, words = run.out[..., None], "dout has shape .*, expected .* as out"
    yield Misuse("another dout", partial(backward, longer, run.cache), ValueError, words)
    wrong, words = host(run.out).astype(other), f"dout has dtype {other}, expected {dtype} as out"
    yield Misuse(f"dout of {other}", partial(backward, wrong, run.cache), TypeError, words)


def misuse_raises(run: Run) -> None:
    """Rule 7: an invalid argument raises an error with the op, the argument and what is expected.

    A back end whose arrays are not NumPy arrays is tested with float16 and lists only.
    """
    if not run.is_numpy:
        return float16_and_lists_raise(run)
    for misuse in misuses(run):
        _check_raises(run, misuse, (misuse.error,), misuse.words)


def float16_and_lists_raise(run: Run) -> None:
    """Rule 7 for a user's file: float16 and lists raise an error that names the op."""
    for misuse in islice(misuses(run), 2):
        _check_raises(run, misuse, (TypeError, ValueError), "")


def _check_raises(
    run: Run, misuse: Misuse, errors: tuple[type[Exception], ...], words: str
) -> None:
    rule, argument, expected = "rule 7, messages", misuse.argument, misuse.error.__name__
    try:
        misuse.call()
    except Exception as raised:
        error = raised.__cause__ if isinstance(raised, OpsError) else raised
        if not isinstance(error, errors):
            text = f"{argument} raises {type(error).__name__}, expected {expected}"
            raise run.broken(rule, text) from None
        if not re.match(f"{run.case.op}: {words}", str(error)):
            text = f"{argument} has the message {error!s:.60}, expected {run.case.op}: {words}"
            raise run.broken(rule, text) from None
    else:
        raise run.broken(rule, f"{argument} raises nothing, expected a {expected}")


def branches_equal_the_reference(run: Run) -> None:
    """Rule 10: ops with kinks, and only those, have branches, equal to the reference's integers."""
    rule, name = "rule 10, branches", f"{run.case.op}_branches"
    expected, branches = getattr(reference, name, None), getattr(run.ops, name, None)
    if (branches is None) != (expected is None):
        raise run.broken(rule, f"{name} {'is missing' if expected else 'for an op without kinks'}")
    if branches is None or expected is None:
        return
    sides = host(branches(run.cache))
    if sides.dtype.kind != "i":
        raise run.broken(rule, f"{name} returns {sides.dtype}, expected integers")
    if run.is_numpy and not np.array_equal(sides, expected(run.cache)):
        raise run.broken(rule, f"{name} returns other branches than the reference")
