import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit

from ct3d.errors import InvalidRequest
from ct3d.training.calibration import fit_presence


def test_the_logistic_that_made_the_truth_is_found_again():
    rng = np.random.default_rng(0)
    peaks = rng.normal(0.4, 1.0, 200_000)
    truth = rng.random(peaks.size) < expit(3.0 * peaks - 1.5)
    slope, offset = fit_presence(peaks, truth)
    even = offset + np.log(truth.sum() / (~truth).sum())  # from even odds back to those of the sample
    assert_allclose((slope, even), (3.0, -1.5), atol=0.05)


def test_counts_of_present_and_absent_scans_do_not_move_the_middle():
    peaks = np.concatenate([np.full(900, 1.0), np.full(30, -1.0)])
    slope, offset = fit_presence(peaks, peaks > 0)
    assert expit(slope + offset) > 0.99
    assert expit(-slope + offset) < 0.05


def test_a_peak_that_errs_never_still_gives_finite_numbers():
    slope, offset = fit_presence(np.array([-1.0, -0.9, 1.4, 1.6]), np.array([False, False, True, True]))
    assert np.isfinite([slope, offset]).all()
    assert expit(slope * 1.5 + offset) > 0.6 > 0.4 > expit(slope * -0.95 + offset)


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_scans_of_one_kind_are_refused(truth):
    with pytest.raises(InvalidRequest, match="with it and without"):
        fit_presence(np.array([0.1, 0.2]), np.array(truth))


def test_a_peak_that_is_higher_where_the_landmark_is_absent_is_refused():
    with pytest.raises(InvalidRequest, match="Train the net"):
        fit_presence(np.array([0.0, 0.1, 1.0, 1.1]), np.array([True, True, False, False]))
