"""Regions: which there are, how they are shown, and what was measured in them."""

from typing import Any

import qt
from slicer.i18n import tr as _

from ct3d.case import Attribute, Case, Region
from ct3d.errors import InvalidRequest
from ct3d.protocol.messages import Progress
from CT3DAssistantLib.errand import Errand
from CT3DAssistantLib.exports.attributes import write_attributes
from CT3DAssistantLib.exports.files import chosen_path
from CT3DAssistantLib.isolation import isolated_segment
from CT3DAssistantLib.overview import persons_work
from CT3DAssistantLib.ownership import content_time, fingerprinting, measured_state, node_of
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.measurement_table import MeasurementTable
from CT3DAssistantLib.panels.panel import Panel
from CT3DAssistantLib.panels.region_list import RegionList
from CT3DAssistantLib.region_rows import as_text, field_mm, measurements
from CT3DAssistantLib.surfaces import adding_surfaces, has_surfaces, remove_surfaces

ICON = 16  # pixels


class RegionPanel(Panel):
    """Region list, how it is shown in slices and 3D, and the measurements."""

    ui_file = "RegionPanel.ui"

    def setup(self) -> None:
        self._run: Any = None  # the chain at work here
        self._button: Any = None  # the button that started it, now Cancel
        self._surfaces: Any = None  # the errand that makes surfaces
        self._checked: tuple[Any, bool] = (None, True)  # state of the masks, whether they are as measured
        self._is_filling = False
        self._list = RegionList(self.ui.regionTable, self.on, self.onRegion)
        self._table = MeasurementTable(self.ui.attributeTable, self.on, self.onMeasurement)
        self._connect()
        for name, button in {
            "target": self.ui.centerButton,
            "eye": self.ui.isolateButton,
            "cube": self.ui.surfaceButton,
            "copy": self.ui.copyButton,
            "export": self.ui.saveButton,
        }.items():
            button.icon = icon(name)
        self.ui.stateIcon.setPixmap(icon("warning").pixmap(ICON, ICON))
        for widget in (self.ui.askRow, self.ui.stateRow):
            widget.visible = False

    def _connect(self) -> None:
        ui = self.ui
        self.on(ui.findButton, "clicked()", self.onFind, _("The regions can't be found."))
        self.on(ui.yesButton, "clicked()", self.onYes, _("The regions can't be found."))
        self.on(ui.noButton, "clicked()", self.onNo)
        self.on(ui.measureButton, "clicked()", self.onMeasure, _("The regions can't be measured."))
        self.on(ui.opacitySlider, "valueChanged(int)", self.onOpacity)
        self.on(ui.oneCheck, "toggled(bool)", lambda _on: self._show_opacity())
        self.on(ui.centerButton, "clicked()", self.onCenter, _("The views can't be centred."))
        self.on(ui.isolateButton, "clicked()", self.onIsolate)
        self.on(ui.surfaceButton, "clicked()", self.onSurfaces, _("The surfaces can't be made."))
        self.on(ui.allCheck, "toggled(bool)", lambda _on: self._show_measurements())
        self.on(ui.copyButton, "clicked()", self.onCopy)
        self.on(ui.saveButton, "clicked()", self.onSave, _("The measurements can't be saved."))

    # what is shown

    def enter(self) -> None:
        """The person may have edited the masks in another module."""
        self._note_change()

    def close(self) -> None:
        for job in (self._run, self._surfaces):
            if job is not None:
                job.cancel()

    def refresh(self) -> None:
        case = self.workspace.case
        self._list.show(case, self._node)
        self.ui.regionTable.visible = self.ui.attributeTable.visible = case is not None
        self.ui.emptyLabel.visible = case is None
        self._show_measurements()
        self._show_opacity()
        self._show_buttons()
        self._check_masks()

    def select(self, evidence: str) -> None:
        self._list.mark(self._chosen)
        self._list.show_ticks()
        self._show_measurements()
        self._table.mark(evidence.removeprefix("attribute/") if evidence.startswith("attribute/") else "")
        self._show_opacity()
        self._show_buttons()

    @property
    def _node(self) -> Any:
        """The segmentation of the chosen volume's case."""
        volume_node = self.workspace.volume_node
        return volume_node and node_of(self.workspace.scene, volume_node, "segmentation")

    @property
    def _chosen(self) -> str:
        """Id of the region that is selected, or whose measurement is; "" for none."""
        entry = self.workspace.case and self.workspace.case.entry(self.workspace.selected)
        if isinstance(entry, Region):
            return entry.id
        return entry.region if isinstance(entry, Attribute) else ""

    def _segment(self, region_id: str) -> Any:
        return self._node and self._node.GetSegmentation().GetSegment(region_id)

    def _show_measurements(self) -> None:
        case, chosen = self.workspace.case, self._chosen
        of_all = self.ui.allCheck.checked or not chosen
        rows = measurements(case, "" if of_all else chosen) if case else []
        region = None if of_all else case.entry(f"region/{chosen}")
        title = _("all regions") if of_all else (region.title if region else chosen)
        self.ui.tableLabel.text = _("Measurements: {region}").format(region=title)
        self._table.show(rows, with_region=of_all)

    def _show_opacity(self) -> None:
        display = self._node and self._node.GetDisplayNode()
        if display:
            is_one = self.ui.oneCheck.checked and self._segment(self._chosen)
            fill = display.GetSegmentOpacity2DFill(self._chosen) if is_one else display.GetOpacity2DFill()
            self._is_filling = True
            self.ui.opacitySlider.value = round(100 * fill)
            self._is_filling = False
        self.ui.opacityValue.text = _("{percent} %").format(percent=self.ui.opacitySlider.value)

    def _show_buttons(self) -> None:
        ui, node, run = self.ui, self._node, self._run
        has_case = self.workspace.case is not None
        chosen = self._segment(self._chosen) is not None
        ui.findButton.enabled = ui.findButton is self._button or (
            run is None and self.workspace.volume_node is not None
        )
        ui.measureButton.enabled = ui.measureButton is self._button or (run is None and bool(node))
        ui.findButton.text = _("Cancel") if self._button is ui.findButton else _("&Find regions")
        ui.measureButton.text = _("Cancel") if self._button is ui.measureButton else _("&Measure again")
        for button, name in ((ui.findButton, "play"), (ui.measureButton, "refresh")):
            button.icon = icon("stop" if button is self._button else name)
        ui.progressBar.visible = ui.progressLabel.visible = run is not None
        ui.centerButton.enabled = bool(self.workspace.selected)
        is_isolated = node is not None and bool(isolated_segment(node))
        ui.isolateButton.text = _("&Show all") if is_isolated else _("&Isolate")
        ui.isolateButton.enabled = is_isolated or chosen
        ui.surfaceButton.enabled = node is not None
        ui.copyButton.enabled = ui.saveButton.enabled = has_case
        ui.opacitySlider.enabled = node is not None
        ui.oneCheck.enabled = chosen
        self._show_surfaces()

    def _show_surfaces(self, share: float = 0.0) -> None:
        button = self.ui.surfaceButton
        if self._surfaces is not None:
            button.text = _("Stop {percent} %").format(percent=round(100 * share))
        else:
            button.text = _("Hide 3&D") if self._node and has_surfaces(self._node) else _("Show 3&D")

    # whether the measurements are of the masks as they are now

    def _check_masks(self) -> None:
        """Compare the masks with those that were measured, in bites; says so once it is known."""
        node = self._node
        if node is None:
            self.ui.stateRow.visible = False
            return
        state = (node.GetID(), content_time(node), measured_state(node))
        if self._checked[0] == state:
            self._say_state(self._checked[1])
            return
        errand = Errand(self.workspace.logic.client, fingerprinting(node))

        def done(finished: Any) -> None:
            if finished.error is None and self._node is node:
                self._checked = (state, finished.result() == measured_state(node))
                self._say_state(self._checked[1])

        errand.add_done_callback(done)

    def _say_state(self, is_measured: bool) -> None:
        self.ui.stateRow.visible = not is_measured
        self.ui.stateLabel.text = _(
            "The regions were edited since they were measured: press Measure again. Your masks stay."
        )

    # what a person does

    def onFind(self) -> None:
        """Find the regions, after asking where a case would be replaced; or stop."""
        if self._button is self.ui.findButton:
            self._run.cancel()
            return
        case = self.workspace.case
        if case is None:
            self._find()
            return
        self.ui.askLabel.text = _replaced(case)
        self.ui.askRow.visible = True

    def onYes(self) -> None:
        """Replace the case."""
        self.ui.askRow.visible = False
        self._find()

    def onNo(self) -> None:
        """Keep the case."""
        self.ui.askRow.visible = False

    def onMeasure(self) -> None:
        """Measure the masks as they are now, or stop."""
        if self._button is self.ui.measureButton:
            self._run.cancel()
            return
        job = self.workspace.logic.measure(self.workspace.volume_node, on_progress=self.onProgress)
        self._follow(job, self.ui.measureButton, _("The regions can't be measured."))

    def _find(self) -> None:
        job = self.workspace.logic.segment(self.workspace.volume_node, on_progress=self.onProgress)
        self._follow(job, self.ui.findButton, _("The regions can't be found."))

    def _follow(self, job: Any, button: Any, doing: str) -> None:
        self._run, self._button = job, button
        self.ui.progressBar.value = 0
        self.ui.progressLabel.text = ""
        self._show_buttons()
        job.add_done_callback(self._ended)
        self.follow(job, doing)

    def _ended(self, _job: Any) -> None:
        self._run = self._button = None
        self._show_buttons()

    def onProgress(self, progress: Progress) -> None:
        """Bar and stage."""
        self.ui.progressBar.value = int(1000 * progress.fraction)
        self.ui.progressLabel.text = progress.stage

    def onRegion(self, region_id: str) -> None:
        """Go to a region."""
        if self.workspace.selected != f"region/{region_id}":
            self.workspace.select(f"region/{region_id}")

    def onMeasurement(self, attribute_id: str) -> None:
        """Go to the region of a measurement."""
        if self.workspace.selected != f"attribute/{attribute_id}":
            self.workspace.select(f"attribute/{attribute_id}")

    def onOpacity(self, percent: int) -> None:
        """Fill of all regions, or of the chosen one."""
        self.ui.opacityValue.text = _("{percent} %").format(percent=percent)
        display = self._node and self._node.GetDisplayNode()
        if self._is_filling or not display:
            return
        if self.ui.oneCheck.checked and self._segment(self._chosen):
            display.SetSegmentOpacity2DFill(self._chosen, percent / 100)
        else:
            display.SetOpacity2DFill(percent / 100)

    def onCenter(self) -> None:
        """Slices and 3D view go to what is chosen, and zoom to its size."""
        workspace = self.workspace
        place = workspace.logic.place(workspace.volume_node, workspace.selected)
        if place is None:
            raise InvalidRequest(_("It has no place in this scan. Choose another region."))
        volume = workspace.case.attributes_of(place.region).get("volume")
        workspace.views.zoom(place.ras, field_mm(volume.value if volume else None))
        workspace.views.center_3d(place.ras)

    def onIsolate(self) -> None:
        """Bring the chosen region forward, or show all again."""
        if isolated_segment(self._node):
            self.workspace.select("")
        else:
            self.workspace.views.isolate(self._node, self._chosen)
            self._list.show_ticks()
            self._show_buttons()

    def onSurfaces(self) -> None:
        """Make and show surfaces, hide them, or stop making them."""
        node = self._node
        if self._surfaces is not None:
            self._surfaces.cancel()
            return
        if has_surfaces(node):
            remove_surfaces(node)
            self._show_surfaces()
            return
        errand = Errand(self.workspace.logic.client, adding_surfaces(node), self._show_surfaces)
        self._surfaces = errand
        errand.add_done_callback(self._surfaces_done)
        self.follow(errand, _("The surfaces can't be made."))
        self._show_surfaces()

    def _surfaces_done(self, _errand: Any) -> None:
        self._surfaces = None
        self._show_surfaces()

    def onCopy(self) -> None:
        """The listed measurements, for a spreadsheet."""
        qt.QApplication.clipboard().setText(as_text(self._table.rows))
        told = _("{count} measurements copied. Research use only.").format(count=len(self._table.rows))
        self.workspace.tell(told, "info")

    def onSave(self) -> None:
        """All measurements of the case as a CSV file."""
        path = write_attributes(chosen_path(self.ui.pathEdit.currentPath, ".csv"), self.workspace.need_case())
        self.workspace.tell(_("Measurements saved: {path}. Research use only.").format(path=path), "info")


def _replaced(case: Case) -> str:
    """What finding regions anew does to a case."""
    work = persons_work(case)
    told = _("A new case replaces the present one with its measurements, landmarks, findings and report.")
    kept = _("What you did ({work}) is kept beside it as text.").format(work=work) if work else ""
    return f"{told} {kept}".strip()
