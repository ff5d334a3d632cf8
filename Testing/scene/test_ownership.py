"""Whose nodes are whose: running again, a person's edits, several cases in one scene."""

from dataclasses import replace

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel")

import vtk  # noqa: E402
from phantoms import show_all  # noqa: E402

from CT3DAssistantLib.ownership import (  # noqa: E402
    ROLES,
    fingerprint,
    is_edited,
    is_measured,
    node_of,
    nodes_of_class,
    note_measured,
    remove_node,
)
from CT3DAssistantLib.scene import (  # noqa: E402
    add_landmarks,
    add_report,
    add_segmentation,
    add_volume,
    analysed_volumes,
    case_of,
    layers_of,
    load_mrb,
    save_case,
    save_mrb,
)


def test_running_again_writes_untouched_nodes_anew_in_place(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    count = a_session.scene.GetNumberOfNodes()
    before = [node_of(a_session.scene, node, role) for role in ROLES]
    add_segmentation(a_session.scene, node, a_phantom.layers, a_phantom.case.regions)
    add_landmarks(a_session.scene, node, a_phantom.case.landmarks)
    add_report(a_session.scene, node, a_phantom.case)
    assert [node_of(a_session.scene, node, role) for role in ROLES] == before
    assert a_session.scene.GetNumberOfNodes() == count


def test_a_moved_landmark_is_kept_under_another_name_when_landmarks_are_found_again(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    mine = node_of(a_session.scene, node, "landmarks")
    mine.SetNthControlPointPosition(0, 1.0, 2.0, 3.0)
    fresh = add_landmarks(a_session.scene, node, a_phantom.case.landmarks)
    assert fresh is not mine
    assert mine.GetName() == "CT landmarks (edited)"
    assert np.allclose(mine.GetNthControlPointPosition(0), (1, 2, 3))
    assert not is_edited(fresh)


def test_a_rewritten_report_is_kept(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    mine = node_of(a_session.scene, node, "report")
    mine.SetText("My own words.")
    assert add_report(a_session.scene, node, a_phantom.case) is not mine
    assert mine.GetText() == "My own words."


def test_a_painted_voxel_counts_as_an_edit_and_reaches_the_masks(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    segmentation = node_of(a_session.scene, node, "segmentation")
    image = slicer.vtkOrientedImageData()
    segmentation.GetBinaryLabelmapRepresentation("nodule_1", image)
    first = tuple(image.GetExtent()[0::2])
    image.SetScalarComponentFromDouble(*first, 0, 1)
    painted = a_phantom.mask("nodule_1").astype(np.uint8)
    painted[first[::-1]] = 1
    assert not a_phantom.mask("nodule_1")[first[::-1]]
    paint = slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment
    assert paint(image, segmentation, "nodule_1")
    assert is_edited(segmentation)
    assert np.array_equal(layers_of(a_session.scene, node)["lesions"], painted)


def test_masks_that_a_person_painted_stay_when_regions_are_found_again(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    mine = node_of(a_session.scene, node, "segmentation")
    image = slicer.vtkOrientedImageData()
    mine.GetBinaryLabelmapRepresentation("right_lung", image)
    assert slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, mine, "nodule_1")
    painted = fingerprint(mine)
    fresh = add_segmentation(a_session.scene, node, a_phantom.layers, a_phantom.case.regions)
    assert fresh is not mine and not is_edited(fresh)
    assert mine.GetName() == "CT regions (edited)"
    assert fingerprint(mine) == painted
    assert np.array_equal(layers_of(a_session.scene, node)["lesions"], a_phantom.layers["lesions"])


def test_what_was_measured_is_known_from_what_was_painted_since(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    masks = node_of(a_session.scene, node, "segmentation")
    assert is_measured(masks)
    image = slicer.vtkOrientedImageData()
    masks.GetBinaryLabelmapRepresentation("right_lung", image)
    assert slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, masks, "nodule_1")
    assert not is_measured(masks)
    note_measured(masks, fingerprint(masks))
    assert is_measured(masks) and is_edited(masks)


def test_other_label_maps_for_the_same_voxels_are_no_edit(a_session, a_phantom):
    """Saving a scene packs segments that don't overlap into fewer label maps, under other labels."""
    node = show_all(a_session.scene, a_phantom)
    masks = node_of(a_session.scene, node, "segmentation")
    before = masks.GetSegmentation().GetNumberOfLayers()
    for segment in ("left_lung", "right_lung"):
        masks.GetSegmentation().SeparateSegmentLabelmap(segment)
    assert masks.GetSegmentation().GetNumberOfLayers() > before
    assert not is_edited(masks)
    masks.GetSegmentation().CollapseBinaryLabelmaps(False)
    assert not is_edited(masks)


@pytest.mark.parametrize("role", ROLES)
def test_what_was_only_saved_and_loaded_does_not_count_as_edited(
    role, a_session, another_session, a_phantom, tmp_path
):
    show_all(a_session.scene, a_phantom)
    save_mrb(a_session.scene, tmp_path / "case.mrb")
    (node,) = load_mrb(another_session.scene, tmp_path / "case.mrb")
    assert not is_edited(node_of(another_session.scene, node, role))


def test_two_volumes_of_one_scene_keep_their_cases_apart(a_session, a_phantom, another_phantom):
    first = show_all(a_session.scene, a_phantom, name="First")
    second = show_all(a_session.scene, another_phantom, name="Second")
    assert case_of(a_session.scene, first) == a_phantom.case
    assert case_of(a_session.scene, second) == another_phantom.case
    changed = replace(a_phantom.case, sentences=())
    save_case(a_session.scene, first, changed)
    add_report(a_session.scene, first, changed)
    assert case_of(a_session.scene, second) == another_phantom.case
    assert "6.4 mm" in node_of(a_session.scene, second, "report").GetText()
    assert node_of(a_session.scene, first, "landmarks") is not node_of(a_session.scene, second, "landmarks")
    assert set(analysed_volumes(a_session.scene)) == {first, second}


def test_a_bundle_loaded_beside_an_open_case_mixes_nothing(
    a_session, another_session, a_phantom, another_phantom, tmp_path
):
    show_all(a_session.scene, a_phantom, name="First")
    save_mrb(a_session.scene, tmp_path / "first.mrb")
    mine = show_all(another_session.scene, another_phantom, name="Second")
    loaded = load_mrb(another_session.scene, tmp_path / "first.mrb", clear=False)
    (theirs,) = set(loaded) - {mine}
    assert case_of(another_session.scene, theirs) == a_phantom.case
    assert case_of(another_session.scene, mine) == another_phantom.case
    assert np.array_equal(layers_of(another_session.scene, theirs)["organs"], a_phantom.layers["organs"])


def test_two_sessions_of_one_process_share_nothing(a_session, another_session, a_phantom):
    show_all(a_session.scene, a_phantom)
    assert analysed_volumes(another_session.scene) == ()


def test_a_case_has_one_folder_in_the_subject_hierarchy(a_session, a_phantom):
    show_all(a_session.scene, a_phantom)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_session.scene)
    folder = hierarchy.GetItemChildWithName(hierarchy.GetSceneItemID(), "CT analysis")
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(folder, children)
    names = [hierarchy.GetItemName(children.GetId(n)) for n in range(children.GetNumberOfIds())]
    assert names == ["CT regions", "CT landmarks", "CT measurements", "CT report"]


def test_a_volume_that_was_looked_for_and_removed_is_freed(a_session, a_phantom):
    node, weak = add_volume(a_session.scene, a_phantom.volume), vtk.vtkWeakReference()
    weak.Set(node)
    assert nodes_of_class(a_session.scene, "vtkMRMLScalarVolumeNode") == [node]
    remove_node(a_session.scene, node)
    del node
    assert weak.Get() is None
