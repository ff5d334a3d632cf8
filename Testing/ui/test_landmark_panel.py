"""The landmark panel, driven by keys and clicks on a real case: decide, move, undo, interrupted, resume."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SLICES = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
FOLDER = Path(__file__).parent
ARCH, DOME, CARINA = "aortic_arch_level", "left_diaphragm_dome", "carina"


@pytest.fixture
def a_recovery(tmp_path):
    from CT3DAssistantLib.recovery import Recovery

    return Recovery(tmp_path / "kept")


@pytest.fixture
def show_slices(a_workspace):
    """Makes three slice nodes as a layout of the application has them: a bare scene has none."""

    def made():
        scene, views = a_workspace.scene, {}
        import slicer

        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
        for name, orientation in SLICES.items():
            views[name] = scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
            views[name].SetLayoutName(name)
            views[name].SetOrientation(orientation)
            views[name].SetDimensions(400, 400, 1)
            views[name].SetFieldOfView(300, 300, 1)
        return views

    return made


@pytest.fixture
def a_panel(a_workspace, a_recovery, open_bundle, show_slices, spin):
    """Opens the panel over a case: in a window, unfolded, the person in the module."""
    from CT3DAssistantLib.panels.landmark_panel import LandmarkPanel

    made = []

    def panel(name="lidc_idri_0001", *, opened=True):
        if opened:
            open_bundle(name)
        a_workspace.recovery = a_recovery
        views = show_slices()
        made.append(LandmarkPanel(a_workspace))
        made[-1].views = views
        made[-1].widget.resize(350, 900)
        made[-1].widget.show()
        made[-1].open()
        made[-1].enter()
        spin()
        return made[-1]

    yield panel
    for each in made:
        each.close()
        each.widget.hide()
    spin(lambda: not a_workspace.jobs)


@pytest.fixture
def press(spin):
    """Presses a key with the keyboard in the panel's table."""
    import hands

    def pressed(panel, key, on=None):
        hands.press(on or panel.ui.queueTable, key)
        spin()

    return pressed


def verdicts(panel):
    return {each.landmark: each.verdict for each in panel.workspace.case.reviews if each.verdict != "open"}


def points_of(panel):
    return {each.id: each.position_ras for each in panel.workspace.case.landmarks}


def crossing(panel):
    from CT3DAssistantLib.landmark_aids import pointed_at

    return pytest.approx(pointed_at(panel.workspace.scene), abs=0.05)


def drag(panel, name, ras):
    """What the markups widget does when a point is dragged and let go."""
    node = panel.session.node
    titles = {each.id: each.title for each in panel.workspace.case.landmarks}
    row = next(
        n for n in range(node.GetNumberOfControlPoints()) if node.GetNthControlPointLabel(n) == titles[name]
    )
    assert not node.GetNthControlPointLocked(row), f"{name} is locked: nobody could drag it"
    node.SetNthControlPointPositionWorld(row, *ras)
    node.InvokeEvent(node.PointEndInteractionEvent)


def test_the_queue_opens_at_the_riskiest_and_says_what_it_is(a_panel):
    panel = a_panel()
    ui = panel.ui
    assert ui.queueTable.rowCount == 10 and ui.queueTable.item(0, 0).text() == "aortic arch level"
    assert ui.progressLabel.text == "0 of 10 reviewed"
    assert "aortic arch level" in ui.currentLabel.text and "open" in ui.currentLabel.text
    assert "contrast-filled cross-section" in ui.definitionLabel.text
    assert "Low confidence (0.39)" in ui.whyLabel.text
    assert "not calibrated" in ui.placeLabel.text and "R -15.7" in ui.placeLabel.text
    assert not ui.undoButton.enabled and ui.readersRow.isHidden() and ui.recoveryRow.isHidden()


def test_one_key_decides_and_the_views_come_to_the_next_open_one(a_panel, press):
    panel = a_panel()
    press(panel, "A")
    assert verdicts(panel) == {ARCH: "accepted"} and panel.session.current == DOME
    assert panel.workspace.selected == f"landmark/{DOME}"
    assert crossing(panel) == points_of(panel)[DOME]
    assert panel.views["Red"].GetFieldOfView()[:2] == pytest.approx((100, 100))
    press(panel, "R")
    press(panel, "U")
    assert verdicts(panel) == {ARCH: "accepted", DOME: "rejected", CARINA: "undefined"}
    assert panel.ui.progressLabel.text == "3 of 10 reviewed"
    states = {panel.ui.queueTable.item(n, 0).text(): panel.ui.queueTable.item(n, 1).text() for n in range(10)}
    assert states["left diaphragm dome"] == "rejected" and states["carina"] == "undefined"
    node = panel.session.node
    assert node.GetNthControlPointPositionStatus(0) == node.PositionMissing  # the carina


def test_next_leaves_a_landmark_open_and_the_queue_comes_back_to_it(a_panel, press):
    panel = a_panel()
    press(panel, "N")
    assert panel.session.current == DOME and verdicts(panel) == {}
    for _ in range(9):
        press(panel, "A")
    assert len(verdicts(panel)) == 9 and panel.session.current == ARCH
    press(panel, "A")
    assert panel.ui.progressLabel.text == "10 of 10 reviewed"
    press(panel, "N")
    assert ("info", "All landmarks are decided.") in panel.workspace.told


def test_a_key_moves_the_point_to_where_the_mouse_is_and_undo_brings_it_back(a_panel, press):
    panel = a_panel()
    crosshair = panel.workspace.scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCursorPositionRAS([-12.0, -20.0, -80.0])
    press(panel, "M")
    crosshair.SetCursorPositionInvalid()
    (review,) = panel.workspace.case.reviews
    assert (review.landmark, review.verdict) == (ARCH, "moved") and review.position_ras == (
        -12.0,
        -20.0,
        -80.0,
    )
    press(panel, "Ctrl+Z")
    assert verdicts(panel) == {} and panel.session.current == ARCH
    assert crossing(panel) == points_of(panel)[ARCH]
    assert [action.verb for action in panel.workspace.case.actions] == ["move", "undo"]


def test_a_button_moves_the_point_to_where_the_slices_cross(a_panel, spin):
    import hands

    panel = a_panel()
    panel.workspace.views.jump((-10.0, -15.0, -90.0))
    hands.click(panel.ui.moveButton)
    spin()
    assert panel.workspace.case.reviews[0].position_ras == pytest.approx((-10, -15, -90), abs=0.01)
    hands.click(panel.ui.undoButton)
    spin()
    assert verdicts(panel) == {}


def test_a_point_that_is_dragged_is_moved_and_stays_under_review(a_panel, press, spin):
    from CT3DAssistantLib.ownership import is_edited

    panel = a_panel()
    drag(panel, ARCH, (-14.0, -16.0, -83.0))
    spin()
    assert verdicts(panel) == {ARCH: "moved"} and panel.session.current == ARCH
    assert "moved" in panel.ui.currentLabel.text and "R -14.0" in panel.ui.placeLabel.text
    assert not is_edited(panel.session.node)
    press(panel, "A")  # right as it is shown: it stays where it was dragged
    assert panel.workspace.case.reviews[0].position_ras == (-14.0, -16.0, -83.0)
    assert panel.session.current == DOME


def test_a_point_that_is_dragged_while_the_panel_is_folded_is_taken_in_when_it_opens(a_panel, spin):
    panel = a_panel()
    panel.exit()
    panel.widget.collapsed = True
    node = panel.session.node
    assert all(node.GetNthControlPointLocked(n) for n in range(node.GetNumberOfControlPoints()))
    node.SetNthControlPointPositionWorld(0, 2.0, -18.0, -115.0)
    panel.open()
    panel.enter()
    spin()
    assert panel.workspace.case.reviews[0].position_ras == (2.0, -18.0, -115.0)


def test_keys_work_only_in_the_section_or_everywhere_and_never_in_a_text_field(
    a_panel, press, the_double, spin
):
    import hands

    _, qt = the_double
    panel = a_panel()
    window = qt.QWidget()
    field, button = qt.QLineEdit(window), qt.QPushButton("Elsewhere", window)
    layout = qt.QVBoxLayout(window)
    for widget in (panel.widget, field, button):
        layout.addWidget(widget)
    window.show()
    panel.window = window  # it holds the panel now
    press(panel, "A", on=button)
    assert verdicts(panel) == {}  # the keyboard is outside the section
    hands.click(panel.ui.keysCheck)
    press(panel, "A", on=button)
    assert len(verdicts(panel)) == 1
    hands.type_text(field, "rum")
    spin()
    assert field.text == "rum" and len(verdicts(panel)) == 1
    hands.type_text(panel.ui.exportFolder, "/rum")
    assert panel.ui.exportFolder.currentPath == "/rum" and len(verdicts(panel)) == 1
    panel.exit()
    press(panel, "A", on=button)
    assert len(verdicts(panel)) == 1  # the person is in another module
    window.hide()


def test_only_the_point_under_review_is_unlocked_and_none_when_the_person_leaves(a_panel, press):
    panel = a_panel()
    node = panel.session.node

    def unlocked():
        rows = range(node.GetNumberOfControlPoints())
        return [node.GetNthControlPointLabel(n) for n in rows if not node.GetNthControlPointLocked(n)]

    assert unlocked() == ["aortic arch level"]
    press(panel, "N")
    assert unlocked() == ["left diaphragm dome"]
    panel.exit()
    assert unlocked() == []


def test_a_calibrated_radius_is_drawn_around_the_point_and_gone_when_it_is_moved(a_panel, press, spin):
    from dataclasses import replace

    panel = a_panel()

    def calibrated(case):
        points = [replace(each, radius_mm=7.5 if each.id == ARCH else None) for each in case.landmarks]
        return replace(case, landmarks=tuple(points))

    panel.workspace.change(calibrated)
    spin()
    (ball,) = spheres(panel)
    bounds = [0.0] * 6
    ball.GetRASBounds(bounds)
    assert bounds[1] - bounds[0] == pytest.approx(15.0, abs=0.1) and ball.GetDisplayNode().GetVisibility()
    assert "90 % radius: 7.5 mm" in panel.ui.placeLabel.text
    drag(panel, ARCH, (-14.0, -16.0, -83.0))
    spin()
    assert not ball.GetDisplayNode().GetVisibility() and "not calibrated" in panel.ui.placeLabel.text


def spheres(panel):
    from CT3DAssistantLib.ownership import nodes_of_class

    every = nodes_of_class(panel.workspace.scene, "vtkMRMLModelNode")
    return [node for node in every if node.GetName() == "90 % radius"]


def test_an_implausible_place_is_flagged_in_words_and_comes_to_the_top(a_panel, press, spin):
    panel = a_panel()
    while panel.session.current != "right_lung_base":
        press(panel, "N")
    drag(panel, "right_lung_base", (-80.0, -70.0, -289.0))
    press(panel, "Ctrl+Z")
    drag(panel, "right_lung_base", (-80.0, -70.0, -289.0))
    spin()
    assert "sides swapped" in panel.ui.whyLabel.text and "▲" in panel.ui.whyLabel.text
    row = next(n for n in range(10) if panel.ui.queueTable.item(n, 0).text() == "left lung base")
    assert row == 0 and int(panel.ui.queueTable.item(0, 3).text()) >= 1  # still open, and concerned too


def test_choosing_a_row_or_a_sentences_landmark_comes_to_it(a_panel, spin):
    import hands

    panel = a_panel()
    hands.click_cell(panel.ui.queueTable, 2, 0)
    spin()
    assert panel.session.current == CARINA and crossing(panel) == points_of(panel)[CARINA]
    panel.workspace.select("landmark/left_lung_apex")
    assert panel.session.current == "left_lung_apex" and "left lung apex" in panel.ui.currentLabel.text


def test_a_second_reader_sees_nothing_of_the_first_and_the_distances_come_after(a_panel, press, spin):
    import hands

    panel = a_panel()
    press(panel, "A")
    hands.click(panel.ui.secondCheck)
    spin()
    ui, display = panel.ui, panel.session.node.GetDisplayNode()
    assert not display.GetVisibility() and panel.workspace.selected == ""
    assert ui.queueTable.isColumnHidden(2) and ui.queueTable.isColumnHidden(3)
    rows = [ui.queueTable.item(n, 0).text() for n in range(ui.queueTable.rowCount)]
    assert rows[0] == "carina" and not [
        row for row in rows if "nodule" in row
    ]  # the card's order, no lesions
    assert not ui.acceptButton.enabled and ui.whyLabel.isHidden() and "R " not in ui.placeLabel.text
    panel.workspace.views.jump((0.6, -17.7, -113.5))
    press(panel, "A")  # nothing to accept
    press(panel, "M")
    assert ui.progressLabel.text == "1 of 9 read by the second reader"
    assert panel.session.current == "trachea_top"
    press(panel, "U")
    hands.click(ui.secondCheck)
    spin()
    assert display.GetVisibility() and not ui.readersRow.isHidden()
    cells = {
        ui.readersTable.item(n, 0).text(): [ui.readersTable.item(n, c).text() for c in (1, 2, 3)]
        for n in range(ui.readersTable.rowCount)
    }
    assert cells["carina"] == ["–", "–", "3.0"] and cells["aortic arch level"] == ["–", "0.0", "–"]
    assert cells["mean"] == ["–", "0.0", "3.0"] and cells["within 3 mm"][2] == "100%"
    assert verdicts(panel) == {ARCH: "accepted"}  # the first reader's work is untouched


def test_everything_is_exported_into_the_chosen_folder(a_panel, press, tmp_path, spin):
    import hands

    panel = a_panel()
    hands.click(panel.ui.csvButton)
    assert panel.workspace.told[-1][0] == "error" and "Choose a folder" in panel.workspace.told[-1][1]
    press(panel, "R")
    panel.ui.exportFolder.currentPath = str(tmp_path)
    for button in (panel.ui.csvButton, panel.ui.markupsButton, panel.ui.trainingButton):
        hands.click(button)
        spin()
        assert panel.workspace.told[-1][0] == "info" and "Research use only" in panel.workspace.told[-1][1]
    stem = f"landmarks_{panel.workspace.case.input.sha256[:12]}"
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        f"{stem}.csv",
        f"{stem}.mrk.json",
        f"{stem}_training.json",
    }
    (markups,) = json.loads((tmp_path / f"{stem}.mrk.json").read_text())["markups"]
    arch = next(each for each in markups["controlPoints"] if each["label"] == "aortic arch level")
    assert arch["positionStatus"] == "missing" and "rejected" in arch["description"]


def test_landmarks_found_again_keep_the_verdicts_and_finding_can_be_cancelled(a_panel, press, spin):
    import hands

    panel = a_panel("slicerio")
    press(panel, "A")
    press(panel, "R")
    before = verdicts(panel)
    hands.click(panel.ui.findButton)
    assert panel.ui.findButton.text == "Cancel"
    hands.click(panel.ui.findButton)
    spin(lambda: panel.ui.findButton.text == "Find landmarks", within_s=60)
    hands.click(panel.ui.findButton)
    spin(lambda: panel.ui.findButton.text == "Find landmarks", within_s=60)
    assert [job for job in panel.workspace.jobs] == []
    assert verdicts(panel) == before and len(before) == 2
    assert not [told for told in panel.workspace.told if told[0] == "error"], panel.workspace.told


def test_without_a_case_nothing_can_be_pressed_and_nothing_breaks(a_panel, press):
    panel = a_panel(opened=False)
    assert panel.ui.progressLabel.text == "No landmarks yet."
    for name in (
        "accept",
        "reject",
        "move",
        "undefine",
        "next",
        "undo",
        "csv",
        "markups",
        "training",
        "find",
    ):
        assert not getattr(panel.ui, f"{name}Button").enabled, name
    panel.exit()
    assert panel.workspace.told == []


def test_unsaved_work_is_offered_and_one_click_brings_it_back(a_panel, press, open_bundle, spin):
    import hands

    panel = a_panel()
    press(panel, "A")
    press(panel, "R")
    open_bundle("lidc_idri_0001")  # the scene as it was before: nothing of the review is in it
    spin()
    assert verdicts(panel) == {}
    assert not panel.ui.recoveryRow.isHidden() and "2 landmarks decided" in panel.ui.recoveryLabel.text
    assert panel.ui.restoreButton.text.startswith("Restore unsaved review of ")
    hands.click(panel.ui.restoreButton)
    spin()
    assert verdicts(panel) == {ARCH: "accepted", DOME: "rejected"} and panel.ui.recoveryRow.isHidden()


def test_a_person_who_says_not_now_loses_nothing_by_going_on(a_panel, press, open_bundle, a_recovery, spin):
    import hands

    panel = a_panel()
    press(panel, "A")
    open_bundle("lidc_idri_0001")
    spin()
    hands.click(panel.ui.dismissButton)
    press(panel, "R")
    assert panel.ui.recoveryRow.isHidden()
    assert len([told for told in panel.workspace.told if "is not in this case" in told[1]]) == 1
    kept = a_recovery.find(panel.workspace.case.input.sha256)
    assert sorted(each.case.reviews[0].verdict for each in kept) == ["accepted", "rejected"]


def test_a_person_who_is_interrupted_by_a_crash_goes_on_where_they_were(
    a_panel, an_analysed_bundle, a_recovery, open_bundle, tmp_path, press, spin
):
    """Another process reviews by keys, saves its scene after three, decides two more, and is killed."""
    saved = tmp_path / "saved.mrb"
    bundle = an_analysed_bundle("lidc_idri_0001")
    command = [sys.executable, __file__, str(bundle), str(saved), str(a_recovery.folder)]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": CODE}
    )
    told = json.loads(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()

    panel = a_panel()  # the bundle from before the review
    assert verdicts(panel) == {} and not panel.ui.recoveryRow.isHidden()
    from CT3DAssistantLib.scene import load_mrb

    (panel.workspace.volume_node,) = load_mrb(panel.workspace.scene, saved)
    spin()
    assert verdicts(panel) == told["saved"] and len(told["saved"]) == 3  # resumed from the scene file
    assert panel.session.current not in told["saved"]
    panel.ui.restoreButton.click()
    spin()
    assert (
        verdicts(panel) == told["decided"] and len(told["decided"]) == 5
    )  # and from what was kept beside it
    reviews = {each.landmark: each for each in panel.workspace.case.reviews}
    assert [list(reviews[name].position_ras) for name in told["moved"]] == list(told["moved"].values())
    while len(verdicts(panel)) < 10:
        press(panel, "A")
    assert sorted(verdicts(panel).values()).count("moved") == 2 and "undefined" in verdicts(panel).values()


def test_no_text_is_cut_at_350_pixels_light_or_dark(a_panel, press, tmp_path):
    import hands
    import screens

    panel = a_panel()
    press(panel, "A")
    panel.workspace.views.jump((0.6, -17.7, -113.5))
    hands.click(panel.ui.secondCheck)
    press(panel, "M")
    hands.click(panel.ui.secondCheck)
    for dark in (False, True):
        picture = screens.grab(panel.widget, tmp_path / f"landmarks-{dark}.png", dark=dark)
        assert picture.stat().st_size > 5000
        assert screens.cut_texts(panel.widget) == []


CODE = os.pathsep.join(str(FOLDER.parents[1] / part) for part in ("CT3DAssistant", "Testing", "Testing/ui"))


def review_and_wait(bundle, saved, kept):
    """Review by keys and one drag; save after three decisions, make two more, tell, wait to be killed."""
    import time
    from types import SimpleNamespace

    import pythonqt_double

    application, _ = pythonqt_double.install()
    import hands
    import slicer

    from CT3DAssistantLib.headless import boot
    from CT3DAssistantLib.logic import AssistantLogic
    from CT3DAssistantLib.panels.landmark_panel import LandmarkPanel
    from CT3DAssistantLib.recovery import Recovery
    from CT3DAssistantLib.scene import load_mrb, save_mrb
    from CT3DAssistantLib.workspace import Workspace

    session = boot()
    state = SimpleNamespace(inputVolume=None, segmentation=None, landmarks=None, caseNode=None, profile="")
    logic = AssistantLogic(session.scene, None, Path(kept))  # nothing here needs a worker
    workspace = Workspace(logic, state, later=lambda call: call(), recovery=Recovery(Path(kept)))
    (workspace.volume_node,) = load_mrb(session.scene, Path(bundle))
    for name, orientation in SLICES.items():
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(session.scene, True)
        view = session.scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        view.SetLayoutName(name)
        view.SetOrientation(orientation)
    panel = LandmarkPanel(workspace)
    panel.widget.resize(350, 900)
    panel.widget.show()
    panel.open()
    panel.enter()
    drag(panel, panel.session.current, (-14.0, -16.0, -83.0))
    dragged = panel.session.current
    for key in ("N", "A", "U"):
        hands.press(panel.ui.queueTable, key)
    done = verdicts(panel)
    save_mrb(session.scene, Path(saved))
    workspace.views.jump((40.0, 15.0, -170.0))
    moved = panel.session.current
    for key in ("M", "R"):
        hands.press(panel.ui.queueTable, key)
    application.processEvents()
    places = {dragged: (-14.0, -16.0, -83.0), moved: (40.0, 15.0, -170.0)}
    print(json.dumps({"saved": done, "decided": verdicts(panel), "moved": places}), flush=True)
    time.sleep(600)


if __name__ == "__main__":
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    review_and_wait(*sys.argv[1:])
