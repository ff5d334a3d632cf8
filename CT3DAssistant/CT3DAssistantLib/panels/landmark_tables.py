"""The two tables of the landmark panel: the review queue, and the distances between readers."""

from typing import Any

import qt
from slicer.i18n import tr as _

from ct3d.case import Case, Landmark
from CT3DAssistantLib.landmark_review import Entry, review_of
from CT3DAssistantLib.landmark_sets import has_probability
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.readers import PAIRS, SDR_MM, Distances, agreement, to_second

ICONS = {
    "open": "target",
    "accepted": "accept",
    "rejected": "reject",
    "moved": "move",
    "undefined": "undefined",
    "": "target",
    "placed": "move",
}


def state_word(state: str) -> str:
    """A verdict as the table says it; "" is a second reader's open one."""
    return {
        "open": _("open"),
        "": _("open"),
        "accepted": _("accepted"),
        "rejected": _("rejected"),
        "moved": _("moved"),
        "undefined": _("undefined"),
        "placed": _("placed"),
    }[state]


def prepare_table(table: Any) -> None:
    """Let the first column take the room that the others leave."""
    header = table.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
    header.setMinimumSectionSize(30)
    table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)


def fill_queue(table: Any, entries: tuple[Entry, ...]) -> None:
    """One row per landmark in the queue's order."""
    _start(table, len(entries), hidden=())
    for row, entry in enumerate(entries):
        landmark, verdict = entry.landmark, entry.review.verdict
        _put(table, row, 0, landmark.title, landmark.id, tip=landmark.definition)
        _put(table, row, 1, state_word(verdict), picture=ICONS[verdict], tip=entry.review.decided_utc)
        _put(table, row, 2, _confidence(landmark), tip=entry.why or _("Nothing speaks against it."))
        if entry.flags:
            _put(table, row, 3, str(len(entry.flags)), picture="warning", tip="\n".join(entry.flags))
    _end(table)


def _confidence(landmark: Landmark) -> str:
    """How likely it is in the scan, of a calibrated net; else a score, where there is a point to score."""
    if has_probability(landmark):
        return f"{landmark.confidence:.0%}"
    return f"{landmark.confidence:.2f}" if landmark.presence == "present" else _("none")


def fill_blinded(table: Any, case: Case) -> None:
    """One row per landmark that a second reader places; nothing of what program or first reader say."""
    landmarks = to_second(case)
    _start(table, len(landmarks), hidden=(2, 3))
    for row, landmark in enumerate(landmarks):
        review = review_of(case, landmark.id)
        _put(table, row, 0, landmark.title, landmark.id, tip=landmark.definition)
        _put(table, row, 1, state_word(review.second), picture=ICONS[review.second], tip=review.second_utc)
    _end(table)


def fill_readers(table: Any, rows: tuple[Distances, ...]) -> None:
    """Distances in mm per landmark and pair, then their summary."""
    every = [agreement(rows, pair) for pair in PAIRS]
    summary = [
        (_("mean"), [_mm(each.mean) for each in every]),
        (_("median"), [_mm(each.median) for each in every]),
        (_("largest"), [_mm(each.largest) for each in every]),
        *(
            (_("within {mm} mm").format(mm=f"{mm:g}"), [_share(each.success[mm]) for each in every])
            for mm in SDR_MM
        ),
    ]
    _start(table, len(rows) + len(summary), hidden=())
    for n, row in enumerate(rows):
        tip = _("One reader gives a place, the other says there is none.") if row.disagree else ""
        _put(table, n, 0, row.landmark.title, tip=tip, picture="warning" if row.disagree else "")
        for column, pair in enumerate(PAIRS, start=1):
            _put(table, n, column, _mm(row.mm[pair]))
    for n, (name, values) in enumerate(summary, start=len(rows)):
        for column, text in enumerate((name, *values)):
            _put(table, n, column, text, is_bold=True)
    _end(table)


def id_in_row(table: Any, row: int) -> str:
    """Id of the landmark in a row; "" where there is none."""
    item = table.item(row, 0) if row >= 0 else None
    return str(item.data(qt.Qt.UserRole) or "") if item else ""


def mark_row(table: Any, landmark_id: str) -> None:
    """Highlight a landmark's row, without a signal."""
    table.blockSignals(True)
    for row in range(table.rowCount):
        if id_in_row(table, row) == landmark_id:
            table.setCurrentCell(row, 0)
            table.scrollToItem(table.item(row, 0))
    table.blockSignals(False)


def _start(table: Any, rows: int, *, hidden: tuple[int, ...]) -> None:
    table.blockSignals(True)
    table.clearContents()
    table.setRowCount(rows)
    for column in range(table.columnCount):
        table.setColumnHidden(column, column in hidden)


def _end(table: Any) -> None:
    table.blockSignals(False)


def _put(
    table: Any,
    row: int,
    column: int,
    text: str,
    key: str = "",
    *,
    tip: str = "",
    picture: str = "",
    is_bold: bool = False,
) -> None:
    item = qt.QTableWidgetItem(text)
    item.setToolTip(tip)
    if key:
        item.setData(qt.Qt.UserRole, key)
    if picture:
        item.setIcon(icon(picture))
    if is_bold:
        font = item.font()
        font.setBold(True)
        item.setFont(font)
    table.setItem(row, column, item)


def _mm(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
