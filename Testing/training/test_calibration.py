import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit

from ct3d.errors import InvalidRequest
from ct3d.training import State
from ct3d.training.calibration import fit_presence


def fit(peaks, truth, signs=None):
    """Of a single landmark."""
    signs = np.zeros((len(peaks), 0)) if signs is None else signs
    states = np.where(truth, State.PRESENT, State.MISSING)
    return fit_presence(np.asarray(peaks, float)[:, None], signs[:, None], states[:, None])


def test_the_logistic_that_made_the_truth_is_found_again():
    rng = np.random.default_rng(0)
    peaks, signs = rng.normal(0.4, 1.0, 200_000), rng.normal(2.0, 3.0, (200_000, 2))
    truth = rng.random(peaks.size) < expit(3.0 * peaks + signs @ (0.5, 0.0) - 2.5)
    found = fit(peaks, truth, signs)
    even = found.offset + np.log(truth.sum() / (~truth).sum())  # from even odds back to the sample's
    assert_allclose((found.slope, even), (3.0, -2.5), atol=0.06)
    assert_allclose(found.weights, (0.5, 0.0), atol=0.02)


def test_landmarks_share_slope_offset_and_weights_and_what_is_unknown_takes_no_part():
    rng = np.random.default_rng(1)
    peaks, signs = rng.normal(1.0, 1.0, (60_000, 2)), rng.normal(0.0, 1.0, (60_000, 2, 1))
    truth = rng.random(peaks.shape) < expit(2.0 * peaks + 1.5 * signs[..., 0] - 2.0)
    states = np.where(truth, State.PRESENT, State.MISSING)
    states[rng.random(states.shape) < 0.3] = State.UNKNOWN
    peaks[states == State.UNKNOWN] = 50.0
    found = fit_presence(peaks, signs, states)
    assert_allclose([found.slope, found.offset, *found.weights], (2.0, -2.0, 1.5), atol=0.08)


def test_the_fit_ends_at_the_least_loss_also_where_signs_are_alike():
    rng = np.random.default_rng(2)
    signs = rng.normal(0, 1, (4000, 1)) + rng.normal(0, 0.3, (4000, 3))
    peaks = signs.mean(axis=1) + rng.normal(0, 0.5, 4000)
    truth = rng.random(4000) < expit(2 * peaks + signs @ (3.0, 0.0, -1.0))
    found = fit(peaks, truth, signs)

    def loss(slope, offset, weights):
        logit = slope * peaks + offset + signs @ weights
        weight = np.where(truth, 0.5 / truth.sum(), 0.5 / (~truth).sum())
        return (weight * np.logaddexp(0, np.where(truth, -logit, logit))).sum()

    best = loss(*found)
    for step in (-0.1, 0.1):
        assert loss(found.slope + step, found.offset, found.weights) > best
        assert all(loss(found.slope, found.offset, found.weights + step * unit) > best for unit in np.eye(3))


def test_counts_of_present_and_absent_scans_do_not_move_the_middle():
    peaks = np.concatenate([np.full(900, 1.0), np.full(30, -1.0)])
    slope, offset, _ = fit(peaks, peaks > 0)
    assert expit(slope + offset) > 0.99
    assert expit(-slope + offset) < 0.05


def test_a_peak_that_errs_never_still_gives_finite_numbers():
    slope, offset, _ = fit([-1.0, -0.9, 1.4, 1.6], np.array([False, False, True, True]))
    assert np.isfinite([slope, offset]).all()
    assert expit(slope * 1.5 + offset) > 0.6 > 0.4 > expit(slope * -0.95 + offset)


def test_a_sign_that_never_changes_has_no_weight():
    found = fit([-1.0, -0.9, 1.4, 1.6], np.array([False, False, True, True]), np.full((4, 1), 3.0))
    assert found.weights == 0


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_scans_of_one_kind_are_refused(truth):
    with pytest.raises(InvalidRequest, match="with it and without"):
        fit([0.1, 0.2], np.array(truth))


def test_a_peak_that_is_higher_where_the_landmark_is_absent_is_refused():
    with pytest.raises(InvalidRequest, match="Train the net"):
        fit([0.0, 0.1, 1.0, 1.1], np.array([True, True, False, False]))
