"""The crops of the H3DE-Net reference, for parity with its vectors; the product never crops by landmarks.

Source: ECNUACRush/H3DE-Net @ e61a57e, re-derived from its behaviour. Both crops place themselves by the true
landmarks, and shrink the volume where these don't fit: evaluated so, a net is told roughly where to look, and
errors in millimetres come out too small. Axes are in order, whatever they are called.
"""

import numpy as np
from scipy.ndimage import zoom

MARGIN = np.array((0.02, 0.02, 0.04))  # of the crop, kept free around the landmarks' extent
MISSING_BELOW = -100.0  # mean coordinate of a landmark


def center_crop(
    volume: np.ndarray, points: np.ndarray, size: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The crop around the centre of the present landmarks' box, the volume shrunk per axis until they fit.

    Args:
        volume: 3D; its type is kept.
        points: (L, 3) voxels; a mean below -100 marks a missing one, which is scaled and moved alike.
        size: of the crop.

    Returns:
        The crop and the points in it.
    """
    rates = np.minimum(_largest_rates(points, size), 1.0)
    shrunk, moved = zoom(volume, rates, order=1), points * rates
    starts = [min(first, last) for first, last in zip(*_bounds(shrunk.shape, moved, size))]
    return _cut(shrunk, moved, starts, size)


def random_crop(
    volume: np.ndarray,
    points: np.ndarray,
    size: tuple[int, int, int],
    random: np.random.RandomState,
    least_rate: float = 0.6,
) -> tuple[np.ndarray, np.ndarray]:
    """A crop at random that holds the present landmarks, from a volume shrunk by random rates per axis.

    Draws three uniforms, then three integers, as the reference does from numpy's global generator; the same
    crop comes of `RandomState(seed)`. Where the landmarks leave no choice of a place, none is drawn.

    Args:
        volume: 3D.
        points: (L, 3) voxels, as of `center_crop`.
        size: of the crop.
        random: where the numbers come from.
        least_rate: rates are drawn from here up to 1, or to where the landmarks just fit; if they don't fit
            along some axis even so, every axis takes the rate at which they just fit (which may enlarge).
    """
    largest = _largest_rates(points, size)
    rates = np.array([random.uniform(least_rate, min(rate, 1.0)) for rate in largest])
    rates = largest if largest.min() < least_rate else rates
    shrunk, moved = zoom(volume, rates, order=1), points * rates
    lowest = _present(moved).min(axis=0).astype(int)
    starts = []
    for first, last, low in zip(*_bounds(shrunk.shape, moved, size), lowest):
        end = min(int(low), last)
        starts.append(random.randint(first, end) if end > first else min(first, max(last, 0)))
    return _cut(shrunk, moved, starts, size)


def _present(points: np.ndarray) -> np.ndarray:
    return points[points.mean(axis=1) >= MISSING_BELOW]


def _largest_rates(points, size):
    """Per axis the rate at which the present landmarks just fit the crop."""
    return np.array(size) / np.maximum(np.ptp(_present(points), axis=0), 1e-9) - MARGIN


def _bounds(shape, points, size):
    """Where a centred crop starts, at least 0, and the last place where one can, along each axis."""
    there = _present(points)
    middle = (there.min(axis=0) + there.max(axis=0)) / 2
    firsts = [max(0, int(at - width / 2)) for at, width in zip(middle, size)]
    return firsts, [length - width for length, width in zip(shape, size)]


def _cut(volume, points, starts, size):
    """The box of this size; all zeros if the volume is smaller, as in the reference."""
    starts = [max(start, 0) for start in starts]
    box = volume[tuple(slice(start, start + width) for start, width in zip(starts, size))]
    return (box if box.shape == tuple(size) else np.zeros(size, volume.dtype)), points - starts
