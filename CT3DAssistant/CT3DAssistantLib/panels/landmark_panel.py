"""Landmarks: a queue by risk, one key a decision, a second reader who sees nothing of the first, exports."""

from functools import partial
from html import escape
from typing import Any

from slicer.i18n import tr as _

from ct3d.case import RESEARCH_USE, Case, Point
from ct3d.protocol.messages import Progress
from CT3DAssistantLib.landmark_review import Entry, progress
from CT3DAssistantLib.landmark_session import LandmarkSession
from CT3DAssistantLib.landmark_sets import card_of, title_of
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.keys import panel_keys, switch_keys
from CT3DAssistantLib.panels.landmark_export import LandmarkExport
from CT3DAssistantLib.panels.landmark_tables import (
    fill_blinded,
    fill_queue,
    fill_readers,
    id_in_row,
    mark_row,
    prepare_table,
    state_word,
)
from CT3DAssistantLib.panels.panel import Panel
from CT3DAssistantLib.panels.recovery_offer import RecoveryOffer
from CT3DAssistantLib.readers import distances, second_progress

ICON = 16  # pixels
KEYS = {"accept": "A", "reject": "R", "move": "M", "undefine": "U", "next": "N"}
PICTURES = {name: name for name in KEYS} | {"undefine": "undefined"}


class LandmarkPanel(Panel):
    """The review of landmarks."""

    ui_file = "LandmarkPanel.ui"

    def setup(self) -> None:
        self.session = LandmarkSession(
            self.workspace, partial(self.run_safely, _("The point can't be moved."))
        )
        self._is_here = False  # the person is in the module
        self._job: Any = None
        self._followed: tuple[Any, str] = (None, "")  # volume and evidence that were selected last
        self._keys = panel_keys(self.widget, KEYS)
        self._undo_key = panel_keys(self.widget, {"undo": "Ctrl+Z"})
        self._offer = RecoveryOffer(self)
        self._export = LandmarkExport(self)
        self._connect()
        for name in KEYS:
            getattr(self.ui, f"{name}Button").icon = icon(PICTURES[name])
        self.ui.undoButton.icon = icon("restore")
        self.ui.noticeLabel.text = RESEARCH_USE
        self.ui.noteIcon.setPixmap(icon("info").pixmap(ICON, ICON))
        prepare_table(self.ui.queueTable)
        prepare_table(self.ui.readersTable)

    def _connect(self) -> None:
        ui, failed = self.ui, _("The decision was not taken.")
        slots = {name: partial(self.onVerdict, name) for name in KEYS} | {"next": self.onNext}
        for name, slot in slots.items():
            self.on(getattr(ui, f"{name}Button"), "clicked()", slot, failed)
            self.on(self._keys[name], "activated()", slot, failed)
        self.on(ui.undoButton, "clicked()", self.onUndo, failed)
        self.on(self._undo_key["undo"], "activated()", self.onUndo, failed)
        self.on(ui.queueTable, "currentCellChanged(int,int,int,int)", self.onRow)
        self.on(ui.queueTable, "cellDoubleClicked(int,int)", lambda *_cell: self._go(self.session.current))
        self.on(ui.keysCheck, "toggled(bool)", self.onKeys)
        self.on(ui.zoomCheck, "toggled(bool)", self.onZoom)
        self.on(ui.secondCheck, "toggled(bool)", self.onSecond)
        self.on(ui.setCombo, "currentIndexChanged(int)", self.onSet)
        self.on(ui.findButton, "clicked()", self.onFind, _("Landmarks can't be found."))
        self.on(self.widget, "contentsCollapsed(bool)", lambda _folded: self._show_aids())

    # what is shown

    def refresh(self) -> None:
        self.session.update()
        case = self.session.case
        if self.session.is_blinded and case is not None:
            fill_blinded(self.ui.queueTable, case)
        else:
            fill_queue(self.ui.queueTable, self.session.entries())
        self._show_progress(case)
        self._show_sets()
        self._show_current()
        self._show_readers(case)
        self._show_buttons()

    def select(self, evidence: str) -> None:
        followed, self._followed = self._followed, (self.workspace.volume_node, evidence)
        if (
            followed == self._followed
        ):  # shown anew, not chosen anew: other landmarks may be under review by now
            return
        kind, _slash, name = evidence.partition("/")
        case = self.session.whole
        if kind == "landmark" and case and case.entry(evidence) and not self.session.is_blinded:
            is_other = self.session.card != card_of(case, case.entry(evidence))
            self.session.turn_to(name)
            if is_other:
                self.refresh()
            self._show_current()

    def enter(self) -> None:
        self._is_here = True
        self.session.take_in()
        if self.is_open:
            self.refresh()

    def exit(self) -> None:
        self._is_here = False
        self._show_aids()

    def close(self) -> None:
        self._is_here = False
        self._show_aids()
        self.session.close()

    def _show_progress(self, case: Case | None) -> None:
        if case is None:
            self.ui.progressLabel.text = _("No landmarks yet.")
        elif self.session.is_blinded:
            done, whole = second_progress(case)
            told = _("{done} of {whole} read by the second reader")
            self.ui.progressLabel.text = told.format(done=done, whole=whole)
        else:
            done, whole = progress(case)
            self.ui.progressLabel.text = _("{done} of {whole} reviewed").format(done=done, whole=whole)

    def _show_sets(self) -> None:
        """Whose landmarks there are, where two models placed some; and what to know of those shown."""
        ui, session = self.ui, self.session
        ui.setCombo.blockSignals(True)
        ui.setCombo.clear()
        for card in session.cards:
            ui.setCombo.addItem(title_of(card), card)
        if session.cards:
            ui.setCombo.currentIndex = session.cards.index(session.card)
        ui.setCombo.blockSignals(False)
        ui.setRow.visible = len(session.cards) > 1
        notes = () if session.is_blinded else session.notes
        ui.noteRow.visible = bool(notes)
        ui.noteLabel.text = "\n".join(notes)

    def _show_current(self) -> None:
        ui, session = self.ui, self.session
        entry = next((each for each in session.entries() if each.landmark.id == session.current), None)
        for label in (ui.currentLabel, ui.definitionLabel, ui.whyLabel, ui.placeLabel):
            label.visible = entry is not None
        if entry is not None:
            mark_row(ui.queueTable, session.current)
            state = entry.review.second if session.is_blinded else entry.review.verdict
            ui.currentLabel.text = f"<b>{escape(entry.landmark.title)}</b>, {escape(state_word(state))}"
            ui.definitionLabel.text = escape(entry.landmark.definition)
            ui.whyLabel.text = "" if session.is_blinded else _reasons(entry)
            ui.whyLabel.visible = bool(ui.whyLabel.text)
            ui.placeLabel.text = self._place(entry)
        self._show_aids()

    def _place(self, entry: Entry) -> str:
        if self.session.is_blinded:
            return _where(entry.review.second_ras)
        point = self.session.shown(entry.landmark.id)
        if point is None or point.position_ras is None:
            return _where(None)
        radius = _("90 % radius: not calibrated, none is drawn.")
        if point.radius_mm is not None:
            radius = _("90 % radius: {mm} mm.").format(mm=f"{point.radius_mm:.1f}")
        return f"{_where(point.position_ras)} {radius}"

    def _show_aids(self) -> None:
        """Keys, the point that can be dragged, and the sphere: only while a person reviews."""
        is_on = self._is_here and self.is_open and self.session.case is not None
        switch_keys(self._keys, is_on=is_on, everywhere=bool(self.ui.keysCheck.checked))
        switch_keys(self._undo_key, is_on=is_on, everywhere=False)
        self.session.is_active = is_on
        self.session.show_aids()

    def _show_buttons(self) -> None:
        ui, has_case, is_blinded = self.ui, self.session.case is not None, self.session.is_blinded
        for widget in (ui.moveButton, ui.undefineButton, ui.nextButton, ui.keysCheck):
            widget.enabled = has_case
        for button in (ui.acceptButton, ui.rejectButton, *self._export.buttons):
            button.enabled = has_case and not is_blinded  # a file would tell a second reader
        ui.secondCheck.enabled = has_case or is_blinded
        ui.secondCheck.blockSignals(True)
        ui.secondCheck.checked = is_blinded
        ui.secondCheck.blockSignals(False)
        ui.moveButton.text = _("Place (M)") if is_blinded else _("Move (M)")
        ui.undoButton.enabled = self.session.can_undo
        is_running = self._job is not None
        ui.findButton.enabled = is_running or self._can_find
        ui.findButton.text = _("Cancel") if is_running else _("Find landmarks")
        ui.findButton.icon = icon("stop" if is_running else "target")

    @property
    def _can_find(self) -> bool:
        """Whether there are masks to find landmarks from, or a net that needs none."""
        needs_none = self.workspace.logic.sees_voxels_only("landmarks")
        return self.workspace.case is not None or (needs_none and self.workspace.volume_node is not None)

    def _show_readers(self, case: Case | None) -> None:
        has_second = case is not None and any(review.second for review in case.reviews)
        self.ui.readersRow.visible = has_second and not self.session.is_blinded
        if not has_second or self.session.is_blinded:
            return
        rows = distances(case)
        fill_readers(self.ui.readersTable, rows)
        told = _("Distances in mm between first reader (1), second reader (2) and program (P).")
        count = sum(row.disagree for row in rows)
        more = _("In {n}, one reader gives a place and the other none.").format(n=count) if count else ""
        self.ui.readersLabel.text = f"{told} {more}".strip()

    # clicks and keys

    def onVerdict(self, verb: str) -> None:
        self._come_to(partial(self.session.decide, verb))

    def onNext(self) -> None:
        name = self.session.next_open()
        if not name:
            self.workspace.tell(_("All landmarks are decided."), "info")
        self._go(name or self.session.current)

    def onUndo(self) -> None:
        self._come_to(self.session.undo)

    def onRow(self, row: int, *_cells: int) -> None:
        name = id_in_row(self.ui.queueTable, row)
        if name and name != self.session.current:
            self._go(name)

    def onSet(self, row: int) -> None:
        card = self.ui.setCombo.itemData(row)
        if card in self.session.cards and card != self.session.card:
            self.session.choose(card)
            self.refresh()

    def onKeys(self, is_on: bool) -> None:
        self._show_aids()
        if is_on and self.session.current:
            self._go(self.session.current)

    def onZoom(self, is_on: bool) -> None:
        self.session.zooms = bool(is_on)
        if not is_on and self.workspace.volume_node is not None:
            self.workspace.views.fit(self.workspace.volume_node)

    def onSecond(self, is_on: bool) -> None:
        self.session.read_blinded(bool(is_on))
        self.refresh()

    def onFind(self) -> None:
        if self._job is not None:
            self._job.cancel()
            return
        if not self._can_find:
            self.workspace.need_case()
        logic, node = self.workspace.logic, self.workspace.volume_node
        self._job = logic.find_landmarks(node, on_progress=self.showProgress)
        self.follow(self._job, _("Landmarks can't be found."))
        self._job.add_done_callback(self._found)
        self._show_buttons()

    def showProgress(self, at: Progress) -> None:
        """How far the finding has come."""
        self.ui.progressLabel.text = f"{at.stage} {at.fraction:.0%}"

    def _found(self, _job: Any) -> None:
        self._job = None
        with self.run_safely():
            self._show_buttons()  # the workspace has the rest shown anew

    def _go(self, name: str) -> None:
        self._come_to(partial(self.session.go, name))

    def _come_to(self, step: Any) -> None:
        """Take a step of the session and show where it leads."""
        step()
        self._show_current()


def _reasons(entry: Entry) -> str:
    """What to look at, a line each: flags, the program's note, what makes it risky."""
    lines = [*(f"▲ {escape(flag)}" for flag in entry.flags), escape(entry.landmark.note), escape(entry.why)]
    return "<br>".join(filter(None, lines))


def _where(ras: Point | None) -> str:
    if ras is None:
        return _("No point is shown. Where it is to be seen, point at it in a slice view and press M.")
    right, anterior, superior = (f"{x:.1f}" for x in ras)
    return f"R {right}  A {anterior}  S {superior} mm."
