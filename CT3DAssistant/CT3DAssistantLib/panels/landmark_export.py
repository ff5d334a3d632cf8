"""The export buttons of the landmark panel."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ct3d.case import Case
from ct3d.errors import InvalidRequest
from CT3DAssistantLib.exports.landmarks import write_landmarks, write_readers, write_review, write_training
from CT3DAssistantLib.landmark_sets import cards_of, of_card
from CT3DAssistantLib.panels.icons import icon


class LandmarkExport:
    """Folder and buttons: exportFolder, csvButton, markupsButton, trainingButton."""

    def __init__(self, panel: Any):
        self._workspace, self._ui = panel.workspace, panel.ui
        self.buttons = (self._ui.csvButton, self._ui.markupsButton, self._ui.trainingButton)
        slots = (self.onCsv, self.onMarkups, self.onTraining)
        for button, slot in zip(self.buttons, slots, strict=True):
            button.icon = icon("export")
            panel.on(button, "clicked()", slot, _("Nothing was exported."))

    def onCsv(self) -> None:
        """The table of landmarks, and that of the readers where a second one has read."""
        has_second = any(review.second for review in self._workspace.need_case().reviews)
        readers = [(write_readers, "_readers.csv")] if has_second else []
        self._write((write_review, ".csv"), *readers)

    def onMarkups(self) -> None:
        """The markups file that Slicer opens; one per card, where several placed landmarks."""
        cards = cards_of(self._workspace.need_case())
        if len(cards) < 2:
            self._write((write_landmarks, ".mrk.json"))
        else:
            self._write(*((partial(_write_card, card), f"_{card}.mrk.json") for card in cards))

    def onTraining(self) -> None:
        """Labels to train on."""
        self._write((write_training, "_training.json"))

    def _write(self, *files: tuple[Callable[[Path, Case], Path], str]) -> None:
        case, folder = self._workspace.need_case(), self._folder()
        stem = f"landmarks_{case.input.sha256[:12]}"  # a volume may be named after a patient
        written = [write(folder / f"{stem}{ending}", case) for write, ending in files]
        self._ui.exportFolder.addCurrentPathToHistory()
        names = ", ".join(path.name for path in written)
        told = _("Written to {folder}: {names}. {notice}")
        self._workspace.tell(told.format(folder=folder, names=names, notice=case.notice), "info")

    def _folder(self) -> Path:
        text = self._ui.exportFolder.currentPath.strip()
        if not text or not Path(text).is_dir():
            raise InvalidRequest(_("Choose a folder to export to, then press the button again."))
        return Path(text)


def _write_card(card: str, path: Path, case: Case) -> Path:
    return write_landmarks(path, of_card(case, card))
