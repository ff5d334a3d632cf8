"""What the model saw: how the scan was changed on its way to each model, and that input in the views."""

from typing import Any

import qt
from slicer.i18n import tr as _

from ct3d.cards import ModelCard, load_cards
from ct3d.case import InputReport
from CT3DAssistantLib.model_input import cards_with_input, input_node, saw_of
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.panel import Panel
from CT3DAssistantLib.saw_rows import Change, cautions, changes, coverage_of, expected_of
from CT3DAssistantLib.scene import volume_from_node

ICON = 16  # pixels


class SawPanel(Panel):
    """Per model: orientation, grid, cut, values, what was imaged; and the input itself."""

    ui_file = "SawPanel.ui"

    def setup(self) -> None:
        self._job: Any = None  # what makes the input
        self._cards: dict[str, ModelCard] = {card.id: card for card in cards_with_input(load_cards())}
        for card in self._cards.values():
            self.ui.cardCombo.addItem(card.title, card.id)
        ui = self.ui
        self.on(ui.cardCombo, "currentIndexChanged(int)", lambda _row: self.refresh())
        self.on(ui.showButton, "clicked()", self.onShow, _("The model's input can't be shown."))
        self.on(ui.compareButton, "clicked()", self.onCompare)
        ui.cautionIcon.setPixmap(icon("warning").pixmap(ICON, ICON))
        header, rows = ui.sawTable.horizontalHeader(), ui.sawTable.verticalHeader()
        for column, mode in enumerate(("ResizeToContents", "Stretch", "Stretch")):
            header.setSectionResizeMode(column, getattr(qt.QHeaderView, mode))
        rows.setSectionResizeMode(qt.QHeaderView.ResizeToContents)

    # what is shown

    def enter(self) -> None:
        """The slice views may show something else by now."""
        self._note_change()

    def close(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def refresh(self) -> None:
        saw = self._saw
        self._show_state(saw)
        told = cautions(saw, self._card.input) if saw and self._card else ()
        self.ui.cautionRow.visible = bool(told)
        self.ui.cautionLabel.text = "\n".join(told)
        self._show_rows(self._rows(saw))
        self._show_coverage(coverage_of(saw) if saw else ())
        notes = saw.notes if saw else ()
        self.ui.notesLabel.text = "\n".join(notes)
        self.ui.notesLabel.visible = bool(notes)
        self._show_buttons()

    @property
    def _card(self) -> ModelCard | None:
        return self._cards.get(self.ui.cardCombo.currentData)

    @property
    def _input(self) -> Any:
        """The node of the chosen card's input; None where it wasn't made yet."""
        node = self.workspace.volume_node
        return node and self._card and input_node(self.workspace.scene, node, self._card.id)

    @property
    def _saw(self) -> InputReport | None:
        """What the chosen card's model saw: as the analysis told, else as its input was made."""
        case, card = self.workspace.case, self._card
        told = next((each for each in case.saw if each.card == card.id), None) if case and card else None
        return told or (saw_of(self._input) if self._input else None)

    def _rows(self, saw: InputReport | None) -> tuple[Change, ...]:
        if saw is not None:
            return changes(saw)
        node = self.workspace.volume_node
        has_image = node is not None and node.GetImageData() is not None
        return expected_of(volume_from_node(node), self._card.input) if has_image and self._card else ()

    def _show_state(self, saw: InputReport | None) -> None:
        if self.workspace.volume_node is None:
            told = _("Choose a CT to see what a model makes of it.")
        elif saw is None:
            told = _("This model has not seen the chosen scan yet. It would get:")
        else:
            told = _("This model saw the chosen scan like this:")
        self.ui.stateLabel.text = told

    def _show_rows(self, rows: tuple[Change, ...]) -> None:
        table = self.ui.sawTable
        table.visible = bool(rows)
        table.rowCount = len(rows)
        for n, row in enumerate(rows):
            for column, text in enumerate((_(row.title), row.scan, row.model)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(_(row.tip))
                table.setItem(n, column, item)
        table.updateGeometry()

    def _show_coverage(self, parts: tuple[tuple[str, int], ...]) -> None:
        layout = self.ui.coverageBox.layout()
        while layout.count():
            gone = layout.takeAt(0).widget()
            gone.hide()
            gone.deleteLater()
        self.ui.coverageBox.visible = bool(parts)
        for row, (part, percent) in enumerate(parts):
            label, bar = qt.QLabel(_("Imaged: {part}").format(part=part)), qt.QProgressBar()
            bar.setRange(0, 100)
            bar.value = percent
            bar.setFormat("%p %")
            told = _("{percent} % of the {part} lie within the scan.").format(percent=percent, part=part)
            for column, widget in enumerate((label, bar)):
                widget.toolTip = told
                layout.addWidget(widget, row, column)

    def _show_buttons(self) -> None:
        ui, node = self.ui, self.workspace.volume_node
        is_busy = self._job is not None
        ui.showButton.text = _("Cancel") if is_busy else _("&Show this input")
        ui.showButton.icon = icon("stop" if is_busy else "eye")
        ui.showButton.enabled = is_busy or (node is not None and self._card is not None)
        shown = self.workspace.views.background()
        is_input = self._input is not None and shown is self._input
        ui.compareButton.text = _("&Original scan") if is_input else _("&Model's input")
        ui.compareButton.enabled = self._input is not None and not is_busy
        ui.shownLabel.visible = is_input
        if is_input:
            display = shown.GetDisplayNode()
            window = {"width": round(display.GetWindow()), "level": round(display.GetLevel())}
            told = _(
                "The slice views show the model's input, every voxel as it is, at W {width} L {level} HU."
            )
            ui.shownLabel.text = told.format(**window)

    # what a person does

    def onShow(self) -> None:
        """Make the input and show it, or stop."""
        if self._job is not None:
            self._job.cancel()
            return
        job = self.workspace.logic.show_input(self.workspace.volume_node, self._card.id)
        self._job = job
        self._show_buttons()
        job.add_done_callback(self._ended)
        self.follow(job, _("The model's input can't be shown."), self._put_into_views)

    def _ended(self, _job: Any) -> None:
        self._job = None
        self._show_buttons()

    def _put_into_views(self, node: Any) -> None:
        self.workspace.views.show_beside(node, self.workspace.volume_node)
        self.refresh()

    def onCompare(self) -> None:
        """The other of the two: the model's input, or the scan."""
        views, node = self.workspace.views, self.workspace.volume_node
        if views.background() is self._input:
            views.show_volume(node, fit=False)
        else:
            views.show_beside(self._input, node)
        self._show_buttons()
