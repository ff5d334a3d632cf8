"""Points of the anatomy, read off masks on a canonical RAS grid: K to head, J to front, I to right."""

import numpy as np
from scipy import ndimage

from ct3d.pipeline.anatomy_masks import IN_SLICE, largest_part

BRANCH_MM2 = 25.0  # smallest cross-section of a main bronchus
APART_MM = 9.0  # how far below the carina both main bronchi must still be apart
ARCH_MM2 = 450.0  # cross-section of the arch just below its top; its branches have less
CONTRAST_HU = 130  # blood with contrast medium lies above
# where a lung's dome is sought; True: the heart lies on this side
OUTER_SHARE = {True: 0.55, False: 0.65}  # of its width from outside
BACK_SHARE = {True: 0.55, False: 0.75}  # of its depth from the back


def carina(airways: np.ndarray, spacing_kji_mm: tuple[float, float, float]) -> np.ndarray | None:
    """Where the trachea divides, as continuous (k, j, i): the ridge between the two main bronchi.

    Found from below: the highest slice pair in which two cross-sections, side by side, become one.
    None where no such division is seen.
    """
    labels, _ = ndimage.label(airways, structure=IN_SLICE)
    depth = max(1, int(round(APART_MM / spacing_kji_mm[0])))
    for k in range(len(airways) - 2, depth - 1, -1):
        pair = _bronchi_that_join(labels, k, spacing_kji_mm)
        if pair is not None and _stays_apart(labels, k, pair, depth, spacing_kji_mm):
            return _between(labels[k], pair, k)
    return None


def _bronchi_that_join(labels, k, spacing):
    """Labels in slice k of the two largest cross-sections that meet the same one in slice k + 1."""
    area = spacing[1] * spacing[2]
    upper, lower = labels[k + 1], labels[k]
    for above in np.unique(upper[upper > 0]):
        under, sizes = np.unique(lower[(upper == above) & (lower > 0)], return_counts=True)
        wide = [
            n for n, size in zip(under, sizes) if np.count_nonzero(lower == n) * area > BRANCH_MM2 and size
        ]
        if len(wide) >= 2:
            wide.sort(key=lambda n: -np.count_nonzero(lower == n))
            return wide[0], wide[1]
    return None


def _stays_apart(labels, k, pair, depth, spacing):
    """Whether both go on downward for `depth` slices and don't meet again, one right of the other."""
    one, two = labels[k] == pair[0], labels[k] == pair[1]
    for lower in range(k - 1, k - depth - 1, -1):
        one = _continued(labels[lower], one)
        two = _continued(labels[lower], two)
        if not one.any() or not two.any() or (one & two).any():
            return False
    columns = [np.nonzero(each)[1].mean() for each in (labels[k] == pair[0], labels[k] == pair[1])]
    return abs(columns[0] - columns[1]) * spacing[2] > 6.0


def _continued(slice_labels, mask):
    under = np.unique(slice_labels[mask & (slice_labels > 0)])
    return np.isin(slice_labels, under) if under.size else np.zeros_like(mask)


def _between(slice_labels, pair, k):
    """Middle of the gap between two cross-sections, half a slice above their slice."""
    one, two = (np.argwhere(slice_labels == n) for n in pair)
    distance = np.linalg.norm(one[:, None] - two[None], axis=2)
    a, b = np.unravel_index(distance.argmin(), distance.shape)
    j, i = (one[a] + two[b]) / 2
    return np.array([k + 0.5, j, i])


def end_of(
    mask: np.ndarray, spacing_kji_mm: tuple[float, float, float], *, is_top: bool
) -> np.ndarray | None:
    """The highest or lowest place of a mask as (k, j, i): the middle of its outermost 3 mm."""
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    if not slices.size:
        return None
    thick = max(1, round(3.0 / spacing_kji_mm[0]))
    first = slices[-1] + 1 - thick if is_top else slices[0]
    slab = slice(max(0, int(first)), int(first) + thick)
    _, j, i = np.argwhere(largest_part(mask[slab])).mean(axis=0)
    return np.array([slices[-1] if is_top else slices[0], j, i], float)


def aortic_arch(
    vessels: np.ndarray,
    hu: np.ndarray,
    split_kji: np.ndarray | None,
    spacing_kji_mm: tuple[float, float, float],
) -> np.ndarray | None:
    """Top of the aortic arch as (k, j, i): highest wide contrast-filled cross-section left of the trachea.

    None without contrast medium, without carina, or where no such cross-section lies above it.
    """
    if split_kji is None:
        return None
    k0, _, i0 = (round(float(c)) for c in split_kji)
    reach = slice(0, max(0, i0 + round(10.0 / spacing_kji_mm[2])))
    for k in range(min(len(vessels) - 1, k0 + round(70.0 / spacing_kji_mm[0])), k0, -1):
        spot = largest_part(vessels[k, :, reach] & (hu[k, :, reach] > CONTRAST_HU))
        if np.count_nonzero(spot) * spacing_kji_mm[1] * spacing_kji_mm[2] > ARCH_MM2:
            return np.array([k, *np.argwhere(spot).mean(axis=0)])
    return None


def dome(
    lung: np.ndarray,
    is_right: bool,
    spacing_kji_mm: tuple[float, float, float],
    *,
    has_heart: bool | None = None,
) -> np.ndarray | None:
    """Top of the diaphragm under a lung, as (k, j, i): highest point of its under-surface off the heart.

    Args:
        has_heart: whether the heart may lie on this side, so that less is searched; None: on the left.
    """
    shadow = lung.any(axis=0)
    if not shadow.any():
        return None
    rows, columns = np.flatnonzero(shadow.any(axis=1)), np.flatnonzero(shadow.any(axis=0))
    from_back = (np.arange(shadow.shape[0]) - rows[0]) / max(1, rows[-1] - rows[0])
    from_left = (np.arange(shadow.shape[1]) - columns[0]) / max(1, columns[-1] - columns[0])
    from_outside = 1 - from_left if is_right else from_left
    has_heart = not is_right if has_heart is None else has_heart
    is_back, is_outer = from_back <= BACK_SHARE[has_heart], from_outside <= OUTER_SHARE[has_heart]
    radius = max(1, round(6.0 / spacing_kji_mm[1]))
    core = ndimage.binary_erosion(shadow, iterations=radius) & is_back[:, None] & is_outer[None, :]
    if not core.any():
        return None
    smooth = ndimage.median_filter(lung.argmax(axis=0).astype(float), 2 * (radius // 2) + 1)
    j, i = np.unravel_index(np.where(core, smooth, -1).argmax(), smooth.shape)
    return np.array([smooth[j, i], j, i], float)
