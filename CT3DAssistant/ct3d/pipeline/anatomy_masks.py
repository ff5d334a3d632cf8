"""Mask arithmetic in millimetres, each word a filter of SimpleITK or scipy. Arrays are (K, J, I)."""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

BODY_HU = -400  # of what is dense
PART_OF_BODY = 0.1  # of the largest part's voxels
IN_SLICE = np.array([[[0, 0, 0]] * 3, [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0, 0, 0]] * 3], bool)


def distance_mm(mask: np.ndarray, spacing_kji_mm: tuple[float, float, float]) -> np.ndarray:
    """Signed distance to the edge of the mask in mm, negative inside, float32."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing_kji_mm[::-1])
    distance = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    return sitk.GetArrayFromImage(distance)


def grown(mask: np.ndarray, radius_mm: float, spacing_kji_mm: tuple[float, float, float]) -> np.ndarray:
    """All voxels within `radius_mm` of the mask."""
    return _near(mask, radius_mm, spacing_kji_mm, margin_mm=radius_mm)


def shrunk(mask: np.ndarray, radius_mm: float, spacing_kji_mm: tuple[float, float, float]) -> np.ndarray:
    """The voxels of the mask farther than `radius_mm` from its outside; the volume's edge is no outside."""
    return ~grown(~mask, radius_mm, spacing_kji_mm)


def opened(mask: np.ndarray, radius_mm: float, spacing_kji_mm: tuple[float, float, float]) -> np.ndarray:
    """The mask without what is thinner than twice `radius_mm`."""
    return grown(shrunk(mask, radius_mm, spacing_kji_mm), radius_mm, spacing_kji_mm) & mask


def closed(mask: np.ndarray, radius_mm: float, spacing_kji_mm: tuple[float, float, float]) -> np.ndarray:
    """The mask with gaps and notches narrower than twice `radius_mm` filled; outside is empty."""
    box = box_around(mask)
    result = mask.copy()
    if not mask[box].size:
        return result
    margins = [int(np.ceil(radius_mm / spacing)) + 1 for spacing in spacing_kji_mm]
    padded = np.pad(mask[box], [(margin, margin) for margin in margins])
    full = shrunk(grown(padded, radius_mm, spacing_kji_mm), radius_mm, spacing_kji_mm)
    result[box] |= full[tuple(slice(margin, -margin) for margin in margins)]
    return result


def body_parts(dense: np.ndarray) -> np.ndarray:
    """The parts of what is dense that are body; a smaller part is table, blanket or noise."""
    return parts_above(dense, PART_OF_BODY * np.count_nonzero(largest_part(dense)))


def box_around(
    mask: np.ndarray, *, margin_mm: float = 0.0, spacing_kji_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> tuple[slice, slice, slice]:
    """The smallest box that holds the mask and a margin, cut at the volume's edge; empty for no mask."""
    slices = []
    for axis, spacing in enumerate(spacing_kji_mm):
        other = tuple(n for n in range(3) if n != axis)
        filled = np.flatnonzero(mask.any(axis=other))
        if not filled.size:
            return (slice(0, 0),) * 3
        margin = int(np.ceil(margin_mm / spacing))
        slices.append(slice(max(0, filled[0] - margin), min(mask.shape[axis], filled[-1] + 1 + margin)))
    return tuple(slices)


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest connected part; empty for an empty mask."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask.copy()
    return labels == np.bincount(labels.ravel())[1:].argmax() + 1


def parts_above(mask: np.ndarray, voxels: float) -> np.ndarray:
    """The mask without connected parts smaller than `voxels`."""
    labels, _ = ndimage.label(mask)
    keep = np.bincount(labels.ravel()) >= voxels
    keep[0] = False
    return keep[labels]


def filled_in_slices(mask: np.ndarray) -> np.ndarray:
    """The mask with what it encloses within each axial slice."""
    labels, count = ndimage.label(~mask, structure=IN_SLICE)
    edge = np.zeros(count + 1, bool)
    for side in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        edge[np.unique(side)] = True
    edge[0] = False
    return ~edge[labels]


def grown_from(seed: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The connected parts of the mask that hold a voxel of the seed."""
    labels, count = ndimage.label(mask)
    keep = np.zeros(count + 1, bool)
    keep[np.unique(labels[seed & mask])] = True
    keep[0] = False
    return keep[labels]


def _near(mask, radius_mm, spacing_kji_mm, margin_mm):
    box = box_around(mask, margin_mm=margin_mm, spacing_kji_mm=spacing_kji_mm)
    result = np.zeros_like(mask)
    if mask[box].size:
        result[box] = distance_mm(mask[box], spacing_kji_mm) <= radius_mm
    return result
