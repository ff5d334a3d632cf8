"""A scene that is saved in the middle of work comes back in a new process; two volumes' cases never mix."""

import json
import subprocess
import sys
from pathlib import Path

import hands
import pytest
import seen
from module_window import open_window

SAMPLE = "slicerio"
DENSER_HU = 50
RIGHT, LEFT = "lungs.1", "lungs.3"  # sentences on the lungs' volumes
SEEN = Path(seen.__file__)


@pytest.fixture(scope="module")
def a_window(the_double, worker_python, tmp_path_factory, a_sample):
    """One window for all tests of this file, with the profile that needs no language model."""
    a_sample(SAMPLE)
    with open_window(the_double, worker_python, tmp_path_factory.mktemp("states")) as screen:
        yield screen


@pytest.fixture
def a_screen(a_window):
    """The window over an empty scene."""
    import slicer

    slicer.mrmlScene.Clear(0)
    a_window.wait_idle()
    a_window.workspace.state.profile = "floor"
    a_window.told.clear()
    return a_window


@pytest.fixture
def open_bundle(a_screen, an_analysed_bundle):
    """Reads the analysed sample beside what there is, under a name of its own, and chooses it."""
    from CT3DAssistantLib.scene import load_mrb

    def opened(name="CT"):
        import slicer

        before = set(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"))
        load_mrb(slicer.mrmlScene, an_analysed_bundle(SAMPLE), clear=False)
        (node,) = set(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) - before
        node.SetName(name)
        a_screen.workspace.state.profile = "floor"
        a_screen.workspace.volume_node = node
        a_screen.wait_idle()
        return node

    return opened


# what a person does


def load_sample(screen):
    from CT3DAssistantLib.selftest.walks import load_sample

    screen.unfold("case")
    combo = screen.ui("case", "sampleCombo")
    hands.choose(combo, combo.itemText(combo.findData(SAMPLE)))
    load_sample(screen)


def choose(screen, name):
    """Choose a volume in the selector; what runs goes on."""
    screen.unfold("case")
    hands.choose(screen.ui("case", "volumeSelector"), name)
    screen.wait(lambda: screen.workspace.volume_node.GetName() == name)


def edit(screen, sentence_id, text):
    """Change a sentence's words; it is checked later."""
    screen.unfold("report")
    screen.hands.click_link(screen.ui("report", "reportBrowser"), f"sentence/{sentence_id}")
    screen.click("report", "editButton")
    screen.hands.type_text(screen.ui("report", "textEdit"), text)
    screen.click("report", "saveButton")


def ask(screen, question, scope="Whole scan"):
    """Type a question and send it; the answer comes later."""
    screen.unfold("ask")
    hands.choose(screen.ui("ask", "scopeCombo"), scope)
    screen.hands.type_text(screen.ui("ask", "questionEdit"), question)
    screen.hands.press(screen.ui("ask", "questionEdit"), "Return")


def press(screen, *keys):
    """Keys of the landmark section."""
    for key in keys:
        screen.hands.press(screen.ui("landmark", "queueTable"), key)
        screen.turn()


# states to save in


def chosen(screen, _open_bundle):
    load_sample(screen)


def regions(screen, _open_bundle):
    """An analysis that was stopped once the regions were there."""
    load_sample(screen)
    screen.click("case", "analyzeButton")
    screen.wait(lambda: "landmarks" in screen.ui("case", "progressLabel").text)
    screen.click("case", "analyzeButton")
    screen.wait_idle()
    assert screen.case.regions and not screen.case.sentences


def drafted(screen, open_bundle):
    open_bundle()


def edited(screen, open_bundle):
    open_bundle()
    edit(screen, LEFT, "The left lung has a volume of 5170 mL.")
    screen.wait_idle()
    assert screen.case.report_state == "edited"


def reviewed(screen, open_bundle):
    open_bundle()
    screen.unfold("report")
    screen.click("report", "reviewButton")
    screen.wait_idle()
    assert screen.case.report_state == "reviewed"


def signed(screen, open_bundle):
    reviewed(screen, open_bundle)
    screen.hands.type_text(screen.ui("report", "nameEdit"), "Dr. Ä. Reader")
    screen.click("report", "signButton")
    screen.wait_idle()
    assert screen.case.report_state == "signed"


def answered(screen, open_bundle):
    open_bundle()
    for question, scope in {
        "How large is the left lung?": "Whole scan",
        "What is its volume?": "One region",
        "Is there a liver metastasis?": "Range of slices",
    }.items():
        ask(screen, question, scope)
        screen.wait_idle()
    assert [each.scope.kind for each in screen.case.answers] == ["scan", "region", "slices"]


def half_reviewed(screen, open_bundle):
    """A first reader is half-way, and a second one at work, who sees nothing of it."""
    open_bundle()
    screen.unfold("landmark")
    press(screen, "A", "M", "U")
    screen.click("landmark", "secondCheck")
    press(screen, "M", "U")
    screen.wait_idle()
    reviews = screen.case.reviews
    assert sorted(each.verdict for each in reviews if each.verdict != "open") == [
        "accepted",
        "moved",
        "undefined",
    ]
    assert sorted(filter(None, (each.second for each in reviews))) == ["placed", "undefined"]


def isolated(screen, open_bundle):
    """A region brought forward by a click in the list."""
    open_bundle()
    screen.unfold("region")
    rows = seen._table(screen.ui("region", "regionTable"))
    row = next(n for n, texts in enumerate(rows) if texts[0].lower() == "left lung")
    hands.click_cell(screen.ui("region", "regionTable"), row, 0)
    screen.wait_idle()
    assert screen.workspace.selected == "region/left_lung"


def two(screen, open_bundle):
    """Two volumes, each with its own edits and answers."""
    open_bundle("First")
    edit(screen, LEFT, "The left lung of the first.")
    screen.wait_idle()
    open_bundle("Second")
    edit(screen, RIGHT, "The right lung of the second.")
    screen.wait_idle()
    ask(screen, "How large is the left lung?")
    screen.wait_idle()


STATES = (chosen, regions, drafted, edited, reviewed, signed, answered, half_reviewed, isolated, two)


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_a_scene_saved_in_the_middle_comes_back_in_a_new_process(
    state, a_screen, open_bundle, worker_python, tmp_path
):
    from CT3DAssistantLib.scene import save_mrb

    state(a_screen, open_bundle)
    assert not a_screen.errors
    before = json.loads(json.dumps(seen.everything(a_screen)))
    save_mrb(a_screen.workspace.scene, tmp_path / "saved.mrb")
    command = [sys.executable, SEEN, worker_python, tmp_path / "saved.mrb"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout.partition("SEEN")[2])
    assert after["scene"] == before["scene"]
    for panel, shown in before["panels"].items():
        assert after["panels"][panel] == shown, panel


def test_what_was_brought_forward_goes_back_after_the_scene_was_read_again(a_screen, open_bundle, tmp_path):
    from CT3DAssistantLib.scene import save_mrb
    from CT3DAssistantLib.selftest.walks import open_scene

    open_bundle()
    before = seen.everything(a_screen)["scene"]["masks"]
    a_screen.workspace.select("region/left_lung")
    assert seen.everything(a_screen)["scene"]["masks"] != before
    save_mrb(a_screen.workspace.scene, tmp_path / "saved.mrb")
    open_scene(a_screen, tmp_path / "saved.mrb")
    a_screen.unfold("region")
    a_screen.click("region", "isolateButton")
    assert seen.everything(a_screen)["scene"]["masks"] == before


# two volumes


def without_times(case):
    """What a case says, without when and how fast it came about."""
    return {
        "regions": case.regions,
        "attributes": case.attributes,
        "landmarks": case.landmarks,
        "findings": [(each.id, each.state, each.why) for each in case.findings],
        "sentences": [
            (each.floor, each.support, each.text if each.is_touched else "") for each in case.sentences
        ],
        "answers": [(each.question, each.text, each.evidence) for each in case.answers],
        "reviews": [(each.landmark, each.verdict, each.position_ras) for each in case.reviews],
        "state": case.report_state,
        "actions": [(each.verb, each.target) for each in case.actions],
    }


def make_denser(node):
    """Every voxel of a volume 50 HU denser."""
    import slicer

    slicer.util.updateVolumeFromArray(node, slicer.util.arrayFromVolume(node) + DENSER_HU)


def test_two_volumes_worked_on_by_turns_come_out_as_each_alone(a_screen, open_bundle):
    import slicer

    from CT3DAssistantLib.scene import case_of

    scene = slicer.mrmlScene

    def with_first():
        edit(a_screen, RIGHT, "The right lung of the first.")
        ask(a_screen, "How large is the right lung?")

    def with_second():
        edit(a_screen, LEFT, "The left lung of the second.")
        ask(a_screen, "What is the mean density of the left lung?")
        a_screen.unfold("region")
        a_screen.click("region", "measureButton")

    alone = []
    for work in (with_first, with_second):
        scene.Clear(0)
        node = open_bundle("Alone")
        if work is with_second:
            make_denser(node)
        work()
        a_screen.wait_idle()
        alone.append(without_times(case_of(scene, node)))

    scene.Clear(0)
    second = open_bundle("Second")
    make_denser(second)
    load_sample(a_screen)
    first = a_screen.workspace.volume_node
    a_screen.click("case", "analyzeButton")
    choose(a_screen, "Second")  # while the first is analysed
    with_second()
    assert len(a_screen.workspace.jobs) > 2
    choose(a_screen, first.GetName())  # before the second is answered
    a_screen.wait_idle()
    with_first()
    choose(a_screen, "Second")  # before the first is answered
    a_screen.unfold("report")
    assert "left lung of the second" in a_screen.ui("report", "reportBrowser").plainText
    assert "right lung of the first" not in a_screen.ui("report", "reportBrowser").plainText
    a_screen.wait_idle()
    assert without_times(case_of(scene, second)) == alone[1]
    assert without_times(case_of(scene, first)) == alone[0]
    assert not a_screen.errors
