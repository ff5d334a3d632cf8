"""What HSENet sees of a scan, on volumes whose answer is plain."""

import numpy as np
import pytest

from ct3d.imaging.volume import Volume
from ct3d.pipeline.ct_rate import see


@pytest.fixture
def a_chest():
    """40 slices of air, 3 x 1.5 x 1.5 mm, RAS, with a bright box nearer to the right, front and top."""
    array = np.full((40, 50, 60), -1000, np.int16)
    array[24:36, 30:44, 34:54] = 100
    return Volume(array, np.diag([1.5, 1.5, 3.0, 1.0]))


def turned(volume: Volume, axes: str) -> Volume:
    """The same scan with some of its axes (of "IJK") running the other way."""
    array, affine = volume.array, volume.ijk_to_ras.copy()
    for n, axis in enumerate("IJK"):
        if axis in axes:
            array = np.flip(array, 2 - n)
            affine[:3, 3] += affine[:3, n] * (array.shape[2 - n] - 1)
            affine[:3, n] *= -1
    return Volume(np.ascontiguousarray(array), affine)


def test_the_clean_recipe_sees_the_same_however_the_file_s_axes_run(a_chest):
    straight = see(a_chest, "a_card")
    for axes in ("I", "JK", "IJK"):
        other = see(turned(a_chest, axes), "a_card")
        np.testing.assert_array_equal(other.volume, straight.volume)
        np.testing.assert_array_equal(other.slices, straight.slices)


def test_the_compat_recipe_takes_the_file_s_axes_as_they_come(a_chest):
    straight, other = see(a_chest, "a_card", "compat"), see(turned(a_chest, "K"), "a_card", "compat")
    np.testing.assert_allclose(other.volume[::-1], straight.volume, atol=1e-6)
    assert np.abs(other.slices.astype(int) - straight.slices).max() > 100


def test_what_is_kept_is_the_box_of_what_is_above_the_least_value(a_chest):
    seen = see(a_chest, "a_card")
    assert seen.volume.shape == (32, 256, 256)
    assert seen.resampled_shape == (80, 120, 100)
    assert [past - first for first, past in seen.box] == [26, 42, 30]  # 36 x 30 x 21 mm and the blurred rim
    assert seen.volume.max() == 1.0
    assert 0 < seen.volume.min() < 0.05  # the rim


def test_slices_are_named_and_reach_from_the_first_to_the_last(a_chest):
    seen = see(a_chest, "a_card")
    assert (len(seen.slice_indices), seen.slice_indices[0], seen.slice_indices[-1]) == (32, 0, 79)
    assert seen.slices.shape == (32, 100, 120)  # rows front to back, turned clockwise
    assert set(np.unique(seen.slices[0])) == {0}
    assert seen.slices[20].max() == 255


def test_a_scan_of_few_slices_is_stretched_to_32(a_chest):
    thin = Volume(np.ascontiguousarray(a_chest.array[20:32]), a_chest.ijk_to_ras)
    seen = see(thin, "a_card")
    assert seen.slice_indices == ()
    assert len(seen.slices) == 32
    assert "stretched" in seen.report.notes[-1]


def test_a_scan_of_air_alone_gives_numbers():
    seen = see(Volume(np.full((5, 8, 8), -1000, np.int16), np.eye(4)), "a_card")
    assert not seen.volume.any()
    assert np.isfinite(seen.volume).all()


def test_the_report_tells_range_grid_and_what_was_clipped(a_chest):
    a_chest.array[0] = 3000
    report = see(turned(a_chest, "K"), "a_card").report
    assert report.value_range == (-1000.0, 200.0)
    assert (report.orientation_from, report.orientation_to) == ("RAI", "RAS")
    assert report.clipped_share == pytest.approx(1 / 40)
    assert report.shape_to_kji == (32, 256, 256)


def test_the_report_s_box_lies_on_the_volume_s_own_grid(a_chest):
    (k0, k1), (j0, j1), (i0, i1) = see(turned(a_chest, "K"), "a_card").report.crop_from_kji
    assert (k0, k1) == (
        40 - 37,
        40 - 23,
    )  # the box of slices 24 to 36, counted from the other end, and its rim
    assert (j0, j1) == (29, 45)
    assert (i0, i1) == (33, 55)
