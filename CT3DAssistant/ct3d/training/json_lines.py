"""Files of one JSON object a line."""

import json
from pathlib import Path
from typing import TypeVar

from ct3d.errors import InvalidRequest
from ct3d.protocol.codec import decode

T = TypeVar("T")


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """The objects of a file of JSON lines.

    Raises:
        InvalidRequest: no such file, or a line that isn't one; names the line.
    """
    if not path.is_file():
        raise InvalidRequest(f"There is no file {path}. Give one of JSON lines.")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidRequest(f"Line {number} of {path} is no JSON ({error}). Mend it.") from error
        found.append(decode(kind, value, f"line {number}"))
    if not found:
        raise InvalidRequest(f"{path} is empty. Give one JSON object a line.")
    return found
