"""What landmarks say of one another, on places whose answer is plain."""

import numpy as np
from numpy.testing import assert_allclose

from ct3d.cards import LandmarkShape
from ct3d.pipeline.landmark_shape import expected_places, mean_places, signs

PLACES = np.array([[0.0, 0, 60], [0, 0, 0], [50, 10, 10], [-50, 10, 10], [0, 40, -80]])
SHAPE = LandmarkShape("a test", (0.0,) * 3, tuple(map(tuple, PLACES - PLACES.mean(axis=0))))
HIGH, LOW = 2.0, -1.0  # peaks of maps that show their landmark, and that don't


def shown(low_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """A scan of 5 mm cubes from R, A = -100 to 100 mm and from a height up to 100 mm; and its affine."""
    affine = np.diag([5.0, 5, 5, 1])
    affine[:3, 3] = -100, -100, low_mm
    return np.ones((int(100 - low_mm) // 5 + 1, 41, 41), bool), affine


def test_the_shape_of_cases_is_found_whatever_they_show_and_wherever_they_lie():
    rng = np.random.default_rng(0)
    cases = PLACES + rng.normal(0, 80, (40, 1, 3))
    cases[rng.random((40, 5)) < 0.3] = np.nan
    cases[0] = PLACES
    assert_allclose(mean_places(cases), PLACES - PLACES.mean(axis=0), atol=1e-6)


def test_a_landmark_is_expected_where_the_others_put_it_and_has_no_say_of_its_own():
    moved = PLACES + (7.0, -9, 30)
    found = moved.copy()
    found[4] = 500
    trust = np.array([1.0, 1, 1, 1, 0])
    assert_allclose(expected_places(found, trust, PLACES), moved, atol=0.01)


def test_where_no_landmark_says_anything_the_mean_of_all_is_taken():
    expected = expected_places(PLACES + 3, np.zeros(5), PLACES)
    assert_allclose(expected, PLACES + 3, atol=1e-9)


def test_a_landmark_expected_beyond_the_scan_has_a_negative_depth_and_one_inside_a_positive_one():
    known, affine = shown(low_mm=-60)
    found = PLACES.copy()
    found[4] = 0, 30, -58  # the highest place of a map whose landmark lies below the scan
    told = signs(found, np.array([HIGH, HIGH, HIGH, HIGH, LOW]), known, affine, SHAPE)
    assert_allclose(told[4, 0], -2.0, atol=0.5)  # 20 mm below the last slice
    assert_allclose(told[4, 1], np.hypot(10, 22) / 10, atol=0.1)
    assert told[4, 2] < 0.6
    assert (told[:4, 0] >= 3).all()
    assert_allclose(told[:4, 1], 0, atol=0.05)


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
