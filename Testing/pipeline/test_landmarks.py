"""Landmarks against points derived from the demo CT's pseudo-labels, and their presence and plausibility."""

import numpy as np
import pytest
from bench.accuracy import derived_carina
from synthetic_chest import Chest, synthetic_chest

from ct3d.cards import load_card
from ct3d.imaging.exchange import store_array, store_volume
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_kji
from ct3d.pipeline import landmarks
from ct3d.pipeline.anatomy_rules import AnatomyRules
from ct3d.pipeline.job import LocalJob
from ct3d.pipeline.landmark_rules import find_landmarks
from ct3d.protocol.codec import decode, encode
from ct3d.protocol.tasks import LandmarkParams, LandmarkResult, MaskLayer

LOBES = {"right": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
         "left": ("lung_upper_lobe_left", "lung_lower_lobe_left")}  # fmt: skip


def chest_with_spine(**grid) -> Chest:
    """The synthetic chest with a spine, and with the thicker wall that a patient has."""
    chest = synthetic_chest(**grid)
    chest.plant_tube((0.0, -55.0, -80.0), (0.0, -55.0, 80.0), 28.0, hu=300.0)
    in_wall = ((chest.points_ras[..., :2] / (130.0, 92.0)) ** 2).sum(axis=3) <= 1
    chest.volume.array[in_wall & (chest.organs == 0) & (chest.volume.array < -500)] = 50.0
    return chest


def find_all(masks, volume, folder):
    card = load_card("anatomy_landmarks")
    found, flags = find_landmarks(volume, masks.layers, masks.regions, card, LocalJob(folder))
    return {each.id: each for each in found}, flags


def cut_off(volume, slices):
    """The volume without its last `slices` slices along K."""
    return Volume(np.ascontiguousarray(volume.array[:-slices]), volume.ijk_to_ras)


def test_the_carina_lies_within_8_mm_of_the_derived_one(the_demo_case, the_pseudo_labels):
    truth = derived_carina(the_pseudo_labels("trachea"), the_demo_case.volume.ijk_to_ras)
    assert np.linalg.norm(np.array(the_demo_case.landmarks["carina"].position_ras) - truth) < 8.0


@pytest.mark.parametrize("side", ["right", "left"])
def test_apex_and_base_lie_at_the_ends_of_the_pseudo_labelled_lung(the_demo_case, the_pseudo_labels, side):
    affine = the_demo_case.volume.ijk_to_ras
    heights = ras_from_kji(np.argwhere(the_pseudo_labels(*LOBES[side])), affine)[:, 2]
    found = the_demo_case.landmarks
    assert abs(found[f"{side}_lung_apex"].position_ras[2] - heights.max()) < 8.0
    assert abs(found[f"{side}_lung_base"].position_ras[2] - heights.min()) < 8.0


def test_the_domes_lie_just_above_liver_and_spleen_or_stomach(the_demo_case, the_pseudo_labels):
    affine = the_demo_case.volume.ijk_to_ras
    for side, organs in (("right", ("liver",)), ("left", ("spleen", "stomach", "colon"))):
        points = ras_from_kji(np.argwhere(the_pseudo_labels(*organs)), affine)
        top = points[points[:, 0] > 0, 2].max() if side == "right" else points[points[:, 0] < 0, 2].max()
        assert abs(the_demo_case.landmarks[f"{side}_diaphragm_dome"].position_ras[2] - top) < 15.0


def test_the_arch_lies_at_the_top_of_the_pseudo_labelled_aorta(the_demo_case, the_pseudo_labels):
    heights = ras_from_kji(np.argwhere(the_pseudo_labels("aorta")), the_demo_case.volume.ijk_to_ras)[:, 2]
    assert abs(the_demo_case.landmarks["aortic_arch_level"].position_ras[2] - heights.max()) < 12.0


def test_a_lesion_centre_lies_in_its_mask(the_demo_case):
    names = [name for name, region in the_demo_case.regions.items() if region.kind == "lesion"]
    assert names
    for name in names:
        point = np.array([the_demo_case.landmarks[f"{name}_center"].position_ras])
        i, j, k = np.rint(ijk_from_ras(point, the_demo_case.volume.ijk_to_ras)[0]).astype(int)
        assert the_demo_case.mask(name)[k, j, i]


def test_every_landmark_of_the_card_is_listed_and_defined(the_demo_case):
    card = load_card("anatomy_landmarks")
    for spec in card.landmarks:
        found = the_demo_case.landmarks[spec.id]
        assert found.definition == spec.definition
        assert (found.position_ras is None) == (found.presence != "present")
        assert found.presence == "present" or found.note


def test_what_lies_beyond_the_field_of_view_is_outside(tmp_path):
    volume = cut_off(chest_with_spine(spacing_kji_mm=(4.0, 3.0, 3.0)).volume, 8)
    masks = AnatomyRules(load_card("anatomy_rules")).segment(volume, LocalJob(tmp_path))
    found, _ = find_all(masks, volume, tmp_path)
    assert found["right_lung_apex"].presence == found["left_lung_apex"].presence == "outside"
    assert found["right_lung_base"].presence == "present"
    assert found["carina"].presence == "missing"


def test_apices_of_an_oblique_chest_lie_at_their_ras_places(tmp_path):
    angle = np.deg2rad(15)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1.0]])
    chest = chest_with_spine(spacing_kji_mm=(3.0, 2.2, 2.2), turn=turn)
    masks = AnatomyRules(load_card("anatomy_rules")).segment(chest.volume, LocalJob(tmp_path))
    found, flags = find_all(masks, chest.volume, tmp_path)
    for side, x in (("right", 60.0), ("left", -60.0)):
        assert np.linalg.norm(np.subtract(found[f"{side}_lung_apex"].position_ras, (x, 0, 65))) < 5.0
        assert np.linalg.norm(np.subtract(found[f"{side}_lung_base"].position_ras, (x, 0, -65))) < 5.0
    assert not flags


def test_the_task_gives_what_survives_the_wire(tmp_path):
    chest = chest_with_spine(spacing_kji_mm=(4.0, 3.0, 3.0))
    masks = AnatomyRules(load_card("anatomy_rules")).segment(chest.volume, LocalJob(tmp_path))
    layers = tuple(MaskLayer(name, store_array(array, tmp_path)) for name, array in masks.layers.items())
    params = LandmarkParams(store_volume(chest.volume, tmp_path), layers, masks.regions)
    result = landmarks.run(params, LocalJob(tmp_path))
    assert decode(LandmarkResult, encode(result)) == result
    assert result.step.task == "landmarks"
