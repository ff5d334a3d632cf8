import tomllib
from dataclasses import replace

import numpy as np
import pytest
from synthetic_headneck import write_case

from ct3d.cards import cards_folder, load_card
from ct3d.imaging.volume import Volume, ijk_from_ras
from ct3d.training.calibrate_landmarks import absent, calibrate, calibrated, main, shape_of
from ct3d.training.calibration import left_one_out
from ct3d.training.conformal import coverage
from ct3d.training.evaluate_landmarks import evaluate
from ct3d.training.openkbp import LANDMARKS, LandmarkCase, cases, open_case
from ct3d.training.scores import Answer

ID = "h3denet_headneck"
SD_MM = np.linspace(1.0, 3.0, len(LANDMARKS))  # along each axis; some landmarks are harder


class NoisyOracle:
    """Places each landmark with its own error, peaks near 1.5 where it is in the scan, else near 0."""

    def __init__(self, *folders):
        found = [open_case(path) for folder in folders for path in cases(folder)]
        self.truth = {tuple(np.round(case.volume.spacing_kji_mm, 4)): case.landmarks_ras for case in found}
        self.rng = np.random.default_rng(0)

    def __call__(self, volume: Volume, _known: np.ndarray) -> Answer:
        key = tuple(np.round(volume.spacing_kji_mm, 4))
        truth = np.nan_to_num(self.truth.get(key, np.full((len(LANDMARKS), 3), 1e4)))
        ijk = ijk_from_ras(truth, volume.ijk_to_ras)
        inside = ((ijk >= -0.5) & (ijk <= np.array(volume.array.shape[::-1]) - 0.5)).all(axis=1)
        peaks = 1.5 * inside + self.rng.normal(0, 0.3, len(inside))
        points = truth + self.rng.normal(0, 1, truth.shape) * SD_MM[:, None]
        return Answer(points, peaks, np.full(len(inside), 0.5), inside)


@pytest.fixture(scope="module")
def the_folders(tmp_path_factory):
    """Of 12 training and 12 validation cases."""
    folders = tmp_path_factory.mktemp("train"), tmp_path_factory.mktemp("validation")
    for n in range(24):
        write_case(folders[n // 12], n + 1)
    return folders


@pytest.fixture(scope="module")
def a_calibration(the_folders):
    train, validation = map(cases, the_folders)
    empty = Volume(np.zeros((8, 8, 8), np.int16), np.diag([-9.0, -9.0, -9.0, 1.0]))
    known, nowhere = np.ones((8, 8, 8), bool), np.full((len(LANDMARKS), 3), np.nan)
    other = absent(LandmarkCase("chest", empty, known, nowhere, np.zeros(len(LANDMARKS), bool)))
    find = NoisyOracle(*the_folders)
    card = replace(load_card(ID), shape=shape_of(train))
    return calibrate(card, find, train, validation, [other], crops=4, seed=1)


def test_a_peak_midway_means_even_odds_and_the_ends_are_sure(a_calibration):
    for slope, offset in a_calibration.presence.values():
        assert -offset / slope == pytest.approx(0.75, abs=0.25)
        assert slope > 2
    assert a_calibration.fitted_on == {"scans": 12, "fields_of_view": 48, "others": 1}


def test_radii_grow_with_a_landmarks_own_errors_and_hold_nine_in_ten_of_new_ones(a_calibration):
    radii = np.array([a_calibration.radius_mm[name] for name in LANDMARKS])
    assert radii[-3:].mean() > 1.7 * radii[:3].mean()
    new = np.linalg.norm(np.random.default_rng(5).normal(0, 1, (4000, 11, 3)) * SD_MM[:, None], axis=-1)
    assert coverage(new, radii)["share"] == pytest.approx(0.9, abs=0.06)
    assert 0.8 < a_calibration.left_one_out["share"] <= 1


def test_leaving_one_case_out_does_not_see_that_case():
    errors = np.ones((20, 4))
    errors[3] = 50.0
    found = left_one_out(errors, np.ones(4))
    assert found["inside"] == found["n"] - 4


def test_the_card_takes_calibration_and_measured_numbers_and_stays_a_card(
    a_calibration, the_folders, tmp_path
):
    paths = cases(the_folders[1])
    card = a_calibration.of(load_card(ID))
    find = NoisyOracle(*the_folders)
    found = evaluate(paths, card, find, seed=1, crops=2, note=lambda _text: None) | {
        "weights_sha256": "ab" * 32
    }
    mean = {name: [1.0, 2.0, 3.0] for name in LANDMARKS}
    before = (cards_folder() / f"{ID}.toml").read_text(encoding="utf-8")
    (tmp_path / f"{ID}.toml").write_text(calibrated(before, a_calibration, found, mean), encoding="utf-8")
    written = load_card(ID, tmp_path)
    assert [each.radius_mm for each in written.landmarks] == [a_calibration.radius_mm[n] for n in LANDMARKS]
    assert written.landmarks == card.landmarks
    assert written.shape == card.shape
    assert written.measured["mre_mm"] == round(found["errors"]["supported"]["pooled"]["mre_mm"], 2)
    assert written.measured["mean_position_mm"] == mean
    assert written.measured["radius_holds"] == a_calibration.left_one_out["share"]
    was = tomllib.loads(before)
    assert {
        key: value
        for key, value in tomllib.loads((tmp_path / f"{ID}.toml").read_text()).items()
        if key not in ("measured", "landmarks", "shape")
    } == {key: value for key, value in was.items() if key not in ("measured", "landmarks", "shape")}


def test_a_baselines_calibration_is_not_written_into_the_shipped_card(the_folders, tmp_path, capsys):
    before = (cards_folder() / f"{ID}.toml").read_bytes()
    train, validation = map(str, the_folders)
    words = ["--train", train, "--validation", validation, "--data", str(tmp_path), "--recipe", "unet.toml"]
    assert main(words) == 2
    assert "Copy the card" in capsys.readouterr().out
    assert (cards_folder() / f"{ID}.toml").read_bytes() == before
