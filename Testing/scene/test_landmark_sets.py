"""Landmarks of two cards in one case: each with node, reviews and flags of its own, none lost."""

from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel")

from phantoms import show_all  # noqa: E402

from ct3d.cards import load_card  # noqa: E402
from ct3d.case import Flag, InputReport, Landmark, Step  # noqa: E402
from ct3d.protocol.tasks import LandmarkResult, SegmentResult  # noqa: E402
from CT3DAssistantLib import landmark_node, landmark_review, landmark_sets  # noqa: E402
from CT3DAssistantLib.ownership import is_edited, nodes_of  # noqa: E402
from CT3DAssistantLib.recovery import restored  # noqa: E402
from CT3DAssistantLib.results import Stage, merge, show  # noqa: E402
from CT3DAssistantLib.scene import case_of, load_mrb, save_case, save_mrb  # noqa: E402

CHEST, HEAD = "anatomy_landmarks", "h3denet_headneck"
CORD, CHIN, CARINA, NODULE = "cord_superior_end", "mandible_anterior", "carina", "nodule_1_center"
PLACES = {CORD: (30.0, -17.0, -240.0), CHIN: (30.0, 20.0, -250.0)}
ORDER = Flag("landmark_order", "warning", "The order is wrong.", (f"landmark/{CORD}", f"landmark/{CHIN}"))
ELSEWHERE = Flag("landmarks_body_part", "info", "This scan doesn't seem to show the head and neck.")


def step(card: str, task: str = "landmarks") -> Step:
    return Step(task, card, "a" * 64, "", "cpu", "float32", 1.0)


def head_result(*flags, places=PLACES, confidence=0.9) -> LandmarkResult:
    """What the net of the head and neck says: two points, the other nine not in the scan."""
    card = load_card(HEAD)
    landmarks = [
        Landmark(each.id, each.title, each.definition, "missing", 0.02, card=HEAD) for each in card.landmarks
    ]
    for n, each in enumerate(landmarks):
        if each.id in places:
            landmarks[n] = replace(
                each, presence="present", confidence=confidence, position_ras=places[each.id], radius_mm=8.0
            )
    saw = InputReport(
        HEAD, "LPS", "RAS", (9,) * 3, (9,) * 3, (1.0,) * 3, (4.0,) * 3, ((0, 9),) * 3, None, 0.0
    )
    return LandmarkResult(tuple(landmarks), step(HEAD), flags, saw)


@pytest.fixture
def a_chest(a_session, a_phantom):
    """A chest case in a scene, its three landmarks found by the card of the chest; (volume node, case)."""
    node = show_all(a_session.scene, a_phantom)
    case = merge(LandmarkResult(a_phantom.case.landmarks, step(CHEST)), a_phantom.case)
    return node, shown(a_session.scene, node, case, LandmarkResult((), step(CHEST)))


@pytest.fixture
def a_calibrated_card(monkeypatch):
    """The head-and-neck card with calibrated presence."""
    card = load_card(HEAD)
    landmarks = tuple(replace(each, presence=(4.0, -2.0), radius_mm=8.0) for each in card.landmarks)
    calibrated = replace(card, landmarks=landmarks)
    find = landmark_sets.find_card
    monkeypatch.setattr(landmark_sets, "find_card", lambda name: calibrated if name == HEAD else find(name))
    return calibrated


def shown(scene, volume_node, case, result):
    """Keep the case and show what a task found, as an analysis does."""
    save_case(scene, volume_node, case)
    list(show(result, case, Stage(scene, volume_node, {})))
    return case


def placed_too(scene, volume_node, case, result=None):
    """The case after the head and neck were looked for too, shown in the scene."""
    result = result or head_result()
    taken = landmark_node.with_drags(scene, volume_node, case)
    return shown(scene, volume_node, merge(result, taken), result)


def nodes_by_card(scene, volume_node):
    return {
        node.GetAttribute("CT3DAssistant.card"): node for node in nodes_of(scene, volume_node, "landmarks")
    }


def test_a_second_cards_landmarks_come_beside_the_first_ones_with_their_reviews(a_session, a_chest):
    volume_node, case = a_chest
    case = landmark_review.move(landmark_review.accept(case, NODULE), CARINA, (1.0, 2.0, 3.0))
    before = case.reviews
    case = placed_too(a_session.scene, volume_node, case)
    assert landmark_sets.cards_of(case) == (CHEST, HEAD) and landmark_sets.latest_card(case) == HEAD
    assert [len(landmark_sets.of_card(case, card).landmarks) for card in (CHEST, HEAD)] == [3, 11]
    assert case.reviews == before
    assert {each.card for each in case.provenance if each.task == "landmarks"} == {CHEST, HEAD}
    assert [each.card for each in case.saw] == ["anatomy_rules", HEAD]


def test_each_card_has_a_node_named_after_volume_and_card_and_absent_points_are_missing(a_session, a_chest):
    volume_node, case = a_chest
    placed_too(a_session.scene, volume_node, case)
    nodes = nodes_by_card(a_session.scene, volume_node)
    assert {card: node.GetNumberOfControlPoints() for card, node in nodes.items()} == {CHEST: 3, HEAD: 11}
    head = nodes[HEAD]
    assert head.GetName() == f"CT {load_card(HEAD).title}"
    status = {head.GetNthControlPointLabel(n): head.GetNthControlPointPositionStatus(n) for n in range(11)}
    assert status["upper end of the spinal cord"] == head.PositionDefined
    assert status["centre of the larynx"] == head.PositionMissing
    assert [is_edited(node) for node in nodes.values()] == [False, False]


def test_a_point_that_was_dragged_in_the_first_cards_node_is_still_taken_in(a_session, a_chest):
    volume_node, case = a_chest
    case = placed_too(a_session.scene, volume_node, case)
    nodes = nodes_by_card(a_session.scene, volume_node)
    nodes[CHEST].SetNthControlPointPositionWorld(0, 9.0, 8.0, 7.0)
    nodes[HEAD].SetNthControlPointPositionWorld(3, 6.0, 5.0, 4.0)
    taken = landmark_node.with_drags(a_session.scene, volume_node, case)
    assert landmark_review.review_of(taken, NODULE).position_ras == (9.0, 8.0, 7.0)
    assert landmark_review.review_of(taken, CORD).position_ras == (6.0, 5.0, 4.0)
    assert landmark_node.with_drags(a_session.scene, volume_node, taken) is taken


def test_a_new_run_of_one_card_changes_nothing_of_the_other(a_session, a_chest):
    volume_node, case = a_chest
    case = placed_too(a_session.scene, volume_node, case, head_result(ORDER))
    case = landmark_review.accept(landmark_review.accept(case, CORD), NODULE)
    again = LandmarkResult(landmark_sets.of_card(case, CHEST).landmarks[:2], step(CHEST))
    case = shown(a_session.scene, volume_node, merge(again, case), again)
    assert landmark_sets.cards_of(case) == (CHEST, HEAD) and landmark_sets.latest_card(case) == CHEST
    assert [each.id for each in landmark_sets.of_card(case, CHEST).landmarks] == [NODULE, CARINA]
    assert ORDER in case.flags and landmark_review.review_of(case, CORD).verdict == "accepted"
    calm = placed_too(a_session.scene, volume_node, case)
    assert ORDER not in calm.flags  # the later run of its own card has none
    assert landmark_review.review_of(calm, CORD).verdict == "accepted"


def test_a_scan_of_another_body_part_is_told_once_and_not_landmark_by_landmark(a_session, a_chest):
    volume_node, case = a_chest
    case = placed_too(a_session.scene, volume_node, case, head_result(ELSEWHERE, places={}))
    assert landmark_sets.notes_of(case, HEAD) == (ELSEWHERE.text,)
    assert landmark_sets.notes_of(case, CHEST) == ()
    case = placed_too(a_session.scene, volume_node, case)
    assert landmark_sets.notes_of(case, HEAD) == () and ELSEWHERE.text not in {f.text for f in case.flags}


def test_a_case_and_node_of_before_cards_were_noted_get_theirs(a_session, a_phantom):
    volume_node = show_all(a_session.scene, a_phantom)
    old = replace(a_phantom.case, provenance=(*a_phantom.case.provenance, step(CHEST)))
    assert {each.card for each in old.landmarks} == {""} and landmark_sets.cards_of(old) == (CHEST,)
    case = placed_too(a_session.scene, volume_node, landmark_review.accept(old, NODULE))
    assert landmark_sets.cards_of(case) == (CHEST, HEAD)
    assert set(nodes_by_card(a_session.scene, volume_node)) == {CHEST, HEAD}
    assert landmark_review.review_of(case, NODULE).verdict == "accepted"


def test_both_nodes_come_back_with_a_saved_scene(a_session, another_session, a_chest, tmp_path):
    volume_node, case = a_chest
    case = placed_too(a_session.scene, volume_node, case)
    save_mrb(a_session.scene, tmp_path / "scene.mrb")
    (read,) = load_mrb(another_session.scene, tmp_path / "scene.mrb")
    nodes = nodes_by_card(another_session.scene, read)
    assert {card: node.GetNumberOfControlPoints() for card, node in nodes.items()} == {CHEST: 3, HEAD: 11}
    assert not any(map(is_edited, nodes.values()))
    assert case_of(another_session.scene, read) == case


def test_a_new_analysis_by_another_card_keeps_the_earlier_cards_node_under_another_name(a_session, a_chest):
    volume_node, _case = a_chest
    earlier = nodes_by_card(a_session.scene, volume_node)[CHEST]
    name = earlier.GetName()
    fresh = merge(SegmentResult((), (), _case.saw[0], step("anatomy_rules", "segment")), _case)
    result = head_result()
    shown(a_session.scene, volume_node, merge(result, fresh), result)
    assert list(nodes_by_card(a_session.scene, volume_node)) == [HEAD]
    assert earlier.GetScene() is a_session.scene and earlier.GetName() == f"{name} (earlier)"
    assert earlier.GetNumberOfControlPoints() == 3


def test_kept_work_brings_back_the_landmarks_of_a_card_that_was_not_run_again(a_session, a_chest):
    volume_node, case = a_chest
    kept = landmark_review.move(case, CARINA, (1.0, 2.0, 3.0))
    fresh = merge(head_result(), replace(case, landmarks=(), reviews=(), actions=(), provenance=()))
    whole = restored(fresh, kept)
    assert set(landmark_sets.cards_of(whole)) == {CHEST, HEAD}
    assert landmark_review.review_of(whole, CARINA).position_ras == (1.0, 2.0, 3.0)
    assert landmark_sets.latest_card(whole) == HEAD
    shown(a_session.scene, volume_node, fresh, head_result())
    save_case(a_session.scene, volume_node, whole)
    landmark_node.show_missing(a_session.scene, volume_node, whole)
    chest = nodes_by_card(a_session.scene, volume_node)[CHEST]
    assert np.allclose(chest.GetNthControlPointPositionWorld(1), (1, 2, 3))


def test_a_calibrated_nets_confidence_is_told_as_a_probability_and_its_radius_in_words(
    a_session, a_chest, a_calibrated_card
):
    volume_node, case = a_chest
    placed_too(a_session.scene, volume_node, case)
    nodes = nodes_by_card(a_session.scene, volume_node)
    cord, larynx = (nodes[HEAD].GetNthControlPointDescription(n) for n in (3, 6))
    assert "90% likely in the scan; 90 % within 8.0 mm" in cord
    assert "not found; 2% likely in the scan" in larynx and "within" not in larynx
    assert "confidence 0.80" in nodes[CHEST].GetNthControlPointDescription(0)


def test_the_queue_of_a_calibrated_net_begins_with_what_it_is_unsure_of(a_calibrated_card, a_phantom):
    found = {each.id: each for each in head_result().landmarks}
    found[CHIN] = replace(found[CHIN], confidence=0.55)
    found[CORD] = replace(found[CORD], confidence=0.99, radius_mm=6.0)
    case = replace(a_phantom.case, landmarks=tuple(found.values()), regions=())
    queue = landmark_review.queue(case)
    assert [entry.landmark.id for entry in queue[:2]] == [CHIN, CORD]
    assert queue[0].risk == pytest.approx(0.9 + 8 / 20) and "Unsure" in queue[0].why
    assert queue[1].risk == pytest.approx(0.02 + 6 / 20) and queue[1].why == ""
    assert all(entry.risk == pytest.approx(0.04) for entry in queue[2:])  # surely not in the scan
    assert "2% likely" in queue[2].why
    flagged = landmark_review.queue(case, {CORD: ("It lies outside the scan.",) * 3})
    assert flagged[0].landmark.id == CORD and flagged[0].risk == pytest.approx(1.32)
