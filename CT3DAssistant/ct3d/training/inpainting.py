"""Hidden voxels filled in from visible ones without any learning: what a reconstruction has to beat.

threedme.md section 8.8 [R].
"""

import numpy as np
from scipy import ndimage


def linear(image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Trilinear inpainting: along each axis the line between the nearest visible voxels, the three averaged.

    A line counts by how near its nearer end is; beyond the last visible voxel of an axis its value goes on.
    Where a voxel has no visible one along any axis, the nearest in space stands in.

    Args:
        image: (D, H, W); hidden voxels are not looked at.
        hidden: (D, H, W) bool.
    """
    total, weight = np.zeros(image.shape), np.zeros(image.shape)
    for axis in range(3):
        values, near = _along(np.moveaxis(image, axis, 0), np.moveaxis(hidden, axis, 0))
        share = np.where(np.isfinite(near), 1 / np.maximum(near, 1), 0)
        total += np.moveaxis(values * share, 0, axis)
        weight += np.moveaxis(share, 0, axis)
    nearest = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
    filled = np.where(weight > 0, total / np.maximum(weight, 1e-12), image[tuple(nearest)])
    return np.where(hidden, filled, image)


def _along(image, hidden):
    """Values on the lines along the first axis, and how far the nearer end is; inf where there is none."""
    size = len(image)
    index = np.broadcast_to(np.arange(size).reshape(-1, 1, 1), image.shape)
    before = np.maximum.accumulate(np.where(hidden, -1, index), axis=0)
    after = np.minimum.accumulate(np.where(hidden, size, index)[::-1], axis=0)[::-1]
    has_before, has_after = before >= 0, after < size
    low, high = (np.take_along_axis(image, np.clip(each, 0, size - 1), 0) for each in (before, after))
    low, high = np.where(has_before, low, high), np.where(has_after, high, low)
    to_low, to_high = (
        np.where(has, np.abs(index - at), np.inf) for has, at in ((has_before, before), (has_after, after))
    )
    share = np.where(has_before & has_after, (index - before) / np.maximum(after - before, 1), 0)
    return low + (high - low) * share, np.minimum(to_low, to_high)
