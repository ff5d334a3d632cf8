"""What is implausible about the landmarks of a case as people left them: sides, order, distances, places.

The limits are those of the card that placed them; a card without limits, or one that is not here, has none.
"""

from collections.abc import Callable, Iterator

import numpy as np

from ct3d.case import Case, Geometry, Landmark, Point
from ct3d.imaging.plausibility import Complaint, complaints
from ct3d.imaging.volume import ijk_from_ras, ras_from_kji
from CT3DAssistantLib.landmark_review import reviewed_points
from CT3DAssistantLib.landmark_sets import cards_of, limits_of, of_card

OffMask = Callable[[str, Point, float], bool | None]
Points = dict[str, Point]


def plausibility(
    case: Case, geometry: Geometry | None = None, off_mask: OffMask | None = None
) -> dict[str, tuple[str, ...]]:
    """By landmark id, what is wrong with its place, in words; landmarks without a flag are left out.

    Args:
        geometry: the volume's grid; None: the case's own.
        off_mask: (region id, point, mm) → whether the point lies farther than that from the region's mask;
            None where there is no such mask. Without it nothing is said about masks.
    """
    found = [
        complaint
        for card in cards_of(case)
        for complaint in _of_set(of_card(case, card), card, geometry or case.input.geometry, off_mask)
    ]
    return {
        each.id: tuple(text for text, about in found if each.id in about)
        for each in case.landmarks
        if any(each.id in about for _, about in found)
    }


def _of_set(case: Case, card: str, geometry: Geometry, off_mask: OffMask | None) -> Iterator[Complaint]:
    limits = limits_of(card)
    landmarks = {each.id: each for each in reviewed_points(case)}
    points = {name: each.position_ras for name, each in landmarks.items() if each.position_ras}
    titles = {name: each.title for name, each in landmarks.items()}
    yield from complaints(points, titles, limits)
    yield from _outside(points, geometry)
    if off_mask and limits and limits.max_off_mask_mm is not None:
        yield from _off_masks(landmarks, points, off_mask, limits.max_off_mask_mm)


def _outside(points: Points, geometry: Geometry) -> Iterator[Complaint]:
    last = np.array(geometry.shape_kji[::-1]) - 1
    for name, ras in points.items():
        ijk = ijk_from_ras(np.array([ras]), np.array(geometry.ijk_to_ras))[0]
        if (ijk < -0.5).any() or (ijk > last + 0.5).any():
            yield "It lies outside the scan.", (name,)


def _off_masks(
    landmarks: dict[str, Landmark], points: Points, off_mask: OffMask, most: float
) -> Iterator[Complaint]:
    for name, ras in points.items():
        region = landmarks[name].region
        if region and off_mask(region, ras, most):
            yield f"It lies more than {most:g} mm from the {region.replace('_', ' ')} it belongs to.", (name,)


def is_off(mask: np.ndarray, ijk_to_ras: np.ndarray, ras: Point, within_mm: float) -> bool:
    """Whether a point lies farther than this from every voxel centre of a mask; looks only around the point.

    Args:
        mask: (K, J, I), bool.
        ijk_to_ras: 4x4 affine of its grid.
    """
    box = around(mask.shape, ijk_to_ras, ras, within_mm)
    inside = np.argwhere(mask[box])
    if not len(inside):
        return True
    centers = ras_from_kji(inside + [each.start for each in box], ijk_to_ras)
    return bool(np.linalg.norm(centers - ras, axis=1).min() > within_mm)


def around(
    shape_kji: tuple[int, ...], ijk_to_ras: np.ndarray, ras: Point, within_mm: float
) -> tuple[slice, ...]:
    """The part (K, J, I) of a grid that holds all voxels within a distance of a point; may be empty."""
    k, j, i = ijk_from_ras(np.array([ras]), ijk_to_ras)[0][::-1]
    reach = within_mm * np.linalg.norm(np.linalg.inv(ijk_to_ras[:3, :3]), axis=1)[::-1]
    low = np.clip(np.floor((k, j, i) - reach), 0, shape_kji).astype(int)
    high = np.clip(np.ceil((k, j, i) + reach) + 1, low, shape_kji).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
