"""Where to look for a piece of evidence: a point inside its mask, or a landmark."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ct3d.case import Attribute, Case, Finding, Landmark, Point, Region
from ct3d.imaging.volume import ras_from_kji
from CT3DAssistantLib.landmark_review import reviewed
from CT3DAssistantLib.windows import SOFT, Window, window_of

FINE = 256  # pixels along a slice's longer side; a larger one is searched at every second or third pixel

PointIn = Callable[[Region], Point | None]  # a point inside a region's mask, RAS millimetres


@dataclass(frozen=True)
class Place:
    """A point to show, and what is there.

    Attributes:
        ras: RAS millimetres; a region's point lies inside its mask.
        title: what is shown, in words.
        segment: id of the segment to bring forward; "" where there is none.
        region: id of the region.
        window: grey scale in which it is read.
        is_point: whether it is a landmark, and its region only says where.
    """

    ras: Point
    title: str
    segment: str = ""
    region: str = ""
    window: Window = SOFT
    is_point: bool = False

    @property
    def offsets_mm(self) -> dict[str, float]:
        """Slice offset that shows the point in each of the three planes."""
        right, anterior, superior = self.ras
        return {"axial": superior, "coronal": anterior, "sagittal": right}


class Places:
    """The places of a case's evidence, landmarks where people put them; each mask is searched once.

    Args:
        point_in: gives a point inside a region's mask; `in_layers` makes one from arrays.
    """

    def __init__(self, case: Case, point_in: PointIn):
        self.case, self._point_in = reviewed(case), point_in
        self._known: dict[str, Place | None] = {}

    def of(self, evidence: str) -> Place | None:
        """Where to look for an evidence string ("kind/id"); None where there is nothing to see."""
        if evidence not in self._known:
            self._known[evidence] = None  # a finding that leads back to itself ends here
            self._known[evidence] = self._find(self.case.entry(evidence))
        return self._known[evidence]

    def _find(self, entry: Region | Attribute | Landmark | Finding | None) -> Place | None:
        if isinstance(entry, Region):
            return self._of_region(entry)
        if isinstance(entry, Attribute):
            return self.of(f"region/{entry.region}")
        if isinstance(entry, Landmark):
            return self._of_landmark(entry)
        if isinstance(entry, Finding):
            return next(filter(None, map(self.of, entry.evidence)), None)
        return None

    def _of_region(self, region: Region) -> Place | None:
        ras = self._point_in(region)
        return ras and Place(ras, region.title, region.id, region.id, window_of(region))

    def _of_landmark(self, landmark: Landmark) -> Place | None:
        if landmark.position_ras is None:
            return None
        region = next((each for each in self.case.regions if each.id == landmark.region), None)
        segment = region.id if region is not None and region.presence != "absent" else ""
        window = window_of(region)
        return Place(landmark.position_ras, landmark.title, segment, landmark.region, window, is_point=True)


def place(case: Case, layers: Mapping[str, np.ndarray], evidence: str) -> Place | None:
    """Where to look for one evidence string; None where there is nothing to see. `Places` serves many."""
    return Places(case, in_layers(case, layers)).of(evidence)


def in_layers(case: Case, layers: Mapping[str, np.ndarray]) -> PointIn:
    """Finds points in mask layers, (K, J, I) by name, on the case's grid."""
    matrix = np.array(case.input.geometry.ijk_to_ras)

    def point_in(region: Region) -> Point | None:
        layer = layers.get(region.layer)
        return None if layer is None else point_inside(layer == region.label, matrix)

    return point_in


def point_inside(mask: np.ndarray, ijk_to_ras: np.ndarray) -> Point | None:
    """A point well inside a mask (K, J, I), RAS millimetres; None where the mask is empty."""
    inside = inner_point(mask, superior_axis(ijk_to_ras))
    if inside is None:
        return None
    right, anterior, superior = ras_from_kji(np.array([inside]), ijk_to_ras)[0]
    return float(right), float(anterior), float(superior)


def superior_axis(ijk_to_ras: np.ndarray) -> int:
    """Array axis (0 = K, 1 = J, 2 = I) along which a grid runs from feet to head."""
    axes = ijk_to_ras[:3, :3]
    return 2 - int(np.abs(axes[2] / np.linalg.norm(axes, axis=0)).argmax())


def inner_point(mask: np.ndarray, axis: int) -> tuple[int, int, int] | None:
    """The voxel (k, j, i) deepest inside the slice that shows most of the mask; None where the mask is empty.

    Args:
        mask: (K, J, I) bool.
        axis: array axis across which the slices lie.
    """
    areas = np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis}))
    if not areas.any():
        return None
    n = int(areas.argmax())
    row, column = _deepest(np.take(mask, n, axis=axis))
    inside = [row, column]
    inside.insert(axis, n)
    return tuple(inside)


def _deepest(shape: np.ndarray) -> tuple[int, int]:
    """Row and column of the pixel of a shape (not empty) that lies farthest from its edge."""
    rows, columns = (np.flatnonzero(shape.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    part = shape[top : rows[-1] + 1, left : columns[-1] + 1]
    step = -(-max(part.shape) // FINE)
    coarse = part[::step, ::step]
    if not coarse.any():
        coarse, step = part, 1
    framed = np.pad(coarse.astype(np.uint8), 1)  # a rim, so that the image's edge counts as outside
    depth = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(sitk.GetImageFromArray(framed), True, False))
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return top + (int(row) - 1) * step, left + (int(column) - 1) * step
