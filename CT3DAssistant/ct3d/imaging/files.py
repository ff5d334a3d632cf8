"""CT volumes from files and back: NIfTI, NRRD, MHA, MHD, and DICOM through `dicom`. Outside all is RAS."""

import errno
import math
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ct3d.errors import DiskFull, InvalidRequest
from ct3d.imaging.check import SAMPLE, SHEAR, check_ct, check_grid, is_shifted_ct, largest_shear
from ct3d.imaging.dicom import Series, is_dicom, list_series, read_series
from ct3d.imaging.nifti import check_nifti
from ct3d.imaging.resample import AIR_HU, resample
from ct3d.imaging.stack import LPS_TO_RAS
from ct3d.imaging.volume import Volume

__all__ = ["Series", "list_series", "read_volume", "write_labels", "write_volume"]

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
LARGEST_SHEAR = 0.6  # cosine (37 degrees from square): more than any gantry tilts
NAN_SHARE = 0.05  # of the voxels that may be no number and are taken for air
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR}
CHOOSE = "Choose a CT as NIfTI, NRRD, MHA or a DICOM folder."


def read_volume(
    path: str | Path, *, series: int | str | None = None, memory_limit_mb: float | None = None
) -> tuple[Volume, tuple[str, ...]]:
    """A CT volume in HU, int16 where its values are whole numbers (else float32), and what had to be mended.

    Args:
        path: a NIfTI, NRRD, MHA or MHD file, a DICOM folder, or one file of a DICOM series.
        series: of a DICOM folder with several: the number in `list_series`, or the uid.
        memory_limit_mb: what the voxels may take; None: what is free on this machine.

    Raises:
        InvalidRequest: with what is wrong and what to do; a size beyond memory is refused before it is read.
    """
    path = Path(path)
    limit_mb = free_memory_mb() if memory_limit_mb is None else memory_limit_mb
    if not path.exists():
        raise InvalidRequest(f"There is no file or folder {path}. Check the path.")
    if not os.access(path, os.R_OK):
        raise InvalidRequest(f"{path} may not be read by this user. Change its permissions.")
    if path.is_dir() or (not path.name.lower().endswith(SUFFIXES) and is_dicom(path)):
        volume, notes = read_series(path, series=series, limit_mb=limit_mb)
        check_grid(volume.array.shape, volume.ijk_to_ras)
    else:
        volume, notes = _read_file(path, limit_mb)
    volume, more = _mended(volume)
    return volume, (*notes, *more, *check_ct(volume))


def ending_of(name: str) -> str:
    """Which of SUFFIXES a file's name has, the longest that fits; "" for none."""
    longest_first = sorted(SUFFIXES, key=len, reverse=True)
    return next((each for each in longest_first if name.lower().endswith(each)), "")


def write_volume(path: str | Path, volume: Volume) -> None:
    """Write a volume as NIfTI, NRRD or MHA, compressed, by the ending of its name; replaces the file at once.

    Raises:
        InvalidRequest: an ending that isn't written here, or axes that aren't square.
        DiskFull: if the folder can't take it; a file that was there before stays as it was.
    """
    path = Path(path)
    ending = ending_of(path.name)
    if ending not in (".nii", ".nii.gz", ".nrrd", ".mha"):
        raise InvalidRequest(f"{path.name} has no ending that can be written. Use .nii.gz, .nrrd or .mha.")
    image = _image_of(volume)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".ct3d-") as folder:
            part = Path(folder) / f"volume{ending}"
            with _quiet():
                sitk.WriteImage(image, str(part), ending != ".nii")
            if ending.startswith(".nii"):
                check_nifti(part)  # ITK doesn't say when a full disk cut the file
            part.replace(path)
    except (OSError, RuntimeError, InvalidRequest) as error:
        if isinstance(error, OSError) and error.errno not in NO_ROOM:
            raise
        raise DiskFull(
            f"{path} can't be written: its folder is full, read-only or gone. Choose another."
        ) from error


def write_labels(path: str | Path, array_kji: np.ndarray, ijk_to_ras: np.ndarray) -> None:
    """Write a label map; as `write_volume`."""
    write_volume(path, Volume(array_kji, ijk_to_ras))


def free_memory_mb() -> float | None:
    """Memory that this machine can give without swapping; None where it doesn't say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = (line.split() for line in meminfo.read_text().splitlines())
        return next((int(line[1]) / 1024 for line in lines if line[0] == "MemAvailable:"), None)
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20 / 2
    return None


def _read_file(path, limit_mb):
    if path.stat().st_size == 0:
        raise InvalidRequest(f"{path} is empty. Copy or export it again.")
    nifti = check_nifti(path) if path.name.lower().endswith((".nii", ".nii.gz")) else None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _quiet():
            reader.ReadImageInformation()
            notes = _check_header(reader, limit_mb)
            if nifti and nifti.voxel.kind in "iuf" and reader.GetDimension() == 3:
                return Volume(nifti.voxels(), _ijk_to_ras(reader)), notes
            image = reader.Execute()
    except RuntimeError as error:
        raise InvalidRequest(_reason(path, str(error))) from error
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    return Volume(sitk.GetArrayFromImage(image), _ijk_to_ras(image)), notes


def _reason(path, message):
    """What SimpleITK's refusal means, without its own words, which may hold other paths."""
    if "determine ImageIO" in message:
        return f"{path} is no image that can be read. {CHOOSE}"
    if "orthonormal" in message or "direction" in message:
        return (
            f"The axes in the header of {path} aren't square to each other or missing. Export the CT again."
        )
    if "spacing" in message:
        return f"The voxel spacing in the header of {path} can't be right. Mend it or export the CT again."
    return f"{path} is cut short or damaged. Copy or export it again."


def _check_header(reader, limit_mb):
    """Judge what the header says, before any voxel is read."""
    size, dimension = reader.GetSize(), reader.GetDimension()
    if reader.GetNumberOfComponents() > 1:
        raise InvalidRequest(f"This is a colour or vector image, not a CT. {CHOOSE}")
    if dimension == 2:
        raise InvalidRequest(f"This is a single 2D picture, not a volume. {CHOOSE}")
    notes: tuple[str, ...] = ()
    if dimension == 4 and size[3] == 1:
        notes = ("The file has four axes, the last with one volume: taken as three.",)
    elif dimension > 3:
        raise InvalidRequest(f"This is a series of {size[-1]} volumes (4D). Split it and choose one volume.")
    if min(reader.GetSpacing()[:3]) <= 0:
        raise InvalidRequest("The voxel spacing in this header is zero or negative. Export the CT again.")
    affine = _ijk_to_ras(reader)
    if (shear := largest_shear(affine)) > LARGEST_SHEAR or not math.isfinite(shear):
        raise InvalidRequest("The axes in this header almost coincide. Mend it or export the CT again.")
    _check_memory(size, limit_mb)
    check_grid(size[2::-1], _squared(affine))
    return notes


def _check_memory(size, limit_mb):
    needed_mb = math.prod(size) * 8 / 2**20  # as read (up to float32), as int16, and some to work
    if limit_mb is not None and needed_mb > limit_mb:
        raise InvalidRequest(
            f"This volume of {' x '.join(str(n) for n in size)} voxels needs {needed_mb:.0f} MB of memory, "
            f"{limit_mb:.0f} MB are free. Crop it, choose thicker slices, or use a machine with more memory."
        )


def _squared(ijk_to_ras):
    """The affine with its lengths but square axes, to judge sizes alone."""
    return np.diag([*np.linalg.norm(ijk_to_ras[:3, :3], axis=0), 1])


def _ijk_to_ras(image):
    dimension = image.GetDimension()
    ijk_to_lps = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:3, :3]
    ijk_to_lps[:3, :3] = direction * image.GetSpacing()[:3]
    ijk_to_lps[:3, 3] = image.GetOrigin()[:3]
    return LPS_TO_RAS @ ijk_to_lps


def _image_of(volume):
    if largest_shear(volume.ijk_to_ras) > SHEAR:
        raise InvalidRequest(
            "This grid's axes aren't square; files can't hold it. Resample the volume first."
        )
    ijk_to_lps = LPS_TO_RAS @ volume.ijk_to_ras
    spacing = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((ijk_to_lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(ijk_to_lps[:3, 3].tolist())
    return image


def _mended(volume):
    """Values that can be put right without a doubt are; each mend is told."""
    array, notes = volume.array, []
    if array.dtype.kind == "f":
        array, more = _finite(array)
        notes += more
    array = _compact(array)
    step = max(1, round((array.size / SAMPLE) ** (1 / 3)))
    if array.min() >= 0 and is_shifted_ct(array[::step, ::step, ::step].ravel()):
        array = (array - 1024).astype(array.dtype if array.dtype.kind != "u" else np.int16)
        notes.append("Values were HU + 1024 (16-bit CT without its rescale): 1024 was subtracted.")
    volume = Volume(array, volume.ijk_to_ras)
    if largest_shear(volume.ijk_to_ras) > SHEAR:
        notes.append("The grid's axes weren't square (sheared): resampled to a straight grid.")
        volume = resample(volume, orientation=volume.orientation)
    return volume, tuple(notes)


def _finite(array):
    is_number = np.isfinite(array)
    lost = array.size - np.count_nonzero(is_number)
    if not lost:
        return array, []
    if lost > NAN_SHARE * array.size:
        raise InvalidRequest(
            f"{lost / array.size:.0%} of the voxels are no numbers (NaN or infinite). Export the CT again."
        )
    return np.where(is_number, array, array.dtype.type(AIR_HU)), [
        f"{lost} voxels were no numbers: taken as air."
    ]


def _compact(array):
    """int16 where that changes no value, else float32."""
    if array.dtype == np.int16:
        return array
    if array.min() >= -32768 and array.max() <= 32767:
        small = array.astype(np.int16)
        if array.dtype.kind in "iu" or all(map(np.array_equal, small, array)):
            return small
    return array.astype(np.float32)


@contextmanager
def _quiet():
    """ITK's warnings, which name paths, kept off the terminal; what matters of them is checked here."""
    was_on = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(was_on)
