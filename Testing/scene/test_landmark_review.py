"""Landmarks under review: what a person decides, what is implausible, how markups follow, what is kept."""

import csv
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pace import assert_within, timed

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel")

import vtk  # noqa: E402
from phantoms import show_all  # noqa: E402

from ct3d.case import Case, Sentence, Step  # noqa: E402
from ct3d.errors import DiskFull, InvalidRequest  # noqa: E402
from CT3DAssistantLib import landmark_node, landmark_review, plausibility, readers, recovery, review  # noqa: E402
from CT3DAssistantLib.exports.landmarks import (  # noqa: E402
    write_landmarks,
    write_readers,
    write_review,
    write_training,
)
from CT3DAssistantLib.landmark_aids import off_masks, pointed_at, show_radius  # noqa: E402
from CT3DAssistantLib.ownership import is_edited, node_of, nodes_of_class  # noqa: E402
from CT3DAssistantLib.scene import case_of, load_mrb, save_case, save_mrb  # noqa: E402

GOLDEN = Path(__file__).parents[1] / "golden"
ARCH, DOME, CARINA = "aortic_arch_level", "left_diaphragm_dome", "carina"


def placed_by(card: str) -> Step:
    """The step of a card that placed landmarks."""
    return Step("landmarks", card, "a" * 64, "", "cpu", "float32", 1.0)


@pytest.fixture(scope="module")
def a_case() -> Case:
    """What was found in the demo CT: ten landmarks, the trachea's top outside the scan."""
    case = Case.from_json((GOLDEN / "case_lidc_idri_0001.json").read_text("utf-8"))
    return replace(case, provenance=(placed_by("anatomy_landmarks"),))


@pytest.fixture
def a_recovery(tmp_path) -> recovery.Recovery:
    return recovery.Recovery(tmp_path / "kept")


def point(case, name):
    return next(each for each in case.landmarks if each.id == name)


def verdict(case, name):
    return landmark_review.review_of(case, name).verdict


def at(case, places):
    """The case with the program's points elsewhere."""
    moved = [replace(each, position_ras=places.get(each.id, each.position_ras)) for each in case.landmarks]
    return replace(case, landmarks=tuple(moved))


def with_report(case):
    """The case with a report of two sentences."""
    texts = {"lungs": "Both lungs are aerated.", "impression": "A nodule of 23 mm in the left lower lobe."}
    sentences = [
        Sentence(f"{section}.1", section, text, (), "supported", "measured", text)
        for section, text in texts.items()
    ]
    return replace(case, sentences=tuple(sentences))


# decisions


def test_the_queue_holds_every_landmark_and_begins_with_the_least_sure(a_case):
    queue = landmark_review.queue(a_case)
    assert {entry.landmark.id for entry in queue} == {each.id for each in a_case.landmarks}
    assert queue[0].landmark.id == ARCH and queue[0].risk == pytest.approx(1 - 0.39)
    assert [entry.risk for entry in queue] == sorted((entry.risk for entry in queue), reverse=True)
    assert next(e for e in queue if e.landmark.id == "trachea_top").why.startswith(
        "The program places it out"
    )


def test_an_implausible_landmark_comes_before_a_plausible_one_and_a_decided_one_last(a_case):
    flagged = landmark_review.queue(a_case, {"left_lung_apex": ("It lies outside the scan.",) * 3})
    assert flagged[0].landmark.id == "left_lung_apex"
    assert flagged[0].risk == pytest.approx(0.1 + 2 * landmark_review.FLAG_RISK)
    decided = landmark_review.queue(landmark_review.accept(a_case, ARCH))
    assert decided[-1].landmark.id == ARCH and not decided[-1].is_open


def test_each_decision_is_noted_with_its_time_and_leaves_the_programs_point_alone(a_case):
    case = landmark_review.accept(a_case, CARINA)
    case = landmark_review.reject(case, ARCH)
    case = landmark_review.move(case, DOME, (-100.004, -12.0, -200.5))
    case = landmark_review.undefine(case, "trachea_top")
    assert case.landmarks == a_case.landmarks
    assert [action.verb for action in case.actions] == ["accept", "reject", "move", "undefine"]
    assert all(len(action.at_utc) == 20 and action.at_utc.endswith("Z") for action in case.actions)
    assert {each.landmark: each.verdict for each in case.reviews} == {
        CARINA: "accepted",
        ARCH: "rejected",
        DOME: "moved",
        "trachea_top": "undefined",
    }
    points = {each.id: each for each in landmark_review.reviewed_points(case)}
    assert points[DOME].position_ras == (-100.0, -12.0, -200.5)
    assert points[ARCH].position_ras is None and points[ARCH].presence == "missing"
    assert points[CARINA] == point(a_case, CARINA)
    assert landmark_review.progress(case) == (4, 10)
    assert Case.from_json(case.to_json()) == case


def test_undo_takes_decisions_back_one_by_one_to_where_it_began(a_case):
    states = [a_case]
    for change, *more in (
        (landmark_review.accept, CARINA),
        (landmark_review.move, CARINA, (1.0, 2.0, 3.0)),
        (landmark_review.reject, ARCH),
        (landmark_review.reopen, CARINA),
    ):
        states.append(change(states[-1], *more))
    case = states[-1]
    for earlier in reversed(states[:-1]):
        case = landmark_review.undo(case)
        for landmark in a_case.landmarks:
            assert landmark_review.review_of(case, landmark.id) == landmark_review.review_of(
                earlier, landmark.id
            )
    assert len(case.actions) == 8  # the record keeps all of it
    with pytest.raises(InvalidRequest, match="nothing to undo"):
        landmark_review.undo(case)


def test_accepting_a_moved_point_keeps_where_it_was_moved_to(a_case):
    moved = landmark_review.move(a_case, CARINA, (1.0, 2.0, 3.0))
    assert landmark_review.accept(moved, CARINA) is moved


def test_next_goes_down_the_queue_and_comes_back_to_what_was_passed_over(a_case):
    def following(case, after):
        return landmark_review.next_open(landmark_review.queue(case), after)

    assert following(a_case, "") == ARCH
    assert following(a_case, ARCH) == DOME
    assert following(landmark_review.accept(a_case, DOME), DOME) == CARINA  # ARCH was passed over: later
    case = a_case
    for landmark in a_case.landmarks[:-1]:
        case = landmark_review.accept(case, landmark.id)
    assert following(case, CARINA) == "nodule_1_center"
    assert following(case, "nodule_1_center") == "nodule_1_center"
    assert following(landmark_review.accept(case, "nodule_1_center"), CARINA) == ""


def test_a_decision_about_an_unknown_landmark_is_refused(a_case):
    with pytest.raises(InvalidRequest, match="no landmark 'femur'"):
        landmark_review.accept(a_case, "femur")


# finding landmarks again


def test_a_new_run_keeps_verdicts_of_points_that_stayed_and_reopens_the_others(a_case):
    case = landmark_review.accept(a_case, CARINA)
    case = landmark_review.move(case, DOME, (1.0, 2.0, 3.0))
    case = landmark_review.reject(case, ARCH)
    case = landmark_review.place_second(case, ARCH, (4.0, 5.0, 6.0))
    near = {CARINA: (0.605, -17.7, -116.5), ARCH: (-15.65, -14.48, -84.23)}
    new = landmark_review.found_anew(case, at(a_case, near).landmarks)
    assert verdict(new, CARINA) == "accepted" and verdict(new, DOME) == "moved"
    arch = landmark_review.review_of(new, ARCH)
    assert arch.verdict == "open" and arch.second_ras == (4.0, 5.0, 6.0)
    assert new.actions[-1].verb == landmark_review.OUTDATE and '"rejected"' in new.actions[-1].detail
    assert landmark_review.last_decision(new).target == f"landmark/{DOME}"  # the outdated one can't be undone


def test_a_landmark_that_is_found_no_more_leaves_its_verdict_in_the_record(a_case):
    case = landmark_review.accept(a_case, "nodule_1_center")
    new = landmark_review.found_anew(case, a_case.landmarks[:-1])
    assert not new.reviews and new.actions[-1].target == "landmark/nodule_1_center"


# plausibility


def test_the_demo_cases_own_points_are_plausible(a_case):
    assert plausibility.plausibility(a_case) == {}


@pytest.mark.parametrize(
    ("places", "who", "told"),
    [
        (
            {"right_lung_apex": (-46.7, -31.3, -27.0), "left_lung_apex": (36.1, -16.1, -42.0)},
            ("right_lung_apex", "left_lung_apex"),
            "sides swapped",
        ),
        (
            {"right_lung_base": (-20.0, -70.3, -289.75)},
            ("right_lung_base", CARINA),
            "other side of the carina",
        ),
        (
            {CARINA: (0.6, -17.7, -180.0)},
            (CARINA, "right_diaphragm_dome"),
            "no higher than the right diaphragm",
        ),
        ({ARCH: (-15.6, -14.5, -120.0)}, (ARCH, CARINA), "no higher than the carina"),
        ({ARCH: (-15.6, 90.0, -84.0)}, (ARCH, CARINA), "mm apart; 8 to 80 mm is usual"),
        ({"left_lung_apex": (-46.7, -31.3, -85.0)}, ("left_lung_apex", "right_lung_apex"), "mm in height"),
        (
            {"left_lung_apex": (-99.7, -31.3, -28.0)},
            ("left_lung_apex", "right_lung_apex"),
            "from the midline",
        ),
        ({"left_lung_base": (-55.9, -80.4, -345.0)}, ("left_lung_base",), "outside the scan"),
    ],
)
def test_what_is_implausible_is_said_of_every_landmark_concerned(a_case, places, who, told):
    flags = plausibility.plausibility(at(a_case, places))
    for name in who:
        assert any(told in text for text in flags[name]), flags


def test_points_of_a_card_that_is_not_here_are_only_asked_to_lie_in_the_scan(a_case):
    elsewhere = replace(a_case, provenance=(placed_by("a_card_of_another_installation"),))
    places = {CARINA: (0.6, -17.7, -180.0), "left_lung_base": (-55.9, -80.4, -345.0)}
    flags = plausibility.plausibility(at(elsewhere, places))
    assert flags == {"left_lung_base": ("It lies outside the scan.",)}


def test_a_point_that_a_person_moved_is_judged_where_it_is_now_and_a_rejected_one_not_at_all(a_case):
    swapped = at(a_case, {"right_lung_base": (-90.0, -70.3, -289.75)})
    assert "right_lung_base" in plausibility.plausibility(swapped)
    for mended in (
        landmark_review.move(swapped, "right_lung_base", (65.0, -70.0, -289.75)),
        landmark_review.reject(swapped, "right_lung_base"),
    ):
        assert "right_lung_base" not in plausibility.plausibility(mended)


def test_a_point_off_its_regions_mask_is_found_by_reading_only_the_voxels_around_it(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    off = off_masks(node_of(a_session.scene, node, "segmentation"), a_phantom.case.regions)
    center, axis = a_phantom.centers_ras["right_lung"], np.array([0.0, 1.0, 0.0])
    edge = 8.0  # radius of the ball
    for millimetres in (2.0, 6.0, 12.0):
        place = tuple(center + axis * (edge + millimetres))
        mask = a_phantom.mask("right_lung")
        every = (
            np.argwhere(mask)[:, ::-1] @ a_phantom.volume.ijk_to_ras[:3, :3].T
        ) + a_phantom.volume.ijk_to_ras[:3, 3]
        nearest = np.linalg.norm(every - place, axis=1).min()
        assert not off("right_lung", place, nearest + 0.01)
        assert off("right_lung", place, nearest - 0.01)
    assert off("right_lung", (1e4, 0.0, 0.0), 10.0)
    assert off("airways", tuple(center), 10.0) is None  # it is absent: nothing to say


# the markups


def test_decisions_show_in_the_markups_without_counting_as_a_persons_edit(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    mine, case = node_of(a_session.scene, node, "landmarks"), a_phantom.case
    case = landmark_review.reject(case, "nodule_1_center")
    case = landmark_review.move(case, CARINA, (1.0, 2.0, 3.0))
    landmark_node.show_review(mine, case)
    assert not is_edited(mine) and landmark_node.take_in(mine, case) is case
    assert mine.GetNthControlPointPositionStatus(0) == mine.PositionMissing
    assert mine.GetNthControlPointPositionStatus(1) == mine.PositionDefined
    assert np.allclose(mine.GetNthControlPointPositionWorld(1), (1, 2, 3))
    assert "rejected by a person at 20" in mine.GetNthControlPointDescription(0)
    assert "moved by a person" in mine.GetNthControlPointDescription(1)
    assert [bool(mine.GetNthControlPointSelected(n)) for n in range(3)] == [False, False, True]
    landmark_node.show_review(mine, landmark_review.undo(landmark_review.undo(case)))
    assert np.allclose(mine.GetNthControlPointPositionWorld(0), a_phantom.centers_ras["nodule_1"], atol=0.01)
    assert mine.GetNthControlPointPositionStatus(1) == mine.PositionMissing


def test_a_drag_is_taken_in_as_moved_also_after_the_scene_was_saved_with_it(
    a_session, another_session, a_phantom, tmp_path
):
    node = show_all(a_session.scene, a_phantom)
    mine = node_of(a_session.scene, node, "landmarks")
    landmark_node.show_review(mine, a_phantom.case)
    mine.SetNthControlPointPositionWorld(0, 9.0, 8.0, 7.0)
    save_mrb(a_session.scene, tmp_path / "scene.mrb")
    (read,) = load_mrb(another_session.scene, tmp_path / "scene.mrb")
    for scene, volume_node in ((a_session.scene, node), (another_session.scene, read)):
        points, case = node_of(scene, volume_node, "landmarks"), case_of(scene, volume_node)
        taken = landmark_node.take_in(points, case)
        assert landmark_review.review_of(taken, "nodule_1_center").position_ras == (9.0, 8.0, 7.0)
        landmark_node.show_review(points, taken)
        assert not is_edited(points) and landmark_node.take_in(points, taken) is taken


def test_a_drag_that_nobody_has_taken_in_is_never_written_over(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    mine = node_of(a_session.scene, node, "landmarks")
    landmark_node.show_review(mine, a_phantom.case)
    mine.SetNthControlPointPositionWorld(0, 9.0, 8.0, 7.0)
    landmark_node.show_review(mine, landmark_review.accept(a_phantom.case, "nodule_1_center"))
    assert np.allclose(mine.GetNthControlPointPositionWorld(0), (9, 8, 7)) and is_edited(mine)
    taken = landmark_node.take_in(mine, a_phantom.case)
    assert verdict(taken, "nodule_1_center") == "moved"


def test_a_deleted_point_becomes_undefined_and_what_a_person_added_stays(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    mine = node_of(a_session.scene, node, "landmarks")
    landmark_node.show_review(mine, a_phantom.case)
    mine.AddControlPoint(vtk.vtkVector3d(5, 5, 5), "my own")
    mine.RemoveNthControlPoint(0)
    taken = landmark_node.take_in(mine, a_phantom.case)
    assert verdict(taken, "nodule_1_center") == "undefined"
    landmark_node.show_review(mine, taken)
    labels = [mine.GetNthControlPointLabel(n) for n in range(mine.GetNumberOfControlPoints())]
    assert labels == [*(each.title for each in a_phantom.case.landmarks), "my own"]
    assert is_edited(mine)  # so a new run keeps it under another name


def test_landmarks_found_again_are_shown_with_the_verdicts_that_stay(a_session, a_phantom):
    from ct3d.protocol.tasks import LandmarkResult
    from CT3DAssistantLib.results import Stage, merge, show

    node = show_all(a_session.scene, a_phantom)
    case = landmark_review.move(a_phantom.case, "nodule_1_center", (9.0, 8.0, 7.0))
    result = LandmarkResult(a_phantom.case.landmarks, replace(a_phantom.case.provenance[0], task="landmarks"))
    merged = merge(result, case)
    save_case(a_session.scene, node, merged)
    list(show(result, merged, Stage(a_session.scene, node, {})))
    mine = node_of(a_session.scene, node, "landmarks")
    assert np.allclose(mine.GetNthControlPointPositionWorld(0), (9, 8, 7))
    assert landmark_node.take_in(mine, merged) is merged and not is_edited(mine)


def test_only_the_point_under_review_can_be_dragged(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    mine = node_of(a_session.scene, node, "landmarks")
    landmark_node.show_review(mine, a_phantom.case)
    landmark_node.unlock_only(mine, CARINA)
    assert [bool(mine.GetNthControlPointLocked(n)) for n in range(3)] == [True, False, True]
    landmark_node.unlock_only(mine, "")
    assert all(mine.GetNthControlPointLocked(n) for n in range(3)) and not is_edited(mine)


def test_the_sphere_is_drawn_where_the_radius_is_known_and_is_neither_saved_nor_listed(a_session, tmp_path):
    scene = a_session.scene
    show_radius(scene, (1.0, 2.0, 3.0), None)
    assert scene.GetNumberOfNodesByClass("vtkMRMLModelNode") == 0
    show_radius(scene, (1.0, 2.0, 3.0), 4.5)
    show_radius(scene, (11.0, 2.0, 3.0), 6.0)
    (ball,) = models(scene)
    bounds = [0.0] * 6
    ball.GetRASBounds(bounds)
    assert np.allclose(bounds, (5, 17, -4, 8, -3, 9), atol=0.1)
    assert ball.GetHideFromEditors() and not ball.GetSaveWithScene()
    display = ball.GetDisplayNode()
    assert display.GetVisibility() and display.GetVisibility2D()
    show_radius(scene, None, None)
    assert not display.GetVisibility()


def models(scene):
    return nodes_of_class(scene, "vtkMRMLModelNode")


def test_a_move_goes_where_the_mouse_points_else_where_the_slice_views_cross(a_session):
    scene = a_session.scene
    with pytest.raises(InvalidRequest, match="don't cross"):
        pointed_at(scene)
    scene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCrosshairRAS(4.0, 5.0, 6.0)
    assert np.allclose(pointed_at(scene), (4, 5, 6))  # without slice views it is all there is
    for name, orientation in (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")):
        view = scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        view.SetLayoutName(name)
        view.SetOrientation(orientation)
        view.JumpSliceByCentering(10.0, -20.0, 30.0)
    assert np.allclose(pointed_at(scene), (10, -20, 30))
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCursorPositionRAS([1.0, 2.0, 3.0])
    assert np.allclose(pointed_at(scene), (1, 2, 3))
    crosshair.SetCursorPositionInvalid()
    assert np.allclose(pointed_at(scene), (10, -20, 30))


# two readers


def test_distances_between_readers_and_program_are_those_of_their_points(a_case):
    case = landmark_review.accept(a_case, CARINA)
    case = landmark_review.place_second(case, CARINA, (0.6, -17.7, -113.5))  # 3 mm up
    case = landmark_review.move(case, DOME, (-107.4, -11.7, -200.75))  # 2 mm up
    case = landmark_review.place_second(case, DOME, (-107.4, -11.7, -206.75))  # 4 mm down
    case = landmark_review.undefine_second(case, ARCH)
    case = landmark_review.accept(case, ARCH)
    rows = {row.landmark.id: row for row in readers.distances(case)}
    assert "nodule_1_center" not in rows  # it exists only because the program found it
    assert rows[CARINA].mm == pytest.approx(
        {"first_second": 3.0, "first_program": 0.0, "second_program": 3.0}
    )
    assert rows[DOME].mm == pytest.approx({"first_second": 6.0, "first_program": 2.0, "second_program": 4.0})
    assert rows[ARCH].mm["first_second"] is None and rows[ARCH].disagree and not rows[CARINA].disagree
    agreement = readers.agreement(tuple(rows.values()), "first_second")
    assert (agreement.count, agreement.mean, agreement.median, agreement.largest) == pytest.approx(
        (2, 4.5, 4.5, 6)
    )
    assert agreement.success == {2.0: 0.0, 2.5: 0.0, 3.0: 0.5, 4.0: 0.5}
    assert readers.agreement((), "first_second").mean is None


def test_the_second_reader_undoes_only_their_own_decisions(a_case):
    case = landmark_review.place_second(landmark_review.accept(a_case, CARINA), CARINA, (1.0, 2.0, 3.0))
    case = landmark_review.undo(case, second=True)
    assert landmark_review.review_of(case, CARINA).second == "" and verdict(case, CARINA) == "accepted"
    with pytest.raises(InvalidRequest):
        landmark_review.undo(case, second=True)
    assert verdict(landmark_review.undo(case), CARINA) == "open"


# files


def test_the_table_names_its_frames_and_holds_state_time_and_both_places(a_case, tmp_path):
    case = landmark_review.move(a_case, CARINA, (1.0, 2.0, 3.0))
    with write_review(tmp_path / "a.csv", case).open(newline="", encoding="utf-8") as file:
        rows = {row["landmark"]: row for row in csv.DictReader(file)}
    carina = rows[CARINA]
    assert carina["state"] == "moved" and carina["decided_utc"] == case.reviews[0].decided_utc
    assert [float(carina[name]) for name in ("r_ras_mm", "a_ras_mm", "s_ras_mm")] == [1, 2, 3]
    assert [float(carina[name]) for name in ("l_lps_mm", "p_lps_mm", "s_lps_mm")] == [-1, -2, 3]
    assert float(carina["program_s_ras_mm"]) == -116.5
    assert rows["trachea_top"]["r_ras_mm"] == "" and rows["trachea_top"]["found"] == "outside"
    assert all(row["notice"].startswith("Research use only") for row in rows.values())


def test_the_markups_file_is_lps_and_says_confidence_and_state_of_every_point(a_case, tmp_path):
    case = landmark_review.reject(landmark_review.move(a_case, CARINA, (1.0, 2.0, 3.0)), ARCH)
    (markups,) = json.loads(write_landmarks(tmp_path / "a.mrk.json", case).read_text())["markups"]
    points = {each["label"]: each for each in markups["controlPoints"]}
    assert markups["coordinateSystem"] == "LPS" and len(points) == 10
    assert points["carina"]["position"] == pytest.approx([-1, -2, 3])
    assert "moved by a person" in points["carina"]["description"]
    assert "confidence 0.85" in points["carina"]["description"]
    assert points["aortic arch level"]["positionStatus"] == "missing"
    assert "Research use only" in points["right lung apex"]["description"]


def test_training_labels_hold_what_was_decided_and_nothing_that_was_only_guessed(a_case, tmp_path):
    case = landmark_review.accept(a_case, CARINA)
    case = landmark_review.undefine(landmark_review.reject(case, ARCH), "trachea_top")
    labels = json.loads(write_training(tmp_path / "a.json", case).read_text())
    assert labels["landmarks"] == {CARINA: [-0.6, 17.7, -116.5], "trachea_top": None}
    assert labels["left_out"][ARCH] == "rejected" and labels["left_out"][DOME] == "open"
    matrix = np.array(case.input.geometry.ijk_to_ras)
    assert matrix @ [*labels["voxels_ijk"][CARINA], 1] == pytest.approx([0.6, -17.7, -116.5, 1], abs=0.02)


def test_the_readers_table_ends_with_its_summary(a_case, tmp_path):
    case = landmark_review.place_second(landmark_review.accept(a_case, CARINA), CARINA, (0.6, -17.7, -113.5))
    with write_readers(tmp_path / "a.csv", case).open(newline="", encoding="utf-8") as file:
        rows = {row["landmark"]: row for row in csv.DictReader(file)}
    assert rows[CARINA]["first_second_mm"] == "3" and rows["mean"]["first_second_mm"] == "3"
    assert rows["share up to 2.5 mm"]["first_second_mm"] == "0"
    assert rows["share up to 3 mm"]["first_second_mm"] == "1"


# kept beside the scene


def test_a_change_is_kept_in_a_private_folder_and_found_by_the_scans_hash(a_case, a_recovery):
    assert a_recovery.keep(a_case) is None  # nothing of a person in it
    case = landmark_review.accept(a_case, CARINA)
    path = a_recovery.keep(case)
    assert path.name == f"{case.input.sha256}.json" and path.parent == a_recovery.folder
    assert os.name == "nt" or a_recovery.folder.stat().st_mode & 0o077 == 0
    assert a_recovery.find(case.input.sha256)[0].case.reviews == case.reviews
    assert a_recovery.find("0" * 64) == () and a_recovery.find("") == ()


def test_work_is_offered_to_a_case_that_lacks_it_and_to_no_other(a_case, a_recovery):
    case = landmark_review.accept(a_case, CARINA)
    more = landmark_review.reject(case, ARCH)
    a_recovery.keep(more)
    assert a_recovery.offer(a_case) and a_recovery.offer(case)
    assert a_recovery.offer(more) is None
    other = replace(a_case, input=replace(a_case.input, sha256="1" * 64))
    assert a_recovery.offer(other) is None


def test_restoring_gives_back_decisions_where_the_program_found_the_same(a_case):
    kept = landmark_review.reject(landmark_review.move(a_case, CARINA, (1.0, 2.0, 3.0)), ARCH)
    kept = landmark_review.place_second(kept, DOME, (4.0, 5.0, 6.0))
    back = recovery.restored(a_case, kept)
    assert set(back.reviews) == set(kept.reviews) and back.actions[:-1] == kept.actions
    assert back.actions[-1].verb == "restore"
    elsewhere = at(a_case, {ARCH: (-15.65, -14.48, -80.0)})
    back = recovery.restored(elsewhere, kept)
    assert verdict(back, CARINA) == "moved" and verdict(back, ARCH) == "open"
    assert '"rejected"' in next(a for a in back.actions if a.verb == landmark_review.OUTDATE).detail


def test_restoring_never_takes_away_what_was_decided_since(a_case):
    kept = landmark_review.reject(landmark_review.accept(a_case, CARINA), ARCH)
    here = landmark_review.undefine(a_case, CARINA)
    back = recovery.restored(here, kept)
    assert verdict(back, CARINA) == "undefined" and verdict(back, ARCH) == "rejected"
    assert set(here.actions) <= set(back.actions)


def test_restoring_brings_edited_sentences_back_once_and_no_signature(a_case):
    a_case = with_report(a_case)
    first = a_case.sentences[0]
    kept = review.edit_sentence(a_case, first.id, "A person's words.")
    kept = review.add_sentence(kept, "lungs", "A sentence of my own.")
    back = recovery.restored(a_case, kept)
    texts = [sentence.text for sentence in back.sentences]
    assert texts.count("A person's words.") == 1 and texts.count("A sentence of my own.") == 1
    assert first.text not in texts and len(texts) == len(a_case.sentences) + 1
    assert back.report_state == "edited" and back.signature is None
    half = review.add_sentence(a_case, "lungs", "A sentence of my own.")
    texts = [sentence.text for sentence in recovery.restored(half, kept).sentences]
    assert texts.count("A sentence of my own.") == 1


def test_a_kept_file_names_nobody_who_signed(a_case, a_recovery):
    signed = review.sign(review.mark_reviewed(with_report(a_case)), "Dr. Grete Muster")
    path = a_recovery.keep(review.reopen(signed))
    assert "Muster" not in path.read_text("utf-8")
    assert a_recovery.offer(signed) is not None and a_recovery.offer(review.reopen(signed)) is None


def test_another_history_of_the_same_scan_is_put_aside_and_not_overwritten(a_case, a_recovery):
    yesterday = landmark_review.accept(a_case, CARINA)
    yesterday = replace(yesterday, actions=(replace(yesterday.actions[0], at_utc="2026-01-02T03:04:05Z"),))
    a_recovery.keep(yesterday)
    a_recovery.keep(landmark_review.reject(a_case, ARCH))
    newest, older = a_recovery.find(a_case.input.sha256)
    assert verdict(newest.case, ARCH) == "rejected" and verdict(older.case, CARINA) == "accepted"
    assert older.path.name == f"{a_case.input.sha256}.20260102T030405Z.json"


def test_old_files_and_those_above_the_limit_go_but_never_the_one_at_work(a_case, a_recovery, monkeypatch):
    monkeypatch.setattr(recovery, "KEPT_FILES", 3)
    a_recovery.folder.mkdir()
    case = landmark_review.accept(a_case, CARINA)
    for n in range(5):
        path = a_recovery.folder / f"{n}.json"
        path.write_text("{}")
        days = 31 if n == 4 else n
        os.utime(path, (time.time() - days * 86400,) * 2)
    a_recovery.keep(case)
    left = sorted(path.name for path in a_recovery.folder.glob("*.json"))
    assert left == sorted(["0.json", "1.json", f"{case.input.sha256}.json"])


def test_a_broken_file_is_left_alone_and_a_full_disk_is_said(a_case, a_recovery):
    case = landmark_review.accept(a_case, CARINA)
    path = a_recovery.keep(case)
    path.write_text("{half a fi")
    assert a_recovery.find(case.input.sha256) == ()
    a_recovery.keep(case)
    assert len(a_recovery.find(case.input.sha256)) == 1
    blocked = recovery.Recovery(path / "below a file")
    with pytest.raises(DiskFull, match="Free space"):
        blocked.keep(case)


@timed
def test_keeping_a_change_takes_a_few_milliseconds(a_case, a_recovery):
    case = landmark_review.accept(a_case, CARINA)
    a_recovery.keep(case)
    started = time.perf_counter()
    for _ in range(10):
        a_recovery.keep(case)
    assert_within((time.perf_counter() - started) / 10, 0.1)


def test_what_is_open_is_not_stored_as_a_review(a_case):
    assert (
        recovery.restored(a_case, landmark_review.undo(landmark_review.accept(a_case, CARINA))).reviews == ()
    )


def test_what_is_shown_and_reported_goes_by_where_people_put_a_landmark(a_case):
    from CT3DAssistantLib.exports.figures import Figures
    from CT3DAssistantLib.exports.html import report_html
    from CT3DAssistantLib.place import Places

    case = landmark_review.reject(landmark_review.move(a_case, CARINA, (1.0, 2.0, 3.0)), ARCH)
    places = Places(case, lambda _region: None)
    assert places.of(f"landmark/{CARINA}").ras == (1.0, 2.0, 3.0) and places.of(f"landmark/{ARCH}") is None
    page = report_html(case, Figures((), (), {}))
    assert "1.0, 2.0, 3.0" in page and "Moved by a person." in page and "Rejected by a person." in page
