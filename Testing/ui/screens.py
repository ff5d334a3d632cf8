"""Pictures of panels, and a check that no text on them is cut; other scales run in a process of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PySide6.QtCore import QRect, QSize
from PySide6.QtGui import QColor, QFontMetrics, QPalette, Qt, QTextDocument
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractScrollArea,
    QApplication,
    QCheckBox,
    QComboBox,
    QGroupBox,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QRadioButton,
    QScrollArea,
    QStyle,
    QStyleOptionButton,
    QStyleOptionComboBox,
    QTabBar,
    QTableView,
    QTextEdit,
    QToolButton,
    QWidget,
)
from pythonqt_double import unwrap

ROOT = Path(__file__).resolve().parents[2]
PANEL_WIDTH = 350  # logical pixels: the narrowest that Slicer's panel is used at
DARK = {
    QPalette.ColorRole.Window: "#323232",
    QPalette.ColorRole.WindowText: "#f0f0f0",
    QPalette.ColorRole.Base: "#222222",
    QPalette.ColorRole.AlternateBase: "#2c2c2c",
    QPalette.ColorRole.ToolTipBase: "#323232",
    QPalette.ColorRole.ToolTipText: "#f0f0f0",
    QPalette.ColorRole.PlaceholderText: "#a0a0a0",
    QPalette.ColorRole.Text: "#f0f0f0",
    QPalette.ColorRole.Button: "#323232",
    QPalette.ColorRole.ButtonText: "#f0f0f0",
    QPalette.ColorRole.BrightText: "#ff6060",
    QPalette.ColorRole.Link: "#6cb6ff",
    QPalette.ColorRole.LinkVisited: "#b48cff",
    QPalette.ColorRole.Highlight: "#2a82da",
    QPalette.ColorRole.HighlightedText: "#ffffff",
}
SLACK = 1  # pixels that rounding may cost


# pictures


def grab(panel_widget: Any, path: Path | str, width: int = PANEL_WIDTH, dark: bool = False) -> Path:
    """Write a picture of a panel at a width, as high as it wants to be; gives the picture's path."""
    widget = unwrap(panel_widget)
    with palette(dark=dark):
        lay_out(widget, width)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        assert widget.grab().save(str(path)), f"{path} can't be written"
    return Path(path)


def lay_out(panel_widget: Any, width: int = PANEL_WIDTH) -> None:
    """Show a panel at a width, as high as it wants to be.

    Raises:
        AssertionError: if something on it can't be made as narrow.
    """
    widget = unwrap(panel_widget)
    widget.show()
    for _ in range(3):  # texts that wrap, and text edits, settle their height one after the other
        layout = widget.layout()
        wraps = layout is not None and layout.hasHeightForWidth()
        height = layout.totalHeightForWidth(width) if wraps else widget.sizeHint().height()
        widget.resize(width, max(height, widget.minimumSizeHint().height()))
        QApplication.processEvents()
    assert widget.width() <= width, f"{_wide(widget, width)} can't be {width} wide"


def _wide(top: QWidget, width: int) -> str:
    """What keeps a panel wider than it should be."""
    every = [each for each in (top, *top.findChildren(QWidget)) if each.isVisible()]
    wants = {f"{type(each).__name__} {each.objectName()}": each.minimumSizeHint().width() for each in every}
    return ", ".join(f"{name} ({want})" for name, want in wants.items() if want > 0.9 * width) or str(top)


@contextmanager
def palette(*, dark: bool) -> Iterator[None]:
    """The application in a dark or light window style, then as it was."""
    before = QApplication.palette()
    chosen = QApplication.style().standardPalette()
    for role, color in DARK.items() if dark else ():
        chosen.setColor(role, QColor(color))
        if role in (QPalette.ColorRole.WindowText, QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText):
            chosen.setColor(QPalette.ColorGroup.Disabled, role, QColor("#909090"))
    QApplication.setPalette(chosen)
    QApplication.processEvents()
    try:
        yield
    finally:
        QApplication.setPalette(before)
        QApplication.processEvents()


# what is cut


def cut_texts(widget: Any) -> list[str]:
    """What a person can't read in full at the present size: one line per text, with the room it lacks.

    Every visible widget below counts: labels, buttons, fields, headers, cells, tabs, progress bars, and also
    what sticks out of its parent. Scrolling up and down is fine, sideways isn't.
    """
    QApplication.processEvents()
    top = unwrap(widget)
    shown = [each for each in (top, *top.findChildren(QWidget)) if each.isVisible()]
    return [line for each in shown for line in (*_cut_in(each), *_sticking_out(each, top))]


def _cut_in(widget: QWidget) -> Iterator[str]:
    for kind, check in CHECKS:
        if isinstance(widget, kind):
            yield from check(widget)
            return


def _told(widget: QWidget, text: str, need: QSize, room: QSize) -> Iterator[str]:
    if need.width() > room.width() + SLACK or need.height() > room.height() + SLACK:
        sizes = f"needs {need.width()}x{need.height()}, has {room.width()}x{room.height()}"
        yield f"{type(widget).__name__} {widget.objectName()}: {text!r} {sizes}"


def _text_size(metrics: QFontMetrics, text: str, width: int = 0, mnemonic: bool = True) -> QSize:
    """Room that a plain text needs; wrapped at a width where one is given."""
    flags = Qt.TextFlag.TextShowMnemonic if mnemonic else Qt.TextFlag.TextExpandTabs
    if not width:
        return metrics.size(flags, text)
    wrapped = metrics.boundingRect(QRect(0, 0, width, 100_000), flags | Qt.TextFlag.TextWordWrap, text)
    return wrapped.size()


def _label(label: QLabel) -> Iterator[str]:
    text = label.text()
    if not text:
        return
    margins = 2 * label.margin() + max(label.indent(), 0)
    room = label.contentsRect().size() - QSize(margins, 2 * label.margin())
    if label.textFormat() == Qt.TextFormat.RichText or Qt.mightBeRichText(text):
        document = QTextDocument()
        document.setDefaultFont(label.font())
        document.setDocumentMargin(0)
        document.setHtml(text)
        if label.wordWrap():
            document.setTextWidth(room.width())
        need = QSize(int(document.idealWidth()), int(document.size().height()))
    else:
        need = _text_size(label.fontMetrics(), text, room.width() if label.wordWrap() else 0)
    yield from _told(label, text, need, room)


def _button(button: QAbstractButton) -> Iterator[str]:
    text = button.text()
    if not text or _shows_icon_only(button):
        return
    room, need = _button_room(button), _text_size(button.fontMetrics(), text)
    if not button.icon().isNull() and not _has_text_below(button):
        need += QSize(button.iconSize().width() + 4, 0)
    yield from _told(button, text, need, room)


def _shows_icon_only(button: QAbstractButton) -> bool:
    is_bare = isinstance(button, QToolButton) and not button.icon().isNull()
    return is_bare and button.toolButtonStyle() == Qt.ToolButtonStyle.ToolButtonIconOnly


def _has_text_below(button: QAbstractButton) -> bool:
    style = Qt.ToolButtonStyle.ToolButtonTextUnderIcon
    return isinstance(button, QToolButton) and button.toolButtonStyle() == style


def _button_room(button: QAbstractButton) -> QSize:
    if hasattr(button, "_header_height"):
        return QSize(button.width() - button._header_height(), button._header_height())
    if isinstance(button, QToolButton):
        return QSize(button.width() - 4 - 12 * (button.menu() is not None), button.height())
    option = QStyleOptionButton()
    option.initFrom(button)
    part = QStyle.SubElement.SE_PushButtonContents
    if isinstance(button, QCheckBox):
        part = QStyle.SubElement.SE_CheckBoxContents
    if isinstance(button, QRadioButton):
        part = QStyle.SubElement.SE_RadioButtonContents
    return QSize(button.style().subElementRect(part, option, button).width(), button.height())


def _combo(combo: QComboBox) -> Iterator[str]:
    option = QStyleOptionComboBox()
    option.initFrom(combo)
    option.editable = combo.isEditable()
    part = QStyle.SubControl.SC_ComboBoxEditField
    room = combo.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, part, combo).size()
    text = combo.currentText() or combo.placeholderText()
    need = QSize(_text_size(combo.fontMetrics(), text, mnemonic=False).width(), 0)
    if not combo.itemIcon(combo.currentIndex()).isNull():
        need += QSize(combo.iconSize().width() + 4, 0)
    yield from _told(combo, text, need, room)


def _line(field: QLineEdit) -> Iterator[str]:
    text = field.text() if field.isReadOnly() or _is_in_spin_box(field) else ""
    text = text or ("" if field.text() else field.placeholderText())
    need = QSize(_text_size(field.fontMetrics(), text, mnemonic=False).width(), 0)
    yield from _told(field, text, need, field.contentsRect().size() - QSize(4, 0))


def _is_in_spin_box(field: QLineEdit) -> bool:
    return field.objectName() == "qt_spinbox_lineedit"


def _view(view: QAbstractItemView) -> Iterator[str]:
    model, parent = view.model(), view.rootIndex()
    if model is None or isinstance(view, QHeaderView):
        return
    wraps = isinstance(view, QTableView) and view.wordWrap()
    if view.horizontalScrollBar().isVisible():
        yield f"{type(view).__name__} {view.objectName()}: has to be scrolled sideways"
    for row in range(model.rowCount(parent)):
        for column in range(model.columnCount(parent)):
            index = model.index(row, column, parent)
            place, text = view.visualRect(index), str(index.data(Qt.ItemDataRole.DisplayRole) or "")
            if not text or place.isEmpty() or view.indexWidget(index) is not None:
                continue
            icon = 20 if index.data(Qt.ItemDataRole.DecorationRole) is not None else 0
            room = place.size() - QSize(2 * (view.style().pixelMetric(_MARGIN, None, view) + 1) + icon, 0)
            font = index.data(Qt.ItemDataRole.FontRole)
            metrics = QFontMetrics(font) if font is not None else view.fontMetrics()
            need = _text_size(metrics, text, room.width() if wraps else 0, mnemonic=False)
            yield from _told(view, text, need, room)


_MARGIN = QStyle.PixelMetric.PM_FocusFrameHMargin


def _header(header: QHeaderView) -> Iterator[str]:
    model = header.model()
    for section in range(header.count() if header.orientation() == Qt.Orientation.Horizontal else 0):
        if header.isSectionHidden(section):
            continue
        text = str(model.headerData(section, header.orientation()) or "")
        need = _text_size(header.fontMetrics(), text, mnemonic=False)
        mark = header.isSortIndicatorShown() and header.sortIndicatorSection() == section
        margin = 2 * header.style().pixelMetric(QStyle.PixelMetric.PM_HeaderMargin, None, header)
        need += QSize(margin + 14 * mark, 0)
        yield from _told(header, text, need, QSize(header.sectionSize(section), header.height()))


def _bar(bar: QProgressBar) -> Iterator[str]:
    if bar.isTextVisible() and bar.text():
        need = _text_size(bar.fontMetrics(), bar.text(), mnemonic=False)
        yield from _told(bar, bar.text(), need, bar.contentsRect().size())


def _box(box: QGroupBox) -> Iterator[str]:
    room = QSize(box.width() - 8 - 22 * box.isCheckable(), box.height())
    yield from _told(box, box.title(), _text_size(box.fontMetrics(), box.title()), room)


def _tabs(tabs: QTabBar) -> Iterator[str]:
    for n in range(tabs.count()):
        room = tabs.tabRect(n).intersected(tabs.rect()).size() - QSize(8, 0)
        yield from _told(tabs, tabs.tabText(n), _text_size(tabs.fontMetrics(), tabs.tabText(n)), room)


def _edit(edit: QTextEdit | QPlainTextEdit) -> Iterator[str]:
    name = f"{type(edit).__name__} {edit.objectName()}"
    never = Qt.ScrollBarPolicy.ScrollBarAlwaysOff
    sideways, upright = edit.horizontalScrollBar(), edit.verticalScrollBar()
    if sideways.maximum() > SLACK:
        yield f"{name}: its text has to be scrolled sideways"
    if upright.maximum() > SLACK and edit.verticalScrollBarPolicy() == never:
        yield f"{name}: its text is cut below, and there is no scroll bar"


CHECKS = (  # the first that fits
    (QLabel, _label),
    (QAbstractButton, _button),
    (QComboBox, _combo),
    (QLineEdit, _line),
    (QHeaderView, _header),
    (QAbstractItemView, _view),
    (QProgressBar, _bar),
    (QGroupBox, _box),
    (QTabBar, _tabs),
    (QTextEdit, _edit),
    (QPlainTextEdit, _edit),
)


def _sticking_out(widget: QWidget, top: QWidget) -> Iterator[str]:
    """Parts of what has a text that lie outside of what shows it; up and down may be scrolled."""
    if not _shows_text(widget):
        return
    place, parent = QRect(widget.mapToParent(widget.rect().topLeft()), widget.size()), widget.parentWidget()
    while widget is not top and parent is not None:
        area = parent.parentWidget()
        if isinstance(area, QAbstractItemView):
            return  # cells are checked by their view
        may_scroll = isinstance(area, QScrollArea) and area.viewport() is parent
        beside = place.left() < -SLACK or place.right() > parent.width() + SLACK
        beyond = place.top() < -SLACK or place.bottom() > parent.height() + SLACK
        if beside or (beyond and not may_scroll):
            holder = parent.objectName() or type(parent).__name__
            yield f"{type(widget).__name__} {widget.objectName()}: sticks out of {holder}"
            return
        if parent is top:
            return
        place, parent = place.translated(parent.pos()), parent.parentWidget()
        if may_scroll:
            place.setTop(max(place.top(), 0))
            place.setBottom(min(place.bottom(), parent.height() - 1))


def _shows_text(widget: QWidget) -> bool:
    inside = isinstance(widget.parentWidget(), QAbstractScrollArea | QComboBox)
    return not inside and any(isinstance(widget, kind) for kind, _ in CHECKS)


# at another scale


def run_scaled(*arguments: str, scale: float = 2.0, timeout_s: float = 300.0) -> str:
    """Run pytest in a process with everything enlarged; gives what it printed, fails where it fails.

    Args:
        arguments: of pytest, such as "Testing/ui", "-k", "nothing_is_cut".
    """
    environment = os.environ | {"QT_SCALE_FACTOR": str(scale), "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
