"""What is implausible about the landmarks of a case as people left them: sides, order, distances, places.

The limits are those of Resources/LandmarkLimits.toml: anatomical common sense of this project, not measured.
"""

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import dist

import numpy as np

from ct3d.case import Case, Geometry, Landmark, Point
from ct3d.imaging.volume import ijk_from_ras, ras_from_kji
from ct3d.protocol.codec import decode
from CT3DAssistantLib.landmark_review import reviewed_points
from CT3DAssistantLib.resources import resource_path

RIGHT, SUPERIOR = 0, 2  # of a RAS point
Complaint = tuple[str, tuple[str, ...]]  # what is wrong, and which landmarks it is about
OffMask = Callable[[str, Point, float], bool | None]
Points = dict[str, Point]


@dataclass(frozen=True)
class Limits:
    """What landmarks of an adult chest keep to; see LandmarkLimits.toml."""

    pairs: tuple[str, ...]
    midline: str
    above: tuple[tuple[str, str], ...]
    max_off_mask_mm: float
    distances_mm: dict[str, tuple[float, float]]
    height_difference_mm: dict[str, float]
    width_difference_mm: dict[str, float]


@cache
def limits() -> Limits:
    """The limits of this installation."""
    return decode(Limits, tomllib.loads(resource_path("LandmarkLimits.toml").read_text("utf-8")), "limits")


def plausibility(
    case: Case, geometry: Geometry | None = None, off_mask: OffMask | None = None
) -> dict[str, tuple[str, ...]]:
    """By landmark id, what is wrong with its place, in words; landmarks without a flag are left out.

    Args:
        geometry: the volume's grid; None: the case's own.
        off_mask: (region id, point, mm) → whether the point lies farther than that from the region's mask;
            None where there is no such mask. Without it nothing is said about masks.
    """
    landmarks = {each.id: each for each in reviewed_points(case)}
    points = {name: each.position_ras for name, each in landmarks.items() if each.position_ras}
    titles = {name: each.title for name, each in landmarks.items()}
    complaints = [
        *_sides(points, titles),
        *_order(points, titles),
        *_distances(points, titles),
        *_asymmetry(points, titles),
        *_outside(points, geometry or case.input.geometry),
        *_off_masks(landmarks, points, off_mask),
    ]
    return {
        name: tuple(text for text, about in complaints if name in about)
        for name in landmarks
        if any(name in about for _, about in complaints)
    }


def _sides(points: Points, titles: dict[str, str]) -> Iterator[Complaint]:
    for pair in limits().pairs:
        right, left = f"right_{pair}", f"left_{pair}"
        if right in points and left in points and points[right][RIGHT] <= points[left][RIGHT]:
            told = f"{_the(titles[right])} lies to the patient's left of the {titles[left]}: sides swapped?"
            yield told, (right, left)
            continue
        yield from _sides_of_midline(points, titles, {right: 1, left: -1})


def _sides_of_midline(points: Points, titles: dict[str, str], signs: dict[str, int]) -> Iterator[Complaint]:
    middle = limits().midline
    for name, sign in signs.items():
        if name in points and middle in points and sign * (points[name][RIGHT] - points[middle][RIGHT]) <= 0:
            yield f"{_the(titles[name])} lies on the other side of the {titles[middle]}.", (name, middle)


def _order(points: Points, titles: dict[str, str]) -> Iterator[Complaint]:
    for upper, lower in limits().above:
        if upper in points and lower in points and points[upper][SUPERIOR] <= points[lower][SUPERIOR]:
            yield f"{_the(titles[upper])} lies no higher than the {titles[lower]}.", (upper, lower)


def _distances(points: Points, titles: dict[str, str]) -> Iterator[Complaint]:
    for names, (least, most) in limits().distances_mm.items():
        one, other = names.split()
        if one not in points or other not in points:
            continue
        apart = dist(points[one], points[other])
        if not least <= apart <= most:
            both = f"{_the(titles[one])} and {titles[other]}"
            yield f"{both} are {apart:.0f} mm apart; {least:g} to {most:g} mm is usual.", (one, other)


def _asymmetry(points: Points, titles: dict[str, str]) -> Iterator[Complaint]:
    kinds = ((limits().height_difference_mm, _height), (limits().width_difference_mm, _width))
    for most_by_pair, measure in kinds:
        for pair, most in most_by_pair.items():
            right, left = f"right_{pair}", f"left_{pair}"
            said = measure(points, right, left) if right in points and left in points else None
            if said and said[0] > most:
                told = f"{said[0]:.0f} mm {said[1]}; up to {most:g} mm is usual."
                yield f"{_the(titles[right])} and {titles[left]} differ by {told}", (right, left)


def _height(points: Points, right: str, left: str) -> tuple[float, str]:
    return abs(points[right][SUPERIOR] - points[left][SUPERIOR]), "in height"


def _width(points: Points, right: str, left: str) -> tuple[float, str] | None:
    if limits().midline not in points:
        return None
    middle = points[limits().midline][RIGHT]
    return abs(
        abs(points[right][RIGHT] - middle) - abs(points[left][RIGHT] - middle)
    ), "in distance from the midline"


def _outside(points: Points, geometry: Geometry) -> Iterator[Complaint]:
    last = np.array(geometry.shape_kji[::-1]) - 1
    for name, ras in points.items():
        ijk = ijk_from_ras(np.array([ras]), np.array(geometry.ijk_to_ras))[0]
        if (ijk < -0.5).any() or (ijk > last + 0.5).any():
            yield "It lies outside the scan.", (name,)


def _off_masks(
    landmarks: dict[str, Landmark], points: Points, off_mask: OffMask | None
) -> Iterator[Complaint]:
    most = limits().max_off_mask_mm
    for name, ras in points.items():
        region = landmarks[name].region
        if off_mask and region and off_mask(region, ras, most):
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


def _the(title: str) -> str:
    return f"The {title}"
