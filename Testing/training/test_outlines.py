import numpy as np
import pytest
from numpy.testing import assert_array_equal

from ct3d.imaging.resample import AIR_HU
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.training.openkbp import LandmarkCase
from ct3d.training.outlines import ALTERATIONS, altered

GRID = np.diag([-4.0, -4.0, -2.5, 1.0])


def ball(middle, radius_mm):
    k, j, i = np.ogrid[0:40, 0:32, 0:36]
    spacing = (2.5, 4.0, 4.0)
    return sum(((n - m) * s) ** 2 for n, m, s in zip((k, j, i), middle, spacing)) <= radius_mm**2


def case_of(name, known):
    """Bumpy water where known; points at its middle and near its rim."""
    array = np.where(known, np.arange(known.size).reshape(known.shape) % 200, AIR_HU).astype(np.int16)
    points = ras_from_kji([(20, 16, 18), (20, 16, 25)], GRID)
    return LandmarkCase(name, Volume(array, GRID), known, points, np.array([True, True]))


@pytest.fixture
def a_case():
    return case_of("pt_1", ball((20, 16, 18), 45.0) & ~ball((8, 16, 18), 5.0))


@pytest.fixture
def another():
    return case_of("pt_2", ball((22, 16, 18), 40.0))


@pytest.mark.parametrize("name", sorted(set(ALTERATIONS) - {"outline_alone"}))
def test_an_altered_outline_leaves_the_anatomy_that_still_shows(name, a_case, another):
    seen = altered(a_case, name, other=another, seed=0)
    shows = a_case.known & seen.known
    assert shows.any()
    assert_array_equal(seen.volume.array[shows], a_case.volume.array[shows])
    assert_array_equal(seen.landmarks_ras, a_case.landmarks_ras)


@pytest.mark.parametrize("name", ["eroded", "boxed", "of_another"])
def test_less_is_known_and_points_at_the_new_rim_lose_their_support(name, a_case, another):
    seen = altered(a_case, name, other=another, seed=0)
    assert not (seen.known & ~a_case.known).any()
    assert 0.2 < seen.known.sum() / a_case.known.sum() < 0.95
    assert seen.supported.tolist() == [True, False]


def test_the_hull_closes_holes_and_adds_nothing_far(a_case, another):
    seen = altered(a_case, "hull", other=another, seed=0)
    assert seen.known[ball((8, 16, 18), 5.0)].all()
    assert not (seen.known & ~ball((20, 16, 18), 45.1)).any()
    assert (seen.volume.array[seen.known & ~a_case.known] == AIR_HU).all()


def test_what_was_withheld_becomes_tissue_or_air_that_is_called_known(a_case, another):
    tissue = altered(a_case, "in_tissue", other=another, seed=0)
    added = tissue.volume.array[~a_case.known]
    assert tissue.known.all()
    assert abs(added.mean() - 30) < 10 and 40 < added.std() < 80
    air = altered(a_case, "in_air", other=another, seed=0)
    assert air.known.all() and (air.volume.array[~a_case.known] == AIR_HU).all()


def test_the_outline_alone_shows_no_anatomy(a_case, another):
    seen = altered(a_case, "outline_alone", other=another, seed=0)
    assert_array_equal(seen.known, a_case.known)
    assert (seen.volume.array[seen.known] == 0).all()


def test_the_same_seed_gives_the_same_tissue(a_case, another):
    one, same, third = (altered(a_case, "in_tissue", other=another, seed=n) for n in (1, 1, 2))
    assert_array_equal(one.volume.array, same.volume.array)
    assert (one.volume.array != third.volume.array).any()
