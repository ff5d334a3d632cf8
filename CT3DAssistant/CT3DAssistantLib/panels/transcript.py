"""A text browser that shows a conversation, the end of which grows while it is being written."""

from collections.abc import Callable
from typing import Any

import qt

NEAR = 4  # pixels from the end that still count as the end


class Transcript:
    """Rich text, and behind it a paragraph that may be written anew at any time.

    Who reads at the end is kept at the end; who has scrolled back is left where he is.

    Args:
        browser: a QTextBrowser.
        on: connects a signal, as Panel.on does.
    """

    def __init__(self, browser: Any, on: Callable[..., None]):
        self._browser = browser
        self._html = ""
        self._has_tail = False
        self._is_at_end = True
        bar = browser.verticalScrollBar()
        on(bar, "valueChanged(int)", self._note_place)
        on(bar, "rangeChanged(int,int)", self._keep_at_end)

    def show(self, html: str, tail: str | None = None, *, to_end: bool = False) -> None:
        """Show rich text, and as plain text behind it the tail; None: there is none."""
        if html == self._html and self._has_tail == (tail is not None):
            if tail is not None:
                self.write(tail)
            return
        bar = self._browser.verticalScrollBar()
        place = None if to_end or self._is_at_end else bar.value
        self._browser.setHtml(html)
        self._html, self._has_tail = html, tail is not None
        if tail is not None:
            self._end().insertBlock(qt.QTextBlockFormat(), qt.QTextCharFormat())
            self._end().insertText(tail)
        bar.value = bar.maximum if place is None else place

    def write(self, tail: str) -> None:
        """Replace the tail."""
        cursor = self._end()
        cursor.movePosition(qt.QTextCursor.StartOfBlock, qt.QTextCursor.KeepAnchor)
        cursor.insertText(tail)

    def _note_place(self, value: int) -> None:
        self._is_at_end = value >= self._browser.verticalScrollBar().maximum - NEAR

    def _keep_at_end(self, _minimum: int, maximum: int) -> None:
        """The text has grown, or its window has shrunk."""
        if self._is_at_end:
            self._browser.verticalScrollBar().value = maximum

    def _end(self) -> Any:
        cursor = self._browser.textCursor()
        cursor.movePosition(qt.QTextCursor.End)
        return cursor
