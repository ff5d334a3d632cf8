"""The regions of a case in a table: a tick for what is shown, the colour, and how much of each was imaged."""

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from ct3d.case import Case, Region
from CT3DAssistantLib.panels.tables import RIGHT, filling
from CT3DAssistantLib.region_rows import PRESENCE, groups_of, region_tip
from CT3DAssistantLib.terminology import segment_term

SWATCH = 14  # pixels
NAME, PRESENT, CONFIDENCE = range(3)


class RegionList:
    """The rows in a QTableWidget of three columns, under headings.

    Args:
        table: the widget.
        on: connects a signal to a slot, as a panel does.
        choose: called with the id of the region whose row a person chose.

    Attributes:
        rows: region id per row; "" for a heading.
    """

    def __init__(self, table: Any, on: Callable[..., None], choose: Callable[[str], None]):
        self.table, self._choose = table, choose
        self.rows: list[str] = []
        self._node: Any = None
        self._shown: Any = None  # what the rows were made from
        header = table.horizontalHeader()
        header.setSectionResizeMode(NAME, qt.QHeaderView.Stretch)
        for column in (PRESENT, CONFIDENCE):
            header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        for signal in ("currentCellChanged(int,int,int,int)", "cellClicked(int,int)"):
            on(table, signal, self._note)
        on(table, "itemChanged(QTableWidgetItem*)", self._note_tick)

    def show(self, case: Case | None, node: Any) -> None:
        """List the regions of a case, shown by a segmentation node."""
        self._node = node
        regions = case.regions if case else ()
        shown = [(each, _color(self._segment(each.id))) for each in regions]
        if shown != self._shown:
            self._shown = shown
            self._fill(case)
        self.show_ticks()

    def _fill(self, case: Case | None) -> None:
        self.rows = []
        with filling(self.table):
            self.table.setCurrentCell(-1, -1)
            self.table.clearSpans()
            self.table.rowCount = 0
            for title, regions in groups_of(case) if case else ():
                self._add_heading(_(title))
                for region in regions:
                    self._add_region(region)

    def show_ticks(self) -> None:
        """Tick what the views show now."""
        display = self._node and self._node.GetDisplayNode()
        was_blocked = self.table.blockSignals(True)
        for row, region_id in enumerate(self.rows):
            if display and self._segment(region_id):
                shown = display.GetSegmentVisibility(region_id)
                self.table.item(row, NAME).setCheckState(qt.Qt.Checked if shown else qt.Qt.Unchecked)
        self.table.blockSignals(was_blocked)

    def mark(self, region_id: str) -> None:
        """Make the row of a region the chosen one; "" for none."""
        row = self.rows.index(region_id) if region_id in self.rows else -1
        was_blocked = self.table.blockSignals(True)
        self.table.setCurrentCell(row, NAME if region_id and row >= 0 else -1)
        self.table.blockSignals(was_blocked)

    def _segment(self, region_id: str) -> Any:
        return self._node and self._node.GetSegmentation().GetSegment(region_id)

    def _add_heading(self, title: str) -> None:
        item = qt.QTableWidgetItem(title)
        item.setFlags(qt.Qt.ItemIsEnabled)
        font = self.table.font
        font.setBold(True)
        item.setFont(font)
        self._add_row("", (item,))
        self.table.setSpan(len(self.rows) - 1, NAME, 1, 3)

    def _add_region(self, region: Region) -> None:
        texts = (region.title, _(PRESENCE[region.presence]), f"{region.confidence:.0%}")
        items = [qt.QTableWidgetItem(text) for text in texts]
        for item in items:
            item.setToolTip(region_tip(region))
        items[CONFIDENCE].setData(qt.Qt.TextAlignmentRole, RIGHT)
        segment = self._segment(region.id)
        if segment is not None:
            items[NAME].setIcon(_swatch(segment.GetColor()))
            items[NAME].setCheckState(qt.Qt.Unchecked)
        elif region.presence != "absent":
            items[NAME].setIcon(_swatch([part / 255 for part in segment_term(region).color]))
        self._add_row(region.id, items)

    def _add_row(self, region_id: str, items: Any) -> None:
        row = len(self.rows)
        self.table.rowCount = row + 1
        self.rows.append(region_id)
        for column, item in enumerate(items):
            self.table.setItem(row, column, item)

    def _note(self, row: int, *_others: int) -> None:
        if 0 <= row < len(self.rows) and self.rows[row]:
            self._choose(self.rows[row])

    def _note_tick(self, item: Any) -> None:
        region_id = self.rows[item.row()] if item.row() < len(self.rows) else ""
        if item.column() == NAME and self._segment(region_id):
            shown = item.checkState() == qt.Qt.Checked
            self._node.GetDisplayNode().SetSegmentVisibility(region_id, shown)


def _color(segment: Any) -> tuple[float, ...] | None:
    return segment and tuple(segment.GetColor())


def _swatch(color: Any) -> Any:
    """A square of a colour (parts from 0 to 1)."""
    pixmap = qt.QPixmap(SWATCH, SWATCH)
    pixmap.fill(qt.QColor(*(round(255 * part) for part in color)))
    return qt.QIcon(pixmap)
