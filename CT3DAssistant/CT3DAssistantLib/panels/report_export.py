"""The row that takes the report out of the program: a page, a PDF, a text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ct3d.errors import InvalidRequest
from CT3DAssistantLib.errand import Errand, Steps
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.scene import report_text


class ReportExport:
    """Folder, HTML, PDF, Copy text; the button of a running export becomes Cancel.

    Args:
        panel: the report panel, whose widgets these are.
    """

    def __init__(self, panel: Any):
        self.panel, self.ui = panel, panel.ui
        self._errand: Any = None
        self._fraction = 0.0
        self.ui.folderEdit.currentPath = panel.settings.export_folder or str(Path.home())
        self.ui.copyButton.icon = icon("copy")
        failed = _("The report can't be exported.")
        panel.on(self.ui.htmlButton, "clicked()", self.onHtml, failed)
        panel.on(self.ui.pdfButton, "clicked()", self.onPdf, failed)
        panel.on(self.ui.copyButton, "clicked()", self.onCopy, failed)

    def onHtml(self) -> None:
        self._start_or_cancel(_page)

    def onPdf(self) -> None:
        self._start_or_cancel(_paper)

    def onCopy(self) -> None:
        qt.QApplication.clipboard().setText(report_text(self.panel.workspace.need_case()))
        self.panel.workspace.tell(_("The report's text is on the clipboard."))

    def cancel(self) -> None:
        """Stop what runs."""
        if self._errand is not None:
            self._errand.cancel()

    def show(self) -> None:
        """Buttons and bar as they should be now."""
        ui, is_busy = self.ui, self._errand is not None
        has_report = self.panel.workspace.case is not None
        ui.htmlButton.text = _("Cancel") if is_busy else _("&HTML")
        ui.htmlButton.icon = icon("stop" if is_busy else "export")
        ui.pdfButton.icon = icon("export")
        ui.htmlButton.enabled = has_report or is_busy
        ui.pdfButton.enabled = ui.folderEdit.enabled = has_report and not is_busy
        ui.copyButton.enabled = has_report
        ui.exportBar.visible = is_busy
        ui.exportBar.value = int(1000 * self._fraction)
        ui.exportLabel.visible = bool(ui.exportLabel.text)

    def _start_or_cancel(self, steps: Callable[..., Any]) -> None:
        if self._errand is not None:
            self._errand.cancel()
            return
        workspace, folder = self.panel.workspace, self.ui.folderEdit.currentPath.strip()
        workspace.need_case()
        if not folder:
            raise InvalidRequest(_("No folder is chosen. Choose where the report should go."))
        self.panel.settings.export_folder = folder
        self._fraction = 0.0
        work = steps(workspace.scene, workspace.volume_node, Path(folder))
        self._errand = Errand(workspace.logic.client, work, self._move)
        self._errand.add_done_callback(self._ended)
        self.panel.follow(self._errand, _("The report isn't exported."), self._written)
        self.show()

    def _move(self, fraction: float) -> None:
        self._fraction = fraction
        self.ui.exportBar.value = int(1000 * fraction)

    def _ended(self, _errand: Any) -> None:
        self._errand = None
        self.show()

    def _written(self, path: Path) -> None:
        self.ui.exportLabel.text = _("Written: {path}").format(path=path)
        self.panel.workspace.tell(_("The report is written: {path}").format(path=path))
        self.show()


def _page(*where: Any) -> Steps:
    """The page, in bites; what draws isn't imported before it is needed, and not while a click is at work."""
    yield
    from CT3DAssistantLib.exports.reviewed import exporting_page

    yield
    return (yield from exporting_page(*where))


def _paper(*where: Any) -> Steps:
    """The PDF, likewise."""
    yield
    from CT3DAssistantLib.exports.reviewed import exporting_paper
    from CT3DAssistantLib.panels.pdf import writing_pdf

    yield
    return (yield from exporting_paper(*where, writing_pdf))
