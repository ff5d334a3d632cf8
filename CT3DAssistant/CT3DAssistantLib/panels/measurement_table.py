"""A table of measurements that is sorted by size when its heading is clicked."""

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from CT3DAssistantLib.panels.tables import RIGHT, filling
from CT3DAssistantLib.region_rows import COLUMNS, Measurement, ordered

REGION, TITLE, VALUE = range(len(COLUMNS))


class MeasurementTable:
    """The rows in a QTableWidget.

    Args:
        table: the widget, with a column for each of COLUMNS.
        on: connects a signal to a slot, as a panel does.
        choose: called with the id of the attribute whose row a person chose.

    Attributes:
        rows: as they are listed, top to bottom.
    """

    def __init__(self, table: Any, on: Callable[..., None], choose: Callable[[str], None]):
        self.table, self._choose = table, choose
        self.rows: list[Measurement] = []
        self._given: list[Measurement] = []
        self._column, self._descending = -1, False
        header = table.horizontalHeader()
        header.setSectionsClickable(True)
        for column, mode in ((REGION, "Stretch"), (TITLE, "Stretch"), (VALUE, "ResizeToContents")):
            header.setSectionResizeMode(column, getattr(qt.QHeaderView, mode))
        on(header, "sectionClicked(int)", self.sort)
        for signal in ("currentCellChanged(int,int,int,int)", "cellClicked(int,int)"):
            on(table, signal, self._note)

    def show(self, rows: list[Measurement], *, with_region: bool) -> None:
        """List these rows, in the order a person has chosen."""
        if rows != self._given:
            self._given = rows
            self._fill()
        self.table.setColumnHidden(REGION, not with_region)

    def sort(self, column: int) -> None:
        """By this column; a second time the other way round, a third time in the given order again."""
        if column != self._column:
            self._column, self._descending = column, False
        elif not self._descending:
            self._descending = True
        else:
            self._column, self._descending = -1, False
        self._fill()

    def mark(self, attribute_id: str) -> None:
        """Make the row of an attribute the chosen one; "" for none."""
        row = next((n for n, each in enumerate(self.rows) if each.id == attribute_id), -1)
        was_blocked = self.table.blockSignals(True)
        self.table.setCurrentCell(row, TITLE if row >= 0 else -1)
        self.table.blockSignals(was_blocked)

    def _fill(self) -> None:
        self.rows = self._given
        if self._column >= 0:
            self.rows = ordered(self._given, self._column, descending=self._descending)
        self._show_order()
        with filling(self.table):
            self.table.setCurrentCell(-1, -1)
            self.table.rowCount = len(self.rows)
            for n, row in enumerate(self.rows):
                self._fill_row(n, row)

    def _fill_row(self, n: int, row: Measurement) -> None:
        for column, text in enumerate((row.region, row.title, row.text)):
            item = qt.QTableWidgetItem(text)
            if column == VALUE:
                item.setData(qt.Qt.TextAlignmentRole, RIGHT)
                item.setToolTip(" ".join(row.copied[2:]))
            self.table.setItem(n, column, item)

    def _show_order(self) -> None:
        for column, name in enumerate((_("Region"), _("Measurement"), _("Value"))):
            arrow = ("  ▼" if self._descending else "  ▲") if column == self._column else ""
            self.table.horizontalHeaderItem(column).setText(name + arrow)

    def _note(self, row: int, *_others: int) -> None:
        if 0 <= row < len(self.rows):
            self._choose(self.rows[row].id)
