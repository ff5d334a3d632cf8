"""DICOM folders: which series they hold, and one CT series as a volume whose every slice lies where it was
taken.

Slices are ordered by ImagePositionPatient along the slice normal, never by name or number. Where the slices
of a series don't form a straight, even stack (gantry tilt, uneven gaps, one slice missing), each slice is
shifted in its plane to its true place and the wanted planes are interpolated between the true neighbours;
where too much would have to be invented, the series is refused and the message says where. Nothing about a
patient leaves this file.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct3d.errors import InvalidRequest
from ct3d.imaging.resample import AIR_HU, resample_onto
from ct3d.imaging.volume import Volume

FEWEST_SLICES = 4
LARGEST_GAP_MM = 10.5  # between two slices that may be interpolated
EVEN = 0.05  # of a gap: how far a slice may lie from its place in an even stack
STRAIGHT_PX = 0.1  # in-plane drift over the whole stack up to which a stack counts as straight
PARALLEL = 1e-3  # difference of direction cosines up to which slices count as parallel
CUT_SHORT = "Copy the series again from its source."
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
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


@dataclass(frozen=True, eq=False)
class Slice:
    """One file: where its image lies, in DICOM's own frame (LPS millimetres)."""

    path: Path
    header: Any  # pydicom Dataset with TAGS

    @property
    def series_uid(self) -> str:
        """Empty where anonymisation took it."""
        return str(self.header.get("SeriesInstanceUID", ""))

    @property
    def uid(self) -> str:
        """Of the image; empty where anonymisation took it."""
        return str(self.header.get("SOPInstanceUID", ""))

    @property
    def position(self) -> np.ndarray:
        """Centre of the first voxel."""
        return np.array(self.header.ImagePositionPatient, float)

    @property
    def axes(self) -> np.ndarray:
        """(3, 3): rows are the unit directions of i and j and the normal."""
        cosines = np.array(self.header.ImageOrientationPatient, float).reshape(2, 3)
        cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
        return np.vstack([cosines, np.cross(*cosines)])

    @property
    def spacing_ij_mm(self) -> np.ndarray:
        """Voxel spacing along i and j."""
        return np.array(self.header.PixelSpacing, float)[::-1]

    @property
    def kind(self) -> tuple:
        """What slices must share to form one stack."""
        axes = tuple(np.rint(self.axes[:2].ravel() / PARALLEL / 2).astype(int))
        return self.header.Rows, self.header.Columns, tuple(np.round(self.spacing_ij_mm, 4)), axes


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
    volume, still_more = _stacked(slices)
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
        spacing = (gap, *(float(each) for each in placed[0].spacing_ij_mm[::-1]))
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
    return one.uid == other.uid != "" or np.array_equal(_pixels(one), _pixels(other))


def _check_size(slices, limit_mb):
    header = slices[0].header
    needed_mb = len(slices) * header.Rows * header.Columns * 6 / 2**20  # two int16 copies and some to work
    if limit_mb is not None and needed_mb > limit_mb:
        raise InvalidRequest(
            f"This series needs {needed_mb:.0f} MB of memory, {limit_mb:.0f} MB are free. "
            "Choose a series with thicker slices or a machine with more memory."
        )


def _pixels(one):
    """(J, I) in HU: the rescale of the slice is applied; decoded by GDCM."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(one.path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InvalidRequest(
            f"A slice can't be decoded: it is cut short, or {_syntax(one)} isn't read here. {CUT_SHORT}"
        ) from error
    array = sitk.GetArrayFromImage(image)
    if (
        array.shape[-2:] != (one.header.Rows, one.header.Columns)
        or array.size != array.shape[-2] * array.shape[-1]
    ):
        raise InvalidRequest(f"A slice doesn't have the size its header says. {CUT_SHORT}")
    return array.reshape(array.shape[-2:])


def _syntax(one):
    uid = one.header.file_meta.get("TransferSyntaxUID") if hasattr(one.header, "file_meta") else None
    return uid.name if uid else "an unknown transfer syntax"


def _stacked(slices):
    """The slices as a volume: copied where they form a straight, even stack, else interpolated."""
    first = slices[0]
    offsets = np.array([one.position - first.position for one in slices])
    depths = offsets @ first.axes[2]
    shifts_px = offsets @ first.axes[:2].T / first.spacing_ij_mm  # (N, 2): i, j
    if depths[-1] < 1:
        raise InvalidRequest("All slices of this series lie in one place. Choose the original CT series.")
    gap, notes = _even_gap(depths, first)
    is_straight = np.ptp(shifts_px, axis=0).max() <= STRAIGHT_PX
    if is_straight and gap is None:
        gap = depths[-1] / (len(slices) - 1)
        planes, corner_px = _loaded(slices), np.zeros(2)
    else:
        if not is_straight:
            notes += (_tilt_note(offsets, first),)
        gap = gap or depths[-1] / (len(slices) - 1)
        planes, corner_px = _on_even_planes(slices, depths, shifts_px, gap)
        gap = depths[-1] / (len(planes) - 1)
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, :3] = (first.axes * [[first.spacing_ij_mm[0]], [first.spacing_ij_mm[1]], [gap]]).T
    ijk_to_lps[:3, 3] = first.position + ijk_to_lps[:3, :2] @ corner_px
    return Volume(planes, LPS_TO_RAS @ ijk_to_lps), notes


def _even_gap(depths, first):
    """The gap of even planes that the slices must be interpolated to, None where they are even; and why."""
    gaps = np.diff(depths)
    usual = float(np.median(gaps))
    even = np.linspace(0, depths[-1], len(depths))
    if np.abs(depths - even).max() <= EVEN * usual:
        return None, ()
    missing = np.rint(gaps / usual) - 1
    is_otherwise_even = np.abs(gaps / usual - missing - 1).max() <= EVEN and missing.min() >= 0
    widest = gaps.max()
    if is_otherwise_even and missing.sum() == 1 and widest <= LARGEST_GAP_MM:
        where = _places(first, depths, missing > 0)
        return usual, (
            f"One slice is missing {where}: it was interpolated between its neighbours. Look there.",
        )
    if is_otherwise_even:
        raise InvalidRequest(
            f"{missing.sum():.0f} slices of this series are missing {_places(first, depths, missing > 0)}. "
            f"{CUT_SHORT}"
        )
    if widest > 2.02 * usual or widest > LARGEST_GAP_MM:
        wide = gaps > min(2.02 * usual, LARGEST_GAP_MM)
        raise InvalidRequest(
            f"The gaps between the slices are uneven ({gaps.min():.3g} to {widest:.3g} mm), too wide to fill "
            f"{_places(first, depths, wide)}. Choose a series with even slices."
        )
    note = (
        f"The gaps between the slices are uneven ({gaps.min():.3g} to {widest:.3g} mm): "
        "interpolated to even planes between the true ones."
    )
    return float(np.quantile(gaps, 0.25)), (note,)


def _places(first, depths, is_wide):
    """Where along the body the wide gaps are, in RAS millimetres; at most three are named."""
    normal = first.axes[2] * (-1, -1, 1)
    axis = int(np.abs(normal).argmax())
    at = (first.position * (-1, -1, 1))[axis] + depths * normal[axis]
    spans = [f"{at[n]:.1f} and {at[n + 1]:.1f}" for n in np.flatnonzero(is_wide)[:3]]
    more = " and elsewhere" if is_wide.sum() > 3 else ""
    return f"between {'RAS'[axis]} {', '.join(spans)} mm{more}"


def _tilt_note(offsets, first):
    drift = np.linalg.norm(offsets[-1] @ first.axes[:2].T)
    angle = np.degrees(np.arctan2(drift, offsets[-1] @ first.axes[2]))
    return f"Gantry tilt of {angle:.1f} degrees: every slice was moved to its true place on a straight grid."


def _loaded(slices):
    """(K, J, I) of the slices as they are, in one type that holds them all."""
    first = _pixels(slices[0])
    planes = np.empty((len(slices), *first.shape), first.dtype)
    for k, one in enumerate(slices):
        plane = first if k == 0 else _pixels(one)
        if not np.can_cast(plane.dtype, planes.dtype):
            planes = planes.astype(np.promote_types(plane.dtype, planes.dtype))
        planes[k] = plane
    return planes


def _on_even_planes(slices, depths, shifts_px, gap):
    """Planes (K, J, I) at even depths, and the index (i, j) of their first voxel on the first slice's grid.

    Every slice is first moved within its plane by its shift (linear), then planes are mixed linearly between
    the two slices that lie next to them. Voxels no slice covers are air.
    """
    depths_wanted = np.linspace(0, depths[-1], round(depths[-1] / gap) + 1)
    low, high = np.floor(shifts_px.min(axis=0) + 1e-3), np.ceil(shifts_px.max(axis=0) - 1e-3)
    rows, columns = slices[0].header.Rows, slices[0].header.Columns
    shape = (1, rows + int(high[1] - low[1]), columns + int(high[0] - low[0]))
    moved = {}
    planes = np.empty((len(depths_wanted), *shape[1:]), np.float32)
    for k, depth in enumerate(depths_wanted):
        above = int(np.clip(np.searchsorted(depths, depth), 1, len(depths) - 1))
        moved = {
            n: moved[n] if n in moved else _moved(slices[n], low - shifts_px[n], shape)
            for n in (above - 1, above)
        }
        weight = (depth - depths[above - 1]) / (depths[above] - depths[above - 1])
        planes[k] = (1 - weight) * moved[above - 1] + weight * moved[above]
    return np.rint(planes, out=planes), low


def _moved(one, start_px, shape):
    grid = np.eye(4)
    grid[:2, 3] = start_px
    plane = Volume(_pixels(one).astype(np.float32)[None], np.eye(4))
    return resample_onto(plane, grid, shape, fill=AIR_HU).array[0]
