"""The module's window: the research notice, messages, what runs, and under them the panels."""

from collections import deque
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from operator import methodcaller
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from CT3DAssistantLib.panels import PANELS
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.panel import Panel, running_safely
from CT3DAssistantLib.resources import resource_path
from CT3DAssistantLib.workspace import Workspace

KEPT = 20  # messages
ICON_SIZE = 20


class Window:
    """All of the module's widgets.

    Args:
        workspace: what the panels look at together.

    Attributes:
        widget: to be put into the module's layout.
        panels: by their names in PANELS; one that could not be made is missing.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.widget = slicer.util.loadUI(str(resource_path("UI", "CT3DAssistant.ui")))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._messages: deque[tuple[str, str, str]] = deque(maxlen=KEPT)
        self._dress()
        self._connect()
        self.panels: dict[str, Panel] = {}
        for entry in PANELS:
            self._add_panel(entry)
        self.ui.panelsWidget.layout().addStretch(1)
        self._show_busy()

    def tell(self, text: str, severity: str = "info") -> None:
        """Show a message's first line until it is dismissed or another comes; all are kept in the history."""
        self._messages.append((datetime.now().strftime("%H:%M:%S"), severity, text))
        first, more, _rest = text.partition("\n")
        first = first.replace("\\", "\\\u200b")  # where a path may be wrapped
        self.ui.messageLabel.text = f"{_word(severity)}: {first}{' …' if more else ''}"
        self.ui.messageIcon.setPixmap(icon(severity).pixmap(ICON_SIZE, ICON_SIZE))
        self.ui.messageBar.show()
        self._show_history()

    def open_sample(self, name: str) -> None:
        """Have the Case section fetch and load a sample."""
        case = self.panels["case"]
        case.open()
        with running_safely(self.workspace.tell, _("The sample can't be loaded.")):
            case.ui.sampleCombo.currentIndex = case.ui.sampleCombo.findData(name)
            case.onLoadSample()

    def enter(self) -> None:
        """The person has come to the module."""
        self._each(methodcaller("enter"))

    def exit(self) -> None:
        """The person has gone to another module."""
        self._each(methodcaller("exit"))

    def close(self) -> None:
        """The module goes."""
        self._each(methodcaller("close"))
        self.panels.clear()

    # what it is made of

    def _dress(self) -> None:
        icons = {
            self.ui.copyButton: "copy",
            self.ui.dismissButton: "reject",
            self.ui.stopButton: "stop",
        }
        for button, name in icons.items():
            button.icon = icon(name)
        self.ui.bannerIcon.setPixmap(icon("warning").pixmap(ICON_SIZE, ICON_SIZE))
        for hidden in (self.ui.messageBar, self.ui.historyText, self.ui.busyRow):
            hidden.hide()

    def _connect(self) -> None:
        on = self._on
        on(self.ui.copyButton, "clicked()", self.onCopy)
        on(self.ui.dismissButton, "clicked()", self.onDismiss)
        on(self.ui.historyButton, "toggled(bool)", self.onHistory)
        on(self.ui.stopButton, "clicked()", self.workspace.cancel_all)
        self.workspace.on_tell.append(self.tell)
        self.workspace.on_start.append(self._show_busy)
        self.workspace.on_change.append(self._show_busy)
        self.workspace.on_open.append(self._open)

    def _on(self, widget: Any, signal: str, slot: Callable[..., Any]) -> None:
        def safely(*args: Any) -> None:
            with running_safely(self.workspace.tell):
                slot(*args)

        widget.connect(signal, safely)

    def _add_panel(self, entry: str) -> None:
        """Make one panel; where that fails the person is told, and the others come all the same."""
        file, _colon, name = entry.partition(":")
        with running_safely(self.workspace.tell, _("The section {name} can't be shown.").format(name=name)):
            kind = getattr(import_module(f"CT3DAssistantLib.panels.{file}"), name)
            panel = kind(self.workspace)
            narrower = qt.QSizePolicy.Preferred  # a ctkCollapsibleButton alone insists on its wished width
            panel.widget.setSizePolicy(narrower, qt.QSizePolicy.Preferred)
            self.ui.panelsWidget.layout().addWidget(panel.widget)
            self.panels[file.removesuffix("_panel")] = panel

    def _each(self, do: Callable[[Panel], None]) -> None:
        for panel in self.panels.values():
            with running_safely(self.workspace.tell):
                do(panel)

    def _open(self, name: str) -> None:
        """Unfold a panel, by its name or its plural, and bring it into view."""
        panel = self.panels.get(name) or self.panels.get(name.removesuffix("s"))
        if panel is not None:
            panel.open()
            area, section = self.ui.scrollArea, panel.widget
            qt.QTimer.singleShot(0, lambda: area.ensureWidgetVisible(section))  # once it has its size

    # what it shows

    def onCopy(self) -> None:
        """All messages, oldest first, for a report of a problem."""
        qt.QApplication.clipboard().setText(self._history())

    def onDismiss(self) -> None:
        self.ui.messageBar.hide()
        self.ui.historyButton.checked = False

    def onHistory(self, is_shown: bool) -> None:
        self.ui.historyText.setVisible(is_shown)
        self._show_history()

    def _show_history(self) -> None:
        if self.ui.historyButton.checked:
            self.ui.historyText.plainText = self._history()

    def _history(self) -> str:
        return "\n".join(f"{at} {_word(severity)}: {text}" for at, severity, text in self._messages)

    def _show_busy(self, _job: Any = None) -> None:
        jobs = self.workspace.jobs
        self.ui.busyRow.setVisible(bool(jobs))
        volumes = {
            node.GetName(): None for node in (getattr(job, "volume_node", None) for job in jobs) if node
        }
        if volumes:
            self.ui.busyLabel.text = _("At work on {names}").format(names=", ".join(volumes))
        else:
            self.ui.busyLabel.text = _("At work")


def _word(severity: str) -> str:
    return {"info": _("Note"), "warning": _("Warning"), "error": _("Error")}[severity]
