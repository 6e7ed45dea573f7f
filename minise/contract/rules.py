"""The rules of the contract on form: gradients, caches, memory, dtypes, names, messages, branches.

Each is one short function of a case that was run on a back end, and raises Broken. The rules on
numbers stand in values.py; rule 3, on the SHAPES of reference files, concerns no other back end.
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
    again,
    backward_of,
    differing,
    equal_arrays,
    frozen,
    on_host,
)
from minise.gradcheck.slopes.arrays import host
from minise.ops import reference
from minise.ops.user.errors import OpsError
from minise.ops.user.fit import bare


def gradients_are_like_the_inputs(run: Run) -> None:
    """Rule 1: backward returns a tuple of one gradient for each array, of its shape and dtype."""
    rule = "rule 1, gradients"
    if type(run.gradients) is not tuple:
        kind = type(run.gradients).__name__
        raise run.broken(rule, f"backward returns a {kind}, expected a tuple")
    if len(run.gradients) != len(run.inputs):
        text = f"{len(run.gradients)} gradients for {len(run.inputs)} inputs"
        raise run.broken(rule, text)
    for name, array, gradient in zip(run.names, run.inputs, run.gradients, strict=True):
        has_one = array is not None and array.dtype.kind == "f"
        if (gradient is not None) != has_one:
            came, expected = ("None", "an array") if has_one else ("an array", "None")
            raise run.broken(rule, f"d{name} is {came}, expected {expected}")
        if has_one and (gradient.shape, gradient.dtype) != (array.shape, array.dtype):
            text = f"d{name} is {gradient.dtype} {gradient.shape}, expected {array.dtype} "
            raise run.broken(rule, f"{text}{array.shape}")


def cache_class(op: str) -> Any:
    """Return the class of an op's cache, which stands in the op's reference file."""
    module = inspect.getmodule(getattr(reference, f"{op}_forward"))
    return getattr(module, "".join(part.capitalize() for part in op.split("_")) + "Cache")


def cache_is_of_the_references_class(run: Run) -> None:
    """Rule 2: the cache, and each NamedTuple in it, is of the class that the reference declares."""
    _is_of_class("the cache", run.cache, cache_class(run.case.op), run)


def _is_of_class(name: str, value: Any, kind: Any, run: Run) -> None:
    if type(value) is not kind:
        text = f"{name} is a {type(value).__name__}, expected a {kind.__name__}"
        raise run.broken("rule 2, cache", text)
    for field, hint in get_type_hints(kind).items():
        part = getattr(value, field)
        if hasattr(hint, "_fields"):
            _is_of_class(field, part, hint, run)
        elif hasattr(part, "_fields"):
            text = f"{field} is a {type(part).__name__}, declared as {hint}"
            raise run.broken("rule 2, cache", text)


def fields_of(cache: Any) -> dict[str, Any]:
    """Return the fields of a cache, and of the NamedTuples in it, by name."""
    fields: dict[str, Any] = cache._asdict()
    for value in cache:
        fields |= fields_of(value) if hasattr(value, "_fields") else {}
    return fields


def cache_holds_what_was_passed(run: Run) -> None:
    """Rule 2: None stays None in the cache, and settings are those that forward was called with."""
    fields = fields_of(run.cache)
    for name, array in zip(run.names, run.inputs, strict=True):
        if array is None and fields.get(name, "missing") is not None:
            raise run.broken("rule 2, cache", f"{name} was None, and in the cache it is not")
    for name, value in run.case.settings.items():
        if value is not None and name in fields and fields[name] != value:
            text = f"{name} was {value!r}, and in the cache it is {fields[name]!r}"
            raise run.broken("rule 2, cache", text)


def inputs_are_not_written(run: Run) -> None:
    """Rule 4: neither forward nor backward writes an array that forward was called with."""
    inputs = {*run.names, *run.keywords}
    _is_unchanged(run, [entry for entry in run.before if entry[0] in inputs])


def caches_are_not_written(run: Run) -> None:
    """Rule 4: neither the first nor a second backward writes dout, out, the cache or a gradient.

    The second backward returns the same gradients as the first.
    """
    _is_unchanged(run, run.before)
    gradients = run._replace(gradients=tuple(map(_copy, run.gradients)))
    second = run._replace(gradients=backward_of(run))
    _is_unchanged(run, run.before)
    name = differing(gradients, run)
    if name:
        raise run.broken("rule 4, pure", f"a second backward writes to the first one's {name}")
    name = differing(run, second)
    if name:
        raise run.broken("rule 4, pure", f"a second backward gives another {name}")


def _copy(array: Any) -> Any:
    return None if array is None else np.array(host(array))


def _is_unchanged(run: Run, arrays: list[tuple[str, Any, Any]]) -> None:
    for name, array, copy in arrays:
        if not equal_arrays(copy, host(array)):
            raise run.broken("rule 4, pure", f"{name} was written")


def read_only_arrays_are_taken(run: Run) -> None:
    """Rule 4: inputs, dout and the cache may be read-only; results are the same."""
    if not run.is_numpy:
        return
    try:
        same = again(run, inputs=frozen(run.inputs), keywords=frozen(run.keywords))
        locked = same._replace(dout=frozen(run.dout), cache=frozen(same.cache))
        gradients = backward_of(locked)
    except (TypeError, ValueError) as error:
        raise run.broken("rule 4, read-only arrays", f"are refused: {error}") from error
    name = differing(run, same._replace(gradients=gradients), cache=True)
    if name:
        raise run.broken("rule 4, read-only arrays", f"give another {name}")


def out_is_a_new_array(run: Run) -> None:
    """Rule 4: out shares no memory with an input, so that who writes to it changes no input."""
    for name, array in zip(run.names, run.inputs, strict=True):
        if run.is_numpy and array is not None and np.shares_memory(run.out, array):
            raise run.broken("rule 4, out", f"out shares memory with {name}")


def dtype_is_kept(run: Run) -> None:
    """Rule 5: out, gradients and the floats in the cache are of the dtype of the inputs."""
    for name, array in run.results(cache=True).items():
        if array is None or (name.startswith("cache") and array.dtype.kind not in "fc"):
            continue
        if array.dtype != run.dtype:
            text = f"{name} is {array.dtype}, expected {run.dtype}"
            raise run.broken("rule 5, dtype in = dtype out", text)


def out_has_the_shape(run: Run, expected: Run) -> None:
    """Rule 5: out has the shape of the reference's."""
    if run.out.shape != expected.out.shape:
        text = f"out has shape {run.out.shape}, expected {expected.out.shape}"
        raise run.broken("rule 5, shape", text)


def settings_may_be_numpys(run: Run) -> None:
    """Rule 5: settings that are NumPy's scalars change no dtype and no number."""
    scalars: dict[type, Any] = {float: np.float64, int: np.int64, bool: np.bool_}
    numpys = {k: scalars.get(type(v), lambda v: v)(v) for k, v in run.keywords.items()}
    same = again(run, keywords=numpys)
    dtype_is_kept(same)
    name = differing(run, same)
    if name:
        raise run.broken("rule 5, settings", f"NumPy's scalars as settings give another {name}")


def pairs_may_be_lists(run: Run) -> None:
    """Rule 5: settings of two numbers may be lists, of NumPy's integers too."""
    lists = {k: list(np.array(v)) if isinstance(v, tuple) else v for k, v in run.keywords.items()}
    name = differing(run, again(run, keywords=lists))
    if name:
        raise run.broken("rule 5, settings", f"lists as settings give another {name}")


def names_and_signatures(ops: Any, op: str) -> None:
    """Rule 6: the same names and signatures."""
    wanted = [f"{op}_forward", f"{op}_backward"]
    wanted += [f"{op}_branches"] if hasattr(reference, f"{op}_branches") else []
    for name in wanted:
        function = getattr(ops, name, None)
        if function is None:
            raise Broken("rule 6, names", f"{name} is missing", op)
        expected, came = (inspect.signature(f) for f in (getattr(reference, name), function))
        plain = [(p.name, p.kind, p.default) for p in expected.parameters.values()]
        if plain != [(p.name, p.kind, p.default) for p in came.parameters.values()]:
            text = f"{name}({bare(came)}), expected {name}({bare(expected)})"
            raise Broken("rule 6, signatures", text, op)


class Misuse(NamedTuple):
    """A call that must be refused, with the kind and the words of the refusal."""

    what: str
    call: Callable[[], Any]
    error: type[Exception]
    words: str  # a regular expression of what follows the op's name


def misuses(run: Run) -> Iterator[Misuse]:
    """Yield what an op must refuse: first what is asked of a user's file too, float16 and lists."""
    (first, *rest), keywords = on_host(run)
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


def mistakes_are_refused(run: Run) -> None:
    """Rule 7: each mistake raises the right error, which names op, argument and what is expected.

    Where arrays are not NumPy's, float16 and lists alone are tried.
    """
    if not run.is_numpy:
        return float16_and_lists_are_refused(run)
    for misuse in misuses(run):
        _is_refused(run, misuse, (misuse.error,), misuse.words)


def float16_and_lists_are_refused(run: Run) -> None:
    """Rule 7, as it is noted of a user's file: float16 and lists are refused in words."""
    for misuse in islice(misuses(run), 2):
        _is_refused(run, misuse, (TypeError, ValueError), "")


def _is_refused(run: Run, misuse: Misuse, errors: tuple[type[Exception], ...], words: str) -> None:
    rule, what, expected = "rule 7, messages", misuse.what, misuse.error.__name__
    try:
        misuse.call()
    except Exception as raised:
        error = raised.__cause__ if isinstance(raised, OpsError) else raised
        if not isinstance(error, errors):
            text = f"{what} raises {type(error).__name__}, expected {expected}"
            raise run.broken(rule, text) from None
        if not re.match(f"{run.case.op}: {words}", str(error)):
            text = f"{what} gives {error!s:.60}, expected {run.case.op}: {words}"
            raise run.broken(rule, text) from None
    else:
        raise run.broken(rule, f"{what} is taken, expected a {expected}")


def branches_are_the_references(run: Run) -> None:
    """Rule 10: an op with kinks, and no other, tells their sides by the reference's integers."""
    rule, name = "rule 10, branches", f"{run.case.op}_branches"
    expected, branches = getattr(reference, name, None), getattr(run.ops, name, None)
    if (branches is None) != (expected is None):
        raise run.broken(rule, f"{name} {'is missing' if expected else 'of an op without kinks'}")
    if branches is None or expected is None:
        return
    sides = host(branches(run.cache))
    if sides.dtype.kind != "i":
        raise run.broken(rule, f"{name} returns {sides.dtype}, expected integers")
    if run.is_numpy and not np.array_equal(sides, expected(run.cache)):
        raise run.broken(rule, f"{name} returns other sides than the reference's")
