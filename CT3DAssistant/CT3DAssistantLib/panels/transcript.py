"""A text browser that shows a conversation, the end of which grows while it is being written."""

from typing import Any

import qt

NEAR = 4  # pixels from the end that still count as the end


class Transcript:
    """Rich text, and behind it a paragraph that may be written anew at any time.

    Who reads at the end is kept at the end; who has scrolled back is left where he is.

    Args:
        browser: a QTextBrowser.
    """

    def __init__(self, browser: Any):
        self._browser = browser
        self._html = ""
        self._has_tail = False

    def show(self, html: str, tail: str | None = None, *, to_end: bool = False) -> None:
        """Show rich text, and as plain text behind it the tail; None: there is none."""
        if html == self._html and self._has_tail == (tail is not None):
            if tail is not None:
                self.write(tail)
            return
        bar = self._browser.verticalScrollBar()
        place = None if to_end or self._is_at_end() else bar.value
        self._browser.setHtml(html)
        self._html, self._has_tail = html, tail is not None
        if tail is not None:
            self._end().insertBlock(qt.QTextBlockFormat(), qt.QTextCharFormat())
            self._end().insertText(tail)
        bar.value = bar.maximum if place is None else place

    def write(self, tail: str) -> None:
        """Replace the tail."""
        was_at_end = self._is_at_end()
        cursor = self._end()
        cursor.movePosition(qt.QTextCursor.StartOfBlock, qt.QTextCursor.KeepAnchor)
        cursor.insertText(tail)
        if was_at_end:
            bar = self._browser.verticalScrollBar()
            bar.value = bar.maximum

    def _end(self) -> Any:
        cursor = self._browser.textCursor()
        cursor.movePosition(qt.QTextCursor.End)
        return cursor

    def _is_at_end(self) -> bool:
        bar = self._browser.verticalScrollBar()
        return bar.value >= bar.maximum - NEAR
