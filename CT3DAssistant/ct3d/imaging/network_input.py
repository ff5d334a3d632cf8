"""What a net of heat maps is given: HU in [0, 1], and which voxels are known at all.

Training and inference both build their input here. Unknown is not air: a voxel is unknown beyond the field of
view (the corners of an oblique scan on an aligned grid, the padding of a window) and where the scanner or a
data set left a hole in it.
"""

import numpy as np

from ct3d.imaging.resample import resample_onto
from ct3d.imaging.volume import Volume

PADDING_HU = -1500  # below: no tissue and no air, but what is written around a round field of view
WHOLE = 254  # of 255; a voxel made of known ones only


def network_input(
    seen: Volume, value_range: tuple[float, float], known: np.ndarray | None = None
) -> np.ndarray:
    """The two channels that a net sees of a volume on the card's grid.

    Args:
        seen: HU on the grid of the card (see `prepare`).
        value_range: HU that become 0 and 1; values beyond are clipped.
        known: (K, J, I) bool; None: every voxel. A value that is no number is unknown in any case.

    Returns:
        (2, K, J, I) float32: HU in [0, 1] and 0 where unknown; 1 where known and 0 where not.
    """
    low, high = value_range
    is_known = np.isfinite(seen.array) if known is None else known & np.isfinite(seen.array)
    scaled = (np.clip(seen.array.astype(np.float32), low, high) - np.float32(low)) / np.float32(high - low)
    return np.stack([np.where(is_known, scaled, np.float32(0)), is_known.astype(np.float32)])


def known_voxels(volume: Volume, seen: Volume, has_data: np.ndarray | None = None) -> np.ndarray:
    """Which voxels of the grid of `seen` are made of this volume's own values alone.

    Those beyond its field of view are not, nor those to which a value below PADDING_HU, one that is no number
    or one without data contributed.

    Args:
        volume: on its native grid.
        seen: the same volume on the card's grid (see `prepare`).
        has_data: (K, J, I) bool on the native grid; None: every voxel has.

    Returns:
        (K, J, I) bool, on the grid of `seen`.
    """
    has_value = volume.array >= PADDING_HU
    if has_data is not None:
        has_value &= has_data
    if has_value.all():
        return _inside(volume, seen)
    weight = Volume(has_value.astype(np.uint8) * np.uint8(255), volume.ijk_to_ras)
    return resample_onto(weight, seen.ijk_to_ras, seen.array.shape, fill=0).array >= WHOLE


def _inside(volume, seen):
    """Which voxel centres of `seen` lie in the voxels of the volume."""
    to_volume = np.linalg.inv(volume.ijk_to_ras) @ seen.ijk_to_ras
    k, j, i = np.ogrid[tuple(slice(0, n) for n in seen.array.shape)]
    inside = np.ones(seen.array.shape, bool)
    for size, (a, b, c, d) in zip(volume.array.shape[::-1], to_volume[:3], strict=True):
        place = a * i + b * j + c * k + d
        inside &= (place >= -0.5 - 1e-6) & (place <= size - 0.5 + 1e-6)
    return inside
