"""Clicks and keys inside the application, where Qt's own test library isn't at hand."""

from collections.abc import Iterator
from typing import Any

import qt


class Hands:
    """Does to widgets what a person could do to them now; what is hidden or disabled fails."""

    def click(self, button: Any) -> None:
        """Press a button."""
        _reachable(button).click()

    def click_header(self, section: Any) -> None:
        """Fold or unfold a section."""
        _reachable(section).click()

    def click_link(self, browser: Any, href: str) -> None:
        """Follow a link that the text really has."""
        assert f'href="{href}"' in _reachable(browser).html, f"{browser.objectName} has no link {href}"
        browser.anchorClicked(qt.QUrl(href))

    def type_text(self, field: Any, text: str) -> None:
        """Put text into a line or a text field."""
        _reachable(field).setFocus()
        if field.inherits("QLineEdit"):
            field.setText(text)
        else:
            field.setPlainText(text)

    def press(self, widget: Any, keys: str) -> None:
        """Press keys named as in a shortcut: "A", "Return", "Ctrl+Z"."""
        wanted = qt.QKeySequence(keys).toString()
        if wanted in ("Return", "Enter") and widget.inherits("QLineEdit"):
            _reachable(widget).returnPressed()
            return
        live = [each for each in _shortcuts(widget) if each.isEnabled() and each.key.toString() == wanted]
        assert live, f"the key {keys} does nothing now"
        live[0].activated()


def _shortcuts(widget: Any) -> Iterator[Any]:
    """Those that a widget and what holds it bring; nearest first."""
    while widget is not None:
        yield from (each for each in widget.children() if each.inherits("QShortcut"))
        widget = widget.parentWidget()


def _reachable(widget: Any) -> Any:
    assert widget.isVisible() and widget.enabled, f"{widget.objectName} can't be used now"
    return widget
