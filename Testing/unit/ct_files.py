"""CT phantoms and the files that tests make of them: a chest with known places in RAS, DICOM series."""

import random
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ct3d.imaging.files import write_volume
from ct3d.imaging.volume import Volume, ras_from_kji

BALLS_RAS = np.array([[30.0, 12.0, -18.0], [-28.0, 20.0, 14.0], [4.0, -30.0, 22.0]])
BALL_RADIUS_MM = 11.0
BALL_HU = (600, 900, 1200)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def chest_hu(points_ras: np.ndarray) -> np.ndarray:
    """HU of a made-up chest at points (..., 3) in RAS mm: air, fat, muscle, lungs, three bright balls."""
    r, a, s = np.moveaxis(points_ras, -1, 0)
    noise = np.sin(r * 12.9898 + a * 78.233 + s * 37.719) * 15  # the same at the same place
    hu = np.full(r.shape, -1000.0)
    inside = (r / 90) ** 2 + (a / 65) ** 2
    hu[inside < 1] = -100
    hu[inside < 0.8] = 50
    hu[(np.abs(np.abs(r) - 45) / 28) ** 2 + (a / 40) ** 2 < 1] = -850
    for centre, bright in zip(BALLS_RAS, BALL_HU):
        hu[((points_ras - centre) ** 2).sum(axis=-1) < BALL_RADIUS_MM**2] = bright
    return np.rint(hu + noise)


def balls_found(volume: Volume) -> np.ndarray:
    """Centres (3, 3) in RAS mm of the bright balls of a chest phantom, as they are seen in a volume."""
    low, high = np.array(BALL_HU) - 120, np.array(BALL_HU) + 120
    centres = []
    for centre, lowest, highest in zip(BALLS_RAS, low, high):
        places = ras_from_kji(
            np.argwhere((volume.array > lowest) & (volume.array < highest)), volume.ijk_to_ras
        )
        near = places[np.linalg.norm(places - centre, axis=1) < 2 * BALL_RADIUS_MM]
        centres.append(near.mean(axis=0))
    return np.array(centres)


def a_chest(
    direction=((1, 0, 0), (0, 1, 0), (0, 0, 1)), spacing_ijk=(4.0, 4.0, 5.0), size_ijk=(60, 50, 24)
) -> Volume:
    """A chest phantom on a grid centred at the origin of RAS."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(direction) * spacing_ijk
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(size_ijk) - 1) / 2)
    places = ras_from_kji(np.moveaxis(np.indices(size_ijk[::-1]), 0, -1), affine)
    return Volume(chest_hu(places).astype(np.int16), affine)


def a_file(folder: Path, name: str = "chest.nii.gz", volume: Volume | None = None) -> Path:
    write_volume(folder / name, volume or a_chest())
    return folder / name


def an_array_file(
    folder: Path, array: np.ndarray, name: str = "chest.nii.gz", *, is_vector: bool = False
) -> Path:
    """Any array, written as it is, 4 x 4 x 5 mm."""
    image = sitk.GetImageFromArray(array, isVector=is_vector)
    image.SetSpacing([4.0, 4.0, 5.0, 1.0][: image.GetDimension()])
    sitk.WriteImage(image, str(folder / name))
    return folder / name


def axial_positions(gaps_mm, first=(-110.0, -90.0, -60.0)) -> np.ndarray:
    """ImagePositionPatient (N, 3) of slices between which the table moves by these gaps."""
    z = np.concatenate([[0.0], np.cumsum(gaps_mm)])
    return np.array(first) + z[:, None] * [0.0, 0.0, 1.0]


def tilted(degrees: float) -> tuple[float, ...]:
    """ImageOrientationPatient of a gantry tilted about the patient's left-right axis."""
    t = np.radians(degrees)
    return 1.0, 0.0, 0.0, 0.0, float(np.cos(t)), float(-np.sin(t))


def a_series(
    folder: Path,
    positions: np.ndarray,
    *,
    orientation=AXIAL,
    shape=(56, 60),
    spacing_ji_mm=(3.5, 3.7),
    intercept: int | None = -1024,
    seed: int = 0,
    hu_at=chest_hu,
    **tags,
) -> Path:
    """A CT series of the chest phantom, every slice sampled where its header says; file names are shuffled.

    Args:
        positions: (N, 3) ImagePositionPatient, LPS mm.
        intercept: of the rescale; None leaves the rescale out and stores HU + 1024.
        hu_at: HU at points in RAS mm.
        tags: DICOM attributes that replace the usual ones; a callable is given the slice's number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    names = rng.sample(range(10_000), len(positions))
    usual = {
        "SeriesInstanceUID": generate_uid(entropy_srcs=[str(folder), str(seed)]),
        "FrameOfReferenceUID": generate_uid(entropy_srcs=["frame", str(folder)]),
        "PatientID": "SECRET-7",
        "PatientName": "Doe^Jane",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    }
    i_axis, j_axis = np.array(orientation).reshape(2, 3)
    rows, columns = shape
    for n, position in enumerate(positions):
        j, i = np.mgrid[:rows, :columns]
        lps = position + i[..., None] * i_axis * spacing_ji_mm[1] + j[..., None] * j_axis * spacing_ji_mm[0]
        hu = hu_at(lps * (-1, -1, 1))
        each = {key: value(n) if callable(value) else value for key, value in {**usual, **tags}.items()}
        a_slice(folder / f"{names[n]:05}.dcm", hu, position, orientation, spacing_ji_mm, intercept, each)
    return folder


def a_slice(path, hu, position, orientation, spacing_ji_mm, intercept, tags) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["study"])
    ds.ImagePositionPatient = [f"{each:.6f}" for each in position]
    ds.ImageOrientationPatient = [f"{each:.8f}" for each in orientation]
    ds.PixelSpacing = list(spacing_ji_mm)
    ds.SliceThickness = 5
    ds.Rows, ds.Columns = hu.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    if intercept is not None:
        ds.RescaleIntercept, ds.RescaleSlope = intercept, 1
    stored = hu - (-1024 if intercept is None else intercept)
    ds.PixelData = stored.astype(np.uint16).tobytes()
    for key, value in tags.items():
        setattr(ds, key, value)
    ds.save_as(path, enforce_file_format=True)


def compress(folder: Path, compressor: str) -> None:
    """Store every slice of a folder in GDCM's "JPEG" (lossless) or "JPEG2000", or a transfer syntax uid."""
    for path in folder.glob("*.dcm"):
        ds = pydicom.dcmread(path)
        if compressor.startswith("1."):
            ds.compress(compressor, generate_instance_uid=False)
        else:
            other = _by_gdcm(ds, path.with_suffix(".tmp.dcm"), compressor)
            ds.PixelData = other.PixelData
            ds["PixelData"].is_undefined_length = True
            ds.file_meta.TransferSyntaxUID = other.file_meta.TransferSyntaxUID
        ds.save_as(path)


def _by_gdcm(ds, path, compressor):
    image = sitk.GetImageFromArray(ds.pixel_array[None])
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.SetFileName(str(path))
    writer.Execute(image)
    other = pydicom.dcmread(path)
    path.unlink()
    return other
