"""How the landmarks of a scan speak for one another: where each is to be expected, and whether that is shown.

Where a field of view ends is where a net errs most: a point just beyond it makes nearly the same map as one
just inside. But the other landmarks tell where it must lie. No point is moved; only its presence is judged.
Not of the paper.
"""

import numpy as np
from scipy import ndimage
from scipy.special import expit

from ct3d.cards import LandmarkShape
from ct3d.imaging.volume import ijk_from_ras

SIGNS = ("how deep in the scan it is expected", "how far it was found from there", "how deep it was found")
TRUST = (4.0, -3.0)  # slope, offset: how much a landmark's peak lets it say about the others
NEAR_MM = 20.0  # of two landmarks; beyond it, one says the less about the other the farther apart they are
UNIT_MM = 10.0  # of a sign
DEEPEST_MM, FARTHEST_MM, RIM_MM = 40.0, 60.0, 20.0  # beyond these a sign says no more
LITTLE = 1e-9  # weight of a landmark that says nothing: where none says anything, the mean of all is taken


def signs(
    points_ras: np.ndarray, peaks: np.ndarray, known: np.ndarray, ijk_to_ras: np.ndarray, shape: LandmarkShape
) -> np.ndarray:
    """What the other landmarks say of each; see SIGNS.

    Args:
        points_ras: (L, 3) mm, the highest place of each map.
        peaks: (L,) values of the maps there.
        known: (K, J, I) bool, what the scan shows, on a grid of cubes.
        ijk_to_ras: of that grid.
        shape: of the card, its places in the order of the points.

    Returns:
        (L, 3), in units of 10 mm; depths are below 0 outside of what is shown.
    """
    expected = expected_places(points_ras, expit(TRUST[0] * peaks + TRUST[1]), np.array(shape.places_mm))
    depths = _depths(known, ijk_to_ras, np.concatenate([expected, points_ras]))
    apart = np.linalg.norm(points_ras - expected, axis=1)
    found = (
        np.clip(depths[: len(expected)], -DEEPEST_MM, DEEPEST_MM),
        np.minimum(apart, FARTHEST_MM),
        np.clip(depths[len(expected) :], 0, RIM_MM),
    )
    return np.stack(found, axis=1) / UNIT_MM


def expected_places(points_ras: np.ndarray, trust: np.ndarray, places_mm: np.ndarray) -> np.ndarray:
    """(L, 3) RAS mm, where each landmark lies if the mean places, moved as the others say, are right.

    Args:
        points_ras: (L, 3) mm.
        trust: (L,) how much each of them says, 0 to 1.
        places_mm: (L, 3) mean places about any origin.
    """
    squared = ((places_mm[:, None] - places_mm[None]) ** 2).sum(-1)
    weights = trust / (squared + NEAR_MM**2) + LITTLE
    np.fill_diagonal(weights, 0)
    moved = weights @ (points_ras - places_mm) / weights.sum(axis=1, keepdims=True)
    return places_mm + moved


def mean_places(points_ras: np.ndarray) -> np.ndarray:
    """(L, 3) mm about their middle: the places that, moved for each case, come nearest to its landmarks.

    Args:
        points_ras: (N, L, 3) mm; NaN where a landmark isn't known. Each case and landmark must be known once.
    """
    places = np.nanmean(points_ras - np.nanmean(points_ras, axis=1, keepdims=True), axis=0)
    for _ in range(50):
        moved = np.nanmean(points_ras - places, axis=1, keepdims=True)
        places = np.nanmean(points_ras - moved, axis=0)
    return places - places.mean(axis=0)


def _depths(known, ijk_to_ras, points_ras):
    """(N,) mm to the rim of what is shown, below 0 for points outside of it."""
    shown = np.pad(known, 1)
    inside, outside = ndimage.distance_transform_edt(shown), ndimage.distance_transform_edt(~shown)
    kji = ijk_from_ras(points_ras, ijk_to_ras)[:, ::-1] + 1
    nearest = np.clip(np.rint(kji), 0, np.array(shown.shape) - 1).astype(int)
    beyond = np.linalg.norm(kji - np.clip(kji, 0, np.array(shown.shape) - 1), axis=1)
    at = tuple(nearest.T)
    return (inside[at] - outside[at] - beyond) * np.linalg.norm(ijk_to_ras[:3, 0])
