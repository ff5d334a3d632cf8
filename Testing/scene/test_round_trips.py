"""Masks, points and cases through scene, .mrb, .seg.nrrd and .mrk.json."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose

slicer = pytest.importorskip("slicer", reason="needs the slicer-core wheel")

from phantoms import SPACING_IJK_MM, show_all  # noqa: E402

from ct3d.errors import DiskFull, InvalidRequest  # noqa: E402
from ct3d.imaging.volume import Volume, ras_from_kji  # noqa: E402
from CT3DAssistantLib.exports.landmarks import write_landmarks  # noqa: E402
from CT3DAssistantLib.exports.regions import write_regions  # noqa: E402
from CT3DAssistantLib.ownership import node_of  # noqa: E402
from CT3DAssistantLib.scene import (  # noqa: E402
    add_volume,
    case_of,
    layers_from_segmentation,
    layers_of,
    load_mrb,
    notes_of,
    save_case,
    save_mrb,
    volume_from_node,
)

HALF_A_VOXEL_MM = min(SPACING_IJK_MM) / 2


def test_a_volume_survives_the_way_into_a_node_and_back(a_session, a_phantom):
    node = add_volume(a_session.scene, a_phantom.volume, notes=("Rescaled.",))
    back = volume_from_node(node)
    assert np.array_equal(back.array, a_phantom.volume.array)
    assert back.array.dtype == np.int16
    assert_allclose(back.ijk_to_ras, a_phantom.volume.ijk_to_ras, atol=1e-9)
    assert notes_of(node) == ("Rescaled.",)


def test_a_left_handed_volume_keeps_every_voxel_at_its_place_through_scene_and_bundle(
    a_session, another_session, a_phantom, tmp_path
):
    turn = np.diag([1.0, -1.0, 1.0, 1.0])
    turn[1, 3] = a_phantom.volume.array.shape[1] - 1
    mirrored = Volume(a_phantom.volume.array[:, ::-1], a_phantom.volume.ijk_to_ras @ turn)
    node = add_volume(a_session.scene, mirrored)
    save_case(a_session.scene, node, a_phantom.case)
    save_mrb(a_session.scene, tmp_path / "case.mrb")
    (loaded,) = load_mrb(another_session.scene, tmp_path / "case.mrb")
    before, after = volume_from_node(node), volume_from_node(loaded)
    assert np.array_equal(before.array, after.array)  # the voxel order no longer changes
    assert_allclose(before.ijk_to_ras, after.ijk_to_ras, atol=1e-6)
    for volume in (before, after):
        bright = np.argwhere(volume.array == a_phantom.volume.array.max())
        truly = np.argwhere(a_phantom.volume.array == a_phantom.volume.array.max())
        there, here = (
            sorted(map(tuple, np.round(ras_from_kji(kji, each.ijk_to_ras), 4)))
            for kji, each in ((truly, a_phantom.volume), (bright, volume))
        )
        assert_allclose(here, there, atol=1e-3)


def test_masks_of_a_volume_whose_slices_were_turned_round_are_found_all_the_same(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    turn = np.diag([1.0, 1.0, -1.0, 1.0])
    turn[2, 3] = a_phantom.volume.array.shape[0] - 1
    turned = Volume(a_phantom.volume.array[::-1], a_phantom.volume.ijk_to_ras @ turn)
    segmentation = node_of(a_session.scene, node, "segmentation")
    layers = layers_from_segmentation(segmentation, turned, a_phantom.case.regions)
    for name, layer in layers.items():
        assert np.array_equal(layer, a_phantom.layers[name][::-1]), name


def test_a_segmentation_of_another_grid_is_refused(a_session, a_phantom, another_phantom):
    node = show_all(a_session.scene, a_phantom)
    segmentation = node_of(a_session.scene, node, "segmentation")
    with pytest.raises(InvalidRequest, match="another grid"):
        layers_from_segmentation(segmentation, another_phantom.volume, a_phantom.case.regions)


def test_a_linear_parent_transform_moves_the_grid_and_not_the_voxels(a_session, a_phantom):
    node = add_volume(a_session.scene, a_phantom.volume)
    moved = np.array([[0, -1, 0, 5.0], [1, 0, 0, -7.0], [0, 0, 1, 11.0], [0, 0, 0, 1]])
    transform = a_session.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert_allclose(volume_from_node(node).ijk_to_ras, moved @ a_phantom.volume.ijk_to_ras, atol=1e-9)


def test_a_non_linear_parent_transform_is_refused_with_what_to_do(a_session, a_phantom):
    import vtk

    node = add_volume(a_session.scene, a_phantom.volume)
    transform = a_session.scene.AddNewNodeByClass("vtkMRMLTransformNode")
    spline = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for point in ((0, 0, 0), (9, 0, 0), (0, 9, 0), (0, 0, 9)):
        points.InsertNextPoint(point)
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(points)
    transform.SetAndObserveTransformToParent(spline)
    node.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InvalidRequest, match="Harden"):
        volume_from_node(node)


def test_an_empty_volume_node_is_refused(a_session):
    with pytest.raises(InvalidRequest, match="holds no image"):
        volume_from_node(a_session.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))


def test_masks_come_back_from_the_scene_voxel_by_voxel(a_session, a_phantom):
    node = show_all(a_session.scene, a_phantom)
    back = layers_of(a_session.scene, node)
    assert set(back) == set(a_phantom.layers)
    for name, layer in a_phantom.layers.items():
        assert np.array_equal(back[name], layer), name


def test_a_case_its_masks_and_points_survive_an_mrb(a_session, another_session, a_phantom, tmp_path):
    show_all(a_session.scene, a_phantom, name="Грудь и лёгкие")
    path = tmp_path / "a case, ünïcode.mrb"
    save_mrb(a_session.scene, path)
    (node,) = load_mrb(another_session.scene, path)
    assert case_of(another_session.scene, node) == a_phantom.case
    for name, layer in layers_of(another_session.scene, node).items():
        assert np.array_equal(layer, a_phantom.layers[name]), name
    assert_allclose(volume_from_node(node).ijk_to_ras, a_phantom.volume.ijk_to_ras, atol=1e-6)
    points = node_of(another_session.scene, node, "landmarks")
    assert_allclose(points.GetNthControlPointPositionWorld(0), a_phantom.centers_ras["nodule_1"], atol=1e-4)


def test_segments_of_a_seg_nrrd_lie_where_the_phantom_has_them(a_session, a_phantom, tmp_path):
    path = write_regions(tmp_path / "regions.seg.nrrd", a_phantom.case, a_phantom.layers)
    node = a_session.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = a_session.scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    names = [
        node.GetSegmentation().GetNthSegmentID(n) for n in range(node.GetSegmentation().GetNumberOfSegments())
    ]
    assert sorted(names) == ["body", "left_lung", "lungs", "nodule_1", "right_lung"]
    for region_id, center in a_phantom.centers_ras.items():
        if region_id != "nodule_1":
            assert_allclose(node.GetSegmentCenterRAS(region_id), center, atol=3 * max(SPACING_IJK_MM))
        assert (
            np.linalg.norm(mask_center(node, region_id) - true_center(a_phantom, region_id)) < HALF_A_VOXEL_MM
        )


def test_a_seg_nrrd_read_by_another_program_has_the_same_voxels_in_the_same_place(a_phantom, tmp_path):
    path = write_regions(tmp_path / "regions.seg.nrrd", a_phantom.case, a_phantom.layers)
    image = sitk.ReadImage(str(path))
    keys = {image.GetMetaData(k): k.removesuffix("_ID") for k in image.GetMetaDataKeys() if k.endswith("_ID")}
    for region_id in a_phantom.centers_ras:
        layer = int(image.GetMetaData(f"{keys[region_id]}_Layer"))
        label = int(image.GetMetaData(f"{keys[region_id]}_LabelValue"))
        array = sitk.GetArrayFromImage(image)[..., layer] == label
        assert array.sum() == a_phantom.mask(region_id).sum()
        k, j, i = np.argwhere(array).mean(axis=0)
        lps = np.array(image.TransformContinuousIndexToPhysicalPoint((i, j, k)))
        assert_allclose(lps * (-1, -1, 1), true_center(a_phantom, region_id), atol=HALF_A_VOXEL_MM)


def test_points_of_a_mrk_json_are_lps_in_the_file_and_ras_in_the_node(a_session, a_phantom, tmp_path):
    path = write_landmarks(tmp_path / "landmarks.mrk.json", a_phantom.case)
    markups = json.loads(path.read_text(encoding="utf-8"))["markups"][0]
    assert markups["coordinateSystem"] == "LPS"
    right, anterior, superior = a_phantom.centers_ras["nodule_1"]
    first, second, third = markups["controlPoints"]
    assert_allclose(first["position"], (-right, -anterior, superior), atol=1e-6)
    assert [each["positionStatus"] for each in (first, second, third)] == ["defined", "missing", "missing"]
    assert second["label"] == "carina"
    assert "not found" in second["description"]
    assert "outside the field of view" in third["description"]
    logic = a_session.logics["Markups"]
    node = a_session.scene.GetNodeByID(logic.LoadMarkups(str(path), "points"))
    assert_allclose(node.GetNthControlPointPositionWorld(0), a_phantom.centers_ras["nodule_1"], atol=1e-4)


def test_a_bundle_that_can_not_be_written_is_a_full_disk(a_session, a_phantom, tmp_path):
    show_all(a_session.scene, a_phantom)
    with pytest.raises(DiskFull, match="nowhere"):
        save_mrb(a_session.scene, tmp_path / "nowhere" / "case.mrb")


def test_a_file_that_is_no_bundle_is_refused(a_session, tmp_path):
    with pytest.raises(InvalidRequest, match="mrb"):
        load_mrb(a_session.scene, Path(tmp_path / "absent.mrb"))


def true_center(phantom, region_id: str) -> np.ndarray:
    return ras_from_kji(np.argwhere(phantom.mask(region_id)), phantom.volume.ijk_to_ras).mean(axis=0)


def mask_center(segmentation_node, region_id: str) -> np.ndarray:
    image = slicer.vtkOrientedImageData()
    segmentation_node.GetBinaryLabelmapRepresentation(region_id, image)
    import vtk

    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    i, j, k = image.GetDimensions()
    array = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(k, j, i)
    first = np.array(image.GetExtent()[0::2])[::-1]
    volume = Volume(array, slicer.util.arrayFromVTKMatrix(matrix))
    return ras_from_kji(np.argwhere(volume.array) + first, volume.ijk_to_ras).mean(axis=0)
