"""What every panel is: a window part from a .ui file over the workspace, and where errors reach the person.

Written for PythonQt: Qt's properties are attributes, signals are connected by their C++ signature, no keyword
arguments go into Qt. `Panel.on` is the one way to connect a slot, so that nothing a person clicks can fail
silently.
"""

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import slicer
from slicer.i18n import tr as _

from ct3d.errors import AssistantError, TaskCancelled
from CT3DAssistantLib.chain import TITLES
from CT3DAssistantLib.resources import resource_path
from CT3DAssistantLib.workspace import Workspace


@contextmanager
def running_safely(tell: Callable[[str, str], None], doing: str = "") -> Iterator[None]:
    """Tell the person of whatever goes wrong inside, as (text, severity); `doing` says what failed."""
    try:
        yield
    except TaskCancelled as stopped:
        tell(str(stopped), "info")
    except AssistantError as error:
        tell(f"{doing} {error}".strip(), "error")
    except Exception as error:  # the face that talks to the person: one of the three places
        logging.error("%s\n%s", doing, traceback.format_exc())
        cause = f"{type(error).__name__}: {error}"
        told = _("This should not have happened ({cause}). The log of the application has the details.")
        tell(f"{doing} {told.format(cause=cause)}".strip(), "error")


class Panel:
    """One collapsible section of the module.

    A subclass names its .ui file, connects in `setup`, and shows the case in `refresh`. The root widget of
    the file is a ctkCollapsibleButton.

    Attributes:
        ui_file: name of its file under Resources/UI.
        widget: the section.
        ui: its named child widgets, as attributes.
        is_open: whether it is unfolded; a folded one is refreshed when it opens.
    """

    ui_file = ""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.widget = slicer.util.loadUI(str(resource_path("UI", self.ui_file)))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self._is_stale = True
        self.on(self.widget, "contentsCollapsed(bool)", lambda _folded: self.refresh_if_open())
        workspace.on_change.append(self._note_change)
        workspace.on_select.append(self._note_selection)
        with self.run_safely(_("This part of the window can't be set up.")):
            self.setup()

    # what a subclass fills in

    def setup(self) -> None:
        """Connect the widgets. Called once."""

    def refresh(self) -> None:
        """Show volume and case as they are now. Called while open, after every change."""

    def select(self, evidence: str) -> None:
        """Highlight what was selected, here or in another panel; "" for nothing."""

    def enter(self) -> None:
        """The person has come to the module."""

    def exit(self) -> None:
        """The person has gone to another module."""

    def close(self) -> None:
        """The module goes: stop what runs here."""

    # what it gets

    @property
    def is_open(self) -> bool:
        return not self.widget.collapsed

    def open(self) -> None:
        """Unfold the section."""
        self.widget.collapsed = False
        self.refresh_if_open()

    def on(self, widget: Any, signal: str, slot: Callable[..., Any], doing: str = "") -> None:
        """Connect a signal, by its C++ signature, to a slot whose errors reach the person.

        Raises:
            ValueError: if the widget has no such signal.
        """

        def safely(*args: Any) -> None:
            with self.run_safely(doing):
                slot(*args)

        if widget.connect(signal, safely) is False:
            raise ValueError(f"{widget.objectName} has no signal {signal}")

    def run_safely(self, doing: str = "") -> AbstractContextManager[None]:
        """Tell the person of whatever goes wrong inside; `doing` says what failed."""
        return running_safely(self.workspace.tell, doing)

    def follow(self, job: Any, doing: str = "", done: Callable[[Any], None] | None = None) -> Any:
        """Start a job of the logic; its error reaches the person, its result goes to `done`.

        A chain goes on where a task of it breaks: that reaches the person, too.
        """

        def ended(finished: Any) -> None:
            with self.run_safely(doing):
                result = finished.result()
                if done is not None:
                    done(result)
            self._tell_broken(finished, doing)

        self.workspace.start(job)
        job.add_done_callback(ended)
        return job

    def _tell_broken(self, chain: Any, doing: str) -> None:
        """What broke while the chain went on; a chore or an errand has nothing of the kind."""
        for task, error in getattr(chain, "errors", {}).items():
            is_asked = task == chain.tasks[0]  # the others follow from it
            told = doing if is_asked else _("{step} broke off.").format(step=TITLES[task])
            with self.run_safely(told):
                if error is not chain.error:
                    raise error

    def refresh_if_open(self) -> None:
        """Refresh what is unfolded and out of date."""
        if self.is_open and self._is_stale:
            self._is_stale = False
            with self.run_safely(_("This part of the window can't be shown.")):
                self.refresh()
                self.select(self.workspace.selected)

    def _note_change(self) -> None:
        self._is_stale = True
        self.refresh_if_open()

    def _note_selection(self, evidence: str) -> None:
        if self.is_open:
            with self.run_safely():
                self.select(evidence)
