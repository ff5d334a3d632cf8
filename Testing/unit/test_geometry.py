"""Grids: what lies at a place in RAS must lie there after every resampling, and come back to where it was."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ct3d.cards import InputSpec
from ct3d.errors import InvalidRequest
from ct3d.imaging.prepare import prepare
from ct3d.imaging.resample import resample, resample_like, resample_onto
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_ijk, ras_from_kji

AXIS_CODES = ["RAS", "LPS", "LAI", "SRA", "PIL", "ASR"]
BLOBS_RAS = np.array([[30.0, 10.0, -20.0], [-25.0, 20.0, 15.0], [5.0, -30.0, 25.0]])


def a_direction(seed: int) -> np.ndarray:
    """A random rotation; every other one is left-handed."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    if (np.linalg.det(matrix) < 0) != (seed % 2 == 1):
        matrix[:, 0] *= -1
    return matrix


def a_grid(
    direction: np.ndarray, spacing_ijk=(1.6, 2.1, 3.0), size_ijk=(76, 58, 41)
) -> tuple[np.ndarray, tuple]:
    """An affine whose grid is centred near the origin of RAS, and its shape."""
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing_ijk
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(size_ijk) - 1) / 2) + (3.0, -2.0, 1.0)
    return affine, size_ijk[::-1]


def voxels_ras(affine: np.ndarray, shape_kji: tuple) -> np.ndarray:
    return ras_from_kji(np.moveaxis(np.indices(shape_kji), 0, -1).reshape(-1, 3), affine)


def a_phantom(affine: np.ndarray, shape_kji: tuple) -> tuple[Volume, Volume]:
    """CT and labels of three balls (radius 12 mm) at BLOBS_RAS, each with its own HU and label."""
    places = voxels_ras(affine, shape_kji)
    labels = np.zeros(len(places), np.uint8)
    for label, centre in enumerate(BLOBS_RAS, 1):
        labels[np.linalg.norm(places - centre, axis=1) < 12] = label
    labels = labels.reshape(shape_kji)
    return Volume((labels.astype(np.int16) * 300 - 1000), affine), Volume(labels, affine)


def centres_ras(labels: Volume) -> np.ndarray:
    return np.array(
        [ras_from_kji(np.argwhere(labels.array == n), labels.ijk_to_ras).mean(axis=0) for n in (1, 2, 3)]
    )


@pytest.mark.parametrize("seed", range(12))
def test_labelled_balls_stay_at_their_place_through_prepare_and_back_on_any_grid(seed):
    affine, shape = a_grid(a_direction(seed))
    volume, _ = a_phantom(affine, shape)
    scan, way_back = prepare(volume, InputSpec(orientation=AXIS_CODES[seed % 6], spacing_mm=(2.0, 1.3, 1.7)))
    assert scan.orientation == AXIS_CODES[seed % 6]
    found = np.clip(np.rint((scan.array + 1000) / 300.0), 0, 3).astype(
        np.uint8
    )  # what a perfect model would say
    for label, centre in enumerate(BLOBS_RAS, 1):
        i, j, k = np.rint(way_back.to_model(centre[None])[0]).astype(int)
        assert found[k, j, i] == label
    _, seen = a_phantom(scan.ijk_to_ras, scan.array.shape)
    back = Volume(way_back.labels(seen.array), affine)
    assert back.array.shape == shape
    half_a_voxel = min(volume.spacing_kji_mm) / 2
    assert_allclose(centres_ras(back), BLOBS_RAS, atol=half_a_voxel)


@pytest.mark.parametrize("seed", range(12))
def test_every_label_voxel_that_comes_back_had_its_value_within_half_a_model_voxel(seed):
    affine, shape = a_grid(a_direction(seed), size_ijk=(40, 30, 20))
    volume = Volume(np.zeros(shape, np.int16), affine)
    scan, way_back = prepare(volume, InputSpec(spacing_mm=(2.0, 1.3, 1.7)))
    numbered = np.arange(scan.array.size, dtype=np.int32).reshape(scan.array.shape)
    back = way_back.labels(numbered)
    from_ijk = np.stack(np.unravel_index(back.ravel(), scan.array.shape), axis=-1)[:, ::-1]
    apart = np.abs(way_back.to_model(voxels_ras(affine, shape)) - from_ijk)
    assert apart.max() <= 0.5 + 1e-6


@pytest.mark.parametrize("seed", range(2))
def test_a_linear_field_of_hu_is_the_same_at_every_place_after_resampling(seed):
    affine, shape = a_grid(a_direction(seed))
    slope = np.array([3.0, -2.0, 4.0])
    volume = Volume((voxels_ras(affine, shape) @ slope).reshape(shape).astype(np.float32), affine)
    for spacing in [(2.2, 1.5, 1.4), (4.0, 4.6, 5.7), (7.0, 2.5, 2.0)]:  # finer; averaged; mixed
        scan = resample(volume, spacing_kji_mm=spacing, fill=np.nan)
        places = voxels_ras(scan.ijk_to_ras, scan.array.shape)
        given_ijk = ijk_from_ras(places, affine)
        inside = ((given_ijk > 4) & (given_ijk < np.array(shape[::-1]) - 5)).all(axis=1)
        assert inside.sum() > 500
        assert_allclose(scan.array.ravel()[inside], (places @ slope)[inside], atol=0.02)


@pytest.mark.parametrize("seed", range(6))
def test_the_canonical_grid_covers_every_corner_of_an_oblique_volume(seed):
    affine, shape = a_grid(a_direction(seed))
    scan = resample(Volume(np.zeros(shape, np.int16), affine), spacing_kji_mm=(2.0, 2.0, 2.0))
    corners = np.array(np.meshgrid(*((-0.5, n - 0.5) for n in shape[::-1]))).reshape(3, -1).T
    there = ijk_from_ras(ras_from_ijk(corners, affine), scan.ijk_to_ras)
    assert (there > -0.51).all() and (there < np.array(scan.array.shape[::-1]) - 0.49).all()


@pytest.mark.parametrize("code", ["LPS", "RAS", "LAS", "SLP", "AIR"])
@pytest.mark.parametrize("wanted", ["RAS", "LPS", "PIR"])
def test_an_aligned_grid_keeps_its_exact_voxels_when_only_turned(code, wanted):
    letters = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    direction = np.zeros((3, 3))
    for n, letter in enumerate(code):
        direction[letters[letter][0], n] = letters[letter][1]
    affine, shape = a_grid(direction, size_ijk=(7, 6, 5))
    volume = Volume(np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16), affine)
    turned = resample(volume, orientation=wanted)
    assert turned.orientation == wanted and turned.array.dtype == np.int16
    k, j, i = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3).T
    there = np.rint(ijk_from_ras(ras_from_kji(np.stack([k, j, i], -1), affine), turned.ijk_to_ras)).astype(
        int
    )
    assert_array_equal(turned.array[there[:, 2], there[:, 1], there[:, 0]], volume.array[k, j, i])
    assert_array_equal(resample_like(turned, volume).array, volume.array)


def test_a_volume_that_needs_no_change_is_not_copied():
    affine, shape = a_grid(np.eye(3), size_ijk=(7, 6, 5))
    volume = Volume(np.zeros(shape, np.int16), affine)
    assert np.shares_memory(resample(volume).array, volume.array)


def test_a_grid_turned_by_forty_five_degrees_still_has_three_different_axes():
    c = np.sqrt(0.5)
    affine, shape = a_grid(np.array([[c, -c, 0], [c, c, 0], [0, 0, 1]]), size_ijk=(8, 8, 8))
    volume = Volume(np.zeros(shape, np.int16), affine)
    assert {"R": 0, "L": 0, "A": 1, "P": 1}[volume.orientation[0]] != {"R": 0, "L": 0, "A": 1, "P": 1}[
        volume.orientation[1]
    ]
    assert resample(volume).orientation == "RAS"


def test_a_sheared_grid_is_resampled_to_the_right_places():
    affine, shape = a_grid(np.array([[1, 0, 0], [0, 0.95, 0], [0, -0.31, 1]], float))
    _, labels = a_phantom(affine, shape)
    assert_allclose(
        centres_ras(resample(labels, spacing_kji_mm=(1, 1, 1), is_label=True)), BLOBS_RAS, atol=0.5
    )


@pytest.mark.parametrize("wanted", [(30, 60, 60), (80, 40, 128), (44, 77, 110)])
def test_cutting_and_padding_to_a_shape_moves_no_voxel(wanted):
    affine, shape = a_grid(np.eye(3))
    volume, labels = a_phantom(affine, shape)
    scan, way_back = prepare(volume, InputSpec(spatial_shape=wanted))
    assert scan.array.shape == wanted
    _, truth = a_phantom(scan.ijk_to_ras, wanted)
    assert_array_equal(scan.array[truth.array > 0], truth.array[truth.array > 0].astype(int) * 300 - 1000)
    back = way_back.labels(truth.array)
    (k0, k1), (j0, j1), (i0, i1) = way_back.kept_kji
    kept = (slice(k0, k1), slice(j0, j1), slice(i0, i1))
    assert_array_equal(back[kept], labels.array[kept])
    assert back.sum() == labels.array[kept].sum()


def test_points_come_back_from_the_model_grid_exactly():
    affine, shape = a_grid(a_direction(3))
    volume = Volume(np.zeros(shape, np.int16), affine)
    _, way_back = prepare(volume, InputSpec(spacing_mm=(3.0, 1.5, 1.5), spatial_shape=(32, 64, 64)))
    points = np.random.default_rng(1).normal(size=(50, 3)) * 40
    assert_allclose(way_back.to_ras(way_back.to_model(points)), points, atol=1e-9)


def test_the_input_report_says_what_was_turned_cut_and_clipped():
    affine, shape = a_grid(np.diag([-1.0, -1.0, 1.0]), spacing_ijk=(1.0, 1.0, 2.0), size_ijk=(20, 20, 10))
    array = np.full(shape, 50, np.int16)
    array[:5] = 2000
    spec = InputSpec(spatial_shape=(8, 20, 24), value_range=(-1000.0, 1000.0))
    scan, way_back = prepare(Volume(array, affine), spec)
    report = way_back.saw("a_card", coverage={"chest": 0.5})
    assert (report.orientation_from, report.orientation_to) == ("LPS", "RAS")
    assert (report.shape_from_kji, report.shape_to_kji) == ((10, 20, 20), (8, 20, 24))
    assert report.crop_from_kji == ((1, 9), (0, 20), (0, 20))
    assert report.clipped_share == 0.5 and report.coverage == {"chest": 0.5}
    assert "K 2" in report.notes[0] and "I 4" in report.notes[1]
    assert scan.array.max() == 1000 and scan.array.min() == -1000  # padded with the lowest value of the range


def test_integer_ct_is_rounded_to_the_nearest_hu_not_cut():
    affine, shape = a_grid(np.eye(3), spacing_ijk=(1, 1, 1), size_ijk=(41, 5, 5))
    ramp = np.broadcast_to(np.arange(41) * 10 - 200, shape).astype(np.int16)
    wanted = affine.copy()
    wanted[:3, 3] += (0.36, 0, 0)  # between voxels: 3.6 HU further
    moved = resample_onto(Volume(ramp, affine), wanted, shape)
    assert moved.array.dtype == np.int16
    assert_array_equal(moved.array[2, 2, :40], np.rint(ramp[2, 2, :40] + 3.6))


def test_beyond_the_given_volume_there_is_air_or_label_zero():
    affine, shape = a_grid(a_direction(2), size_ijk=(20, 20, 20))
    assert resample(Volume(np.full(shape, 40, np.int16), affine)).array.min() == -1024
    assert resample(Volume(np.full(shape, 4, np.uint8), affine), is_label=True).array.min() == 0


def test_labels_of_another_shape_than_the_model_saw_are_refused():
    affine, shape = a_grid(np.eye(3), size_ijk=(8, 8, 8))
    _, way_back = prepare(Volume(np.zeros(shape, np.int16), affine), InputSpec())
    with pytest.raises(InvalidRequest, match="don't fit"):
        way_back.labels(np.zeros((4, 4, 4), np.uint8))


@pytest.mark.parametrize(
    "wrong", [{"orientation": "RAR"}, {"orientation": "XYZ"}, {"spacing_kji_mm": (0, 1, 1)}]
)
def test_a_grid_that_makes_no_sense_is_refused(wrong):
    affine, shape = a_grid(np.eye(3), size_ijk=(8, 8, 8))
    with pytest.raises(InvalidRequest):
        resample(Volume(np.zeros(shape, np.int16), affine), **wrong)


def test_a_grid_beyond_any_memory_is_refused_before_it_is_made():
    affine, shape = a_grid(np.eye(3), size_ijk=(8, 8, 8))
    with pytest.raises(InvalidRequest, match="too large"):
        resample(Volume(np.zeros(shape, np.int16), affine), spacing_kji_mm=(0.001, 0.001, 0.001))
