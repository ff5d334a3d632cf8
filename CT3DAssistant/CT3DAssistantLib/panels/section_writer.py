"""The row in which a person has a section of the report written anew."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from slicer.i18n import tr as _

from ct3d.case import SECTIONS
from ct3d.errors import InvalidRequest
from ct3d.protocol.messages import Progress, streamed
from CT3DAssistantLib.conversation import is_remade
from CT3DAssistantLib.panels.icons import icon


@dataclass(eq=False)
class Drafting:
    """A section that is being written anew."""

    volume_node: Any
    text: str = ""
    fraction: float = 0.0
    job: Any = None


class SectionWriter:
    """Section, Regenerate that becomes Cancel, bar and the text as it comes; one at a time per volume.

    Args:
        panel: the report panel, whose widgets these are.
    """

    def __init__(self, panel: Any):
        self.panel, self.ui = panel, panel.ui
        self._drafts: list[Drafting] = []  # under way
        for section, title in SECTIONS.items():
            self.ui.sectionCombo.addItem(title, section)
        failed = _("The section can't be written anew.")
        panel.on(self.ui.regenerateButton, "clicked()", self.onRegenerate, failed)

    @property
    def section(self) -> str:
        """The chosen section."""
        return self.ui.sectionCombo.currentData

    @section.setter
    def section(self, section: str) -> None:
        self.ui.sectionCombo.currentIndex = list(SECTIONS).index(section)

    def onRegenerate(self) -> None:
        drafting = self._drafting()
        if drafting is not None:
            drafting.job.cancel()
            return
        workspace = self.panel.workspace
        workspace.need_case()
        if is_remade(workspace.jobs, workspace.volume_node):
            raise InvalidRequest(_("This scan is being analysed. Write the section anew when that is done."))
        drafting = Drafting(workspace.volume_node)
        move, take = partial(self._move, drafting), partial(self._take, drafting)
        write = workspace.logic.draft_report
        drafting.job = write(workspace.volume_node, (self.section,), on_progress=move, on_text=take)
        self._drafts.append(drafting)
        drafting.job.add_done_callback(partial(self._ended, drafting))
        self.panel.follow(drafting.job, _("The section could not be written anew."))
        self.show()

    def show(self) -> None:
        """Bar, text so far, and the button that stops it."""
        ui, drafting = self.ui, self._drafting()
        ui.draftBar.visible = drafting is not None
        ui.draftLabel.visible = drafting is not None and bool(drafting.text)
        ui.regenerateButton.text = _("Re&generate") if drafting is None else _("Cancel")
        ui.regenerateButton.icon = icon("refresh" if drafting is None else "stop")
        ui.regenerateButton.enabled = self.panel.workspace.case is not None
        if drafting is not None:
            ui.draftBar.value = int(1000 * drafting.fraction)
            ui.draftLabel.text = drafting.text

    def cancel(self) -> None:
        """Stop all that runs."""
        for drafting in tuple(self._drafts):
            drafting.job.cancel()

    def _move(self, drafting: Drafting, progress: Progress) -> None:
        drafting.fraction = progress.fraction
        self.show()

    def _take(self, drafting: Drafting, piece: str) -> None:
        drafting.text = streamed(drafting.text, piece)
        self.show()

    def _ended(self, drafting: Drafting, _job: Any) -> None:
        self._drafts.remove(drafting)
        self.show()

    def _drafting(self) -> Drafting | None:
        """The section of the chosen volume that is being written anew."""
        node = self.panel.workspace.volume_node
        return next((each for each in self._drafts if each.volume_node is node), None)
