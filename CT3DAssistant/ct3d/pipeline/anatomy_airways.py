"""Trachea and main bronchi on a canonical RAS grid: a dark round column, grown as far as it doesn't leak."""

import numpy as np
from scipy import ndimage

from ct3d.pipeline.anatomy_lungs import Grid
from ct3d.pipeline.anatomy_masks import IN_SLICE, grown, grown_from, opened
from ct3d.pipeline.anatomy_points import carina
from ct3d.pipeline.job import Job

COLUMN_HU = -750  # the lumen of a trachea, also in voxels of 4 mm
AREA_MM2 = (40.0, 900.0)  # of a trachea's cross-section
SHORTEST_MM = 24.0  # of a column that is taken for a trachea
LARGEST_ML = 130.0  # trachea and main bronchi; more has leaked into the lung
MAIN_BRONCHUS_MM = 38.0  # from the carina; the left main bronchus is about 50 mm long, the right 25
FOLLOW_MM = 60.0  # below the last round cross-section
THRESHOLDS_HU = (-940, -915, -890, -865, -840, -815, -790, -765, -740, -700, -660, -620, -580)


def find_airways(grid: Grid, body: np.ndarray, spine_mm: float, job: Job) -> np.ndarray:
    """Lumen of trachea and main bronchi; empty where no trachea is seen.

    The seed is the longest chain of round dark spots near the middle of the body. Region growing then raises
    its threshold until the next step would leak (volume beyond reason, or a jump), and thin branches are cut.
    """
    seed = _column(grid, body, spine_mm, job)
    if not seed.any():
        return seed
    grown_air = _grown_without_leak(grid, body, seed, job)
    job.check()
    tree = _without_thin_branches(grid, grown_air, seed)
    if carina(tree, grid.spacing) is None:
        tree |= _followed_down(grid, body, seed, job)
    return _without_far_branches(grid, tree)


def _column(grid, body, spine_mm, job):
    dark = body & (grid.hu < COLUMN_HU)
    labels, count = ndimage.label(dark, structure=IN_SLICE)
    job.check()
    boxes = ndimage.find_objects(labels)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    keep = np.zeros(count + 1, bool)
    for n, box in enumerate(boxes, 1):
        keep[n] = _is_round(grid, box, sizes[n]) and _is_central(grid, box, spine_mm)
    spots = keep[labels]
    job.check()
    chains, count = ndimage.label(spots)
    if not count:
        return np.zeros_like(body)
    scores = [_score(grid, chains, n, box) for n, box in enumerate(ndimage.find_objects(chains), 1)]
    best = int(np.argmax(scores))
    return chains == best + 1 if scores[best] > 0 else np.zeros_like(body)


def _is_round(grid, box, size):
    _, dj, di = grid.spacing
    area = size * dj * di
    height, width = ((s.stop - s.start) * d for s, d in zip(box[1:], (dj, di)))
    is_full = size >= 0.5 * (box[1].stop - box[1].start) * (box[2].stop - box[2].start)
    return AREA_MM2[0] <= area <= AREA_MM2[1] and max(height, width) <= 2.6 * min(height, width) and is_full


def _is_central(grid, box, spine_mm):
    _, height, width = grid.hu.shape
    is_inside = box[2].start > 0 and box[2].stop < width and box[1].start > 0 and box[1].stop < height
    return is_inside and abs(grid.x_mm[box[2]].mean() - spine_mm) < 50.0


def _score(grid, chains, n, box):
    """Length of a chain in mm where it is dark and steep enough, else 0."""
    part = chains[box] == n
    length, height, width = ((s.stop - s.start) * d for s, d in zip(box, grid.spacing))
    darkness = np.median(grid.hu[box][part])
    is_steep = length > 0.7 * max(height, width)
    return length if length >= SHORTEST_MM and is_steep and darkness < -880 else 0.0


def _grown_without_leak(grid, body, seed, job):
    best, last_ml = seed, np.count_nonzero(seed) * grid.voxel_ml
    for threshold in THRESHOLDS_HU:
        job.check()
        tree = grown_from(seed, body & (grid.hu < threshold))
        ml = np.count_nonzero(tree) * grid.voxel_ml
        if ml > LARGEST_ML or (ml > 25.0 and ml > 1.7 * last_ml):
            break
        if ml > 0:
            best, last_ml = tree | seed, ml
    return best


def _without_thin_branches(grid, tree, seed):
    wide = opened(tree, 3.2, grid.spacing) | seed
    wide = grown_from(seed, wide)
    return tree & grown(wide, grid.spacing[1], grid.spacing)


def _followed_down(grid, body, seed, job):
    """Coarse scans leak through thin bronchial walls: below the seed each slice has its own threshold."""
    tree = np.zeros_like(seed)
    start = int(np.flatnonzero(seed.any(axis=(1, 2)))[0])
    above = seed[start]
    for k in range(start - 1, max(-1, start - 1 - int(FOLLOW_MM / grid.spacing[0])), -1):
        job.check()
        here = _next_slice(grid, body[k], grid.hu[k], above)
        if here is None:
            break
        tree[k], above = here, here
    return tree


def _next_slice(grid, body, hu, above):
    """The darkest neighbours below a cross-section, at the highest threshold at which they stay small."""
    pixel_mm2 = grid.spacing[1] * grid.spacing[2]
    near = ndimage.binary_dilation(above, iterations=2)
    limit = 1.5 * np.count_nonzero(above) * pixel_mm2 + 60.0
    for threshold in reversed(THRESHOLDS_HU):
        labels, count = ndimage.label(body & (hu < threshold))
        touched = np.unique(labels[near & (labels > 0)])
        spots = np.isin(labels, touched) & (labels > 0)
        area = np.count_nonzero(spots) * pixel_mm2
        if count and AREA_MM2[0] / 2 < area < limit:
            return spots
    return None


def _without_far_branches(grid, tree):
    """The tree down to the ends of the main bronchi, by distance from the carina where one is seen."""
    split = carina(tree, grid.spacing)
    if split is None:
        return tree
    low = slice(0, int(split[0]))
    k, j, i = np.ogrid[low, : tree.shape[1], : tree.shape[2]]
    far2 = sum(((n - c) * d) ** 2 for n, c, d in zip((k, j, i), split, grid.spacing))
    result = tree.copy()
    result[low] &= far2 < MAIN_BRONCHUS_MM**2
    return result
