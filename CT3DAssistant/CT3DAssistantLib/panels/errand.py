"""One chore at a time in a panel: asked for first, shown while it runs, stopped by a click, logged."""

from collections.abc import Callable
from functools import partial
from typing import Any

import qt
from slicer.i18n import tr as _

from CT3DAssistantLib.panels.command import Chore
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.panel import Panel


class Errands:
    """The lower part of a panel: askRow, progressBar, progressLabel, stopButton, logText, copyButton.

    Args:
        panel: whose .ui has these widgets.
        on_change: called when a chore has started or ended.
    """

    def __init__(self, panel: Panel, on_change: Callable[[], None]):
        self._panel, self.ui, self._on_change = panel, panel.ui, on_change
        self._chore: Any = None
        self._agreed: Callable[[], None] | None = None
        panel.on(self.ui.yesButton, "clicked()", self.onYes)
        panel.on(self.ui.noButton, "clicked()", self.onNo)
        panel.on(self.ui.stopButton, "clicked()", self.stop)
        panel.on(self.ui.copyButton, "clicked()", self.onCopy)
        self.ui.stopButton.icon = icon("stop")
        self.ui.copyButton.icon = icon("copy")
        self.show()

    @property
    def is_busy(self) -> bool:
        return self._chore is not None

    def ask(self, text: str, yes: str, agreed: Callable[[], None]) -> None:
        """Ask in the panel; nothing happens before the person has said yes."""
        self._agreed = agreed
        self.ui.askLabel.text = text
        self.ui.yesButton.text = yes
        self.show()
        self.ui.yesButton.setFocus()

    def do(self, title: str, done: Callable[[Any], None], *arguments: Any) -> None:
        """Run a chore; its result goes to `done`, its error to the person."""
        self._agreed = None
        self.note(f"— {title}")
        self._chore = Chore(*arguments, on_note=self.note)
        self.ui.progressLabel.text = title
        self._panel.follow(
            self._chore, _("{title} did not work.").format(title=title), partial(self._done, done)
        )
        self._chore.add_done_callback(self._ended)
        self.show()
        self._on_change()

    def stop(self) -> None:
        """End what runs."""
        if self._chore is not None:
            self._chore.cancel()

    def note(self, text: str) -> None:
        """A line of the log."""
        self.ui.logText.appendPlainText(text)
        if self._chore is not None:
            self.ui.progressLabel.text = text

    def show(self) -> None:
        """Show what belongs to the present state."""
        self.ui.askRow.visible = self._agreed is not None and not self.is_busy
        for widget in (self.ui.progressBar, self.ui.progressLabel, self.ui.stopButton):
            widget.visible = self.is_busy

    def onYes(self) -> None:
        agreed, self._agreed = self._agreed, None
        self.show()
        if agreed is not None:
            agreed()

    def onNo(self) -> None:
        self._agreed = None
        self.show()

    def onCopy(self) -> None:
        qt.QApplication.clipboard().setText(self.ui.logText.plainText)

    def _done(self, done: Callable[[Any], None], result: Any) -> None:
        self._chore = None
        done(result)

    def _ended(self, chore: Any) -> None:
        """Also after an error, which `follow` has told."""
        if chore.error is not None:
            self._chore = None
            self.note(str(chore.error))
        self.show()
        self._on_change()
