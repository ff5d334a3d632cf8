"""What the shared encoder is shown of a CT: the body alone, on a straight grid.

Table, clothes and the rim of the field of view tell where in a scan one is, so they are turned to air
(spatial_ssl.md section 6.7). Training and inference both cut the body out here.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ct3d.errors import InvalidRequest
from ct3d.imaging.resample import resample
from ct3d.imaging.volume import Volume, cut_to
from ct3d.models.threedme import HIGH_HU, LOW_HU
from ct3d.pipeline.anatomy_masks import BODY_HU, body_parts, box_around

OPENING_MM = 6.0  # a bridge thinner than this joins no table to the body
LEAST_VOXELS = 512


@dataclass(frozen=True, eq=False)
class BodyView:
    """A CT cut to the body.

    Attributes:
        seen: HU between -1000 and 1000, int16; -1000 outside the body. I, J, K grow toward R, A, S.
        body: (K, J, I) bool.
    """

    seen: Volume
    body: np.ndarray


def body_view(
    volume: Volume, spacing_kji_mm: tuple[float, float, float], has_data: np.ndarray | None = None
) -> BodyView:
    """The body of a CT on a straight grid.

    Args:
        volume: on its native grid.
        spacing_kji_mm: of the result.
        has_data: (K, J, I) bool on the native grid, where a data set withheld voxels; None: nowhere.

    Raises:
        InvalidRequest: there is no body in it.
    """
    if has_data is not None:
        volume = Volume(np.where(has_data, volume.array, np.int16(LOW_HU)), volume.ijk_to_ras)
    seen = resample(volume, spacing_kji_mm=spacing_kji_mm)
    body = _body(seen)
    if np.count_nonzero(body) < LEAST_VOXELS:
        raise InvalidRequest("No body was found in this volume. Choose a CT of a person.")
    box = box_around(body, margin_mm=max(spacing_kji_mm), spacing_kji_mm=seen.spacing_kji_mm)
    hu = np.where(body, np.clip(seen.array, LOW_HU, HIGH_HU), LOW_HU).astype(np.int16)
    return BodyView(cut_to(Volume(hu, seen.ijk_to_ras), box), body[box])


def as_seen(hu: np.ndarray) -> np.ndarray:
    """HU as the encoder takes them: float32, -1 to 1."""
    return (2 * (hu.astype(np.float32) - LOW_HU) / (HIGH_HU - LOW_HU) - 1).astype(np.float32)


def _body(seen):
    """(K, J, I) bool: the body with what it holds, each axial slice by itself."""
    dense = seen.array > BODY_HU
    if not dense.any():
        return dense
    reach = [max(1, round(OPENING_MM / 2 / each)) for each in seen.spacing_kji_mm[1:]]
    cross = np.ones((1, 2 * reach[0] + 1, 2 * reach[1] + 1), bool)
    opened = ndimage.binary_opening(dense, cross)
    if not opened.any():
        opened = dense
    kept = ndimage.binary_dilation(body_parts(opened), cross) & dense
    return np.stack([ndimage.binary_fill_holes(each) for each in kept])
