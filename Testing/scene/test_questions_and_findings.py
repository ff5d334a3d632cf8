"""What a question is about, from ROIs and slice views of the scene; in words, and what can be asked of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slicer
import vtk

from ct3d.case import Answer, Case, Scope
from ct3d.errors import InvalidRequest
from CT3DAssistantLib import scopes
from CT3DAssistantLib.conversation import (
    ANSWER,
    CANNOT_TELL,
    Ink,
    conversation_html,
    conversation_text,
    evidence_titles,
    history_of,
    is_remade,
    suggested_questions,
)
from CT3DAssistantLib.finding_table import evidence_of_link, finding_rows, findings_text, unassessed_words
from CT3DAssistantLib.scene import add_volume

GOLDEN = Path(__file__).parents[1] / "golden"
INK = Ink("#000000", "#555555", "#0000ff", "#eeeeee", "#888888")


@pytest.fixture
def the_case():
    return Case.from_json((GOLDEN / "case_made_up.json").read_text(encoding="utf-8"))


@pytest.fixture
def an_roi(a_session):
    node = scopes.add_roi(a_session.scene, (10.0, 20.0, -30.0))
    node.SetSize(20.0, 40.0, 60.0)
    return node


def turned(scene, node, degrees):
    transform = vtk.vtkTransform()
    transform.RotateZ(degrees)
    parent = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    parent.SetMatrixTransformToParent(transform.GetMatrix())
    node.SetAndObserveTransformNodeID(parent.GetID())


def slice_view(scene, axes, point):
    node = scene.AddNewNodeByClass("vtkMRMLSliceNode")
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([*axes, point])
    node.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(matrix))
    node.UpdateMatrices()
    return node


AXIAL = ((-1, 0, 0), (0, 1, 0), (0, 0, 1))
SAGITTAL = ((0, -1, 0), (0, 0, 1), (1, 0, 0))
CORONAL = ((-1, 0, 0), (0, 0, 1), (0, 1, 0))


def test_an_roi_gives_its_box(an_roi):
    scope = scopes.scope_of_roi(an_roi)
    assert scope == Scope("box", range_ras_mm=(0.0, 20.0, 0.0, 40.0, -60.0, 0.0))


def test_a_turned_roi_gives_the_box_around_it_and_says_so(a_session, an_roi, the_case):
    turned(a_session.scene, an_roi, 90.0)
    assert scopes.scope_of_roi(an_roi) == Scope("box", range_ras_mm=(-40.0, 0.0, 0.0, 20.0, -60.0, 0.0))
    turned(a_session.scene, an_roi, 45.0)
    scope = scopes.scope_of_roi(an_roi)
    ends = np.array(scope.range_ras_mm).reshape(3, 2)
    np.testing.assert_allclose(np.diff(ends)[:, 0], [60 * 2**-0.5, 60 * 2**-0.5, 60], atol=0.02)
    assert scopes.scope_words(scope, the_case).endswith("mm (around a turned ROI)")


def test_an_roi_without_a_size_is_refused(a_session):
    node = a_session.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    with pytest.raises(InvalidRequest, match="no size yet"):
        scopes.scope_of_roi(node)
    with pytest.raises(InvalidRequest, match="No ROI is chosen"):
        scopes.scope_of_roi(None)


def test_the_slice_views_tell_a_height_and_where_they_cross(a_session):
    scene = a_session.scene
    with pytest.raises(InvalidRequest, match="No slice view is axial"):
        scopes.axial_height(scene)
    slice_view(scene, SAGITTAL, (7.0, 1.0, 2.0))
    slice_view(scene, AXIAL, (3.0, 4.0, -130.0))
    with pytest.raises(InvalidRequest, match="No slice view is coronal"):
        scopes.crosshair(scene)
    slice_view(scene, CORONAL, (5.0, -12.0, 6.0))
    assert scopes.axial_height(scene) == -130.0
    assert scopes.crosshair(scene) == (7.0, -12.0, -130.0)


def test_a_volume_has_a_lowest_and_a_highest_slice(a_session, a_phantom):
    node = add_volume(a_session.scene, a_phantom.volume)
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in a_phantom.volume.array.shape[::-1]])).reshape(
        3, -1
    )
    heights = (a_phantom.volume.ijk_to_ras @ np.vstack([corners, np.ones(8)]))[2]
    np.testing.assert_allclose(scopes.heights_of(node), (heights.min(), heights.max()), atol=0.01)


def test_a_scope_is_said_in_words(the_case):
    words = {
        Scope(): "whole scan",
        Scope("region", "left_lung"): "left lung",
        Scope("region", "gone"): "gone",
        scopes.scope_of_slices(-100.2, -126.0): "slices S -126 to -100 mm",
        Scope(
            "box", range_ras_mm=(-57.0, 20.0, -3.0, 4.0, -9.0, 0.0)
        ): "box R -57 to 20, A -3 to 4, S -9 to 0 mm",
    }
    assert {scope: scopes.scope_words(scope, the_case) for scope in words} == words


def test_lesions_are_offered_first_and_told_apart(the_case):
    offered = scopes.regions_to_choose(the_case)
    names = [scopes.region_name(each, the_case) for each in offered]
    assert offered[0].kind == "lesion" and offered[-1].kind != "lesion"
    assert len(set(names)) == len(names)
    missing = tuple(replace(each, presence="absent") for each in the_case.regions)
    assert scopes.regions_to_choose(replace(the_case, regions=missing)) == []


def answered(case, *answers):
    return replace(case, answers=tuple(answers))


def an_answer(question, **more):
    told = {"text": "2340 mL.", "evidence": ("attribute/right_lung.volume",), "support": "supported"}
    return Answer("a", question, **(told | {"origin": "measured"} | more))


def test_what_was_asked_is_not_suggested_again_and_nothing_is_suggested_without_a_measurement(the_case):
    first = suggested_questions(the_case)
    assert "Summarize the findings." in first and "How many nodules are there?" in first
    assert first[0] not in suggested_questions(answered(the_case, an_answer(first[0])))
    bare = replace(the_case, attributes=(), landmarks=())
    assert "How large is the largest nodule?" not in suggested_questions(bare)
    assert suggested_questions(the_case, Scope("region", "left_lung")) == (
        "What is the volume of the left lung?",
        "What is the mean attenuation of the left lung?",
    )
    assert suggested_questions(the_case, Scope("slices", range_ras_mm=(0.0, 1.0))) == ()


def test_the_conversation_is_text_with_scope_reason_and_notice(the_case):
    unknown = {
        "support": "unsupported",
        "origin": "none",
        "evidence": (),
        "reasons": ("it was not assessed",),
    }
    case = answered(
        the_case, an_answer("How big?"), an_answer("Why?", **unknown, scope=Scope("region", "left_lung"))
    )
    text = conversation_text(case)
    assert "Research use only. Not for clinical use." in text
    assert "Question: How big?\nAbout: whole scan\nAnswer (sentence from measurements): 2340 mL." in text
    assert "Evidence: right lung: volume" in text
    assert "Question: Why?\nAbout: left lung\nCan't tell: 2340 mL.\nWhy: it was not assessed" in text


def test_a_wording_that_was_turned_down_is_marked(the_case):
    fell = ("model wrote 'a': number", "model_second_draw wrote 'b': number")
    case = answered(the_case, an_answer("Describe it.", reasons=fell))
    assert "wording was turned down, the measured sentence stands" in conversation_html(case, INK)
    assert "wording was turned down, the measured sentence stands" in conversation_text(case)
    second = answered(the_case, an_answer("Describe it.", reasons=fell[:1], origin="model_second_draw"))
    assert "turned down" not in conversation_html(second, INK)


def test_what_a_person_types_is_shown_as_typed(the_case):
    case = answered(the_case, an_answer("<b>is 3 < 4 & why?</b>"))
    html = conversation_html(case, INK)
    assert "&lt;b&gt;is 3 &lt; 4 &amp; why?&lt;/b&gt;" in html
    assert ANSWER in html and CANNOT_TELL not in html


def test_measurements_of_a_region_are_one_link(the_case):
    evidence = (
        "attribute/right_lung.volume",
        "attribute/right_lung.mean_hu",
        "landmark/carina",
        "region/gone",
    )
    titles = evidence_titles(the_case, evidence)
    assert list(titles) == ["region/right_lung", "landmark/carina"]
    assert len(titles["region/right_lung"][1]) == 2


def test_history_holds_the_latest_turns(the_case):
    case = answered(the_case, *(an_answer(f"{n}?") for n in range(9)))
    assert [turn.question for turn in history_of(case)] == ["3?", "4?", "5?", "6?", "7?", "8?"]


def test_only_a_job_that_changes_the_measurements_of_the_volume_stands_in_the_way():
    class AJob:
        def __init__(self, volume_node, *tasks):
            self.volume_node, self.tasks = volume_node, tasks

    assert is_remade([AJob("a", "measure", "findings")], "a")
    assert not is_remade([AJob("a", "measure"), AJob("b", "report"), object()], "b")


def test_findings_are_ranked_and_counted(the_case):
    rows = finding_rows(the_case, unassessed=False)
    assert [row.finding.state for row in rows] == ["possible", "possible", "absent"]
    assert unassessed_words(the_case) == "15 labels were not assessed."
    one = replace(the_case, findings=the_case.findings[:1])
    assert unassessed_words(one) == "1 label was not assessed."
    assert len(findings_text(the_case).splitlines()) == 2 + 18


def test_a_sentence_leads_to_its_evidence(a_session, the_case):
    assert evidence_of_link(the_case, "region/left_lung") == "region/left_lung"
    assert evidence_of_link(the_case, "sentence/gone") == ""
