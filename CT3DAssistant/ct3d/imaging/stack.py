"""A stack of CT slices as a volume whose every voxel lies where it was taken.

Where the slices don't form a straight, even stack (gantry tilt, uneven gaps, one slice missing), each is
shifted in its plane to its true place and the wanted planes are interpolated between their true
neighbours. Where too much would have to be invented, the stack is refused and the message says where.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ct3d.errors import InvalidRequest
from ct3d.imaging.resample import AIR_HU, resample_onto
from ct3d.imaging.volume import Volume

LARGEST_GAP_MM = 10.5  # between two slices that may be interpolated
EVEN = 0.05  # of a gap: how far a slice may lie from its place in an even stack
STRAIGHT_PX = 0.1  # in-plane drift over the whole stack up to which a stack counts as straight
PARALLEL = 1e-3  # difference of direction cosines up to which slices count as parallel
COPY_AGAIN = "Copy the series again from its source."
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


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


def stacked(slices: list[Slice]) -> tuple[Volume, tuple[str, ...]]:
    """The slices as a volume, and what had to be mended: copied where straight and even, else interpolated.

    Args:
        slices: of one kind, in order along their normal.

    Raises:
        InvalidRequest: if too many slices are missing or their gaps are too wide.
    """
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
            f"{COPY_AGAIN}"
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
    first = pixels(slices[0])
    planes = np.empty((len(slices), *first.shape), first.dtype)
    for k, one in enumerate(slices):
        plane = first if k == 0 else pixels(one)
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
    moved: dict[int, np.ndarray] = {}
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
    plane = Volume(pixels(one).astype(np.float32)[None], np.eye(4))
    return resample_onto(plane, grid, shape, fill=AIR_HU).array[0]


def pixels(one: Slice) -> np.ndarray:
    """(J, I) in HU: the slice's own rescale is applied. Decoded by GDCM.

    Raises:
        InvalidRequest: if the file is cut short or in a form that GDCM doesn't decode.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(one.path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InvalidRequest(
            f"A slice can't be decoded: it is cut short, or {_syntax(one)} isn't read here. {COPY_AGAIN}"
        ) from error
    array = sitk.GetArrayFromImage(image)
    if (
        array.shape[-2:] != (one.header.Rows, one.header.Columns)
        or array.size != array.shape[-2] * array.shape[-1]
    ):
        raise InvalidRequest(f"A slice doesn't have the size its header says. {COPY_AGAIN}")
    return array.reshape(array.shape[-2:])


def _syntax(one):
    uid = one.header.file_meta.get("TransferSyntaxUID") if hasattr(one.header, "file_meta") else None
    return uid.name if uid else "an unknown transfer syntax"
