"""Frozen dataclasses to JSON values and strictly back: no unknown or missing key, no wrong type, no NaN."""

import dataclasses
import math
import sys
import types
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ct3d.errors import InvalidRequest

T = TypeVar("T")


def encode(value: Any) -> Any:
    """A dataclass, tuple, dict or scalar as JSON values.

    Raises:
        InvalidRequest: for NaN, infinity, or a type that has no JSON form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(f"{value} has no place in a message. Use None for a value that is not known.")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise InvalidRequest(
        f"A {type(value).__name__} can't be sent. Use str, int, float, bool, None, tuple or a dataclass."
    )


def decode(kind: type[T], value: Any, where: str = "message") -> T:
    """JSON values as an instance of `kind`, checked field by field.

    Args:
        kind: a dataclass, scalar, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`, `X | None` or Literal.
        value: what json.loads gave.
        where: name of the value in error messages.

    Raises:
        InvalidRequest: names the place and what was expected there.
    """
    if kind is Any:
        result: T = value
    else:
        result = _decode(kind, value, where)
    return result


def _decode(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    origin = get_origin(kind)
    if origin is Literal:
        return _expect(
            value in get_args(kind) and not isinstance(value, bool), value, where, f"one of {get_args(kind)}"
        )
    if origin in (Union, types.UnionType):
        return _decode_union(kind, value, where)
    if origin is tuple:
        return _decode_tuple(kind, value, where)
    if origin is dict:
        _expect(isinstance(value, dict), value, where, "an object")
        return {key: decode(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float:
        return float(_expect(_is_finite(value), value, where, "a finite number"))
    right = type(value) is kind
    return _expect(right, value, where, f"a {kind.__name__}")


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), value, where, "an object")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(set(value) - set(fields)):
        raise InvalidRequest(f"{where} has the unknown key {unknown[0]!r}. Known are: {', '.join(fields)}.")
    hints = _hints(kind)
    given = {}
    for name, field in fields.items():
        if name in value:
            given[name] = decode(hints[name], value[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InvalidRequest(f"{where} lacks the key {name!r}. Add it.")
    return kind(**given)


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max  # a JSON integer may be larger than any float


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode_union(kind: Any, value: Any, where: str) -> Any:
    choices = [choice for choice in get_args(kind) if choice is not type(None)]
    if value is None and len(choices) < len(get_args(kind)):
        return None
    for choice in choices[:-1]:
        if type(value) is choice:
            return value
    return decode(choices[-1], value, where)


def _decode_tuple(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    _expect(isinstance(value, list), value, where, "a list")
    kinds = get_args(kind)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    _expect(len(kinds) == len(value), value, where, f"a list of {len(kinds)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(decode(item_kind, item, f"{where}[{n}]") for n, (item_kind, item) in pairs)


def _expect(right: bool, value: Any, where: str, what: str) -> Any:
    if not right:
        raise InvalidRequest(
            f"{where} should be {what}, not {str(value)[:60]!r}. Check the sender's version."
        )
    return value
