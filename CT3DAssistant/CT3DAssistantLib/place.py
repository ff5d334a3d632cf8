"""Where to look for a piece of evidence: a point inside its mask, or a landmark."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ct3d.case import Attribute, Case, Finding, Landmark, Point, Region
from ct3d.imaging.volume import ras_from_kji


@dataclass(frozen=True)
class Place:
    """A point to show, and what is there.

    Attributes:
        ras: RAS millimetres; a region's point lies inside its mask.
        title: what is shown, in words.
        segment: id of the segment to bring forward; "" where there is none.
        region: id of the region.
    """

    ras: Point
    title: str
    segment: str = ""
    region: str = ""

    @property
    def offsets_mm(self) -> dict[str, float]:
        """Slice offset that shows the point in each of the three planes."""
        right, anterior, superior = self.ras
        return {"axial": superior, "coronal": anterior, "sagittal": right}


class Places:
    """The places of a case's evidence; each mask is searched once.

    Args:
        layers: mask layers of the case, (K, J, I) by name.
    """

    def __init__(self, case: Case, layers: Mapping[str, np.ndarray]):
        self.case, self.layers = case, layers
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
        layer = self.layers.get(region.layer)
        inside = None if layer is None else inner_point(layer == region.label, superior_axis(self.case))
        if inside is None:
            return None
        matrix = np.array(self.case.input.geometry.ijk_to_ras)
        ras = ras_from_kji(np.array([inside]), matrix)[0]
        return Place(tuple(float(x) for x in ras), region.title, region.id, region.id)

    def _of_landmark(self, landmark: Landmark) -> Place | None:
        if landmark.position_ras is None:
            return None
        has_mask = any(each.id == landmark.region and each.layer in self.layers for each in self.case.regions)
        segment = landmark.region if has_mask else ""
        return Place(landmark.position_ras, landmark.title, segment, landmark.region)


def place(case: Case, layers: Mapping[str, np.ndarray], evidence: str) -> Place | None:
    """Where to look for one evidence string; None where there is nothing to see. `Places` serves many."""
    return Places(case, layers).of(evidence)


def superior_axis(case: Case) -> int:
    """Array axis (0 = K, 1 = J, 2 = I) along which the scan runs from feet to head."""
    matrix = np.array(case.input.geometry.ijk_to_ras)[:3, :3]
    return 2 - int(np.abs(matrix[2] / np.linalg.norm(matrix, axis=0)).argmax())


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
    shape = np.pad(
        np.take(mask, n, axis=axis).astype(np.uint8), 1
    )  # a rim, so that the image's edge counts as outside
    depth = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(sitk.GetImageFromArray(shape), True, False))
    deepest = [int(x) - 1 for x in np.unravel_index(depth.argmax(), depth.shape)]
    deepest.insert(axis, n)
    return tuple(deepest)
