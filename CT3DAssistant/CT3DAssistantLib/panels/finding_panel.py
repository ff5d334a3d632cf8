"""Findings panel: the 18 labels with their state, and what the checks want a person to look at."""

from typing import Any

import qt
from slicer.i18n import tr as _

from CT3DAssistantLib.finding_table import (
    Row,
    checks_html,
    checks_words,
    evidence_of_link,
    finding_html,
    finding_rows,
    findings_csv,
    findings_text,
    unassessed_words,
)
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.ink import ink_of
from CT3DAssistantLib.panels.panel import Panel

STATE, TITLE, PROBABILITY = range(3)  # columns


class FindingPanel(Panel):
    """A table of findings, the reason of the chosen one, and the points to check."""

    ui_file = "FindingPanel.ui"

    def setup(self) -> None:
        self._rows: list[Row] = []
        self._detail = ""  # id of the finding that is explained
        ui = self.ui
        header = ui.findingTable.horizontalHeader()
        header.setSectionResizeMode(STATE, qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(TITLE, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(PROBABILITY, qt.QHeaderView.ResizeToContents)
        ui.findingTable.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        for button in (ui.copyTextButton, ui.copyCsvButton):
            button.icon = icon("copy")
        self.on(ui.findingTable, "cellClicked(int,int)", self.onChoose)
        self.on(ui.findingTable, "cellActivated(int,int)", self.onChoose)
        self.on(ui.findingTable, "currentCellChanged(int,int,int,int)", self.onRow)
        self.on(ui.unassessedCheck, "toggled(bool)", lambda _on: self.refresh())
        self.on(ui.detailLabel, "linkActivated(QString)", self.workspace.select)
        self.on(ui.checksBrowser, "anchorClicked(QUrl)", self.onCheck)
        failed = _("The findings can't be copied.")
        self.on(ui.copyTextButton, "clicked()", lambda: self._copy(findings_text), failed)
        self.on(ui.copyCsvButton, "clicked()", lambda: self._copy(findings_csv), failed)

    # what a person does

    def onChoose(self, row: int, _column: int) -> None:
        """Show the evidence of a finding; one without evidence is only explained."""
        finding = self._rows[row].finding
        self._explain(finding.id)
        if finding.evidence:
            self.workspace.select(f"finding/{finding.id}")

    def onRow(self, row: int, _column: int, _row_before: int, _column_before: int) -> None:
        if 0 <= row < len(self._rows):
            self._explain(self._rows[row].finding.id)

    def onCheck(self, url: Any) -> None:
        self.workspace.select(evidence_of_link(self.workspace.need_case(), url.toString()))

    def _copy(self, written: Any) -> None:
        qt.QApplication.clipboard().setText(written(self.workspace.need_case()))
        self.workspace.tell(_("The findings are on the clipboard."))

    # what is shown

    def refresh(self) -> None:
        case, ui = self.workspace.case, self.ui
        rows = finding_rows(case, unassessed=ui.unassessedCheck.checked) if case else []
        if rows != self._rows:
            self._fill(rows)
        has_findings = bool(case and case.findings)
        ui.unassessedLabel.text = unassessed_words(case) if has_findings else _("There are no findings yet.")
        for widget in (ui.copyTextButton, ui.copyCsvButton, ui.unassessedCheck):
            widget.enabled = has_findings
        ui.findingTable.visible = bool(rows)
        self._explain(self._detail)
        self._show_checks()

    def select(self, evidence: str) -> None:
        kind, _slash, name = evidence.partition("/")
        ids = [row.finding.id for row in self._rows]
        table = self.ui.findingTable
        if kind == "finding" and name in ids and table.currentRow() != ids.index(name):
            table.blockSignals(True)
            table.setCurrentCell(ids.index(name), STATE)
            table.blockSignals(False)
            self._detail = name
        self._explain(self._detail)
        self._show_checks()

    def _fill(self, rows: list[Row]) -> None:
        table = self.ui.findingTable
        table.blockSignals(True)
        table.setRowCount(len(rows))
        for row, finding in enumerate(rows):
            for column, text in enumerate(finding.cells):
                table.setItem(row, column, qt.QTableWidgetItem(text))
        chosen = [n for n, row in enumerate(rows) if row.finding.id == self._detail]
        table.setCurrentCell(chosen[0] if chosen else -1, STATE)
        table.blockSignals(False)
        table.updateGeometry()
        self._rows = rows

    def _explain(self, finding_id: str) -> None:
        """Say why a finding has its state; "" or one that isn't listed: nothing."""
        label = self.ui.detailLabel
        shown = [row.finding for row in self._rows if row.finding.id == finding_id]
        self._detail = finding_id if shown else ""
        ink = ink_of(label)
        texts = [finding_html(self.workspace.case, each, ink, self.workspace.selected) for each in shown]
        label.text = "".join(texts)
        label.visible = bool(texts)

    def _show_checks(self) -> None:
        case, browser = self.workspace.case, self.ui.checksBrowser
        html = checks_html(case, ink_of(browser), self.workspace.selected) if case else ""
        words = checks_words(case) if case else _("There is no analysis yet.")
        self.ui.checksLabel.text = _("Points to check: {words}").format(words=words)
        browser.setHtml(html)
        browser.visible = bool(html)
