"""Check values decoded from JSON against the types of a dataclass's fields."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from reprlib import repr
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from minise.checks import check_choice, did_you_mean
from minise.files import shortened

TYPE_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
TYPE_NAMES |= {Path: "the path of a folder as a string", list: "a list", dict: "an object"}


def check_fields(where: str, values: Any, cls: type, prefix: str = "") -> None:
    """Check that a JSON object has only fields of a dataclass, with values of their types.

    Parameters
    ----------
    where : str
        Start of the message, such as a file name.
    values : dict
        The decoded object. Missing fields are not checked.
    cls : type
        A dataclass; its fields may be flags, numbers, strings, paths, tuples, lists, dicts, None or
        dataclasses.
    prefix : str
        Name of the object that contains this one, with a dot.

    Raises
    ------
    ValueError
        If a field is unknown.
    TypeError
        If a value has another type.
    """
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{where}: {prefix.rstrip('.') or 'the content'} is {values!r}, expected an object of "
            "settings by name"
        )
    names = [field.name for field in fields(cls)]
    _check_names(where, [f"{prefix}{name}" for name in values], [f"{prefix}{n}" for n in names])
    hints = get_type_hints(cls)
    for name, value in values.items():
        _check(where, f"{prefix}{name}", value, hints[name])


def _check_names(where: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        shown, hint = shortened([*map(_shown, unknown)]), did_you_mean(unknown[0], known)
        raise ValueError(f"{where} has {shown}, which this version of minise does not know{hint}")


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _check(where: str, name: str, value: Any, kind: Any) -> None:
    """Check one value against a type hint."""
    if get_origin(kind) in (Union, UnionType):
        if value is None:
            return
        (kind,) = (arg for arg in get_args(kind) if arg is not NoneType)
    if is_dataclass(kind):
        check_fields(where, value, kind, f"{name}.")  # type: ignore[arg-type]
    elif get_origin(kind) is Literal:
        _require(where, name, value, str)
        check_choice(where, name, value, get_args(kind))
    elif get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, list | tuple) or (... not in kinds and len(value) != len(kinds)):
            count = "a list of" if ... in kinds else len(kinds)
            raise TypeError(f"{where}: {name} is {repr(value)}, expected {count} values")
        kinds = kinds[:1] * len(value) if ... in kinds else kinds
        for k, (item, item_kind) in enumerate(zip(value, kinds, strict=True)):
            _check(where, f"{name}[{k}]", item, item_kind)
    elif get_origin(kind) in (list, dict):
        _require(where, name, value, get_origin(kind))
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            _check(where, f"{name}[{key!r}]", item, get_args(kind)[-1])
    elif kind is not Any:
        _require(where, name, value, kind)


def _require(where: str, name: str, value: Any, kind: type) -> None:
    accepted = {float: (float, int), Path: (str, Path)}.get(kind, (kind,))
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{where}: {name} is {repr(value)}, expected {TYPE_NAMES[kind]}")
