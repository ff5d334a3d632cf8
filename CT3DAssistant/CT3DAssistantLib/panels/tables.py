"""Filling a table widget at once: its rows wrap, and it is laid out once, at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import qt

RIGHT = int(qt.Qt.AlignRight | qt.Qt.AlignVCenter)  # for numbers, as TextAlignmentRole


@contextmanager
def filling(table: Any) -> Iterator[None]:
    """While inside, the table neither tells of changes nor lays itself out, which would take a second."""
    rows = table.verticalHeader()
    was_blocked = table.blockSignals(True)
    rows.setSectionResizeMode(qt.QHeaderView.Fixed)
    try:
        yield
    finally:
        rows.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.blockSignals(was_blocked)
