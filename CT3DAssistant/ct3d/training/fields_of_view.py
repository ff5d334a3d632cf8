"""Smaller fields of view of a case, cut in world space: some of its landmarks are then not in the scan."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_ijk
from ct3d.training.openkbp import LandmarkCase

SIDES = {  # where the scan is cut off: RAS axis, and the sign of what is lost
    "above": (2, 1),
    "below": (2, -1),
    "front": (1, 1),
    "back": (1, -1),
    "left": (0, -1),
    "right": (0, 1),
}
MARGIN = 0.1  # of the gap between two landmarks, left free on both sides of a cut
LARGEST_SHARE = 0.6


@dataclass(frozen=True, eq=False)
class FieldOfView:
    """A case seen through a smaller field of view.

    Attributes:
        case: with the smaller volume; its landmarks are those of the whole case, in the same RAS mm.
        side: which side was cut off; "" for none.
        inside: (L,) bool, the landmark is known and lies in the field of view.
        outside: (L,) bool, the landmark is known and lies beyond it.
        beyond_mm: (L,) distance of each landmark past the cut; below 0 on the side that was kept.
    """

    case: LandmarkCase
    side: str
    inside: np.ndarray
    outside: np.ndarray
    beyond_mm: np.ndarray

    @property
    def absent_share(self) -> float:
        """Share of the known landmarks that this field of view has lost."""
        return float(self.outside.sum() / max(1, self.outside.sum() + self.inside.sum()))


def generator(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that depend on the seed and these names alone, not on the order of anything."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def whole(case: LandmarkCase) -> FieldOfView:
    """The case as it is: nothing cut off."""
    known = np.isfinite(case.landmarks_ras).all(axis=1)
    return FieldOfView(case, "", known, np.zeros_like(known), np.where(known, -np.inf, np.nan))


def random_views(case: LandmarkCase, *, seed: int, count: int) -> list[FieldOfView]:
    """Fields of view with a random side cut off, and with it a share of the landmarks drawn from 0 to 0.6.

    None where no landmark of the case is known.
    """
    if not np.isfinite(case.landmarks_ras).all(axis=1).any():
        return []
    rng = generator(seed, case.id, "crops")
    return [
        crop(case, side=str(rng.choice(list(SIDES))), share=rng.uniform(0, LARGEST_SHARE), rng=rng)
        for _ in range(count)
    ]


def crop(case: LandmarkCase, *, side: str, share: float, rng: np.random.Generator) -> FieldOfView:
    """Cut one side off, so that about this share of the known landmarks lies beyond the cut.

    The plane lies at a random height between the last landmark that stays and the first that goes; where none
    goes, between the outermost one and the edge of the scan. Whole voxels stay or go, so a landmark within
    half a voxel of the plane may change sides: `inside` and `outside` tell what became of each.
    """
    axis, sign = SIDES[side]
    known = np.isfinite(case.landmarks_ras).all(axis=1)
    heights = np.sort(sign * case.landmarks_ras[known, axis])
    edge = max((sign * _corners(case.volume)[:, axis]).max(), heights[-1])
    kept = len(heights) - round(share * len(heights))
    low, high = [*heights, edge][max(kept - 1, 0)], [*heights, edge][max(kept, 1)]
    plane = low + rng.uniform(MARGIN, 1 - MARGIN) * (high - low)
    return _cut(case, side, plane)


def _cut(case, side, plane):
    """Everything past `plane` (mm along the signed axis of the side) taken away."""
    axis, sign = SIDES[side]
    box = _box(case.volume, axis, sign, plane)
    first_ijk = [each.start for each in box][::-1]
    affine = case.volume.ijk_to_ras.copy()
    affine[:3, 3] = ras_from_ijk(np.array([first_ijk]), affine)[0]
    smaller = Volume(np.ascontiguousarray(case.volume.array[box]), affine)
    inside = _in_field_of_view(case.landmarks_ras, smaller)
    known = np.isfinite(case.landmarks_ras).all(axis=1)
    less = replace(case, volume=smaller, known=np.ascontiguousarray(case.known[box]))
    return FieldOfView(less, side, inside, known & ~inside, sign * case.landmarks_ras[:, axis] - plane)


def _box(volume, axis, sign, plane):
    """The slices (K, J, I) of the voxels whose centres don't lie past the plane; at least one slice stays.

    The grid axis that runs along the RAS axis most is the one that is cut.
    """
    along = int(np.abs(volume.ijk_to_ras[axis, :3]).argmax())
    size = volume.array.shape[::-1]
    centres = np.array([(n - 1) / 2 for n in size]) + np.zeros((size[along], 3))
    centres[:, along] = np.arange(size[along])
    stays = np.flatnonzero(sign * ras_from_ijk(centres, volume.ijk_to_ras)[:, axis] <= plane)
    first, last = (stays[0], stays[-1]) if len(stays) else (0, 0)
    box = [slice(0, n) for n in size]
    box[along] = slice(int(first), int(last) + 1)
    return tuple(box[::-1])


def _in_field_of_view(points_ras, volume):
    ijk = ijk_from_ras(points_ras, volume.ijk_to_ras)
    return ((ijk >= -0.5) & (ijk <= np.array(volume.array.shape[::-1]) - 0.5)).all(axis=1)


def _corners(volume):
    size = volume.array.shape[::-1]
    corners = np.stack(np.meshgrid(*((-0.5, n - 0.5) for n in size)), axis=-1).reshape(-1, 3)
    return ras_from_ijk(corners, volume.ijk_to_ras)
