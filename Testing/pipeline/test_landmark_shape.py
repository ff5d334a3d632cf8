"""What landmarks say of one another, on places whose answer is plain."""

import numpy as np
from numpy.testing import assert_allclose

from ct3d.cards import LandmarkShape
from ct3d.pipeline.landmark_shape import expected_places, fitted_shape, signs

PLACES = np.array([[0.0, 0, 60], [0, 0, 0], [50, 10, 10], [-50, 10, 10], [0, 40, -80]])
STIFF = (tuple(tuple(row) for row in 4.0 * np.eye(5)),) * 3  # each place varies by 2 mm, by itself
SHAPE = LandmarkShape("a test", (0.0,) * 2, tuple(map(tuple, PLACES - PLACES.mean(axis=0))), STIFF)
HIGH, LOW = 2.0, -1.0  # peaks of maps that show their landmark, and that don't


def shown(low_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """A scan of 5 mm cubes from R, A = -100 to 100 mm and from a height up to 100 mm; and its affine."""
    affine = np.diag([5.0, 5, 5, 1])
    affine[:3, 3] = -100, -100, low_mm
    return np.ones((int(100 - low_mm) // 5 + 1, 41, 41), bool), affine


def test_the_shape_of_cases_is_found_whatever_they_show_and_wherever_they_lie():
    rng = np.random.default_rng(0)
    tilt = rng.normal(0, 6, (400, 1)) * np.array([1.0, 0.8, 0, 0, -1.0])  # the upper ones go together
    own = rng.normal(0, 2, (400, 5, 3))
    cases = PLACES + own + tilt[..., None] * (0, 0, 1) + rng.normal(0, 80, (400, 1, 3))
    cases[rng.random((400, 5)) < 0.2] = np.nan
    cases[0] = PLACES
    cases = cases[np.isfinite(cases).any(axis=(1, 2))]
    places, covariance = fitted_shape(cases)
    assert_allclose(places, PLACES - PLACES.mean(axis=0), atol=1.5)
    along = covariance[2]
    assert along[0, 1] > 10 > abs(covariance[0][0, 1])
    assert along[0, 4] < -10
    assert (np.linalg.eigvalsh(covariance) > 0).all()


def test_a_landmark_is_expected_where_the_others_put_it_and_has_no_say_of_its_own():
    moved = PLACES + (7.0, -9, 30)
    found = moved.copy()
    found[4] = 500
    expected, off_mm = expected_places(found, np.array([1.0, 1, 1, 1, 1e-4]), SHAPE)
    assert_allclose(expected, moved, atol=1.0)
    assert (off_mm < 8).all()


def test_what_goes_together_is_expected_together():
    matrix = 4.0 * np.eye(5)
    matrix[0, 1] = matrix[1, 0] = 80.0
    matrix[[0, 1], [0, 1]] = 100.0
    shape = LandmarkShape("a test", (0.0,) * 2, SHAPE.places_mm, (STIFF[0], STIFF[0], matrix))
    found = PLACES + 0.0
    found[1, 2] += 20
    higher = expected_places(found, np.ones(5), shape)[0][0] - expected_places(found, np.ones(5), SHAPE)[0][0]
    assert higher[2] > 3
    assert_allclose(higher[:2], 0, atol=1e-6)


def test_where_no_landmark_says_anything_every_place_is_uncertain():
    expected, off_mm = expected_places(PLACES + 3, np.full(5, 1e-4), SHAPE)
    assert np.isfinite(expected).all()
    assert (off_mm > 80).all()


def test_a_landmark_expected_beyond_the_scan_has_a_negative_depth_and_one_inside_a_positive_one():
    known, affine = shown(low_mm=-60)
    found = PLACES.copy()
    found[4] = 0, 30, -58  # the highest place of a map whose landmark lies below the scan
    told = signs(found, np.array([HIGH, HIGH, HIGH, HIGH, LOW]), known, affine, SHAPE)
    assert -2.2 < told[4, 0] < -1.2  # 20 mm below the last slice, known to some 6 mm and 5
    assert told[4, 1] < 0.6
    assert (told[:4, 0] > 1.9).all()
    assert (told[:4, 1] == 2).all()


def test_signs_are_the_same_on_a_turned_grid():
    known, affine = shown(low_mm=-60)
    turn = np.diag([1.0, -1, -1, 1])
    args = PLACES, np.full(5, HIGH)
    upright = signs(*args, known, affine, SHAPE)
    flipped = affine @ turn
    flipped[:3, 3] = affine[:3, 3] + affine[:3, :3] @ (0, known.shape[1] - 1, known.shape[0] - 1)
    assert_allclose(signs(*args, known[::-1, ::-1], flipped, SHAPE), upright, atol=1e-9)


def test_signs_stay_numbers_where_nothing_is_shown():
    known, affine = shown(low_mm=-60)
    assert np.isfinite(signs(PLACES, np.full(5, LOW), np.zeros_like(known), affine, SHAPE)).all()
