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

SIGNS = ("how deep in the scan it is expected", "how deep it was found")
TRUST = (3.0, -2.25)  # slope, offset: how much a landmark's peak lets it say about the others
NOISE_MM = 8.0  # of a place that is trusted wholly; the less it is trusted, the larger
ANYWHERE_MM = 150.0  # standard deviation of where the body lies
UNIT_MM = 10.0  # of the second sign
DOUBT_MM = 5.0  # added to what the expected place may be off by, of which the first sign is a multiple
DEEPEST, RIM_MM = 4.0, 20.0  # beyond these a sign says no more
LITTLE = 1e-4  # trust in a landmark that says nothing
ROUNDS, KEPT, LEAST_MM2 = 30, 0.9, 1.0  # of fitting: rounds, what is kept of covariances, added to variances


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
        (L, 2): the first in multiples of what the expected place may be off by, below 0 outside of what is
        shown; the second in units of 10 mm.
    """
    trust = np.clip(expit(TRUST[0] * peaks + TRUST[1]), LITTLE, 1)
    expected, off_mm = expected_places(points_ras, trust, shape)
    depths = _depths(known, ijk_to_ras, np.concatenate([expected, points_ras]))
    found = (
        np.clip(depths[: len(expected)] / (off_mm + DOUBT_MM), -DEEPEST, DEEPEST),
        np.clip(depths[len(expected) :], 0, RIM_MM) / UNIT_MM,
    )
    return np.stack(found, axis=1)


def expected_places(
    points_ras: np.ndarray, trust: np.ndarray, shape: LandmarkShape
) -> tuple[np.ndarray, np.ndarray]:
    """(L, 3) RAS mm, where the others put each landmark, and (L,) mm, what that may be off by along an axis.

    The mean of a normal distribution over all places, the body lying anywhere, given the other landmarks as
    they were found; each axis by itself.

    Args:
        points_ras: (L, 3) mm.
        trust: (L,) how much each of them says, above 0 and up to 1.
        shape: see `signs`.
    """
    places = np.array(shape.places_mm)
    noise = np.diag((NOISE_MM / trust) ** 2)
    expected, variance = np.empty_like(points_ras, dtype=float), np.zeros(len(points_ras))
    for axis, covariance in enumerate(np.array(shape.covariance_mm2)):
        spread = covariance + ANYWHERE_MM**2
        for n in range(len(places)):
            rest = np.delete(np.arange(len(places)), n)
            gain = np.linalg.solve((spread + noise)[np.ix_(rest, rest)], spread[rest, n])
            expected[n, axis] = places[n, axis] + gain @ (points_ras - places)[rest, axis]
            variance[n] += (spread[n, n] - gain @ spread[rest, n]) / 3
    return expected, np.sqrt(variance)


def fitted_shape(points_ras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(L, 3) mean places about their middle, and (3, L, L) mm² how they vary together along R, A, S.

    By expectation and maximisation over landmarks that aren't known, each axis by itself, after each case was
    moved to where it fits best. Covariances are drawn toward 0 by a tenth.

    Args:
        points_ras: (N, L, 3) mm; NaN where a landmark isn't known. Each case and landmark must be known once.
    """
    places = _mean_places(points_ras)
    moved = points_ras - np.nanmean(points_ras - places, axis=1, keepdims=True)
    fits = [_fitted_axis(moved[..., axis]) for axis in range(3)]
    means, covariances = (np.stack(each, axis) for each, axis in zip(zip(*fits), (-1, 0)))
    return means - means.mean(axis=0), covariances


def _fitted_axis(values):
    """(N, L) → mean (L,) and covariance (L, L)."""
    mean, covariance = np.nanmean(values, axis=0), np.eye(values.shape[1]) * UNIT_MM**2
    for _ in range(ROUNDS):
        filled, doubt = values.copy(), np.zeros_like(covariance)
        for row in filled:
            known, hidden = (np.flatnonzero(each) for each in (np.isfinite(row), ~np.isfinite(row)))
            gain = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, hidden)]).T
            row[hidden] = mean[hidden] + gain @ (row[known] - mean[known])
            doubt[np.ix_(hidden, hidden)] += (
                covariance[np.ix_(hidden, hidden)] - gain @ covariance[np.ix_(known, hidden)]
            )
        mean = filled.mean(axis=0)
        apart = filled - mean
        covariance = KEPT * (apart.T @ apart + doubt) / len(filled)
        covariance += np.diag((1 / KEPT - 1) * np.diag(covariance) + LEAST_MM2)
    return mean, covariance


def _mean_places(points_ras):
    """(L, 3) mm: the places that, moved for each case, come nearest to its landmarks."""
    places = np.nanmean(points_ras - np.nanmean(points_ras, axis=1, keepdims=True), axis=0)
    for _ in range(50):
        moved = np.nanmean(points_ras - places, axis=1, keepdims=True)
        places = np.nanmean(points_ras - moved, axis=0)
    return places


def _depths(known, ijk_to_ras, points_ras):
    """(N,) mm to the rim of what is shown, below 0 for points outside of it."""
    shown = np.pad(known, 1)
    inside, outside = ndimage.distance_transform_edt(shown), ndimage.distance_transform_edt(~shown)
    kji = ijk_from_ras(points_ras, ijk_to_ras)[:, ::-1] + 1
    nearest = np.clip(np.rint(kji), 0, np.array(shown.shape) - 1).astype(int)
    beyond = np.linalg.norm(kji - np.clip(kji, 0, np.array(shown.shape) - 1), axis=1)
    at = tuple(nearest.T)
    return (inside[at] - outside[at] - beyond) * np.linalg.norm(ijk_to_ras[:3, 0])
