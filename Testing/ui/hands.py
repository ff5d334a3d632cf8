"""A person's hands in the tests: real mouse and key events on what can be seen and is enabled, nothing else.

Each takes widgets as panels have them. What a person couldn't reach fails the test.
"""

from typing import Any

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QKeySequence, QTextCursor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QApplication,
    QCheckBox,
    QComboBox,
    QLabel,
    QRadioButton,
    QScrollArea,
    QTextBrowser,
    QWidget,
)
from pythonqt_double import unwrap

LEFT = Qt.MouseButton.LeftButton


def click(widget: Any) -> None:
    """Click a button, a check box, a section's header, or any other widget in its middle."""
    target = reachable(widget)
    place = _where_to_click(target)
    _scroll_to(target, place)
    click_at(target, place)


def click_at(target: QWidget, place: QPoint) -> None:
    """Click a place of a widget that nothing else covers."""
    window = target.window()
    under = window.childAt(target.mapTo(window, place)) if target is not window else target
    assert under is target or target.isAncestorOf(under), f"{_name(under)} covers {_name(target)}"
    QTest.mouseClick(target, LEFT, Qt.KeyboardModifier.NoModifier, place)
    QApplication.processEvents()


def press(widget: Any, keys: str) -> None:
    """Press keys such as "A", "Return" or "Ctrl+Z" while the widget, or what it holds, has the focus."""
    target = reachable(widget)
    focused = QApplication.focusWidget()
    if focused is None or not (focused is target or target.isAncestorOf(focused)):
        target.setFocus(Qt.FocusReason.OtherFocusReason)
        focused = target
    for combination in (QKeySequence(keys)[n] for n in range(QKeySequence(keys).count())):
        QTest.keyClick(focused, combination.key(), combination.keyboardModifiers())
    QApplication.processEvents()


def type_text(widget: Any, text: str, *, instead: bool = True) -> None:
    """Type into a field; `instead` of what is in it, or after it."""
    target = reachable(widget)
    target.setFocus(Qt.FocusReason.MouseFocusReason)
    target = target.focusProxy() or target
    if instead:
        QTest.keySequence(target, QKeySequence(QKeySequence.StandardKey.SelectAll))
        QTest.keyClick(target, Qt.Key.Key_Delete)
    else:
        QTest.keySequence(target, QKeySequence(QKeySequence.StandardKey.MoveToEndOfDocument))
    QTest.keyClicks(target, text)
    QApplication.processEvents()


def choose(combo: Any, text: str) -> None:
    """Open a combo box, go to the item of this text with the arrow keys, and take it with Return."""
    box = unwrap(combo)
    box = box if isinstance(box, QComboBox) else box.findChild(QComboBox)
    row = box.findText(text)
    assert row >= 0, f"{text!r} is not among {[box.itemText(n) for n in range(box.count())]}"
    target = reachable(box)
    click_at(target, target.rect().center())
    view = target.view()
    assert view.isVisible(), f"{_name(target)} did not open"
    QTest.keyClick(view, Qt.Key.Key_Home)
    for _ in range(target.count()):
        if view.currentIndex().row() == row:
            break
        QTest.keyClick(view, Qt.Key.Key_Down)
    assert view.currentIndex().row() == row, f"{text!r} can't be chosen"
    QTest.keyClick(view, Qt.Key.Key_Return)
    QApplication.processEvents()


def click_link(browser: Any, href: str) -> None:
    """Scroll to a link of a text browser and click it."""
    target: QTextBrowser = reachable(browser)
    cursor = _anchor(target, href)
    target.ensurePolished()
    bar = target.verticalScrollBar()
    place = target.cursorRect(cursor).center()
    bar.setValue(bar.value() + place.y() - target.viewport().height() // 2)
    place = target.cursorRect(cursor).center() + QPoint(1, 0)
    assert target.anchorAt(place) == href, f"the link {href} is not where its text is"
    click_at(target.viewport(), place)


def click_label_link(label: Any, href: str) -> None:
    """Find a link of a label with the mouse, and click it."""
    target: QLabel = reachable(label)
    under: list[str] = []
    target.linkHovered.connect(under.append)
    for y in range(2, target.height(), 5):
        _scroll_to(target, QPoint(target.width() // 2, y))  # a tall label isn't in view all at once
        for x in range(2, target.width(), 8):
            QTest.mouseMove(target, QPoint(x, y))
            QApplication.processEvents()
            if under and under[-1] == href:
                target.linkHovered.disconnect(under.append)
                click_at(target, QPoint(x, y))
                return
    raise AssertionError(f"{_name(target)} has no link {href}")


def click_cell(table: Any, row: int, column: int, *, twice: bool = False) -> None:
    """Scroll to a cell of a table or list and click it, or double-click it."""
    view: QAbstractItemView = reachable(table)
    index = view.model().index(row, column)
    assert index.isValid(), f"{_name(view)} has no cell ({row}, {column})"
    view.scrollTo(index)
    place = view.visualRect(index).center()
    assert view.viewport().rect().contains(place), f"cell ({row}, {column}) of {_name(view)} is hidden"
    click_at(view.viewport(), place)
    if twice:
        QTest.mouseDClick(view.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, place)
    QApplication.processEvents()


def click_header(table: Any, column: int) -> None:
    """Click a column's header, to sort."""
    header = reachable(table).horizontalHeader()
    place = QPoint(header.sectionViewportPosition(column) + 6, header.height() // 2)
    click_at(header.viewport(), place)


def slide(slider: Any, value: int) -> None:
    """Bring a slider to a value with the keys Home, Page Up and Right."""
    target: QAbstractSlider = reachable(slider)
    target.setFocus(Qt.FocusReason.TabFocusReason)
    QTest.keyClick(target, Qt.Key.Key_Home)
    while target.value() + target.pageStep() <= value:
        QTest.keyClick(target, Qt.Key.Key_PageUp)
    while target.value() + target.singleStep() <= value:
        QTest.keyClick(target, Qt.Key.Key_Right)
    assert target.value() == value, f"{_name(target)} can't be brought to {value}"


def unfold(section: Any) -> None:
    """Open a collapsible section by a click on its header, unless it is open."""
    if section.collapsed:
        click(section)


def reachable(widget: Any) -> QWidget:
    """The widget itself, scrolled into view, where a person can see and use it; else the test fails."""
    target = unwrap(widget)
    target.window().activateWindow()
    _scroll_to(target)
    QApplication.processEvents()
    assert target.isVisible(), f"{_name(target)} is hidden"
    assert target.isEnabled(), f"{_name(target)} is disabled"
    assert target.width() > 2 and target.height() > 2, f"{_name(target)} has no room"
    return target


def _scroll_to(target: QWidget, place: QPoint | None = None) -> None:
    """Scroll a widget into view; one that is taller than the view, so that a place of it can be seen."""
    parent = target.parentWidget()
    while parent is not None:
        if isinstance(parent, QScrollArea):
            parent.ensureWidgetVisible(target)
            if place is not None:
                there = target.mapTo(parent.widget(), place)
                parent.ensureVisible(there.x(), there.y())
        parent = parent.parentWidget()
    QApplication.processEvents()


def _where_to_click(target: QWidget) -> QPoint:
    if isinstance(target, QCheckBox | QRadioButton):
        return QPoint(8, target.height() // 2)
    if isinstance(target, QAbstractButton) and hasattr(target, "_header_height"):
        return QPoint(target.width() // 2, target._header_height() // 2)
    return target.rect().center()


def _anchor(browser: QTextBrowser, href: str) -> QTextCursor:
    """A cursor in the middle of a link's text."""
    found, block = [], browser.document().begin()
    while block.isValid():
        for part in (each.fragment() for each in block):
            if part.charFormat().anchorHref() == href:
                cursor = QTextCursor(browser.document())
                cursor.setPosition(part.position() + part.length() // 2)
                return cursor
            found += [part.charFormat().anchorHref()] if part.charFormat().isAnchor() else []
        block = block.next()
    raise AssertionError(f"{_name(browser)} has no link {href}, only {found}")


def _name(widget: QWidget | None) -> str:
    return f"{type(widget).__name__} {widget.objectName()!r}" if widget is not None else "nothing"
