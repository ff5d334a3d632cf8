import numpy as np
import pytest
from numpy.testing import assert_allclose

from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_kji
from ct3d.training.fields_of_view import SIDES, crop, random_views, whole
from ct3d.training.openkbp import LandmarkCase

GRID = np.diag([-4.0, -4.0, -2.5, 1.0])  # LPI, as the data set's


def rng():
    return np.random.default_rng(0)


@pytest.fixture
def a_case():
    """Eight points in a grid whose voxels hold their own number; two points are not known."""
    array = np.arange(40 * 30 * 30, dtype=np.int32).reshape(40, 30, 30)
    points = ras_from_kji(np.random.default_rng(3).uniform(8, 22, (10, 3)), GRID)
    points[[2, 5]] = np.nan
    known = array % 7 > 0
    return LandmarkCase("pt_1", Volume(array, GRID), known, points, np.isfinite(points[:, 0]))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_a_crop_loses_the_wanted_share_of_the_known_landmarks_on_its_side(a_case, side, share):
    seen = crop(a_case, side=side, share=share, rng=rng())
    axis, sign = SIDES[side]
    heights = sign * a_case.landmarks_ras[:, axis]
    assert seen.absent_share == pytest.approx(share, abs=1 / 8)
    assert not (seen.inside & seen.outside).any()
    assert (seen.inside | seen.outside).tolist() == np.isfinite(heights).tolist()
    if seen.outside.any():
        assert heights[seen.outside].min() > heights[seen.inside].max()


@pytest.mark.parametrize("side", SIDES)
def test_a_crop_leaves_each_voxel_where_it_was_in_the_world(a_case, side):
    seen = crop(a_case, side=side, share=0.5, rng=rng()).case
    there = np.argwhere(np.ones(seen.volume.array.shape, bool))
    before = ijk_from_ras(ras_from_kji(there, seen.volume.ijk_to_ras), GRID)[:, ::-1]
    before = tuple(np.rint(before).astype(int).T)
    assert (a_case.volume.array[before] == seen.volume.array[tuple(there.T)]).all()
    assert (a_case.known[before] == seen.known[tuple(there.T)]).all()
    assert sum(n != m for n, m in zip(seen.volume.array.shape, a_case.volume.array.shape)) == 1


def test_a_landmark_is_inside_where_the_smaller_grid_holds_it(a_case):
    seen = crop(a_case, side="below", share=0.5, rng=rng())
    ijk = ijk_from_ras(a_case.landmarks_ras[seen.inside], seen.case.volume.ijk_to_ras)
    assert (ijk >= -0.5).all() and (ijk <= np.array(seen.case.volume.array.shape[::-1]) - 0.5).all()
    assert (seen.beyond_mm[seen.inside] < 0).all()
    assert (seen.beyond_mm[seen.outside] > -1.25).all()  # half a slice


def test_crops_depend_on_the_seed_and_the_case_only(a_case):
    first, again = (random_views(a_case, seed=7, count=5) for _ in range(2))
    other = random_views(a_case, seed=8, count=5)
    assert [each.side for each in first] == [each.side for each in again]
    assert_allclose([each.beyond_mm for each in first], [each.beyond_mm for each in again])
    assert [each.case.volume.array.shape for each in first] != [
        each.case.volume.array.shape for each in other
    ]


def test_the_whole_case_misses_nothing(a_case):
    seen = whole(a_case)
    assert seen.absent_share == 0
    assert seen.inside.sum() == 8
