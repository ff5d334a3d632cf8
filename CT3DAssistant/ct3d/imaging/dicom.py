"""DICOM folders: which series they hold, and one CT series as a volume.

Slices are ordered by ImagePositionPatient along the slice normal, never by name or number. What doesn't
belong to the stack is left out and told; what makes two volumes is refused. Nothing about a patient
leaves this file.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ct3d.errors import InvalidRequest
from ct3d.imaging.stack import Slice, pixels, stacked
from ct3d.imaging.volume import Volume

FEWEST_SLICES = 4
TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "PatientID",
    "PatientName",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "ConvolutionKernel",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "LossyImageCompression",
]


@dataclass(frozen=True)
class Series:
    """One series of a folder, described by technical facts alone."""

    uid: str
    description: str  # "CT, 64 slices of 512 x 512, 5 mm apart"
    slices: int
    modality: str
    spacing_kji_mm: tuple[float, float, float] | None  # None: no image, or no place in space


def list_series(folder: Path) -> tuple[Series, ...]:
    """The series of a folder and its subfolders, the largest first.

    Raises:
        InvalidRequest: if there is no DICOM file in it.
    """
    return tuple(_described(slices) for slices in _series_of(_headers(Path(folder)), folder))


def read_series(
    path: Path, *, series: int | str | None = None, limit_mb: float | None = None
) -> tuple[Volume, tuple[str, ...]]:
    """One CT series as a volume, and what had to be mended to get it.

    Args:
        path: a folder with its subfolders, or one file of the series in its folder. series: its place in
        `list_series` or its uid; None takes the only CT series with at least four slices. limit_mb: memory
        that the voxels may take.

    Raises:
        InvalidRequest: no such series, several to choose from, two patients, or slices that make no volume.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    found = _series_of(_headers(folder, is_deep=path.is_dir()), folder)
    if path.is_dir():
        chosen, notes = _chosen(found, series)
    else:
        chosen, notes = next((each for each in found if any(one.path == path for one in each)), []), ()
    if not chosen:
        raise InvalidRequest(f"{path} is no DICOM image that can be read. Choose the folder of a CT series.")
    slices, more = _stackable(chosen)
    _check_size(slices, limit_mb)
    volume, still_more = stacked(slices)
    return volume, (*notes, *more, *still_more)


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do, with or without their preamble."""
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or start[:2] == b"\x08\x00"


def _headers(folder: Path, is_deep: bool = True) -> Iterator[Slice]:
    import pydicom  # here, so that the rest of imaging works where there is no pydicom (the worker)

    for path in sorted(folder.rglob("*") if is_deep else folder.glob("*")):
        try:
            if not path.is_file() or not is_dicom(path):
                continue
            with warnings.catch_warnings(action="ignore"):  # they quote values, which may be a patient's
                header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=TAGS)
                is_image = "Modality" in header and "SOPClassUID" in header  # no DICOMDIR, not cut short
        except (OSError, ValueError, EOFError, KeyError, AttributeError, NotImplementedError):
            continue  # not readable, or cut within its header; the gap it leaves is found by position
        if is_image:
            yield Slice(path, header)


def _series_of(headers, folder):
    series = defaultdict(list)
    for one in headers:
        series[one.series_uid].append(one)
    if not series:
        raise InvalidRequest(f"There is no DICOM image in {folder}. Choose the folder of a CT series.")
    return sorted(series.values(), key=lambda slices: (-len(slices), slices[0].series_uid))


def _described(slices):
    header = slices[0].header
    modality = str(header.get("Modality", "unknown"))
    text = f"{modality}, {len(slices)} image{'s' * (len(slices) > 1)}"
    if "Rows" in header:
        text += f" of {header.Columns} x {header.Rows}"
    placed = [one for one in slices if _has_place(one)]
    spacing = None
    if len(placed) > 1:
        depths = sorted(one.position @ placed[0].axes[2] for one in placed)
        gap = float(np.median(np.diff(depths)))
        row, column = (float(each) for each in placed[0].spacing_ij_mm[::-1])
        spacing = (gap, row, column)
        text += f", {gap:.3g} mm apart"
    if kernel := header.get("ConvolutionKernel"):
        text += f", kernel {kernel if isinstance(kernel, str) else kernel[0]}"
    return Series(slices[0].series_uid, text, len(slices), modality, spacing)


def _has_place(one):
    """Whether the header says where the image lies: a corner, two square directions and a pixel size."""
    try:
        cosines = np.array(one.header.ImageOrientationPatient, float).reshape(2, 3)
        is_square = np.allclose(cosines @ cosines.T, np.eye(2), atol=1e-2)
        is_placed = one.position.shape == (3,) and np.isfinite(one.position).all()
        return is_square and is_placed and one.spacing_ij_mm.shape == (2,) and min(one.spacing_ij_mm) > 0
    except (AttributeError, TypeError, ValueError, IndexError):  # not there, empty, or no numbers
        return False


def _chosen(found, series):
    if series is not None:
        by_name = {slices[0].series_uid: slices for slices in found}
        by_name |= {str(n): slices for n, slices in enumerate(found)}
        if str(series) not in by_name:
            raise InvalidRequest(f"There is no series {series} in this folder. {_menu(found)}")
        return by_name[str(series)], ()
    large = [each for each in found if each[0].header.get("Modality") == "CT" and len(each) >= FEWEST_SLICES]
    if len({_patient(one) for each in large for one in each}) > 1:
        raise InvalidRequest(f"This folder holds images of more than one patient. {_menu(found)}")
    if len(large) > 1:
        raise InvalidRequest(f"This folder holds {len(large)} CT series. {_menu(found)}")
    if not large and any(_is_multiframe(one) for each in found for one in each):
        return next(each for each in found if _is_multiframe(each[0])), ()  # refused with its own reason
    if not large:
        raise InvalidRequest(
            f"This folder holds no CT series of at least {FEWEST_SLICES} slices. It holds: {_listed(found)}. "
            "Choose the folder of a CT."
        )
    others = len(found) - 1
    note = f"Took the only CT series with at least {FEWEST_SLICES} slices; {others} other series left aside."
    return large[0], (note,) if others else ()


def _menu(found):
    return f"Choose one by its number: {_listed(found)}."


def _listed(found):
    return "; ".join(f"{n}: {_described(slices).description}" for n, slices in enumerate(found))


def _patient(one):
    return str(one.header.get("PatientID", "")), str(one.header.get("PatientName", ""))


def _is_multiframe(one):
    return int(one.header.get("NumberOfFrames") or 1) > 1


def _stackable(slices):
    """The slices of one series that form one stack, in order along the normal."""
    header = slices[0].header
    if (modality := str(header.get("Modality", "unknown"))) != "CT":
        raise InvalidRequest(f"This series is {modality}, not CT. Choose a CT series.")
    if any(_is_multiframe(one) for one in slices):
        raise InvalidRequest("This is a multi-frame DICOM file. Export it as single slices, NIfTI or NRRD.")
    if any(int(one.header.get("SamplesPerPixel", 1)) > 1 for one in slices):
        raise InvalidRequest(
            "This series holds colour pictures, not CT slices. Choose the original CT series."
        )
    placed = [one for one in slices if _has_place(one) and "LOCALIZER" not in one.header.get("ImageType", [])]
    notes = _left_out(len(slices) - len(placed), "without a place in space (scouts, screen captures)")
    if not placed:
        raise InvalidRequest(
            "The images of this series have no place in space. Choose the original CT series."
        )
    if len({_patient(one) for one in placed}) > 1:
        raise InvalidRequest(
            "This series holds images of more than one patient. Choose a folder with one CT."
        )
    if len({str(one.header.get("FrameOfReferenceUID", "")) for one in placed}) > 1:
        raise InvalidRequest(
            "This series holds images of more than one frame of reference, which make no volume together. "
            "Choose a folder with one CT."
        )
    kinds = Counter(one.kind for one in placed)
    kind, _ = kinds.most_common(1)[0]
    if any(count >= FEWEST_SLICES for other, count in kinds.items() if other != kind):
        raise InvalidRequest(
            "This series mixes stacks of different size, spacing or direction. Split it first."
        )
    alike = [one for one in placed if one.kind == kind]
    notes += _left_out(len(placed) - len(alike), "of another size, spacing or direction")
    slices, more = _without_duplicates(alike)
    if len(slices) < FEWEST_SLICES:
        raise InvalidRequest(
            f"{len(slices)} CT slice{'s' * (len(slices) > 1)} make no volume: at least {FEWEST_SLICES} are "
            "needed. Choose the folder of the whole series."
        )
    if any(str(one.header.get("LossyImageCompression", "")) == "01" for one in slices):
        more += ("The images were compressed with loss: HU values are approximate.",)
    return slices, notes + more


def _left_out(count, why):
    return (f"Left out {count} image{'s' * (count > 1)} {why}.",) if count else ()


def _without_duplicates(slices):
    """In order along the normal, each place once."""
    normal = slices[0].axes[2]
    ordered = sorted(slices, key=lambda one: (one.position @ normal, one.uid, one.path.name))
    kept = ordered[:1]
    for one in ordered[1:]:
        if np.abs(one.position - kept[-1].position).max() > 1e-3:
            kept.append(one)
        elif not _is_same_image(one, kept[-1]):
            raise InvalidRequest(
                "This series holds two different images of one place (two phases or reconstructions?). "
                "Split it first."
            )
    return kept, _left_out(len(ordered) - len(kept), "present twice")


def _is_same_image(one, other):
    return one.uid == other.uid != "" or np.array_equal(pixels(one), pixels(other))


def _check_size(slices, limit_mb):
    header = slices[0].header
    needed_mb = len(slices) * header.Rows * header.Columns * 6 / 2**20  # two int16 copies and some to work
    if limit_mb is not None and needed_mb > limit_mb:
        raise InvalidRequest(
            f"This series needs {needed_mb:.0f} MB of memory, {limit_mb:.0f} MB are free. "
            "Choose a series with thicker slices or a machine with more memory."
        )
