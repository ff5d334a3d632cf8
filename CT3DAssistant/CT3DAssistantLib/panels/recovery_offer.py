"""The offer of what a person did on this scan and the scene doesn't hold: one click brings it back."""

from typing import Any

from slicer.i18n import tr as _

from ct3d.case import Case
from CT3DAssistantLib.landmark_node import show_missing
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.recovery import Kept, restored


class RecoveryOffer:
    """A row in a panel: recoveryRow with recoveryLabel, restoreButton and dismissButton."""

    def __init__(self, panel: Any):
        self._panel, self._workspace, self._ui = panel, panel.workspace, panel.ui
        self._kept: Kept | None = None
        self._looked_for: Any = None  # volume and analysis that kept work was looked for last
        self._told: list[tuple[Any, str]] = []  # volume, and when the work was done that was told of
        self._dismissed: list[tuple[Any, str]] = []
        self._ui.restoreButton.icon = icon("restore")
        panel.on(self._ui.restoreButton, "clicked()", self.onRestore, _("The kept work can't be restored."))
        panel.on(self._ui.dismissButton, "clicked()", self.onDismiss)
        self._workspace.on_change.append(self.look)
        self.look()

    def look(self) -> None:
        """Offer kept work where volume or analysis are new here, also while the panel is folded."""
        with self._panel.run_safely():
            case, node = self._workspace.case, self._workspace.volume_node
            is_settled = case is not None and not self._workspace.jobs  # an analysis at work still adds to it
            key = (node, len(case.provenance), bool(case.actions)) if is_settled else None
            if key != self._looked_for:
                self._looked_for = key
                self._kept = self._offered(case) if is_settled else None
            self._show()

    def onRestore(self) -> None:
        """Take the kept work into the case."""
        if self._kept is not None:
            kept, self._kept = self._kept, None
            case = self._workspace.change(restored, kept.case)
            show_missing(self._workspace.scene, self._workspace.volume_node, case)
        self._show()

    def onDismiss(self) -> None:
        """Leave the case as it is; the file stays."""
        if self._kept is not None:
            self._dismissed.append((self._workspace.volume_node, self._kept.changed_utc))
            self._kept = None
        self._show()

    def _offered(self, case: Case) -> Kept | None:
        """What to offer; nothing while the landmarks that were decided aren't found here."""
        recovery, node = self._workspace.recovery, self._workspace.volume_node
        kept = recovery.offer(case) if recovery else None
        if kept is None or (node, kept.changed_utc) in self._dismissed:
            return None
        if kept.case.reviews and not case.landmarks:
            return None
        if (node, kept.changed_utc) not in self._told:
            self._told.append((node, kept.changed_utc))
            told = _("Your review of {time} on this scan is not in this case. Restore it under Landmarks.")
            self._workspace.tell(told.format(time=kept.changed_local), "warning")
        return kept

    def _show(self) -> None:
        self._ui.recoveryRow.visible = self._kept is not None
        if self._kept is not None:
            time = self._kept.changed_local
            self._ui.restoreButton.text = _("Restore unsaved review of {time}").format(time=time)
            told = _("On this scan you did more than this scene holds: {done}.")
            self._ui.recoveryLabel.text = told.format(done=_done(self._kept))


def _done(kept: Kept) -> str:
    """What the kept case holds of a person, in words."""
    points = sum(review.verdict != "open" or bool(review.second) for review in kept.case.reviews)
    sentences = sum(sentence.is_touched for sentence in kept.case.sentences)
    parts = [
        _("{n} landmarks decided").format(n=points) if points else "",
        _("{n} sentences changed").format(n=sentences) if sentences else "",
    ]
    return ", ".join(filter(None, parts)) or _("{n} steps").format(n=len(kept.case.actions))
