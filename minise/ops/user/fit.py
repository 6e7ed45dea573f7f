"""Call a user's forward, which may take fewer arrays and settings than the reference.

`conv2d_forward(x, weight, bias=None, stride=1, padding=0)` can be called if dilation and groups
have the reference's defaults, and stride and padding are equal in both directions.
"""

import inspect
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from minise.ops import reference
from minise.ops.shapes import parse

NEUTRAL = {"training": True}  # value that may be left out, for settings without a default
WITHOUT_EFFECT = ("momentum",)  # settings that change neither out nor the gradients
Parameter = inspect.Parameter
BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class SignatureMismatch(TypeError):
    """A forward has no parameter for an argument of the call, or an unknown required parameter."""


class Call(NamedTuple):
    """Arguments for a user's forward."""

    arguments: list[Any]
    keywords: dict[str, Any]
    passed: list[bool]  # for each of the op's arrays: True if forward takes it


class Fit:
    """The parameters of a user's forward, compared with the reference's.

    Attributes
    ----------
    notes : list of str
        Differences from the reference's signature.
    """

    def __init__(self, op: str, forward: Callable[..., Any]) -> None:
        self.op = op
        expected = inspect.signature(getattr(reference, f"{op}_forward"))
        self.many = any(p.kind is Parameter.VAR_POSITIONAL for p in expected.parameters.values())
        self.arrays = [p.name for p in expected.parameters.values() if p.kind in BY_POSITION]
        self.settings = {
            p.name: p.default
            for p in expected.parameters.values()
            if p.kind is Parameter.KEYWORD_ONLY
        }
        shapes: dict[str, str] = sys.modules[getattr(reference, f"{op}_forward").__module__].SHAPES
        self.optional = {argument.name for argument in parse(shapes[op]) if argument.optional}
        try:
            self.own: Mapping[str, Parameter] | None = inspect.signature(forward).parameters
        except (TypeError, ValueError):  # compiled code without a signature: assume the reference's
            self.own = None
        own: Mapping[str, Parameter] = self.own or {}
        kinds = {p.kind for p in own.values()}
        self.variadic = Parameter.VAR_POSITIONAL in kinds or self.own is None
        self.any_keyword = Parameter.VAR_KEYWORD in kinds or self.own is None
        self.notes = self._differences(expected)

    def call(self, arrays: Sequence[Any], settings: Mapping[str, Any]) -> Call:
        """Return the arguments for forward.

        Raises
        ------
        SignatureMismatch
            If forward does not take an array, or a setting that is not at its default.
        """
        by_position, by_name, passed = self._arrays(arrays)
        keywords = {**by_name}
        for name, value in sorted(settings.items(), key=lambda item: item[0] != "training"):
            if self._takes(name):
                keywords[name] = self._value(name, value, settings)
            elif not self._is_neutral(name, value, settings):
                text = f"takes no {name}, but is called with {name}={_shown(value)}"
                raise SignatureMismatch(f"{text}: add it to its parameters")
        for name, parameter in (self.own or {}).items():
            needed = parameter.default is Parameter.empty and parameter.kind in (
                *BY_POSITION,
                Parameter.KEYWORD_ONLY,
            )
            if (
                not needed
                or name in keywords
                or name in self._array_parameters()[: len(by_position)]
            ):
                continue
            default = self.settings.get(name, Parameter.empty)
            if default is Parameter.empty:
                raise SignatureMismatch(
                    f"takes {name}, which has no default and which minise does not pass"
                )
            keywords[name] = default
        return Call(by_position, keywords, passed)

    def supported_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings, with defaults and equal pairs where forward supports no others."""
        supported: dict[str, Any] = {}
        for name, value in settings.items():
            default = self.settings.get(name, Parameter.empty)
            if not self._takes(name) and name not in WITHOUT_EFFECT:
                value = NEUTRAL.get(name, default if default is not Parameter.empty else value)
            elif self._is_single(name) and isinstance(value, tuple):
                value = (max(value), max(value))
            supported[name] = value
        return supported

    def unsupported_arrays(self) -> list[str]:
        """Return the optional arrays that forward does not take."""
        leading = self._array_parameters()
        taken = {*self.arrays[: len(leading)], *(self.own or {})}
        return [name for name in self.arrays if name in self.optional and name not in taken]

    def _array_parameters(self) -> list[str]:
        """Return the positional parameters before the first setting: they take arrays."""
        names: list[str] = []
        for name, parameter in (self.own or {}).items():
            if parameter.kind not in BY_POSITION or name in self.settings:
                break
            names.append(name)
        return names

    def _arrays(self, arrays: Sequence[Any]) -> tuple[list[Any], dict[str, Any], list[bool]]:
        if self.variadic or self.many:
            return list(arrays), {}, [True] * len(arrays)
        count = min(len(self._array_parameters()), len(self.arrays), len(arrays))
        by_name: dict[str, Any] = {}
        passed = [True] * count
        for name, array in zip(self.arrays[count:], arrays[count:], strict=False):
            passed.append(name in (self.own or {}))
            if passed[-1]:
                by_name[name] = array
            elif array is not None:
                raise SignatureMismatch(
                    f"takes no {name}, expected {self.op}_forward({', '.join(self.arrays)})"
                )
        return list(arrays[:count]), by_name, passed

    def _takes(self, name: str) -> bool:
        return self.any_keyword or name in (self.own or {})

    def _is_single(self, name: str) -> bool:
        """Return True if forward takes a single integer where the reference takes a pair."""
        parameter = (self.own or {}).get(name)
        default = None if parameter is None else parameter.default
        return isinstance(default, int) and not isinstance(default, bool) and name in _PAIRS

    def _value(self, name: str, value: Any, settings: Mapping[str, Any]) -> Any:
        if not self._is_single(name):
            return value
        if value is None:  # stride: its default is the kernel
            value = settings.get("kernel")
        if not isinstance(value, tuple):
            return value
        if value[0] != value[1]:
            raise SignatureMismatch(f"takes one integer as {name}, but {name} is {value}")
        return value[0]

    def _is_neutral(self, name: str, value: Any, settings: Mapping[str, Any]) -> bool:
        """Return True if leaving the setting out changes no result."""
        if name.startswith("running_"):
            return settings.get("training") is True
        if name in NEUTRAL:
            return value is NEUTRAL[name]
        is_array = hasattr(value, "shape")
        return name in WITHOUT_EFFECT or (not is_array and value == self.settings.get(name))

    def _differences(self, expected: inspect.Signature) -> list[str]:
        if self.own is None:
            return []
        plain = [(p.name, p.kind, p.default) for p in expected.parameters.values()]
        if plain == [(p.name, p.kind, p.default) for p in self.own.values()]:
            return []
        own = bare(inspect.Signature(list(self.own.values())))
        notes = [
            f"{self.op}_forward({own}), the reference's is {self.op}_forward({bare(expected)})"
        ]
        left_out = [name for name in self.settings if not self._takes(name)]
        if left_out:
            notes.append(
                f"without {', '.join(left_out)}: checked only where that makes no difference"
            )
        if absent := self.unsupported_arrays():
            notes.append(f"without {', '.join(absent)}: checked only where it is None")
        if single := [name for name in self.settings if self._is_single(name)]:
            notes.append(
                f"one integer each for {', '.join(single)}: checked only where both are equal"
            )
        return notes


def accepted_settings(function: Callable[..., Any], names: Collection[str]) -> set[str]:
    """Return those of the keyword names that a function accepts; none if it has no signature."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return set()
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()):
        return {*names}
    by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return {name for name in names if name in parameters and parameters[name].kind in by_name}


_PAIRS = ("stride", "padding", "dilation", "kernel")


def bare(signature: inspect.Signature) -> str:
    """Return the text of a signature without annotations and parentheses."""
    plain = [p.replace(annotation=Parameter.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(plain))[1:-1]


def _shown(value: Any) -> str:
    return f"an array of shape {value.shape}" if hasattr(value, "shape") else repr(value)
