"""Report panel: sentences with what is behind them, a person's changes, review and signature, exports."""

from collections.abc import Callable
from functools import partial
from typing import Any

from slicer.i18n import tr as _

from ct3d.case import Case, Sentence
from ct3d.errors import InvalidRequest
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.ink import ink_of
from CT3DAssistantLib.panels.panel import Panel
from CT3DAssistantLib.panels.report_export import ReportExport
from CT3DAssistantLib.panels.section_writer import SectionWriter
from CT3DAssistantLib.panels.sentence_editor import SentenceEditor
from CT3DAssistantLib.report_view import (
    CHOSEN,
    detail_html,
    mention_html,
    mentions,
    report_html,
    state_html,
    tally,
)
from CT3DAssistantLib.review import (
    UNCHECKED,
    is_open,
    keep_sentence,
    mark_reviewed,
    remove_sentence,
    reopen,
    restore_sentence,
    sign,
    state_text,
)
from CT3DAssistantLib.settings import Settings

HASH_DIGITS = 16  # of a signature, in the window; exports and the tooltip have all
SENTENCE = "sentence/"  # how a link to a sentence begins


class ReportPanel(Panel):
    """The report of the chosen volume: read, change, review, sign, export."""

    ui_file = "ReportPanel.ui"

    def setup(self) -> None:
        self._chosen = ""  # id of the sentence that is worked on
        self._is_full = False  # whether all of its evidence is listed
        self._html = ""
        self._volume_node: Any = None
        self.settings = Settings()
        self.editor = SentenceEditor(self)
        self.writer = SectionWriter(self)
        self.export = ReportExport(self)
        self.ui.nameEdit.text = self.settings.reader_name
        self._show_icons()
        self._connect()

    def _show_icons(self) -> None:
        names = {
            "editButton": "edit",
            "removeButton": "remove",
            "restoreButton": "restore",
            "keepButton": "accept",
            "addButton": "edit",
            "reviewButton": "eye",
            "reopenButton": "restore",
            "signButton": "sign",
        }
        for button, name in names.items():
            getattr(self.ui, button).icon = icon(name)

    def _connect(self) -> None:
        ui, failed = self.ui, _("The sentence can't be changed.")
        self.on(ui.reportBrowser, "anchorClicked(QUrl)", lambda url: self.onLink(url.toString()))
        self.on(ui.detailLabel, "linkActivated(QString)", self.onLink)
        self.on(ui.mentionLabel, "linkActivated(QString)", self.onLink)
        self.on(ui.editButton, "clicked()", lambda: self.editor.edit(self._chosen_one()), failed)
        self.on(ui.removeButton, "clicked()", partial(self._change_chosen, remove_sentence), failed)
        self.on(ui.restoreButton, "clicked()", partial(self._change_chosen, restore_sentence), failed)
        self.on(ui.keepButton, "clicked()", partial(self._change_chosen, keep_sentence), failed)
        self.on(ui.addButton, "clicked()", lambda: self.editor.add(self.writer.section), failed)
        self.on(ui.reviewButton, "clicked()", self.onReview, _("The report isn't reviewed."))
        self.on(ui.signButton, "clicked()", self.onSign, _("The report isn't signed."))
        self.on(ui.nameEdit, "returnPressed()", self.onSign, _("The report isn't signed."))
        self.on(ui.reopenButton, "clicked()", self.onReopen)

    # what a person does

    def onLink(self, link: str) -> None:
        """A sentence, a piece of evidence, or one of the words "more", "less", "check"."""
        if link.startswith(SENTENCE):
            self.choose(link.removeprefix(SENTENCE))
        elif link in ("more", "less"):
            self._is_full = link == "more"
            self._show_detail()
        elif link == "check":
            self.check(self._chosen)
        else:
            self.workspace.select(link)

    def choose(self, sentence_id: str) -> None:
        """Show what is behind a sentence, here and in the slices."""
        self._chosen, self._is_full = sentence_id, False
        sentence = self._chosen_one()
        self.writer.section = sentence.section
        self.workspace.select(sentence.evidence[0] if sentence.evidence else "")

    def change(self, change: Callable[..., Case], *args: Any) -> Case:
        """A person's change of the report; what is new in it is checked at once."""
        before = self.workspace.need_case().report_state
        case = self.workspace.change(change, *args)
        self.workspace.logic.write_report(self.workspace.volume_node)
        if before in ("reviewed", "signed") and case.report_state not in ("reviewed", "signed"):
            told = _("The report is open again: it was {before}. Review it anew when you are done.")
            self.workspace.tell(told.format(before=before), "warning")
        return case

    def check(self, sentence_id: str) -> None:
        """Compare a sentence with the measurements."""
        failed = _("The sentence could not be checked.")
        self.follow(self.workspace.logic.check(self.workspace.volume_node, (sentence_id,)), failed)

    def onReview(self) -> None:
        self.change(mark_reviewed)

    def onSign(self) -> None:
        name = self.ui.nameEdit.text
        self.change(sign, name)
        self.settings.reader_name = " ".join(name.split())

    def onReopen(self) -> None:
        self.change(reopen)

    def _change_chosen(self, change: Callable[..., Case]) -> None:
        sentence_id = self._chosen_one().id
        self.changed_sentence(sentence_id, self.change(change, sentence_id))

    def changed_sentence(self, sentence_id: str, case: Case) -> None:
        """A sentence was changed: have it checked where that is due."""
        sentence = next((each for each in case.sentences if each.id == sentence_id), None)
        if sentence is not None and UNCHECKED in sentence.reasons:
            self.check(sentence_id)

    # what is shown

    def refresh(self) -> None:
        if self.workspace.volume_node is not self._volume_node:
            self._volume_node = self.workspace.volume_node
            self._chosen = ""
            self.editor.leave()
        case = self.workspace.case
        if self._sentence() is None:
            self._chosen = ""
        self._show_state(case)
        self._show_report()
        self._show_detail()
        self.writer.show()
        self.export.show()

    def select(self, evidence: str) -> None:
        self._show_mentions(evidence)
        self._show_report()
        self._show_detail()

    def close(self) -> None:
        self.writer.cancel()
        self.export.cancel()

    def _show_state(self, case: Case | None) -> None:
        ui, state = self.ui, case.report_state if case else ""
        ui.stateLabel.text = state_html(case, ink_of(ui.reportBrowser)) if case else ""
        nothing = _("There is no report yet. Analyse a CT first.")
        ui.stateTextLabel.text = state_text(case, HASH_DIGITS) if case else nothing
        ui.stateTextLabel.toolTip = state_text(case) if case else nothing
        ui.tallyLabel.text = tally(case) if case else ""
        for label in (ui.stateLabel, ui.tallyLabel):
            label.visible = case is not None
        ui.reviewButton.visible = state in ("", "draft", "edited")
        ui.reviewButton.enabled = ui.addButton.enabled = ui.sectionCombo.enabled = case is not None
        ui.signRow.visible = state == "reviewed"
        ui.reopenButton.visible = state in ("reviewed", "signed")

    def _show_report(self) -> None:
        """Write the chips anew where they differ; the place in the text stays."""
        case, browser = self.workspace.case, self.ui.reportBrowser
        marked = {each.id for each in mentions(case, self.workspace.selected)} if case else set()
        html = report_html(case, ink_of(browser), self._chosen, marked) if case else ""
        if html == self._html:
            return
        self._html, bar = html, browser.verticalScrollBar()
        place, had_focus = bar.value, browser.focus
        browser.setHtml(html)
        bar.value = place
        if self._chosen:
            self._show_chosen(browser, had_focus)

    def _show_chosen(self, browser: Any, had_focus: bool) -> None:
        """Let Tab go on from the chosen sentence, and bring it into sight."""
        place = browser.verticalScrollBar().value
        if had_focus and browser.find(CHOSEN):
            browser.ensureCursorVisible()
        elif browser.verticalScrollBar().maximum and place == 0:
            browser.scrollToAnchor(self._chosen)

    def _show_detail(self) -> None:
        ui, sentence = self.ui, self._sentence()
        ui.detailLabel.visible = ui.sentenceRow.visible = sentence is not None
        ui.keepButton.visible = sentence is not None and is_open(sentence)
        if sentence is None:
            return
        ui.detailLabel.text = detail_html(
            self.workspace.case,
            sentence,
            ink_of(ui.reportBrowser),
            selected=self.workspace.selected,
            is_full=self._is_full,
        )
        ui.editButton.enabled = not sentence.removed
        ui.removeButton.visible = not sentence.removed
        ui.restoreButton.visible = sentence.removed or bool(sentence.draft)

    def _show_mentions(self, evidence: str) -> None:
        case, label = self.workspace.case, self.ui.mentionLabel
        label.visible = case is not None and bool(evidence)
        if label.visible or (case and evidence):
            found = mentions(case, evidence)
            label.text = mention_html(case, evidence, found, ink_of(self.ui.reportBrowser))

    def _sentence(self) -> Sentence | None:
        case = self.workspace.case
        return next((each for each in case.sentences if each.id == self._chosen), None) if case else None

    def _chosen_one(self) -> Sentence:
        sentence = self._sentence()
        if sentence is None:
            raise InvalidRequest(_("No sentence is chosen. Click one first."))
        return sentence
