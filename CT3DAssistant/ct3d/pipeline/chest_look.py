"""Where a scan shows a chest, and how one is looked at to tell its sides.

Training and inference both ask here. It needs no more than numpy and scipy, as training does.
"""

import numpy as np
from scipy import ndimage

from ct3d.models.threedme import HIGH_HU

LUNG_HU = -450  # below it, air or lung
LUNG_CM2 = 40.0  # in a slice: more than airways and sinuses have
CHEST_MM = 30.0  # of such slices on end: a chest is shown, not just the tips of the lungs
LOOK_KJI = (32, 80, 112)  # voxels of a look
LOOK_MM = 4.0  # of its cubic voxels


def chest_levels(
    seen: np.ndarray, body: np.ndarray, spacing_kji_mm: tuple[float, float, float]
) -> np.ndarray:
    """(K,) bool, slices on end that have lungs; none where they are too few for a chest.

    Args:
        seen: (K, J, I), -1 to 1 for LOW_HU to HIGH_HU.
        body: (K, J, I) bool.
        spacing_kji_mm: of both.
    """
    height, *sides = spacing_kji_mm
    is_lung = body & (seen < LUNG_HU / HIGH_HU)
    runs, _ = ndimage.label(is_lung.sum((1, 2)) * np.prod(sides) > 100 * LUNG_CM2)
    lengths = np.bincount(runs)[1:]
    if not len(lengths) or lengths.max() * height < CHEST_MM:
        return np.zeros(len(runs), bool)
    return runs == 1 + lengths.argmax()
