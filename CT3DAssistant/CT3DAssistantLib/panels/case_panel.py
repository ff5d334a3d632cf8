"""Case: choose a CT, see what its analysis needs, run it, and see how it went."""

import time
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

import qt
from slicer.i18n import tr as _

from ct3d.protocol.messages import Progress, streamed
from CT3DAssistantLib.overview import broken_steps, duration, persons_work, range_words, steps_left, summary
from CT3DAssistantLib.ownership import remove_case, remove_node
from CT3DAssistantLib.panels.command import Chore
from CT3DAssistantLib.panels.icons import icon
from CT3DAssistantLib.panels.panel import Panel
from CT3DAssistantLib.panels.sample_section import SAMPLE, SampleSection
from CT3DAssistantLib.preflight import Line, Preflight
from CT3DAssistantLib.scene import volume_from_node

TICK_MS = 500
STATES = {"ok": "✔ ok", "warning": "▲ warning", "stop": "✖ stop", "wait": "… wait"}


class CasePanel(Panel):
    """Volume, sample cases, pre-flight card, and the one button that runs everything."""

    ui_file = "CasePanel.ui"

    def setup(self) -> None:
        self._run: Any = None  # the chain at work
        self._chore: Any = None  # what is being fetched or read
        self._agreed: Callable[[], None] | None = None  # what happens when the person says yes
        self._started = 0.0
        self._progress = Progress(0, "", 0.0)
        self._text = ""  # what of the report has been written
        self._checked: Any = None  # what the pre-flight card was made for
        self._preflight = Preflight(self.showPreflight)
        self._timer = qt.QTimer()
        self.ui.volumeSelector.setMRMLScene(self.workspace.scene)
        self._samples = SampleSection(self)
        self._connect()
        self._set_icons()

    def _connect(self) -> None:
        ui = self.ui
        self.on(ui.volumeSelector, "currentNodeChanged(vtkMRMLNode*)", self.onVolume)
        self.on(ui.analyzeButton, "clicked()", self.onAnalyze, _("The analysis can't start."))
        self.on(ui.checkButton, "clicked()", self.onCheck)
        self.on(ui.yesButton, "clicked()", self.onYes)
        self.on(ui.noButton, "clicked()", self.onNo)
        self.on(ui.continueButton, "clicked()", self.onContinue, _("The analysis can't go on."))
        self.on(ui.clearButton, "clicked()", self.onClear)
        self.on(ui.preflightLabel, "linkActivated(QString)", self.workspace.open)
        self.on(self._timer, "timeout()", self.showProgress)

    def _set_icons(self) -> None:
        self.ui.checkButton.icon = icon("refresh")
        self.ui.continueButton.icon = icon("next")
        self.ui.clearButton.icon = icon("remove")

    # what is shown

    def refresh(self) -> None:
        node = self.workspace.volume_node
        if self.ui.volumeSelector.currentNode() is not node:
            self.ui.volumeSelector.setCurrentNode(node)
        self._samples.show()
        self._look()
        self.showPreflight()
        self.showProgress()
        self._show_summary()

    def showPreflight(self) -> None:
        """The pre-flight card as far as it is known."""
        lines = self._preflight.lines
        nothing = _("Choose a CT, load one with Add Data or Add DICOM Data, or load the sample case.")
        self.ui.preflightLabel.text = "".join(map(_html, lines)) or nothing
        self.ui.cpuBanner.text = self._preflight.banner
        self.ui.cpuBanner.visible = bool(self._preflight.banner) and not self._is_busy
        self.ui.checkButton.visible = bool(lines) and not self._is_busy
        self._show_buttons()

    def showProgress(self) -> None:
        """Bar, stage and times; also once a tick, so that the clock goes on."""
        self.ui.progressBar.visible = self.ui.progressLabel.visible = self._is_busy
        if not self._is_busy:
            self._timer.stop()
            return
        elapsed = _("{time} so far").format(time=duration(time.monotonic() - self._started))
        parts = [self._progress.stage, elapsed]
        if self._progress.eta_s is not None:
            parts.append(_("about {time} left").format(time=duration(self._progress.eta_s)))
        self.ui.progressBar.setRange(0, 1000 if self._run else 0)
        self.ui.progressBar.value = int(1000 * self._progress.fraction)
        written = self._text.strip().splitlines()[-1:]
        self.ui.progressLabel.text = "\n".join((", ".join(filter(None, parts)), *written))

    @property
    def _is_busy(self) -> bool:
        return self._run is not None or self._chore is not None

    def _show_buttons(self) -> None:
        ui, is_busy = self.ui, self._is_busy
        ui.analyzeButton.text = _("Cancel") if is_busy else _("&Analyze")
        ui.analyzeButton.icon = icon("stop" if is_busy else "play")
        ui.analyzeButton.enabled = is_busy or self._preflight.can_run
        for button in (ui.loadSampleButton, ui.sampleCombo, ui.continueButton, ui.clearButton):
            button.enabled = not is_busy
        ui.askRow.visible = self._agreed is not None and not is_busy

    def _show_summary(self) -> None:
        node, case = self.workspace.volume_node, self.workspace.case
        lines = [escape(summary(case))] if case else []
        if case and case.qc:
            lines.append(escape(range_words(case.qc)))
        for title, told in broken_steps(case) if case else ():
            lines.append(f"<b>✖ {escape(title)}</b>: {escape(told)}")
        left = steps_left(case, self.workspace.profile) if case and not self._is_busy else ()
        if left:
            lines.append(escape(_("Not done yet: {steps}.").format(steps=", ".join(left))))
        self.ui.summaryLabel.text = "".join(f"<p style='margin:2px 0'>{line}</p>" for line in lines)
        self.ui.summaryLabel.visible = bool(lines)
        self.ui.continueButton.visible = bool(left)
        is_sample = node is not None and bool(node.GetAttribute(SAMPLE))
        self.ui.clearButton.visible = bool(case) or is_sample
        self.ui.clearButton.text = _("Reset the demo…") if is_sample else _("Clear this case…")

    def _look(self) -> None:
        """Make the pre-flight card anew where volume or profile has changed; not while the worker works."""
        node = self.workspace.volume_node
        image = node and node.GetImageData()
        client, profile = self.workspace.logic.client, self.workspace.profile
        key = node and (node.GetID(), image and image.GetMTime(), profile.id, client.retired)
        if key == self._checked or self._run is not None:
            return
        self._checked = key
        if node is None:
            self._preflight.clear()
        else:
            read = partial(volume_from_node, node)
            self._preflight.look(client, read, profile)

    # clicks

    def onVolume(self, node: Any) -> None:
        if node is not self.workspace.volume_node:
            self._agreed = None
            self.workspace.volume_node = node

    def onCheck(self) -> None:
        self._checked = None
        self.refresh()

    def onLoadSample(self) -> None:
        """As a click on the button does."""
        self._samples.onLoad()

    def onAnalyze(self) -> None:
        if self._is_busy:
            (self._run or self._chore).cancel()
            return
        work = persons_work(self.workspace.case)
        if not work:
            self._analyze()
            return
        told = _(
            "This case holds work of a person: {work}. A new analysis starts a new case; the earlier one is "
            "kept in the scene, beside the results."
        )
        self.ask(told.format(work=work), _("Analyze &anew"), self._analyze)

    def onContinue(self) -> None:
        self._follow_chain(self.workspace.logic.resume)

    def onClear(self) -> None:
        node = self.workspace.volume_node
        told = _("Remove all results of {name} from the scene, with what was edited and signed?")
        if node.GetAttribute(SAMPLE):
            told = _("Remove the sample {name} and all its results from the scene?")
        self.ask(told.format(name=node.GetName()), _("&Remove"), self._clear)

    def onYes(self) -> None:
        agreed, self._agreed = self._agreed, None
        self._show_buttons()
        if agreed is not None:
            agreed()

    def onNo(self) -> None:
        self._agreed = None
        self._show_buttons()

    def close(self) -> None:
        self.ui.volumeSelector.blockSignals(
            True
        )  # the application keeps old widgets when it reloads a module
        self._timer.stop()
        for job in (self._run, self._chore):
            if job is not None:
                job.cancel()

    # what follows

    def ask(self, text: str, yes: str, agreed: Callable[[], None]) -> None:
        """Ask in the panel; nothing happens before the person has said yes."""
        self._agreed = agreed
        self.ui.askLabel.text = text
        self.ui.yesButton.text = yes
        self._show_buttons()

    def _analyze(self) -> None:
        self._follow_chain(self.workspace.logic.analyze)

    def _follow_chain(self, verb: Callable[..., Any]) -> None:
        self.workspace.logic.profile = self.workspace.profile
        node = self.workspace.volume_node
        self._run = verb(node, on_progress=self._note_progress, on_text=self._note_text)
        self._begin(_("Starting"))
        self.follow(self._run, _("The analysis is not complete."))
        self._run.add_done_callback(self._chain_ended)

    def _note_progress(self, progress: Progress) -> None:
        self._progress = progress
        self.showProgress()

    def _note_text(self, piece: str) -> None:
        self._text = streamed(self._text, piece)
        self.showProgress()

    def _chain_ended(self, _chain: Any) -> None:
        self._run = self._checked = None
        self._end()

    def do(self, stage: str, then: Callable[..., None], *arguments: Any) -> None:
        """A chore in the background; its result goes to `then`."""
        self._chore = Chore(*arguments)
        self._begin(stage)
        self.follow(self._chore, _("The sample can't be loaded."), partial(self._chore_ended, then))
        self._chore.add_done_callback(self._chore_broke)

    def _chore_ended(self, then: Callable[..., None], result: Any) -> None:
        self._chore = None
        self._end()
        then() if isinstance(result, str) else then(result)

    def _chore_broke(self, chore: Any) -> None:
        if chore.error is not None:
            self._chore = None
            self._end()

    def _clear(self) -> None:
        node = self.workspace.volume_node
        self.workspace.select("")
        remove_case(self.workspace.scene, node)
        if node.GetAttribute(SAMPLE):
            self.workspace.volume_node = None
            remove_node(self.workspace.scene, node)
        self.workspace.touch()

    def _begin(self, stage: str) -> None:
        self._agreed, self._text = None, ""
        self._started, self._progress = time.monotonic(), Progress(0, stage, 0.0)
        self._timer.start(TICK_MS)
        self.showPreflight()
        self.showProgress()

    def _end(self) -> None:
        self._timer.stop()
        self.workspace.touch()
        self.showPreflight()
        self.showProgress()


def _html(line: Line) -> str:
    state, topic, text = STATES[line.state], escape(line.topic), escape(line.text)
    if line.state in ("warning", "stop"):
        state = f"<b>{state}</b>"
    link = f" <a href='models'>{_('Open Models')}</a>" if line.models else ""
    return f"<p style='margin:2px 0'>{state} · <b>{topic}</b>: {text}{link}</p>"
