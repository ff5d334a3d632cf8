"""The lower half of the Models section: the Python that runs the models."""

from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ct3d.protocol.codec import decode
from CT3DAssistantLib.doctor import Check
from CT3DAssistantLib.environment import (
    DISK_MB,
    DOWNLOAD_MB,
    TORCH_DISK_MB,
    TORCH_MB,
    find_worker_python,
    interpreter_of,
    is_own_interpreter,
    worker_folder,
)
from CT3DAssistantLib.panels.errand import Errands
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.settings import Settings
from CT3DAssistantLib.weights import offline_needs


class WorkerSection:
    """The worker's Python, over the widgets of a ModelPanel.

    Args:
        panel: the ModelPanel.
        errands: does its chores.
        settings: of the user.
    """

    def __init__(self, panel: Any, errands: Errands, settings: Settings):
        self._panel, self._ui = panel, panel.ui
        self._errands, self.settings = errands, settings
        self._checks: tuple[Check, ...] = ()
        self._ui.pythonPath.currentPath = settings.worker_python
        self._ui.packagesPath.currentPath = settings.packages_folder
        self._connect()

    def _connect(self) -> None:
        ui, on = self._ui, self._panel.on
        on(ui.useButton, "clicked()", self.onUse, _("This Python can't be used."))
        on(ui.checkButton, "clicked()", self.onCheck, _("The worker's Python can't be checked."))
        on(ui.installButton, "clicked()", self.onInstall)
        on(ui.repairButton, "clicked()", self.onRepair)
        on(ui.uninstallButton, "clicked()", self.onUninstall)
        on(ui.packagesPath, "currentPathChanged(QString)", self.onPackages)
        on(ui.offlineButton, "clicked()", self.onOffline)
        names = {
            ui.useButton: "accept",
            ui.checkButton: "refresh",
            ui.installButton: "install",
            ui.repairButton: "restore",
            ui.uninstallButton: "remove",
            ui.offlineButton: "help",
        }
        for button, name in names.items():
            button.icon = icon(name)

    @property
    def buttons(self) -> tuple[Any, ...]:
        """What can't be pressed while a chore runs."""
        ui = self._ui
        return (ui.useButton, ui.checkButton, ui.installButton, ui.repairButton, ui.uninstallButton)

    def show(self) -> None:
        """What is used, and what the last check found."""
        python = self.settings.worker_python or str(find_worker_python())
        lines = [_("Used: {python}").format(python=python)]
        lines += [
            f"{'✔ ok' if each.right else '✖ missing'} · {each.title}: {each.state}" for each in self._checks
        ]
        if not all(each.right for each in self._checks):
            lines.append(_("Press Install to add what is missing, or Repair to make it anew."))
        worker = self._panel.workspace.logic.client.worker
        if worker is not None and not self._checks:
            device = worker.device
            told = _("Running now on {kind}: {name}, {threads} threads.")
            lines.append(told.format(kind=device.kind, name=device.name, threads=device.threads))
        paragraphs = (f"<p style='margin:2px 0'>{escape(line)}</p>" for line in lines)
        self._ui.doctorLabel.text = "".join(paragraphs)

    def onUse(self) -> None:
        chosen = self._ui.pythonPath.currentPath.strip()
        find_worker_python(Path(chosen) if chosen else None)  # says so if it isn't there
        self._use(chosen)
        self.onCheck()

    def onCheck(self) -> None:
        chosen = self.settings.worker_python
        python = find_worker_python(Path(chosen) if chosen else None)
        title = _("Checking {python}").format(python=python)
        self._errands.do(title, self._take_checks, *self._panel.where(), "examine", python)

    def _take_checks(self, found: list[Any]) -> None:
        self._checks = tuple(decode(Check, each) for each in found)
        self.show()
        for check in self._checks:
            self._errands.note(f"{'ok' if check.right else 'missing'}: {check.title}: {check.state}")
        self._panel.look_at_weights()

    def onInstall(self) -> None:
        told = _(
            "Install the worker's packages into {folder}? About {mb} MB from {source}, {disk} MB on disk."
        )
        self._errands.ask(self._sized(told), _("&Install"), partial(self._install, "install"))

    def onRepair(self) -> None:
        told = _("Remove {folder} and install it anew? About {mb} MB from {source}, {disk} MB on disk.")
        self._errands.ask(self._sized(told), _("&Repair"), partial(self._install, "repair"))

    def onUninstall(self) -> None:
        told = _("Remove {folder} with all that was installed into it?")
        self._errands.ask(self._sized(told), _("&Remove"), self._uninstall)

    def _sized(self, text: str) -> str:
        source, needs = self.settings.packages_folder or _("the Python registry"), self._needs
        mb, disk = (DOWNLOAD_MB + TORCH_MB, DISK_MB + TORCH_DISK_MB) if needs else (DOWNLOAD_MB, DISK_MB)
        told = text.format(folder=worker_folder(), mb=mb, disk=disk, source=source)
        more = _("The chosen profile needs {names} too; for an NVIDIA GPU that is some GB more.")
        return f"{told} {more.format(names=', '.join(needs))}" if needs else told

    @property
    def _needs(self) -> tuple[str, ...]:
        """What the chosen profile asks for on top."""
        return self._panel.workspace.profile.needs

    def _install(self, chore: str) -> None:
        self._panel.workspace.logic.client.retire()
        words = (chore, interpreter_of(worker_folder())) if chore == "install" else (chore,)
        title = _("Installing the worker's packages")
        self._errands.do(title, self._installed, *self._panel.where(), *words)

    def _installed(self, python: str) -> None:
        is_found = Path(python) == interpreter_of(worker_folder()) or is_own_interpreter(Path(python))
        self._use("" if is_found else python)
        self.onCheck()

    def _uninstall(self) -> None:
        self._panel.workspace.logic.client.retire()
        title = _("Removing {folder}").format(folder=worker_folder())
        self._errands.do(title, self._uninstalled, "remove-environment")

    def _uninstalled(self, _result: Any) -> None:
        self._use("")
        self._checks = ()
        self.show()

    def _use(self, python: str) -> None:
        """From now on; a worker that runs on another is let go."""
        self._panel.workspace.logic.client.retire()
        self.settings.worker_python = python
        self._ui.pythonPath.currentPath = python
        self._panel.workspace.touch()

    def onPackages(self, folder: str) -> None:
        self.settings.packages_folder = folder.strip()

    def onOffline(self) -> None:
        self._ui.logText.appendPlainText(offline_needs())
