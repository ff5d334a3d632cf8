"""What a net is shown in training, against what inference shows it."""

import dataclasses

import numpy as np
import pytest
import torch

from ct3d.errors import InvalidRequest
from ct3d.imaging.network_input import known_voxels, network_input
from ct3d.imaging.resample import AIR_HU, resample_onto
from ct3d.imaging.volume import Volume, ras_from_ijk
from ct3d.training import State
from ct3d.training.data import Grid, Looks, Windows
from ct3d.training.openkbp import LANDMARKS, LandmarkCase, cases, open_case

RANGE = (-500.0, 1100.0)
GRID = Grid(5.0, (24, 20, 16), RANGE, ((0, 1),))
STILL = Looks(
    **dict.fromkeys(("rotation_deg", "scale", "stretch", "jitter_mm", "anywhere", "mirror", "cut"), 0),
    **dict.fromkeys(("gain", "offset_hu", "noise_hu", "negatives", "outline"), 0),
    unknown_kept=1,
)


@pytest.fixture
def a_case():
    """A smooth blob on an LPI grid with a left, a right, an unknown and a far point; a part was withheld."""
    ijk_to_ras = np.array([[-4.0, 0, 0, 80], [0, -4.0, 0, 90], [0, 0, -3.0, 60], [0, 0, 0, 1]])
    k, j, i = np.mgrid[0:44, 0:40, 0:36]
    hu = (300 * np.exp(-((k - 22) ** 2 + (j - 20) ** 2 + (i - 18) ** 2) / 200) - 300).astype(np.int16)
    known = np.ones(hu.shape, bool)
    known[:, :12] = False
    points = ras_from_ijk(
        np.array([[22.0, 20, 22], [14.0, 20, 22], [np.nan] * 3, [18.0, 20, 60]]), ijk_to_ras
    )
    volume = Volume(np.where(known, hu, np.int16(AIR_HU)), ijk_to_ras)
    return LandmarkCase("pt_1", volume, known, points, np.ones(4, bool))


def windows(case, *, seed=5, **changes):
    return Windows([case], [], grid=GRID, looks=dataclasses.replace(STILL, **changes), seed=seed)


def test_an_undistorted_window_is_what_inference_shows_the_net(a_case):
    window = windows(a_case).sample(0)
    seen = resample_onto(a_case.volume, window.ijk_to_ras, GRID.window_kji)  # as `prepare` does
    shown = network_input(seen, RANGE, known_voxels(a_case.volume, seen, a_case.known))
    hu, known = window.image.numpy()
    assert (known == shown[1]).all()
    assert 0.3 < known.mean() < 0.9
    assert np.abs(hu - shown[0]).max() < 1 / 1600  # inference rounds to whole HU


def test_a_point_of_a_window_is_the_place_in_the_world_that_it_was(a_case):
    window = windows(a_case).sample(0)
    assert window.states.tolist() == [State.PRESENT, State.PRESENT, State.UNKNOWN, State.MISSING]
    there = ras_from_ijk(window.points_kji.numpy()[:2, ::-1], window.ijk_to_ras)
    assert np.allclose(there, a_case.landmarks_ras[:2], atol=1e-4)
    assert window.points_kji[2:].isnan().all()


def test_points_move_with_the_voxels_under_every_look(a_case):
    """The blob's middle is a landmark: wherever it is turned, the brightest place goes with it."""
    middle = ras_from_ijk(np.array([[18.0, 20, 22]]), a_case.volume.ijk_to_ras)
    case = dataclasses.replace(a_case, landmarks_ras=np.repeat(middle, 4, 0), known=a_case.known | True)
    looks = {"rotation_deg": 15, "scale": 0.1, "stretch": 0.05, "mirror": 0.5, "jitter_mm": 8}
    for step in range(12):
        window = windows(case, **looks).sample(step)
        hu = window.image[0].numpy()
        weights = np.clip(hu - hu.max() * 0.8, 0, None)
        found = [(weights * axis).sum() / weights.sum() for axis in np.indices(hu.shape)]
        assert np.allclose(found, window.points_kji[0], atol=0.6)


def test_a_mirrored_window_calls_left_what_lies_left(a_case):
    seen = [windows(a_case, mirror=1.0).sample(0), windows(a_case).sample(0)]
    right_of_left = [(w.points_kji[1, 2] - w.points_kji[0, 2]).item() for w in seen]
    assert right_of_left[0] == pytest.approx(right_of_left[1]) and right_of_left[1] > 0


def test_the_same_step_gives_the_same_window_and_another_another(a_case):
    first, again, other = (windows(a_case, rotation_deg=8, noise_hu=9).sample(step) for step in (4, 4, 5))
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)


def test_a_scan_of_another_body_part_has_every_landmark_missing(a_case):
    nothing = dataclasses.replace(a_case, landmarks_ras=np.full((4, 3), np.nan), known=a_case.known | True)
    looks = dataclasses.replace(STILL, negatives=1.0)
    window = Windows([a_case], [nothing], grid=GRID, looks=looks, seed=1).sample(0)
    assert window.states.tolist() == [State.MISSING] * 4


def test_a_point_cut_off_by_the_field_of_view_is_missing_and_at_its_rim_unknown(a_case):
    states = [windows(a_case, cut=1.0, seed=seed).sample(0).states[:2] for seed in range(40)]
    found = {int(state) for each in states for state in each}
    assert found == {State.PRESENT, State.MISSING, State.UNKNOWN}


def test_what_was_withheld_may_be_shown_as_air_or_tissue(a_case):
    withheld = windows(a_case).sample(0).image[1] == 0
    filled = [windows(a_case, unknown_kept=0.0, seed=seed).sample(0).image for seed in range(8)]
    now_known = [image[:, withheld & (image[1] == 1)] for image in filled]
    assert all(each.shape[1] > 100 for each in now_known)
    middles = [float(hu.median()) for hu, _ in now_known]
    assert min(middles) == 0  # air
    assert 0.2 < max(middles) < 0.5  # soft tissue


def write_patient(path, **changes):
    ct = np.zeros((8, 10, 12), np.uint8)
    ct[2:6, 3:7, 4:9] = 128
    landmarks = np.full((11, 3), np.nan, np.float32)
    landmarks[0] = (4, 5, 6)
    arrays = {"ct": ct, "landmarks": landmarks, "spacing": np.array([4.0, 5.0, 2.5], np.float32)}
    np.savez_compressed(path, **{**arrays, **changes})
    return path


def test_a_patient_lies_in_the_world_as_the_data_set_says(tmp_path):
    case = open_case(write_patient(tmp_path / "pt_1.npz"))
    assert case.volume.orientation == "LPI"
    assert case.volume.spacing_kji_mm == (2.5, 4.0, 5.0)
    assert case.volume.array.shape == (12, 8, 10)
    assert case.landmarks_ras[0].tolist() == [-25.0, -16.0, -15.0]  # 5 to the left, 4 back, 6 down
    assert case.volume.array[6, 4, 5] == 300 and case.volume.array[0, 0, 0] == AIR_HU
    assert case.known.sum() == 4 * 4 * 5
    assert len(case.landmarks_ras) == len(LANDMARKS) and not case.supported.any()


def test_patients_come_by_number_and_other_files_are_refused(tmp_path):
    for name in ("pt_10", "pt_9"):
        write_patient(tmp_path / f"{name}.npz")
    assert [path.stem for path in cases(tmp_path)] == ["pt_9", "pt_10"]
    with pytest.raises(InvalidRequest, match="no OpenKBP case: landmarks"):
        open_case(write_patient(tmp_path / "x.npz", landmarks=np.zeros((3, 3))))
    with pytest.raises(InvalidRequest, match="no .npz case"):
        cases(tmp_path / "empty")
