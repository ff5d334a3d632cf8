"""The landmark panel over two cards' landmarks of one scan: whose are reviewed, and how sure they are."""

from dataclasses import replace

import pytest

HEAD, CHEST = "h3denet_headneck", "anatomy_landmarks"
CORD, CHIN = "cord_superior_end", "mandible_anterior"
NOTE = "None of the head and neck landmarks of this card was found: this scan doesn't seem to show it."


@pytest.fixture
def a_calibrated_card(monkeypatch):
    """The head-and-neck card with calibrated presence and radii."""
    from ct3d.cards import load_card
    from CT3DAssistantLib import landmark_sets

    card, find = load_card(HEAD), landmark_sets.find_card
    landmarks = tuple(replace(each, presence=(4.0, -2.0), radius_mm=8.0) for each in card.landmarks)
    calibrated = replace(card, landmarks=landmarks)
    monkeypatch.setattr(landmark_sets, "find_card", lambda name: calibrated if name == HEAD else find(name))
    return calibrated


@pytest.fixture
def a_panel(a_workspace, open_bundle, a_calibrated_card, spin):
    """Opens the panel over the small chest, unfolded, the person in the module."""
    from CT3DAssistantLib.panels.landmark_panel import LandmarkPanel

    open_bundle("slicerio")
    panel = LandmarkPanel(a_workspace)
    panel.widget.resize(350, 900)
    panel.widget.show()
    panel.open()
    panel.enter()
    spin()
    yield panel
    panel.close()
    panel.widget.hide()


@pytest.fixture
def place_head(a_workspace, a_calibrated_card, spin):
    """Takes a result of the head-and-neck net into case and scene, as the logic does."""
    from ct3d.case import Flag, Landmark, Step
    from ct3d.protocol.tasks import LandmarkResult
    from CT3DAssistantLib.landmark_node import with_drags
    from CT3DAssistantLib.results import Stage, merge, show
    from CT3DAssistantLib.scene import save_case

    def placed(places, is_told=False):
        found = [
            Landmark(each.id, each.title, each.definition, "missing", 0.02, card=HEAD)
            for each in a_calibrated_card.landmarks
        ]
        for n, each in enumerate(found):
            if each.id in places:
                sure, ras = places[each.id]
                found[n] = replace(each, presence="present", confidence=sure, position_ras=ras, radius_mm=8.0)
        step = Step("landmarks", HEAD, "a" * 64, "b" * 64, "cpu", "float32", 1.0)
        flags = (Flag("landmarks_body_part", "info", NOTE),) if is_told else ()
        result = LandmarkResult(tuple(found), step, flags)
        scene, node = a_workspace.scene, a_workspace.volume_node
        case = merge(result, with_drags(scene, node, a_workspace.case))
        save_case(scene, node, case)
        list(show(result, case, Stage(scene, node, {})))
        told = []
        a_workspace.on_change.append(lambda: told.append(case))  # after the panel
        a_workspace.touch()
        spin(lambda: told)
        return case

    return placed


def choose(panel, card, spin):
    cards = [panel.ui.setCombo.itemData(n) for n in range(panel.ui.setCombo.count)]
    panel.ui.setCombo.currentIndex = cards.index(card)
    spin()


def rows(panel):
    table = panel.ui.queueTable
    return [
        [table.item(n, c).text() if table.item(n, c) else "" for c in range(3)] for n in range(table.rowCount)
    ]


def test_a_net_is_offered_without_an_analysis_and_rules_on_masks_are_not(a_workspace, spin):
    import numpy as np

    from ct3d.imaging.volume import Volume
    from CT3DAssistantLib.panels.landmark_panel import LandmarkPanel
    from CT3DAssistantLib.profiles import profile_of
    from CT3DAssistantLib.scene import add_volume

    voxels = np.full((20, 20, 20), -1000, np.int16)
    a_workspace.volume_node = add_volume(a_workspace.scene, Volume(voxels, np.eye(4)))
    panel = LandmarkPanel(a_workspace)
    panel.open()
    spin()
    assert not panel.ui.findButton.enabled
    a_workspace.profile = profile_of("headneck")
    spin(lambda: panel.ui.findButton.enabled, within_s=5)
    panel.close()


def test_one_cards_landmarks_need_no_choice_and_no_note(a_panel):
    assert a_panel.session.card == CHEST
    assert a_panel.ui.setRow.isHidden() and a_panel.ui.noteRow.isHidden()


def test_landmarks_of_another_card_come_under_review_and_the_first_ones_stay_one_choice_away(
    a_panel, place_head, spin
):
    import hands

    hands.press(a_panel.ui.queueTable, "A")
    spin()
    decided = a_panel.workspace.case.reviews
    count, was = a_panel.ui.queueTable.rowCount, a_panel.session.node
    place_head({CORD: (0.97, (10.0, 20.0, -50.0)), CHIN: (0.55, (10.0, 60.0, -60.0))})
    ui = a_panel.ui
    assert a_panel.session.card == HEAD and not ui.setRow.isHidden()
    assert ui.setCombo.count == 2 and ui.setCombo.currentText == "Head and neck landmarks (H3DE-Net)"
    assert ui.progressLabel.text == "0 of 11 reviewed"
    assert rows(a_panel)[0] == ["foremost point of the mandible", "open", "55%"]
    assert rows(a_panel)[1] == ["upper end of the spinal cord", "open", "97%"]
    assert "Unsure whether it is in the scan" in ui.whyLabel.text
    assert "90 % radius: 8.0 mm" in ui.placeLabel.text
    choose(a_panel, CHEST, spin)
    assert a_panel.session.card == CHEST and a_panel.session.node is was
    assert ui.queueTable.rowCount == count and ui.progressLabel.text.startswith("1 of ")
    assert a_panel.workspace.case.reviews == decided
    a_panel.workspace.select(f"landmark/{CORD}")
    spin()
    assert a_panel.session.card == HEAD and "spinal cord" in ui.currentLabel.text


def test_the_sphere_of_a_calibrated_point_is_drawn_and_not_that_of_a_missing_one(a_panel, place_head, spin):
    from CT3DAssistantLib.ownership import nodes_of_class

    place_head({CORD: (0.97, (10.0, 20.0, -50.0))})
    assert a_panel.session.current == CORD
    (ball,) = [
        n for n in nodes_of_class(a_panel.workspace.scene, "vtkMRMLModelNode") if "90 %" in n.GetName()
    ]
    bounds = [0.0] * 6
    ball.GetRASBounds(bounds)
    assert (
        bounds == pytest.approx([2, 18, 12, 28, -58, -42], abs=0.1) and ball.GetDisplayNode().GetVisibility()
    )
    a_panel.workspace.select("landmark/larynx_centroid")
    spin()
    assert not ball.GetDisplayNode().GetVisibility()


def test_a_scan_of_another_body_part_is_told_once_in_words_and_no_row_alarms(a_panel, place_head, spin):
    place_head({}, is_told=True)
    ui = a_panel.ui
    assert not ui.noteRow.isHidden() and ui.noteLabel.text == NOTE
    assert [row[2] for row in rows(a_panel)] == ["2%"] * 11
    assert all(entry.flags == () and entry.risk < 0.1 for entry in a_panel.session.entries())
    choose(a_panel, CHEST, spin)
    assert ui.noteRow.isHidden()


def test_undo_goes_back_to_the_other_cards_landmark_that_was_decided_last(a_panel, place_head, spin):
    import hands

    first = a_panel.session.current
    hands.press(a_panel.ui.queueTable, "A")
    spin()
    place_head({CORD: (0.97, (10.0, 20.0, -50.0))})
    hands.click(a_panel.ui.undoButton)
    spin()
    assert a_panel.session.card == CHEST and a_panel.session.current == first
    assert a_panel.ui.progressLabel.text.startswith("0 of ")


def test_a_second_reader_sees_no_cards_points_and_reads_the_chosen_cards(a_panel, place_head, spin):
    import hands

    from CT3DAssistantLib.ownership import nodes_of

    place_head({CORD: (0.97, (10.0, 20.0, -50.0))}, is_told=True)
    hands.click(a_panel.ui.secondCheck)
    spin()
    workspace = a_panel.workspace
    displays = [n.GetDisplayNode() for n in nodes_of(workspace.scene, workspace.volume_node, "landmarks")]
    assert [display.GetVisibility() for display in displays] == [0, 0]
    assert a_panel.ui.progressLabel.text == "0 of 11 read by the second reader"
    assert a_panel.ui.noteRow.isHidden()  # it would tell
    hands.press(a_panel.ui.queueTable, "U")
    choose(a_panel, CHEST, spin)
    assert "read by the second reader" in a_panel.ui.progressLabel.text and rows(a_panel)[0][0] == "carina"
    hands.click(a_panel.ui.secondCheck)
    spin()
    assert [bool(display.GetVisibility()) for display in displays] == [True, True]
    seconds = [each.landmark for each in workspace.case.reviews if each.second]
    assert len(seconds) == 1 and seconds[0] in {each.id for each in workspace.case.landmarks[-11:]}
