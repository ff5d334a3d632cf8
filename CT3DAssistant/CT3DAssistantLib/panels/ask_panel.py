"""Ask panel: a conversation about the chosen volume, limited to a part of it where wanted."""

from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import qt
from slicer.i18n import tr as _

from ct3d.errors import InvalidRequest
from ct3d.protocol.messages import streamed
from CT3DAssistantLib.conversation import (
    conversation_html,
    conversation_text,
    history_of,
    is_remade,
    question_html,
    suggested_questions,
)
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.ink import ink_of
from CT3DAssistantLib.panels.panel import Panel
from CT3DAssistantLib.panels.scope_selector import ScopeSelector
from CT3DAssistantLib.panels.transcript import Transcript
from CT3DAssistantLib.scopes import scope_words
from CT3DAssistantLib.warmth import Warmth


@dataclass(eq=False)
class Asking:
    """A question that is being answered."""

    volume_node: Any
    question: str
    about: str
    text: str = ""  # what has come of the answer
    job: Any = None


class AskPanel(Panel):
    """Questions and answers; an answer goes to the volume that it was asked of, whichever is chosen then."""

    ui_file = "AskPanel.ui"

    def setup(self) -> None:
        self._asked: list[Asking] = []  # under way, one per volume
        self._volume_node: Any = None
        self._recalled = 0  # questions back from the newest
        self._transcript = Transcript(self.ui.conversationBrowser, self.on)
        self._scopes = ScopeSelector(self, self._show_suggestions)
        self._warmth = Warmth(self.workspace.logic)
        self.ui.copyButton.icon = icon("copy")
        ui, failed = self.ui, _("The question can't be asked.")
        self.on(ui.sendButton, "clicked()", self.onSendOrStop, failed)
        self.on(ui.questionEdit, "returnPressed()", self.onEnter, failed)
        self.on(ui.suggestionsLabel, "linkActivated(QString)", self.onSuggestion, failed)
        self.on(ui.conversationBrowser, "anchorClicked(QUrl)", self.onLink)
        self.on(ui.copyButton, "clicked()", self.onCopy, _("The conversation can't be copied."))
        self._shortcuts = [self._shortcut("Up", 1), self._shortcut("Down", -1)]
        self._scopes.show_kind()

    def _shortcut(self, key: str, step: int) -> Any:
        shortcut = qt.QShortcut(qt.QKeySequence(key), self.ui.questionEdit)
        shortcut.setContext(qt.Qt.WidgetShortcut)
        self.on(shortcut, "activated()", partial(self._recall, step))
        return shortcut

    # what a person does

    def onEnter(self) -> None:
        if self._asking() is not None:
            raise InvalidRequest(_("An answer is being written. Wait for it or press Stop, then ask."))
        self._ask(self.ui.questionEdit.text)

    def onSendOrStop(self) -> None:
        asking = self._asking()
        if asking is not None:
            asking.job.cancel()
        else:
            self._ask(self.ui.questionEdit.text)

    def onSuggestion(self, question: str) -> None:
        if self._asking() is None:
            self._ask(question)

    def onLink(self, url: Any) -> None:
        self.workspace.select(url.toString())

    def onCopy(self) -> None:
        qt.QApplication.clipboard().setText(conversation_text(self.workspace.need_case()))
        self.workspace.tell(_("The conversation is on the clipboard."))

    def _recall(self, step: int) -> None:
        """Bring an earlier question back into the line."""
        case = self.workspace.case
        asked = list(dict.fromkeys(each.question for each in reversed(case.answers))) if case else []
        self._recalled = max(0, min(len(asked), self._recalled + step))
        self.ui.questionEdit.text = asked[self._recalled - 1] if self._recalled else ""

    # asking

    def _ask(self, text: str) -> None:
        question = " ".join(text.split())
        case, node = self.workspace.need_case(), self.workspace.volume_node
        if not question:
            return
        if is_remade(self.workspace.jobs, node):
            raise InvalidRequest(_("This scan is being analysed. Ask again when that is done."))
        scope, logic = self._scopes.scope(), self.workspace.logic
        asking = Asking(node, question, scope_words(scope, case))
        take = partial(self._take, asking)
        asking.job = logic.ask(node, question, scope=scope, history=history_of(case), on_text=take)
        self._asked.append(asking)
        self._recalled = 0
        self.ui.questionEdit.clear()
        self.follow(asking.job, _("The question could not be answered."))
        asking.job.add_done_callback(partial(self._ended, asking))
        self._show_conversation(to_end=True)
        self._show_suggestions()
        self._show_state()

    def _take(self, asking: Asking, piece: str) -> None:
        """A piece of the answer has come."""
        with self.run_safely():
            asking.text = streamed(asking.text, piece)
            if asking is self._asking():
                self._transcript.write(asking.text)

    def _ended(self, asking: Asking, job: Any) -> None:
        with self.run_safely():
            self._asked.remove(asking)
            is_here = asking.volume_node is self.workspace.volume_node
            if job.error is not None and is_here and not self.ui.questionEdit.text:
                self.ui.questionEdit.text = asking.question
            if job.error is None and not is_here:
                told = _("The question about {volume} is answered. Choose that volume to read it.")
                self.workspace.tell(told.format(volume=asking.volume_node.GetName()))
            self.workspace.touch()

    def _asking(self) -> Asking | None:
        """The question of the chosen volume that is being answered."""
        node = self.workspace.volume_node
        return next((each for each in self._asked if each.volume_node is node), None)

    # what is shown

    def refresh(self) -> None:
        case, node = self.workspace.case, self.workspace.volume_node
        is_other, self._volume_node = node is not self._volume_node, node
        if is_other:
            self._recalled = 0
        self._scopes.show(case, node)
        self._show_conversation(to_end=is_other)
        self._show_suggestions()
        self._show_state()
        if case is not None:
            self._warmth.keep()

    def select(self, _evidence: str) -> None:
        self._show_conversation()

    def close(self) -> None:
        for asking in tuple(self._asked):
            asking.job.cancel()

    def _show_state(self) -> None:
        asking, case, button = self._asking(), self.workspace.case, self.ui.sendButton
        button.text = _("&Send") if asking is None else _("&Stop")
        button.icon = icon("send" if asking is None else "stop")
        button.toolTip = _("Ask the question.") if asking is None else _("Stop this answer.")
        button.enabled = self.ui.questionEdit.enabled = case is not None
        self.ui.copyButton.enabled = bool(case and case.answers)

    def _show_suggestions(self) -> None:
        case, label = self.workspace.case, self.ui.suggestionsLabel
        is_possible = case is not None and self._asking() is None and self._scopes.is_named
        questions = suggested_questions(case, self._scopes.scope()) if is_possible else ()
        style = f'style="color:{ink_of(label).link}"'
        links = [f'<a href="{escape(each)}" {style}>{escape(each)}</a>' for each in questions]
        label.text = _("Try: {questions}").format(questions=" &nbsp; ".join(links))
        label.visible = bool(links)

    def _show_conversation(self, *, to_end: bool = False) -> None:
        asking, case = self._asking(), self.workspace.case
        ink = ink_of(self.ui.conversationBrowser)
        html = conversation_html(case, ink, self.workspace.selected) if case else ""
        if asking is not None:
            html += question_html(asking.question, asking.about, ink)
        elif not html:
            html = f'<p style="color:{ink.quiet}">{escape(self._nothing_yet())}</p>'
        tail = None if asking is None else asking.text or _("Answering\u2026")
        self._transcript.show(html, tail, to_end=to_end)

    def _nothing_yet(self) -> str:
        if self.workspace.case is None:
            return _("Choose a CT and press Analyze; then you can ask about it here.")
        return _(
            "Nothing was asked yet. Answers come from what was measured in this scan, with its evidence."
        )
