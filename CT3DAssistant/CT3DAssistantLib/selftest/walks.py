"""The first five minutes of three people, by clicks and keys alone.

Slicer's own self-test runs these walks in the application, over its widgets; pytest runs the same functions
over a double of them. A walk begins with an empty scene, works on the demo CT with the real worker, and looks
only at what a person can see: panels, views and files.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer

from ct3d.case import Case
from CT3DAssistantLib.review import signature_holds
from CT3DAssistantLib.scene import load_mrb, save_mrb
from CT3DAssistantLib.selftest.hands import Hands

ANALYSIS_S = 900.0
TASK_S = 180.0
TICK_S = 0.002


class Screen:
    """The module's window in front of one person.

    Args:
        window: with its panels.
        hands: click, press and type.
        folder: where the person saves.

    Attributes:
        told: what the window said, as (severity, text).
        longest_turn_s: the longest that the event loop, while it turned or a click was at work, has let
            nothing else in; by the clock, which on a machine that others use has their work in it.
        longest_work_s: the longest that this process, in all its threads, was at work meanwhile.
        slowest: what was done then.
    """

    def __init__(self, window: Any, hands: Any, folder: Path):
        self.window, self.hands, self.folder = window, hands, Path(folder)
        self.workspace = window.workspace
        self.told: list[tuple[str, str]] = []
        self.longest_turn_s = self.longest_work_s = 0.0
        self.slowest = self._doing = ""
        self.workspace.on_tell.append(self._note)
        self._since: tuple[float, float] | None = None  # clock and work; None: it isn't our turn
        self._beat = qt.QTimer()
        self._beat.connect("timeout()", self._note_turn)
        self._beat.start(0)

    def ui(self, panel: str, widget: str) -> Any:
        """A widget of a panel."""
        return getattr(self.window.panels[panel].ui, widget)

    def unfold(self, panel: str) -> None:
        """Open one section and fold the others, as one does in a narrow window."""
        for name, each in self.window.panels.items():
            if (name == panel) == bool(each.widget.collapsed):
                self.hands.click_header(each.widget)
        self.turn()

    def click(self, panel: str, button: str) -> None:
        self.do(self.hands.click, self.ui(panel, button))

    def turn(self) -> None:
        """One turn of the event loop."""
        self.do(qt.QCoreApplication.processEvents)

    def do(self, action: Callable[..., None], *args: Any) -> None:
        """A turn of the event loop, or a click or key, timed."""
        self._doing = " ".join(str(getattr(each, "objectName", each)) for each in args) or "a turn"
        self._since = time.perf_counter(), time.process_time()
        action(*args)
        self._note_turn()
        self._since = None

    def wait(self, is_true: Callable[[], Any], within_s: float = TASK_S) -> None:
        """Let the application work until something holds."""
        deadline = time.monotonic() + within_s
        while not is_true():
            self.turn()
            time.sleep(TICK_S)
            if time.monotonic() > deadline:
                raise AssertionError(f"It never came to pass. Messages: {self.told}")

    def wait_idle(self, within_s: float = TASK_S) -> None:
        """Let the application work until nothing runs any more and everything is shown."""
        self.wait(lambda: not self.workspace.jobs and not self.workspace.logic.client.is_busy, within_s)

    @property
    def case(self) -> Case:
        """The case of the chosen volume."""
        return self.workspace.need_case()

    @property
    def errors(self) -> list[str]:
        """What went wrong, as the person was told."""
        return [text for severity, text in self.told if severity == "error"]

    def close(self) -> None:
        self._beat.stop()
        self.workspace.on_tell.remove(self._note)

    def _note_turn(self) -> None:
        """The event loop has come round."""
        if self._since is None:
            return
        now = time.perf_counter(), time.process_time()
        took, work = (end - begin for begin, end in zip(self._since, now, strict=True))
        self.longest_turn_s = max(self.longest_turn_s, took)
        if min(took, work) > self.longest_work_s:
            self.longest_work_s, self.slowest = min(took, work), self._doing
        self._since = now

    def _note(self, text: str, severity: str) -> None:
        self.told.append((severity, text))


def demo_giver(screen: Screen) -> None:
    """From an empty scene to an answer, with no error on stage."""
    load_sample(screen)
    analyze(screen)
    ask(screen, "How large is the nodule?")
    answer = screen.case.answers[-1]
    assert answer.support == "supported" and "mm" in answer.text, answer
    shown = screen.ui("ask", "conversationBrowser").plainText
    assert answer.text in shown, shown
    ask(screen, "Is there a liver metastasis?")
    assert screen.case.answers[-1].support == "unsupported"
    assert not screen.errors, screen.errors


def radiologist(screen: Screen) -> None:
    """From a CT to a signed, exported report."""
    load_sample(screen)
    analyze(screen)
    screen.unfold("report")
    look_up(screen, screen.case.sentences[0].id)
    sentence = screen.case.sentences[-1]
    look_up(screen, sentence.id)
    screen.click("report", "editButton")
    screen.hands.type_text(screen.ui("report", "textEdit"), f"{sentence.text} Read by a person.")
    screen.click("report", "saveButton")
    screen.wait_idle()
    assert screen.case.report_state == "edited" and "Read by a person." in screen.case.sentences[-1].text
    sign(screen, "Dr. Demo")
    export(screen)
    save_mrb(screen.workspace.scene, screen.folder / "signed.mrb")
    assert not screen.errors, screen.errors


def annotator(screen: Screen) -> None:
    """Through all landmarks of a case: one moved, one undefined, interrupted and resumed."""
    saved = screen.folder / "signed.mrb"
    if saved.exists():
        open_scene(screen, saved)
    else:
        load_sample(screen)
        analyze(screen)
    screen.unfold("landmark")
    if not screen.ui("landmark", "keysCheck").checked:
        screen.click("landmark", "keysCheck")
    for n, key in enumerate(["M", "U", *"A" * (len(screen.case.landmarks) - 2)], 1):
        screen.do(screen.hands.press, screen.ui("landmark", "queueTable"), key)
        screen.wait(lambda n=n: verdicts(screen) == n, within_s=20)
        if n == 3:
            before = screen.case
            save_mrb(screen.workspace.scene, screen.folder / "interrupted.mrb")
            open_scene(screen, screen.folder / "interrupted.mrb")
            assert screen.case == before
    decided = [review.verdict for review in screen.case.reviews]
    assert decided.count("moved") == 1 and decided.count("undefined") == 1, decided
    screen.ui("landmark", "exportFolder").currentPath = str(screen.folder)
    screen.click("landmark", "csvButton")
    screen.click("landmark", "markupsButton")
    assert list(screen.folder.glob("*.csv")) and list(screen.folder.glob("*.mrk.json"))
    assert not screen.errors, screen.errors


WALKS = (demo_giver, radiologist, annotator)


def run_in_application() -> list[str]:
    """All walks over the module's own window; gives their titles. The scene is emptied for each."""
    folder = Path(tempfile.mkdtemp(prefix="ct3d-walks-"))
    widget = slicer.util.getModuleWidget("CT3DAssistant")
    if slicer.util.mainWindow() is not None:
        slicer.util.selectModule("CT3DAssistant")
    else:
        widget.parent.show()  # as ctest runs it: nobody else says that the person is there
        widget.enter()
    window = widget.window
    for walk in WALKS:
        slicer.mrmlScene.Clear(0)
        screen = Screen(window, Hands(), folder)
        walk(screen)
        screen.close()
    return [walk.__doc__ or "" for walk in WALKS]


# what people do


def load_sample(screen: Screen) -> None:
    """The sample case, by its button; a download is agreed to."""
    screen.unfold("case")
    screen.click("case", "loadSampleButton")
    screen.turn()
    if screen.ui("case", "yesButton").isVisible():
        screen.click("case", "yesButton")
    screen.wait(lambda: screen.workspace.volume_node is not None)
    screen.wait(lambda: screen.ui("case", "analyzeButton").enabled)
    screen.wait_idle()


def analyze(screen: Screen) -> None:
    """One click, and the whole report is there."""
    screen.click("case", "analyzeButton")
    screen.wait_idle(ANALYSIS_S)
    case = screen.case
    assert case.regions and case.landmarks and case.attributes and case.findings and case.sentences


def ask(screen: Screen, question: str) -> None:
    """A question, typed and sent with Return."""
    screen.unfold("ask")
    before = len(screen.case.answers)
    screen.hands.type_text(screen.ui("ask", "questionEdit"), question)
    screen.do(screen.hands.press, screen.ui("ask", "questionEdit"), "Return")
    screen.wait(lambda: len(screen.case.answers) > before)
    screen.wait_idle()


def look_up(screen: Screen, sentence_id: str) -> None:
    """Click a sentence; what supports it comes into the views."""
    screen.do(screen.hands.click_link, screen.ui("report", "reportBrowser"), f"sentence/{sentence_id}")
    screen.turn()
    evidence = next(each.evidence for each in screen.case.sentences if each.id == sentence_id)
    assert screen.workspace.selected in evidence, (screen.workspace.selected, evidence)


def sign(screen: Screen, name: str) -> None:
    """Mark as reviewed, put one's name, sign."""
    screen.click("report", "reviewButton")
    screen.wait(lambda: screen.case.report_state == "reviewed")
    screen.hands.type_text(screen.ui("report", "nameEdit"), name)
    screen.click("report", "signButton")
    screen.wait(lambda: screen.case.report_state == "signed")
    assert screen.case.signature.name == name and signature_holds(screen.case)


def export(screen: Screen) -> None:
    """HTML and PDF into the person's folder."""
    screen.ui("report", "folderEdit").currentPath = str(screen.folder)
    for button, kind in (("htmlButton", "*.html"), ("pdfButton", "*.pdf")):
        screen.click("report", button)
        screen.wait(lambda kind=kind: list(screen.folder.rglob(kind)))
        screen.wait_idle()


def verdicts(screen: Screen) -> int:
    """How many landmarks have been decided."""
    return sum(review.verdict != "open" for review in screen.case.reviews)


def open_scene(screen: Screen, path: Path) -> None:
    """Read a saved scene, as File, Open does."""
    load_mrb(screen.workspace.scene, path)
    screen.wait_idle()
