"""What people really have on their disks: each is a clear refusal or a stated mend, and nothing is lost."""

import gzip
import os
import resource
import signal
import struct
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from ct_files import a_chest, a_file, a_series, an_array_file, axial_positions, balls_found, compress, tilted
from numpy.testing import assert_allclose, assert_array_equal

from ct3d.errors import DiskFull, InvalidRequest
from ct3d.imaging.check import check_ct
from ct3d.imaging.files import read_volume, write_labels, write_volume
from ct3d.imaging.volume import Volume
from CT3DAssistantLib.samples import sample_folder

EVEN = [5.0] * 23
SECRETS = ("SECRET", "Doe", "Jane")


def refusal(path: Path, **options) -> str:
    """The message with which a path is refused; it must say what to do and never name the patient."""
    with pytest.raises(InvalidRequest) as caught:
        read_volume(path, **options)
    message = str(caught.value)
    assert message.endswith((".", "?")) and len(message) < 400 and "sitk::" not in message
    assert not any(secret in message for secret in SECRETS)
    return message


def with_header(path: Path, offset: int, kind: str, *values) -> Path:
    """A plain NIfTI file with other values in its header."""
    content = bytearray(path.read_bytes())
    struct.pack_into(kind, content, offset, *values)
    path.write_bytes(content)
    return path


# ---- files that are no volume


def test_a_missing_file_is_refused(tmp_path):
    assert "There is no file or folder" in refusal(tmp_path / "nothing.nii.gz")


@pytest.mark.parametrize("name", ["empty.nii.gz", "empty.nrrd", "empty.mha", "empty.nii"])
def test_an_empty_file_is_refused(name, tmp_path):
    (tmp_path / name).touch()
    assert "is empty" in refusal(tmp_path / name)


def test_an_empty_folder_is_refused(tmp_path):
    assert "no DICOM image" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.004, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["cut.nii.gz", "cut.nii", "cut.nrrd", "cut.mha"])
def test_a_truncated_file_is_refused_and_never_filled_with_zeros(name, share, tmp_path):
    path = a_file(tmp_path, name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "cut short" in refusal(path) or "no image" in refusal(path)


@pytest.mark.parametrize("slope_and_intercept", [(2.0, -24.0), (0.0, 0.0), (float("nan"), 5.0)])
def test_a_nifti_file_of_floats_is_scaled_as_its_header_says(slope_and_intercept, tmp_path):
    chest = a_chest()
    path = a_file(tmp_path, "chest.nii", Volume(chest.array.astype(np.float32), chest.ijk_to_ras))
    volume, _ = read_volume(with_header(path, 112, "<2f", *slope_and_intercept))
    right = chest.array * 2 - 24 if slope_and_intercept[0] == 2 else chest.array  # 0 and NaN mean: as stored
    assert_array_equal(volume.array, right)
    assert_allclose(volume.ijk_to_ras, chest.ijk_to_ras)


def test_a_nifti_file_in_the_other_byte_order_reads_the_same(tmp_path):
    chest = a_chest()
    content = a_file(tmp_path, "chest.nii").read_bytes()
    header = np.frombuffer(content[:352], "u1").copy()
    for start, size, count in [(0, 4, 1), (40, 2, 8), (68, 2, 4), (76, 4, 11), (252, 2, 2), (256, 4, 18)]:
        part = header[start : start + size * count].reshape(count, size)
        part[:] = part[:, ::-1]
    swapped = tmp_path / "swapped.nii"
    swapped.write_bytes(header.tobytes() + np.frombuffer(content[352:], "<i2").astype(">i2").tobytes())
    volume, _ = read_volume(swapped)
    assert_array_equal(volume.array, chest.array)
    assert_allclose(volume.ijk_to_ras, chest.ijk_to_ras)
    assert volume.array.dtype.isnative


def test_a_gzip_file_of_several_pieces_is_whole_all_the_same(tmp_path):
    path = a_file(tmp_path, "whole.nii")
    content = path.read_bytes()
    pieces = tmp_path / "pieces.nii.gz"
    pieces.write_bytes(gzip.compress(content[:5000]) + gzip.compress(content[5000:]))
    assert_array_equal(read_volume(pieces)[0].array, a_chest().array)


@pytest.mark.parametrize("name", ["notes.txt", "notes.nii.gz", "notes.nrrd", "notes.mha", "notes"])
def test_a_file_that_is_no_image_is_refused(name, tmp_path):
    (tmp_path / name).write_text("This is a shopping list, not a CT.\n" * 100)
    assert any(each in refusal(tmp_path / name) for each in ("no image", "cut short", "no NIfTI"))


def test_a_2d_picture_is_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((64, 64), np.uint8)), str(tmp_path / "picture.png"))
    assert "2D picture" in refusal(tmp_path / "picture.png")
    assert "2D picture" in refusal(an_array_file(tmp_path, np.zeros((64, 64), np.int16)))


@pytest.mark.parametrize("slices", [1, 3])
def test_one_slice_or_three_make_no_volume(slices, tmp_path):
    volume = a_chest(size_ijk=(60, 50, slices))
    assert "at least 4 slices" in refusal(an_array_file(tmp_path, volume.array))
    a_series(tmp_path / "dicom", axial_positions(EVEN[: slices - 1]))
    assert "at least 4" in refusal(tmp_path / "dicom")


def test_a_4d_series_is_refused(tmp_path):
    assert "3 volumes (4D)" in refusal(an_array_file(tmp_path, np.stack([a_chest().array] * 3)))


def test_a_fourth_axis_with_one_volume_is_dropped_and_told(tmp_path):
    volume, notes = read_volume(an_array_file(tmp_path, a_chest().array[None], "chest.nrrd"))
    assert volume.array.shape == a_chest().array.shape and "four axes" in notes[0]


def test_a_colour_image_is_refused(tmp_path):
    colour = np.zeros((20, 30, 40, 3), np.uint8)
    assert "colour" in refusal(an_array_file(tmp_path, colour, is_vector=True))


# ---- values that are no HU


@pytest.mark.parametrize("name", ["nan.nii.gz", "nan.nii", "nan.nrrd", "nan.mha"])
def test_a_few_nan_and_infinite_voxels_become_air_and_are_told(name, tmp_path):
    array = a_chest().array.astype(np.float32)
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    volume, notes = read_volume(an_array_file(tmp_path, array, name))
    assert "3 voxels were no numbers" in notes[0]
    assert_array_equal(volume.array[0, 0, :3], -1024)
    assert volume.array.dtype == np.int16


@pytest.mark.parametrize("name", ["nan.nii.gz", "nan.nrrd"])
def test_many_nan_voxels_are_refused(name, tmp_path):
    array = a_chest().array.astype(np.float32)
    array[:6] = np.nan
    assert "25% of the voxels are no numbers" in refusal(an_array_file(tmp_path, array, name))


@pytest.mark.parametrize("value", [0, -1000])
def test_a_volume_of_one_value_is_refused(value, tmp_path):
    assert "Every voxel" in refusal(an_array_file(tmp_path, np.full((24, 50, 60), value, np.int16)))


@pytest.mark.parametrize("scale", [0.001, 1.0, 3.0, 8.0, 40.0])
def test_mr_like_intensities_of_any_scale_are_refused(scale, tmp_path):
    rng = np.random.default_rng(0)
    tissue = (a_chest().array > -500) * rng.gamma(9, 35, a_chest().array.shape)
    array = np.abs(tissue + rng.normal(0, 8, tissue.shape)) * scale
    message = refusal(an_array_file(tmp_path, array.astype(np.float32)))
    assert "doesn't look like CT in HU" in message and "Choose a CT" in message


@pytest.mark.parametrize("scale", np.geomspace(0.1, 60, 12).round(2))
def test_a_real_mr_is_refused_at_any_scale(scale, tmp_path):
    path = sample_folder() / "dicom2stl" / "mri_t1_example.nii.gz"
    if not path.is_file():
        pytest.skip("the sample dicom2stl has not been fetched: ct3d-assistant sample dicom2stl")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[:, ::2, ::2]
    assert "doesn't look like CT" in refusal(an_array_file(tmp_path, (array * scale).astype(np.float32)))


def test_a_ct_windowed_to_256_greys_is_refused(tmp_path):
    greys = ((a_chest().array.clip(-160, 240) + 160) / 400 * 255).astype(np.uint8)
    assert "doesn't look like CT in HU" in refusal(an_array_file(tmp_path, greys))


def test_a_label_map_is_refused(tmp_path):
    assert "doesn't look like CT in HU" in refusal(
        an_array_file(tmp_path, (a_chest().array > 0).astype(np.uint8))
    )


def test_16_bit_ct_without_its_rescale_is_shifted_to_hu_and_told(tmp_path):
    chest = a_chest(spacing_ijk=(2.0, 2.0, 5.0), size_ijk=(100, 70, 24))
    stored = (chest.array + 1024).clip(0).astype(np.uint16)
    volume, notes = read_volume(an_array_file(tmp_path, stored))
    assert "1024 was subtracted" in notes[0]
    assert_array_equal(volume.array, chest.array.clip(-1024))


def test_dicom_without_rescale_is_shifted_to_hu_and_told(tmp_path):
    plain, _ = read_volume(a_series(tmp_path / "a", axial_positions(EVEN)))
    volume, notes = read_volume(a_series(tmp_path / "b", axial_positions(EVEN), intercept=None))
    assert "1024 was subtracted" in notes[0]
    assert_array_equal(volume.array, plain.array)


def test_the_same_gate_stands_before_volumes_that_come_from_no_file():
    chest = a_chest()
    assert check_ct(chest) == ()
    with pytest.raises(InvalidRequest, match="doesn't look like CT"):
        check_ct(Volume(np.abs(chest.array), chest.ijk_to_ras))
    with pytest.raises(InvalidRequest, match="Subtract 1024"):
        check_ct(Volume((chest.array + 1024).clip(0), chest.ijk_to_ras))
    with pytest.raises(InvalidRequest, match="no numbers"):
        check_ct(Volume(np.where(chest.array > 500, np.nan, chest.array), chest.ijk_to_ras))


def test_every_real_ct_of_the_samples_passes_the_gate():
    names = ["slicerio/CTChest4.nrrd", "dicom2stl/ct_example.nii.gz", "totalsegmentator/example_ct_sm.nii.gz"]
    paths = [sample_folder() / name for name in names if (sample_folder() / name).is_file()]
    if not paths:
        pytest.skip("no sample has been fetched: ct3d-assistant sample --all")
    for path in paths:
        volume, notes = read_volume(path)
        assert notes == () and volume.array.dtype == np.int16


# ---- grids that can't be right


@pytest.mark.parametrize("spacing", [0.0, -4.0, 100.0, float("nan"), 1e-6])
def test_a_wrong_voxel_spacing_is_refused(spacing, tmp_path):
    path = a_file(tmp_path, "chest.nii")
    with_header(path, 252, "<hh", 0, 0)  # no qform, no sform: spacing alone
    assert "spacing" in refusal(with_header(path, 80, "<f", spacing))


@pytest.mark.parametrize("spacing", ["0 4 5", "-4 4 5", "100 4 5", "nan 4 5"])
def test_a_wrong_voxel_spacing_in_a_meta_header_is_refused(spacing, tmp_path):
    image = sitk.GetImageFromArray(a_chest().array)
    sitk.WriteImage(image, str(tmp_path / "chest.mhd"))
    header = (tmp_path / "chest.mhd").read_text().splitlines()
    lines = [f"ElementSpacing = {spacing}" if line.startswith("ElementSpacing") else line for line in header]
    (tmp_path / "chest.mhd").write_text("\n".join(lines))
    assert "spacing" in refusal(tmp_path / "chest.mhd")


@pytest.mark.parametrize(
    "directions", ["(4,0,0) (4,0.001,0) (0,0,5)", "(0,0,0) (0,4,0) (0,0,5)", "(4,0,0) (0,4,0) (0,400,5)"]
)
def test_axes_that_almost_coincide_are_refused(directions, tmp_path):
    path = with_directions(a_file(tmp_path, "chest.nrrd"), directions)
    assert any(each in refusal(path) for each in ("axes", "spacing"))


def test_a_sheared_grid_is_resampled_to_a_straight_one_and_told(tmp_path):
    tilt = np.radians(18.5)
    sheared = a_chest(direction=[[1, 0, 0], [0, np.cos(tilt), 0], [0, np.sin(tilt), 1]])
    path = a_file(tmp_path, "chest.nrrd", Volume(sheared.array, a_chest().ijk_to_ras))
    columns = (sheared.ijk_to_ras[:3, :3] * [[-1], [-1], [1]]).T
    with_directions(path, " ".join(f"({','.join(map(str, column))})" for column in columns))
    with_origin(path, sheared.ijk_to_ras[:3, 3] * (-1, -1, 1))
    volume, notes = read_volume(path)
    assert "weren't square" in notes[0]
    assert_allclose(balls_found(volume), balls_found(sheared), atol=2.5)


def with_directions(path: Path, directions: str) -> Path:
    return with_line(path, b"space directions:", directions)


def with_origin(path: Path, origin) -> Path:
    return with_line(path, b"space origin:", f"({','.join(map(str, origin))})")


def with_line(path: Path, key: bytes, value: str) -> Path:
    header, voxels = path.read_bytes().split(b"\n\n", 1)
    lines = [key + b" " + value.encode() if line.startswith(key) else line for line in header.split(b"\n")]
    path.write_bytes(b"\n".join(lines) + b"\n\n" + voxels)
    return path


def test_a_header_that_says_more_than_memory_holds_is_refused_before_it_is_read(tmp_path):
    path = a_file(tmp_path, "chest.nrrd")
    with_line(path, b"sizes:", "2048 2048 2000")
    assert "MB of memory" in refusal(path, memory_limit_mb=8000)
    assert "MB of memory" in refusal(a_file(tmp_path, "small.nii.gz"), memory_limit_mb=0.1)


def test_a_nifti_header_of_absurd_size_is_refused_before_it_is_read(tmp_path):
    path = with_header(a_file(tmp_path, "chest.nii"), 40, "<4h", 3, 30000, 30000, 30000)
    assert "cut short" in refusal(path)


def test_a_series_of_2000_slices_beyond_memory_is_refused_by_its_headers(tmp_path):
    a_series(tmp_path, axial_positions([0.5] * 39), shape=(8, 8), Rows=512, Columns=512)
    needed = 40 * 512 * 512 * 6 / 2**20
    assert f"needs {needed:.0f} MB of memory" in refusal(tmp_path, memory_limit_mb=needed / 2)


@pytest.mark.parametrize("name", ["oblique.nii.gz", "oblique.nrrd", "oblique.mha"])
def test_an_oblique_and_an_upside_down_volume_keep_their_places(name, tmp_path):
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    for direction in (turn, np.diag([-1.0, -1.0, -1.0]), np.diag([1.0, 1.0, -1.0])):
        chest = a_chest(direction=direction, size_ijk=(60, 60, 48))
        volume, notes = read_volume(a_file(tmp_path, name, chest))
        assert_allclose(volume.ijk_to_ras, chest.ijk_to_ras, atol=1e-4)
        assert_array_equal(volume.array, chest.array)
        assert notes == ()


# ---- DICOM folders


def test_a_folder_of_two_patients_is_refused_without_naming_them(tmp_path):
    a_series(tmp_path / "a", axial_positions(EVEN))
    a_series(tmp_path / "b", axial_positions(EVEN), PatientID="SECRET-8")
    assert "more than one patient" in refusal(tmp_path)
    assert read_volume(tmp_path, series=0)[0].array.shape[0] == 24  # chosen by hand, one of them is fine


def test_two_patients_in_one_series_are_refused_without_naming_them(tmp_path):
    a_series(tmp_path, axial_positions(EVEN), PatientID=lambda n: f"SECRET-{n // 12}")
    assert "more than one patient" in refusal(tmp_path)
    assert "more than one patient" in refusal(tmp_path, series=0)


def test_two_frames_of_reference_in_one_series_are_refused(tmp_path):
    a_series(tmp_path, axial_positions(EVEN), FrameOfReferenceUID=lambda n: f"1.2.{n // 12}")
    assert "more than one frame of reference" in refusal(tmp_path)


def test_missing_slices_are_refused_with_their_place(tmp_path):
    assert "3 slices of this series are missing between S -40.0 and -20.0 mm" in refusal(
        a_series(tmp_path, axial_positions([5.0] * 4 + [20.0] + [5.0] * 12))
    )


def test_a_tilted_gantry_gives_a_straight_volume_and_is_told(tmp_path):
    a_series(tmp_path, axial_positions(EVEN), orientation=tilted(12.0))
    assert "Gantry tilt of 12.0 degrees" in read_volume(tmp_path)[1][0]


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_series_with_a_truncated_slice_is_refused(share, tmp_path):
    a_series(tmp_path, axial_positions(EVEN))
    path = sorted(tmp_path.iterdir())[5]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "cut short" in refusal(tmp_path)


def test_a_compressed_slice_that_is_damaged_is_refused(tmp_path):
    a_series(tmp_path, axial_positions([5.0] * 6))
    compress(tmp_path, "JPEG2000")
    path = sorted(tmp_path.iterdir())[2]
    ds = pydicom.dcmread(path)
    ds.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f" + b"\0" * 500])
    ds.save_as(path)
    assert "JPEG 2000" in refusal(tmp_path)


def test_a_transfer_syntax_nobody_here_decodes_is_refused_by_name(tmp_path):
    a_series(tmp_path, axial_positions([5.0] * 6))
    for path in tmp_path.iterdir():
        ds = pydicom.dcmread(path)
        ds.PixelData = pydicom.encaps.encapsulate([b"\0\0\1\xb3" + b"\0" * 500])
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
        ds.save_as(path)
    assert "MPEG2" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "MR"}, "no CT series"),
        ({"SamplesPerPixel": 3}, "colour"),
        ({"NumberOfFrames": 30}, "multi-frame"),
        ({"ImagePositionPatient": [0, 0, 0]}, "different images of one place"),
        ({"PixelSpacing": [100.0, 100.0]}, "spacing"),
        ({"PixelSpacing": [0.0, 0.0]}, "place in space"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "place in space"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "place in space"),
        ({"ImagePositionPatient": None}, "place in space"),
        ({"ImagePositionPatient": [0.0, 0.0]}, "place in space"),
        ({"PixelSpacing": 3.0}, "place in space"),
    ],
)
def test_a_series_whose_headers_make_no_ct_volume_is_refused(tags, reason, tmp_path):
    assert reason in refusal(a_series(tmp_path, axial_positions([5.0] * 6), **tags))


# ---- paths and folders


@pytest.mark.parametrize("name", ["Ärzte – пациент 患者", "with  spaces and 'quotes'"])
def test_unicode_and_spaces_in_paths_are_nothing_special(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        assert_array_equal(read_volume(a_file(folder, name + suffix))[0].array, a_chest().array)
    a_series(folder / "dicom", axial_positions([5.0] * 5))
    assert read_volume(folder / "dicom")[0].array.shape[0] == 6


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = a_file(tmp_path)
    path.chmod(0)
    assert "may not be read" in refusal(path)


@pytest.mark.parametrize("place", ["gone/chest.nii.gz", "a_file/chest.nii.gz"])
def test_a_folder_that_can_not_be_written_is_told(place, tmp_path):
    (tmp_path / "a_file").write_text("no folder")
    with pytest.raises(DiskFull, match="can't be written"):
        write_volume(tmp_path / place, a_chest())


@contextmanager
def a_full_disk():
    """No file of this process may grow beyond 3 kB; pytest's own log neither, so nothing may be printed."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, was)


@pytest.mark.parametrize("name", ["chest.nii.gz", "chest.nii", "chest.nrrd", "chest.mha"])
def test_a_full_disk_is_told_and_the_file_that_was_there_stays(name, tmp_path):
    (tmp_path / name).write_text("the old one")
    with a_full_disk(), pytest.raises(DiskFull, match="full"):
        write_volume(tmp_path / name, a_chest())
    assert (tmp_path / name).read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_labels_come_back_from_a_file_on_the_same_grid(tmp_path):
    turn, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    chest = a_chest(direction=turn)
    labels = (chest.array > 0).astype(np.uint8)
    write_labels(tmp_path / "labels.nii.gz", labels, chest.ijk_to_ras)
    image = sitk.ReadImage(str(tmp_path / "labels.nii.gz"))
    assert_array_equal(sitk.GetArrayFromImage(image), labels)
    assert_allclose(np.array(image.GetOrigin()) * (-1, -1, 1), chest.ijk_to_ras[:3, 3], atol=1e-3)


def test_an_ending_that_is_not_written_here_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="no ending"):
        write_volume(tmp_path / "chest.docx", a_chest())
