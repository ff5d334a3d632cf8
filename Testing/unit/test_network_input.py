"""The input of a net of heat maps: values, and what is known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ct3d.cards import InputSpec
from ct3d.imaging.network_input import known_voxels, network_input
from ct3d.imaging.prepare import prepare
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_kji

RANGE = (-500.0, 1100.0)
SPEC = InputSpec(spacing_mm=(4.0, 4.0, 4.0), value_range=RANGE)


def turned(degrees: float) -> np.ndarray:
    """Affine of 2 mm voxels, turned about the body axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[2 * c, -2 * s, 0, -30], [2 * s, 2 * c, 0, 10], [0, 0, 2.0, 5], [0, 0, 0, 1]])


def a_volume(affine=None, shape=(20, 30, 40), dtype=np.int16) -> Volume:
    values = np.random.default_rng(0).integers(-900, 1500, shape).astype(dtype)
    return Volume(values, np.diag([2.0, 2, 2, 1]) if affine is None else affine)


def test_the_hu_range_becomes_zero_to_one_and_what_lies_beyond_is_clipped():
    seen = Volume(np.array([[[-1000, -500, 300, 1100, 3000]]], np.int16), np.eye(4))
    assert_allclose(network_input(seen, RANGE)[0, 0, 0], [0, 0, 0.5, 1, 1])
    assert network_input(seen, RANGE).dtype == np.float32


def test_an_unknown_voxel_is_zero_in_both_channels():
    seen = Volume(np.full((1, 1, 2), 700, np.int16), np.eye(4))
    hu, known = network_input(seen, RANGE, np.array([[[True, False]]]))
    assert_array_equal(hu[0, 0], [0.75, 0])
    assert_array_equal(known[0, 0], [1, 0])


def test_a_value_that_is_no_number_is_unknown():
    seen = Volume(np.array([[[np.nan, np.inf, 300.0]]], np.float32), np.eye(4))
    assert_array_equal(network_input(seen, RANGE)[:, 0, 0], [[0, 0, 0.5], [0, 0, 1]])


def test_of_a_straight_volume_all_is_known():
    volume = a_volume()
    assert known_voxels(volume, prepare(volume, SPEC)[0]).all()


def test_the_corners_around_an_oblique_volume_are_unknown_and_its_voxels_known():
    volume = a_volume(turned(30))
    seen, _ = prepare(volume, SPEC)
    known = known_voxels(volume, seen)
    for corner in (known[:, :2, :2], known[:, -2:, -2:]):
        assert not corner.any()
    expected = np.prod(volume.array.shape) * volume.voxel_ml / seen.voxel_ml
    assert known.sum() == pytest.approx(expected, rel=0.02)


def test_the_geometric_and_the_resampled_field_of_view_agree():
    volume = a_volume(turned(17))
    seen, _ = prepare(volume, SPEC)
    with_a_hole = Volume(volume.array.copy(), volume.ijk_to_ras)
    with_a_hole.array[0, 0, 0] = -3024
    differs = known_voxels(volume, seen) != known_voxels(with_a_hole, seen)
    corner_ras = volume.ijk_to_ras[:3, 3]
    away = np.linalg.norm(ras_from_kji(np.argwhere(differs), seen.ijk_to_ras) - corner_ras, axis=1)
    assert (away < 8).all()  # voxels to which the hole contributes lie within two of the large voxels


def test_nothing_that_a_hole_contributed_to_is_known():
    volume = a_volume(turned(30))
    volume.array[:] = 40
    columns = np.arange(40) - 20
    volume.array[:, :, columns > 0] = -3024
    seen, _ = prepare(volume, SPEC)
    known = known_voxels(volume, seen)
    assert known.any()
    assert (seen.array[known] == 40).all()
    inside = ijk_from_ras(ras_from_kji(np.argwhere(known), seen.ijk_to_ras), volume.ijk_to_ras)[:, 0]
    assert inside.max() < 21


def test_what_a_data_set_withheld_is_unknown_whatever_stands_there():
    volume = a_volume()
    has_data = np.ones(volume.array.shape, bool)
    has_data[:, :, :20] = False
    seen, _ = prepare(volume, SPEC)
    known = known_voxels(volume, seen, has_data)
    assert_array_equal(known[0, 0], np.arange(20) >= 10)


def test_a_hole_of_values_that_are_no_numbers_stays_out_of_the_input():
    volume = a_volume(turned(30), dtype=np.float32)
    volume.array[5:9, 5:9, 5:9] = np.nan
    seen, _ = prepare(volume, SPEC)
    known = known_voxels(volume, seen)
    given = network_input(seen, RANGE, known)
    assert np.isfinite(given).all()
    assert given[1].sum() < known_voxels(a_volume(turned(30)), seen).sum()
