"""Write calibrated and measured numbers into a card's TOML, and leave every other line as it was written."""

import json
import re
import tomllib
from typing import Any

from ct3d.errors import InvalidRequest

HEADER = re.compile(r"^\[{1,2}([\w.-]+)\]{1,2}\s*(#.*)?$")


def with_landmark_values(text: str, values: dict[str, dict[str, Any]]) -> str:
    """The card's text with these keys set in its [[landmarks]] tables.

    Args:
        text: of the whole card.
        values: landmark id → key → value; an earlier line of the same key is replaced.

    Raises:
        InvalidRequest: the card has no such landmark, or the keys span several lines.
    """
    blocks = _blocks(text)
    known = {_id(block): n for n, block in enumerate(blocks) if block[0].startswith("[[landmarks]]")}
    for name, keys in values.items():
        if name not in known:
            raise InvalidRequest(f"The card has no landmark {name!r}. It has: {', '.join(known)}.")
        blocks[known[name]] = _with_keys(blocks[known[name]], keys)
    expected = tomllib.loads(text)
    for each in expected.get("landmarks", []):
        each |= values.get(each["id"], {})
    return _checked(_joined(blocks), expected)


def with_table(text: str, name: str, table: dict[str, Any]) -> str:
    """The card's text with the table [name] and those below it replaced; it then is the last one.

    Args:
        text: of the whole card.
        name: of a table at the top level.
        table: strings, numbers, booleans, lists, and dicts of them.
    """
    kept = [b for b in _blocks(text) if not (_header(b) == name or _header(b).startswith(f"{name}."))]
    new = _table(name, table).splitlines()
    return _checked(_joined([*kept, new]), tomllib.loads(text) | {name: table})


def with_values(text: str, name: str, values: dict[str, Any]) -> str:
    """The card's text with these keys set in its table [name], which stays where it is.

    Args:
        text: of the whole card.
        name: of a table at the top level that the card has.
        values: an earlier line of the same key is replaced.

    Raises:
        InvalidRequest: the card has no such table, or the keys span several lines.
    """
    blocks = _blocks(text)
    at = next((n for n, block in enumerate(blocks) if block[0].startswith(f"[{name}]")), None)
    if at is None:
        raise InvalidRequest(f"The card has no table [{name}]. Add it.")
    blocks[at] = _with_keys(blocks[at], values)
    expected = tomllib.loads(text)
    expected[name] |= values
    return _checked(_joined(blocks), expected)


def _blocks(text):
    """The lines from one header to the next; the first block has none."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if HEADER.match(line):
            blocks.append([])
        blocks[-1].append(line)
    return [block for block in blocks if block]


def _header(block):
    found = HEADER.match(block[0])
    return found[1] if found else ""


def _id(block):
    return next((tomllib.loads(line)["id"] for line in block if re.match(r"id\s*=", line)), "")


def _with_keys(block, keys):
    kept = [line for line in block if not re.match(rf"({'|'.join(map(re.escape, keys))})\s*=", line)]
    while kept and not kept[-1].strip():
        kept.pop()
    return [*kept, *(f"{key} = {_value(value)}" for key, value in keys.items())]


def _joined(blocks):
    return "\n\n".join("\n".join(block).strip("\n") for block in blocks) + "\n"


def _table(name, table):
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in plain.items())]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{name}.{key}]", *(f"{_key(k)} = {_value(v)}" for k, v in value.items())]
    return "\n".join(lines)


def _value(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    raise InvalidRequest(f"A {type(value).__name__} has no place in a card. Leave the key out.")


def _key(key):
    return key if re.fullmatch(r"[\w-]+", key, re.ASCII) else json.dumps(key)


def _checked(text, expected):
    """The text, if it says what was meant and nothing else changed."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        found = None
    if found != json.loads(json.dumps(expected)):
        raise InvalidRequest(
            "This card's TOML is laid out in a way that can't be edited here. Do it by hand."
        )
    return text
