"""What can go wrong in the middle of a person's work: the worker is killed, or the person stops what runs.

Real clicks and keys on the module's window, a real worker process, a real CT. The moments are random: which
were drawn is printed.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import hands
import pytest
from module_window import open_window

SAMPLE = "slicerio"
SEED = 20261122
EDITED = "The left lung has a volume of 3170 mL, read by a person."
EDITED_AGAIN = "The left lung has a volume of 3170 mL, read by a second person."
QUESTION = "Describe the right lung."  # the language model writes two sentences
CANCEL_S = 1.0


@pytest.fixture(scope="module")
def a_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("robust")


@pytest.fixture(scope="module")
def a_screen(the_double, worker_python, a_folder, a_sample):
    """One window for all tests of this file; `open_scene` gives each of them its own scene."""
    a_sample(SAMPLE)
    with open_window(the_double, worker_python, a_folder) as screen:
        yield screen


@pytest.fixture(scope="module")
def scenes(a_screen, a_folder, an_analysed_bundle):
    """By name, how each scene comes about: made when it is first asked for, then read from its file."""
    from CT3DAssistantLib.scene import save_mrb
    from CT3DAssistantLib.selftest.walks import load_sample, open_scene

    def loaded():
        combo = a_screen.ui("case", "sampleCombo")
        a_screen.unfold("case")
        hands.choose(combo, combo.itemText(combo.findData(SAMPLE)))
        load_sample(a_screen)

    def regions():
        """Analysed until the regions were there, then stopped."""
        loaded()
        a_screen.click("case", "analyzeButton")
        a_screen.wait(lambda: "landmarks" in a_screen.ui("case", "progressLabel").text)
        a_screen.click("case", "analyzeButton")
        a_screen.wait_idle()
        assert a_screen.case.regions and not a_screen.case.sentences

    def worked():
        """Analysed, then edited, asked and reviewed by a person."""
        open_scene(a_screen, an_analysed_bundle(SAMPLE))
        edit(a_screen)
        a_screen.wait_idle()
        ask(a_screen)
        a_screen.wait_idle()
        a_screen.unfold("landmark")
        for key in ("A", "M", "U"):
            hands.press(a_screen.ui("landmark", "queueTable"), key)
        a_screen.wait_idle()
        assert len(a_screen.case.reviews) == 3 and len(a_screen.case.answers) == 1

    def demo():
        """The demo CT, analysed."""
        open_scene(a_screen, an_analysed_bundle())

    makers = {"loaded": loaded, "regions": regions, "worked": worked, "demo": demo}

    present = []

    def opened(name, profile="floor", *, as_it_is=False):
        """Open a scene; `as_it_is`: unless the last test has left it open."""
        import slicer

        if as_it_is and present == [name, profile]:
            a_screen.told.clear()
            return a_screen
        present[:] = name, profile
        slicer.mrmlScene.Clear(0)
        a_screen.wait_idle()
        path = a_folder / f"{name}.mrb"
        a_screen.workspace.state.profile = "floor"
        if path.exists():
            open_scene(a_screen, path)
        else:
            makers[name]()
            save_mrb(a_screen.workspace.scene, path)
        a_screen.workspace.state.profile = profile
        a_screen.workspace.touch()
        a_screen.wait_idle()
        a_screen.told.clear()
        return a_screen

    return opened


# what a person does


def edit(screen, text=EDITED):
    screen.unfold("report")
    sentence = next(each for each in screen.case.sentences if each.text.startswith("The left lung has"))
    screen.hands.click_link(screen.ui("report", "reportBrowser"), f"sentence/{sentence.id}")
    screen.click("report", "editButton")
    screen.hands.type_text(screen.ui("report", "textEdit"), text)
    screen.click("report", "saveButton")


def check_again(screen):
    hands.click_label_link(screen.ui("report", "detailLabel"), "check")


def ask(screen):
    screen.unfold("ask")
    if not screen.ui("ask", "questionEdit").text:
        screen.hands.type_text(screen.ui("ask", "questionEdit"), QUESTION)
    screen.click("ask", "sendButton")


def click(panel, *buttons):
    """Function: click buttons of a panel, which is opened where it is folded."""

    def clicked(screen):
        if not screen.window.panels[panel].is_open:
            screen.unfold(panel)
        for button in buttons:
            screen.click(panel, button)

    return clicked


# a killed worker


@dataclass(frozen=True)
class Moment:
    """When the worker is killed: so long after a step has begun, drawn by lot up to `within_s`.

    Attributes:
        scene: what there is.
        start: the click that begins the work.
        go_on: the one click after it.
        is_done: from the screen and the case before: whether the work has come to its end.
        is_underway: whether the step has begun.
        profile: of models; "" for the one with a language model.
    """

    scene: str
    start: Callable[[Any], None]
    within_s: float
    go_on: Callable[[Any], None]
    is_done: Callable[[Any, Any], bool]
    is_underway: Callable[[Any], Any] = lambda screen: screen.workspace.jobs
    profile: str = "floor"


def at_stage(title):
    return lambda screen: title in screen.ui("case", "progressLabel").text


def ran_again(task):
    """Function: whether a task has a newer result than in the case before, and none of them broke."""

    def step(case):
        return next((each for each in case.provenance if each.task == task), None) if case else None

    def done(screen, before):
        case = screen.workspace.case
        is_new = step(case) is not None and step(case) != step(before)
        return is_new and not any(flag.id.endswith("_failed") for flag in case.flags)

    return done


def is_checked(screen, _before):
    from CT3DAssistantLib.review import UNCHECKED

    (edited,) = [each for each in screen.case.sentences if each.text == EDITED_AGAIN]
    return UNCHECKED not in edited.reasons


def is_answered(screen, before):
    return len(screen.case.answers) == len(before.answers) + 1


def can_analyze(screen, _before):
    card = screen.ui("case", "preflightLabel").text
    return screen.ui("case", "analyzeButton").enabled and "wait" not in card and "stop" not in card


ANALYZE = click("case", "analyzeButton")
CONTINUE = click("case", "continueButton")
MOMENTS = {
    "looking at the machine": Moment(
        "loaded",
        click("case", "checkButton"),
        0.004,
        click("case", "checkButton"),
        can_analyze,
        lambda screen: screen.workspace.logic.client.is_busy,
    ),
    "finding regions": Moment(
        "loaded", ANALYZE, 2.5, ANALYZE, ran_again("report"), at_stage("Finding regions")
    ),
    "finding regions anew": Moment(
        "worked",
        click("case", "analyzeButton", "yesButton"),
        2.5,
        click("case", "analyzeButton", "yesButton"),  # asks again before a person's work is replaced
        ran_again("report"),
        at_stage("Finding regions"),
    ),
    "placing landmarks": Moment(
        "regions", CONTINUE, 0.3, CONTINUE, ran_again("report"), at_stage("Placing landmarks")
    ),
    "measuring": Moment("regions", CONTINUE, 0.04, CONTINUE, ran_again("report"), at_stage("Measuring")),
    "deriving findings": Moment(
        "regions", CONTINUE, 0.002, CONTINUE, ran_again("report"), at_stage("Deriving findings")
    ),
    "writing the report": Moment(
        "regions", CONTINUE, 3.0, CONTINUE, ran_again("report"), at_stage("Writing the report"), ""
    ),
    "checking an edited sentence": Moment(
        "worked", partial(edit, text=EDITED_AGAIN), 0.001, check_again, is_checked
    ),
    "writing a section anew": Moment(
        "worked",
        click("report", "regenerateButton"),
        1.5,
        click("report", "regenerateButton"),
        ran_again("report"),
        profile="",
    ),
    "answering": Moment("worked", ask, 1.0, ask, is_answered, profile=""),
    "placing landmarks anew": Moment(
        "worked",
        click("landmark", "findButton"),
        0.3,
        click("landmark", "findButton"),
        ran_again("landmarks"),
    ),
    "measuring anew": Moment(
        "worked",
        click("region", "measureButton"),
        0.1,
        click("region", "measureButton"),
        ran_again("measure"),
    ),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_a_killed_worker_is_told_of_costs_nothing_and_one_click_goes_on(name, scenes):
    moment, delay_s = MOMENTS[name], random.Random(f"{SEED} {name}").uniform(0, MOMENTS[name].within_s)
    screen = scenes(moment.scene, moment.profile)
    before, masks = screen.workspace.case, masks_of(screen)
    moment.start(screen)
    screen.wait(lambda: moment.is_underway(screen) and screen.workspace.logic.client.worker)
    turn_for(screen, delay_s)
    os.kill(screen.workspace.logic.client.worker.pid, signal.SIGKILL)
    screen.wait_idle()
    outcome = "ended" if moment.is_done(screen, before) else "broke"
    print(f"killed {delay_s:.3f} s into {name}: it {outcome}; told: {screen.errors}")
    assert_nothing_lost(before, screen.workspace.case)
    assert masks_of(screen) == masks
    if outcome == "broke":
        assert_understandable(screen, name)
        moment.go_on(screen)
        screen.wait_idle()
    assert moment.is_done(screen, before), screen.told
    assert_nothing_lost(before, screen.workspace.case, is_anew="regions anew" in name)


def turn_for(screen, seconds):
    """Let the application work for a while."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        screen.turn()


def masks_of(screen):
    """Fingerprint of the masks in the scene."""
    from CT3DAssistantLib.ownership import fingerprint, node_of

    workspace = screen.workspace
    node = node_of(workspace.scene, workspace.volume_node, "segmentation")
    return node and fingerprint(node)


def assert_nothing_lost(before, after, *, is_anew=False):
    """What was found and what a person did is there still, unless the person had all made anew."""
    if before is None or is_anew:
        return
    assert after.regions == before.regions
    assert {each.id for each in after.landmarks} >= {each.id for each in before.landmarks}
    assert {each.id for each in after.attributes} >= {each.id for each in before.attributes}
    touched = [each.id for each in before.sentences if each.is_touched]
    assert [each.id for each in after.sentences if each.is_touched] == touched
    assert all(each.text in (EDITED, EDITED_AGAIN) for each in after.sentences if each.is_touched)
    assert len(after.sentences) >= len(before.sentences)
    assert after.answers[: len(before.answers)] == before.answers
    assert after.reviews == before.reviews
    assert after.actions[: len(before.actions)] == before.actions


def assert_understandable(screen, name):
    """An error was told, in the window's message or on the card: what broke, why, and what to do."""
    told = [*screen.errors, screen.ui("case", "preflightLabel").text]
    (text,) = [each for each in told if "ended by force" in each or "ended it by force" in each]
    assert "Traceback" not in text and "Error:" not in text, text
    assert "again" in text or "Models" in text, text


# what a person stops


@dataclass(frozen=True)
class Stop:
    """A task, and where it is stopped: so long after it has begun, drawn by lot up to `within_s`.

    Attributes:
        start: the click that begins it.
        stop: the click that ends it.
    """

    start: Callable[[Any], None]
    stop: Callable[[Any], None]
    within_s: float
    is_underway: Callable[[Any], Any] = lambda screen: screen.workspace.jobs
    profile: str = "floor"
    scene: str = "demo"


def check_while_written(screen):
    """A check takes milliseconds: here it waits behind a section that is written anew."""
    click("report", "regenerateButton")(screen)
    edit(screen, text=EDITED_AGAIN)


def check_worker(screen):
    screen.unfold("model")
    screen.wait(lambda: screen.ui("model", "checkButton").enabled)  # it looks at the weights first
    screen.click("model", "checkButton")


def same_button(panel, button, within_s, profile="floor"):
    """Stop: the button that begins it becomes the one that ends it."""
    return Stop(click(panel, button), click(panel, button), within_s, profile=profile)


def stop_all(screen):
    screen.do(screen.hands.click, screen.window.ui.stopButton)


STOPS = {
    "reading a sample": Stop(click("case", "loadSampleButton"), ANALYZE, 0.4),
    "finding regions": Stop(click("region", "findButton", "yesButton"), click("region", "findButton"), 4.0),
    "finding regions, by Stop all": Stop(click("region", "findButton", "yesButton"), stop_all, 4.0),
    "placing landmarks": same_button("landmark", "findButton", 0.5),
    "measuring": same_button("region", "measureButton", 0.8),
    "deriving findings": Stop(CONTINUE, ANALYZE, 0.001, at_stage("Deriving findings"), "", "regions"),
    "writing the report": Stop(CONTINUE, ANALYZE, 3.0, at_stage("Writing the report"), "", "regions"),
    "writing a section": same_button("report", "regenerateButton", 1.5, profile=""),
    "answering": Stop(ask, click("ask", "sendButton"), 1.0, profile=""),
    "checking a sentence": Stop(check_while_written, stop_all, 0.1, profile="", scene="worked"),
    "showing the model's input": same_button("saw", "showButton", 0.2),
    "making surfaces": same_button("region", "surfaceButton", 0.05),
    "writing a page": same_button("report", "htmlButton", 1.5),
    "writing a PDF": Stop(click("report", "pdfButton"), click("report", "htmlButton"), 0.2),
    "looking at the worker": Stop(check_worker, click("model", "stopButton"), 0.2),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_click_stops_within_a_second_and_changes_nothing(name, scenes, a_folder):
    stop, delay_s = STOPS[name], random.Random(f"{SEED} {name}").uniform(0, STOPS[name].within_s)
    screen = scenes(stop.scene, stop.profile, as_it_is=stop.scene == "demo")
    screen.ui("report", "folderEdit").currentPath = str(a_folder)
    before, masks = screen.case, masks_of(screen)
    stop.start(screen)
    screen.wait(lambda: stop.is_underway(screen))
    turn_for(screen, delay_s)
    began, was_underway = time.perf_counter(), bool(screen.workspace.jobs)
    if was_underway:
        stop.stop(screen)
        screen.wait_idle(5)
    stopped_s = time.perf_counter() - began
    print(f"stopped {delay_s:.3f} s into {name}: {stopped_s:.3f} s; told: {screen.told}")
    assert was_underway
    assert stopped_s < CANCEL_S
    assert not screen.errors
    assert_nothing_lost(before, screen.case)
    assert masks_of(screen) == masks
    if stop.scene == "demo":
        assert screen.case == before
