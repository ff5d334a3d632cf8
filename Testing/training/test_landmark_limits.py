"""Limits of plausibility measured on points whose spread is known."""

import tomllib

import numpy as np
import pytest

from ct3d.cards import LandmarkLimits
from ct3d.imaging.plausibility import complaints
from ct3d.protocol.codec import decode
from ct3d.training import landmark_limits
from ct3d.training.openkbp import LANDMARKS

HEAD = {  # RAS mm, an upright head about the top of the cord
    "brainstem_centroid": (0, 8, 30),
    "brainstem_superior_end": (0, 14, 55),
    "brainstem_inferior_end": (0, 0, 4),
    "cord_superior_end": (0, 0, 0),
    "left_parotid_centroid": (-60, 28, 5),
    "right_parotid_centroid": (60, 28, 5),
    "larynx_centroid": (0, 40, -90),
    "mandible_anterior": (0, 110, -25),
    "mandible_left_posterior": (-50, 35, 10),
    "mandible_right_posterior": (50, 35, 10),
    "esophagus_superior_end": (0, 22, -115),
}


@pytest.fixture
def some_points():
    """200 heads of sizes from 0.9 to 1.1; every tenth has no larynx, and one is drawn badly."""
    points = np.linspace(0.9, 1.1, 200)[:, None, None] * np.array([HEAD[name] for name in LANDMARKS], float)
    points[::10, LANDMARKS.index("larynx_centroid")] = np.nan
    points[7, LANDMARKS.index("mandible_left_posterior")] = (0.0, 100.0, -25.0)
    return points


@pytest.fixture
def some_limits(some_points) -> LandmarkLimits:
    table = tomllib.loads(landmark_limits.toml_of_limits(some_points, LANDMARKS, "made up"))
    return decode(LandmarkLimits, table["limits"], "limits")


def test_a_range_is_that_of_nearly_all_cases_a_tenth_wider(some_limits):
    least, most = some_limits.distances_mm["right_parotid_centroid left_parotid_centroid"]
    assert least == pytest.approx(120 * 0.902 * 0.9, abs=1) and most == pytest.approx(
        120 * 1.098 * 1.1, abs=1
    )
    least, _most = some_limits.distances_mm["mandible_anterior mandible_left_posterior"]
    assert least > 70  # the badly drawn one is 0 mm away


def test_orders_hold_in_nearly_all_cases_and_none_follows_from_others(some_limits):
    above = set(some_limits.above)
    assert ("brainstem_superior_end", "brainstem_centroid") in above
    assert ("larynx_centroid", "esophagus_superior_end") in above
    assert ("right_parotid_centroid", "cord_superior_end") not in above  # 5 mm: within the margin
    assert ("brainstem_superior_end", "esophagus_superior_end") not in above  # it follows
    assert any(front == "mandible_anterior" for front, _ in some_limits.in_front)


def test_most_cases_they_were_measured_on_keep_to_the_limits(some_points, some_limits):
    titles = {name: name for name in LANDMARKS}
    flagged = 0
    for points in some_points:
        known = {name: tuple(p) for name, p in zip(LANDMARKS, points.tolist()) if np.isfinite(p[0])}
        flagged += bool(complaints(known, titles, some_limits))
    assert flagged == 1  # the badly drawn one


def test_too_few_cases_give_no_order(some_points):
    by_id = {name: some_points[:39, n] for n, name in enumerate(LANDMARKS)}
    assert landmark_limits.in_order(by_id, landmark_limits.SUPERIOR) == []
