"""Tables of measured numbers, and their place in a page of docs/: no number there is typed by hand."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ct3d.errors import InvalidRequest


def table(rows: Sequence[dict[str, Any]], columns: dict[str, str]) -> str:
    """A Markdown table; numbers are right-aligned, and what is not known is a dash.

    Args:
        rows: one dict a line; other keys than the columns' are left out.
        columns: key → heading, in order.
    """
    columns_of = {key: [row.get(key) for row in rows] for key in columns}
    cells = list(zip(*(_cells(values) for values in columns_of.values())))
    marks = ["---:" if _are_numbers(values) else ":---" for values in columns_of.values()]
    lines = [list(columns.values()), marks, *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill(path: Path, name: str, content: str) -> None:
    """Put a table into a page, between the lines `<!-- NAME -->` and `<!-- end NAME -->`.

    Raises:
        InvalidRequest: the page has no such place, or more than one.
    """
    text = path.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    filled, count = place.subn(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)
    if count != 1:
        raise InvalidRequest(f"{path} has {count} places named {name!r}. Give it one.")
    path.write_text(filled, encoding="utf-8")


def _are_numbers(values):
    return bool(values) and all(isinstance(each, (int, float, type(None))) for each in values)


def _cells(values):
    """The values of a column as text, all floats with as many decimals as the longest of them."""
    floats = [each for each in values if isinstance(each, float)]
    digits = max((len(f"{each:g}".partition(".")[2]) for each in floats), default=0)
    return [
        "–" if each is None else f"{each:.{digits}f}" if isinstance(each, float) else str(each)
        for each in values
    ]
