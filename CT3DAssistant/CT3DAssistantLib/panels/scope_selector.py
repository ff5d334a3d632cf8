"""The part of the Ask panel in which a person chooses what of the scan a question is about."""

from collections.abc import Callable
from functools import partial
from typing import Any

from slicer.i18n import tr as _

from ct3d.case import Case, Scope
from CT3DAssistantLib.conversation import WHOLE_SCAN
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.panel import Panel
from CT3DAssistantLib.scopes import (
    add_roi,
    axial_height,
    crosshair,
    heights_of,
    region_name,
    regions_to_choose,
    scope_of_roi,
    scope_of_slices,
)

SCAN, REGION, BOX, SLICES = range(4)  # rows of the selector


class ScopeSelector:
    """Whole scan, a region, the box of an ROI, or a range of slices.

    Args:
        panel: has the widgets of AskPanel.ui.
        on_change: called after another scope was chosen.
    """

    def __init__(self, panel: Panel, on_change: Callable[[], None]):
        self.ui, self.scene, self._on_change = panel.ui, panel.workspace.scene, on_change
        self._volume_node: Any = None
        ui = panel.ui
        ui.roiSelector.setMRMLScene(self.scene)
        ui.newRoiButton.icon = icon("cube")
        panel.on(ui.scopeCombo, "currentIndexChanged(int)", lambda _row: self.show_kind())
        panel.on(ui.regionCombo, "currentIndexChanged(int)", lambda _row: on_change())
        panel.on(ui.newRoiButton, "clicked()", self.make_roi, _("The ROI can't be made."))
        for button, spin in ((ui.fromHereButton, ui.fromSpin), (ui.toHereButton, ui.toSpin)):
            button.icon = icon("target")
            panel.on(button, "clicked()", partial(self.take_slice, spin))

    def scope(self) -> Scope:
        """What is chosen.

        Raises:
            InvalidRequest: if an ROI is to be chosen yet, or has no size.
        """
        row = self.ui.scopeCombo.currentIndex
        if row == REGION and self.ui.regionCombo.count:
            return Scope("region", self.ui.regionCombo.currentData)
        if row == BOX:
            return scope_of_roi(self.ui.roiSelector.currentNode())
        if row == SLICES:
            return scope_of_slices(self.ui.fromSpin.value, self.ui.toSpin.value)
        return WHOLE_SCAN

    @property
    def is_named(self) -> bool:
        """Whether the whole scan or a region is chosen, not a place."""
        return self.ui.scopeCombo.currentIndex in (SCAN, REGION)

    def make_roi(self) -> None:
        self.ui.roiSelector.setCurrentNode(add_roi(self.scene, crosshair(self.scene)))

    def take_slice(self, spin: Any) -> None:
        """Make the axial slice that is shown one end of the range."""
        spin.value = axial_height(self.scene)

    def show(self, case: Case | None, volume_node: Any) -> None:
        """Offer the regions and the slices of this volume."""
        if volume_node is not None and volume_node is not self._volume_node:
            low, high = heights_of(volume_node)
            for spin, end in ((self.ui.fromSpin, low), (self.ui.toSpin, high)):
                spin.setRange(low, high)
                spin.value = end
        self._volume_node = volume_node
        self._show_regions(case)

    def show_kind(self) -> None:
        """Show the widgets of the kind that is chosen."""
        row = self.ui.scopeCombo.currentIndex
        self.ui.regionScope.visible = row == REGION
        self.ui.roiScope.visible = row == BOX
        self.ui.sliceScope.visible = row == SLICES
        self._on_change()

    def _show_regions(self, case: Case | None) -> None:
        combo = self.ui.regionCombo
        wanted = [(region_name(each, case), each.id) for each in regions_to_choose(case)] if case else []
        if wanted == [(combo.itemText(n), combo.itemData(n)) for n in range(combo.count)]:
            return
        chosen = combo.currentData
        combo.blockSignals(True)
        combo.clear()
        for title, region_id in wanted:
            combo.addItem(title, region_id)
        ids = [region_id for _title, region_id in wanted]
        combo.setCurrentIndex(ids.index(chosen) if chosen in ids else 0)
        combo.blockSignals(False)
