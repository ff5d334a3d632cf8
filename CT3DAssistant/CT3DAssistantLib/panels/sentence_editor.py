"""The box in which a person writes a sentence of the report."""

from typing import Any

import qt
from slicer.i18n import tr as _

from ct3d.case import SECTIONS, Sentence
from ct3d.errors import InvalidRequest
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.ink import ink_of
from CT3DAssistantLib.report_view import diff_html
from CT3DAssistantLib.review import add_sentence, edit_sentence
from CT3DAssistantLib.worddiff import word_diff


class SentenceEditor:
    """Text box, difference to the program's words, Save and Cancel.

    What was typed and not saved when another volume was chosen is there again at the next try.

    Args:
        panel: the report panel, whose widgets these are.
    """

    def __init__(self, panel: Any):
        self.panel, self.ui = panel, panel.ui
        self._target = ""  # id of the sentence, or the section that gets a new one
        self._is_new = False
        self._before = ""  # the program's words, to compare with
        self._volume_id = ""
        self._unsaved: dict[tuple[str, str], str] = {}  # by volume and target
        self.ui.editBox.visible = False
        self._connect()

    @property
    def is_open(self) -> bool:
        return bool(self._target)

    def edit(self, sentence: Sentence) -> None:
        """Change the words of a sentence."""
        title = _("Change this sentence:")
        before = sentence.draft or ("" if sentence.origin == "person" else sentence.text)
        self._open(sentence.id, title, sentence.text, before)

    def add(self, section: str) -> None:
        """Write a new sentence of a section."""
        title = _("New sentence in the section {section}:").format(section=SECTIONS[section])
        self._open(section, title, "", "", is_new=True)

    def onSave(self) -> None:
        node = self.panel.workspace.volume_node
        if not self.is_open or node is None or node.GetID() != self._volume_id:
            raise InvalidRequest(_("The volume is gone that this sentence is about. Choose it again."))
        text = self.ui.textEdit.plainText
        if self._is_new:
            case = self.panel.change(add_sentence, self._target, text)
            own = [each for each in case.sentences if each.section == self._target]
            sentence_id = own[-1].id
        else:
            sentence_id = self._target
            case = self.panel.change(edit_sentence, sentence_id, text)
        self._close()
        self.panel.changed_sentence(sentence_id, case)
        self.panel.choose(sentence_id)

    def onCancel(self) -> None:
        self._close()

    def leave(self) -> None:
        """Another volume is shown: keep what was typed for later."""
        if self.is_open:
            self._unsaved[self._volume_id, self._target] = self.ui.textEdit.plainText
            self._close()

    def _connect(self) -> None:
        ui, failed = self.ui, _("The sentence isn't saved.")
        ui.saveButton.icon, ui.cancelEditButton.icon = icon("accept"), icon("reject")
        self.panel.on(ui.saveButton, "clicked()", self.onSave, failed)
        self.panel.on(ui.cancelEditButton, "clicked()", self.onCancel)
        self.panel.on(ui.textEdit, "textChanged()", self._show_difference)
        keys = {"Ctrl+Return": self.onSave, "Ctrl+Enter": self.onSave, "Esc": self.onCancel}
        self._shortcuts = []
        for key, slot in keys.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), ui.textEdit)
            shortcut.setContext(qt.Qt.WidgetShortcut)
            self.panel.on(shortcut, "activated()", slot, failed)
            self._shortcuts.append(shortcut)

    def _open(self, target: str, title: str, text: str, before: str, *, is_new: bool = False) -> None:
        self._volume_id = self.panel.workspace.volume_node.GetID()
        self._target, self._is_new, self._before = target, is_new, before
        self.ui.editLabel.text = title
        self.ui.editBox.visible = True
        self.ui.textEdit.plainText = self._unsaved.pop((self._volume_id, target), text)
        self._show_difference()
        self.ui.textEdit.setFocus()

    def _close(self) -> None:
        self._target = ""
        self.ui.editBox.visible = False
        self.ui.reportBrowser.setFocus()

    def _show_difference(self) -> None:
        text = " ".join(self.ui.textEdit.plainText.split())
        pieces = word_diff(self._before, text)
        self.ui.diffLabel.visible = self.is_open and bool(self._before) and text != self._before
        self.ui.diffLabel.text = diff_html(pieces, ink_of(self.ui.reportBrowser))
