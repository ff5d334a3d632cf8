"""Which members, overloads and enumerators of PySide's classes a call in PythonQt would find."""

import inspect
import json
import types
import typing
from collections.abc import Callable
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from PySide6 import QtCore
from shibokensupport.signature import get_signature

MEMBERS = json.loads(  # what Qt 5.15 and Qt 6 both have; Slicer is built with either
    (Path(__file__).resolve().parents[1] / "unit" / "qt_members.json").read_text(encoding="utf-8")
)
NOT_OFFERED = {"connect", "disconnect", "findChild", "findChildren", "emit", "metaObject", "sender"}


@cache
def is_offered(kind: type, name: str) -> bool:
    """Whether a class has a member in PythonQt; where we know, only what both Qt versions have."""
    described = [MEMBERS.get(each.__name__) for each in kind.__mro__ if each.__module__ != "builtins"]
    described = [each for each in described if each is not None]
    if name in NOT_OFFERED or not described or kind.__name__ not in MEMBERS:
        return name not in NOT_OFFERED
    signals = {each.partition("(")[0] for known in described for each in known["signals"]}
    return name in signals or any(name in known["members"] for known in described)


def best_match(function: Callable, given: list, args: tuple) -> list | None:
    """Arguments as the best overload takes them; None where none matches.

    Args:
        function: a method, a static method or a class of PySide.
        given: what Qt gets.
        args: the same before it was unwrapped.
    """
    overloads = signatures(function)
    matches = [match for match in (fit(overload, given, args) for overload in overloads) if match]
    if not overloads:
        return given
    return min(matches, key=lambda match: match[0])[1] if matches else None


@cache
def signatures(function: Callable) -> tuple[tuple[inspect.Parameter, ...], ...]:
    """Positional parameters of each overload; nothing where PySide doesn't tell."""
    told = get_signature(function)
    overloads = told if isinstance(told, list) else [told] if told else []
    named_only = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    every = []
    for overload in overloads:
        positional = [each for each in overload.parameters.values() if each.kind not in named_only]
        every.append(tuple(each for each in positional if each.name != "self"))
    return tuple(every)


def fit(overload: tuple[inspect.Parameter, ...], given: list, args: tuple) -> tuple[int, list] | None:
    """(how much was bent, arguments as this overload takes them), or None where they don't match."""
    needed = [each for each in overload if each.default is each.empty]
    if len(given) > len(overload) or len(given) < len(needed):
        return None
    bent, taken = 0, []
    for parameter, value, original in zip(overload, given, args, strict=False):
        match = as_type(parameter.annotation, value, original)
        if match is None:
            return None
        bent += match[0]
        taken.append(match[1])
    return bent, taken


def as_type(wanted: Any, value: Any, original: Any) -> tuple[int, Any] | None:
    """(0 exact or 1 bent, the value as this type), or None where it can't be had."""
    wanted, may_be_none = main_type(wanted)
    if value is None:
        return (0, None) if may_be_none or wanted in (Any, object) or is_pointer(wanted) else None
    if wanted in (Any, object, inspect.Parameter.empty) or isinstance(wanted, str):
        return 1, value
    origin = typing.get_origin(wanted)
    if origin is Callable or wanted is Callable:
        return (0, value) if callable(value) else None
    if origin is not None:
        return as_sequence(wanted, value, original)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return as_enumerator(wanted, original)
    return as_plain(wanted, value, original)


def main_type(wanted: Any) -> tuple[Any, bool]:
    """(what C++ wants, whether None will do) of a type that lists what PySide would convert on its own."""
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        kinds = typing.get_args(wanted)
        rest = [kind for kind in kinds if kind is not type(None)]
        return rest[0], len(rest) < len(kinds)
    return wanted, False


def is_pointer(wanted: Any) -> bool:
    """Whether C++ takes a pointer, so that None will do."""
    return isinstance(wanted, type) and issubclass(wanted, QtCore.QObject)


def as_sequence(wanted: Any, value: Any, original: Any) -> tuple[int, Any] | None:
    """A list or a tuple whose items match; a mapping as it is."""
    if typing.get_origin(wanted) is dict:
        return (0, value) if isinstance(value, dict) else None
    if not isinstance(value, list):
        return None
    (item, *_rest) = typing.get_args(wanted) or (Any,)
    matches = [as_type(item, each, before) for each, before in zip(value, original, strict=True)]
    return None if None in matches else (0, [match[1] for match in matches])


def as_enumerator(wanted: type[Enum], original: Any) -> tuple[int, Any] | None:
    """An int as PySide's enumerator; one of another enumeration is refused."""
    if isinstance(original, bool) or not isinstance(original, int):
        return None
    if type(original) is not int and type(original) is not int_type(wanted):
        return None
    return int(type(original) is int), wanted(int(original))


def as_plain(wanted: type, value: Any, original: Any) -> tuple[int, Any] | None:
    """Numbers, texts, bytes and objects of Qt."""
    if wanted is bool:
        return (0, value) if isinstance(value, bool) else None
    if wanted is int:
        is_int = isinstance(value, int) and not isinstance(value, bool)
        return (int(type(original) is not int), int(value)) if is_int else None
    if wanted is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return (int(not isinstance(value, float)), float(value)) if is_number else None
    if wanted in (bytes, QtCore.QByteArray) and isinstance(value, bytes):
        return 0, value
    return (0, value) if isinstance(value, wanted) else None


# enumerators


@cache
def enumerations(kind: type) -> dict[str, type[Enum]]:
    """Enumerations of a PySide class and of what it derives from, by name."""
    return {
        name: each
        for parent in reversed(kind.__mro__)
        for name, each in vars(parent).items()
        if isinstance(each, type) and issubclass(each, Enum)
    }


@cache
def enumerators(kind: type) -> dict[str, int]:
    """Enumerators by their short names."""
    kinds = enumerations(kind).values()
    return {name: int_type(each)(value.value) for each in kinds for name, value in each.__members__.items()}


@cache
def int_type(kind: type[Enum]) -> type[int]:
    """The ints of an enumeration: they know where they belong, and sums and unions of them are plain ints."""
    return type(kind.__name__, (int,), {"__slots__": (), "__module__": "qt"})
