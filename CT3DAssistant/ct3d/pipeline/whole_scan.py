"""A whole scan before the shared encoder: one look at the body, and where the head places each cell.

The look is kept with the volume, so that whoever needs the encoder's features doesn't encode it again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ct3d.cards import ModelCard
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.models.layers import Size3
from ct3d.models.spatial_ssl import UNIT_MM
from ct3d.models.threedme import MULTIPLE, PATCH, Features
from ct3d.pipeline.chest_look import LOOK_KJI, LOOK_MM, chest_levels
from ct3d.pipeline.encoder_input import BodyView, as_seen, body_view
from ct3d.pipeline.job import Job
from ct3d.protocol.tasks import VolumeRef

WHOLE_KJI = (64, 96, 96)
FINEST_MM = 3.0  # of the grid
CELL_BODY = 0.25  # share of a cell that must be body for its place to count
AXES = {"right": 4, "front": 3, "up": 2}  # of the body → of an image (B, C, D, H, W); in the order R, A, S


@dataclass(frozen=True, eq=False)
class WholeScan:
    """The body of a CT on the finest grid that WHOLE_KJI holds.

    Attributes:
        image: (1, 1, D, H, W) in [-1, 1]; I, J, K grow toward R, A, S.
        spacing_mm: of its cubic voxels.
        body: (D, H, W) bool.
        is_body: (D/8, H/8, W/8) bool, cells that the body fills to a quarter or more.
        cells_ras: (N, 3) mm, centres of those cells.
        coarse: the body at LOOK_MM.
    """

    image: Tensor
    spacing_mm: float
    body: np.ndarray
    is_body: Tensor
    cells_ras: np.ndarray
    coarse: BodyView


def whole_scan(volume: Volume) -> WholeScan:
    """See WholeScan.

    Raises:
        InvalidRequest: there is no body in it.
    """
    coarse = body_view(volume, (LOOK_MM,) * 3)
    extent = np.array(coarse.body.shape) * LOOK_MM
    spacing = max(FINEST_MM, float((extent / np.array(WHOLE_KJI)).max()) * 1.01)
    view = body_view(volume, (spacing,) * 3)
    padding = [(short // 2, short - short // 2) for short in (-n % MULTIPLE for n in view.body.shape)]
    image = torch.from_numpy(np.pad(as_seen(view.seen.array), padding, constant_values=-1.0))[None, None]
    body = np.pad(view.body, padding)
    is_body = F.avg_pool3d(torch.from_numpy(body).float()[None], PATCH)[0] > CELL_BODY
    first = np.array([before for before, _ in padding])
    cells_kji = PATCH * np.argwhere(is_body.numpy()) + (PATCH - 1) / 2 - first
    return WholeScan(image, spacing, body, is_body, ras_from_kji(cells_kji, view.seen.ijk_to_ras), coarse)


@torch.inference_mode()
def encoded(model: Any, scan: WholeScan, mirrored: str = "") -> Features:
    """What a SharedEncoder sees of a scan, or of its mirror image along an axis of AXES."""
    image = scan.image.flip(AXES[mirrored]) if mirrored else scan.image
    return model.encoder(image, torch.full((1, 3), scan.spacing_mm))


@torch.inference_mode()
def points_mm(model: Any, scan: WholeScan, features: Features) -> np.ndarray:
    """(N, 3) where the coordinate head places the body's cells, in mm of its own frame along R, A, S."""
    cells = model.spatial.cells(features.f8)[0]
    return UNIT_MM * cells[scan.is_body].flip(-1).numpy()


@torch.inference_mode()
def mirrored_points_mm(model: Any, scan: WholeScan, axis: str) -> np.ndarray:
    """`points_mm` of the scan's mirror image, each by the cell that it is the image of."""
    features = encoded(model, scan, axis)
    cells = model.spatial.cells(features.f8)[0].flip(AXES[axis] - 2)
    return UNIT_MM * cells[scan.is_body].flip(-1).numpy()


def slopes(points: np.ndarray, cells_ras: np.ndarray) -> np.ndarray:
    """(3,) mm by the head for each mm by the header, along R, A and S; below 0 where an axis is mirrored."""
    found, true = points - points.mean(0), cells_ras - cells_ras.mean(0)
    return (found * true).sum(0) / np.maximum((true**2).sum(0), 1e-6)


def margins(
    model: Any, scan: WholeScan, points: np.ndarray, check: Callable[[], None] = lambda: None
) -> np.ndarray:
    """(3,) along R, A, S: by how much the scan as stored fits its header better than its mirror image would.

    The model is asked both ways round, so that what it always says, whichever way a scan lies, cancels out.
    Along A and S margins are sums of `slopes`; along R it is the logarithm of the odds by the net for sides,
    0 where no chest is shown. `check` is called before each look and may raise.
    """
    found = slopes(points, scan.cells_ras)
    check()
    found[0] = side_margin(model, scan)
    for n, axis in ((1, "front"), (2, "up")):
        check()
        found[n] += slopes(mirrored_points_mm(model, scan, axis), scan.cells_ras)[n]
    return found


@torch.inference_mode()
def side_margin(model: Any, scan: WholeScan) -> float:
    """Mean over looks at the chest; 0 where none is shown."""
    looks = chest_looks(scan.coarse)
    return float(model.sides.margins(looks).mean()) if len(looks) else 0.0


def chest_looks(view: BodyView) -> Tensor:
    """(N, 1, *LOOK_KJI) about the chest's middle, at levels of the lungs half a look apart.

    Args:
        view: at LOOK_MM. Beyond it there is air.
    """
    image, body = as_seen(view.seen.array), view.body
    levels = np.flatnonzero(chest_levels(image, body, view.seen.spacing_kji_mm))
    if not len(levels):
        return torch.zeros((0, 1, *LOOK_KJI))
    height = levels[-1] + 1 - levels[0]
    count = max(1, round(height / (LOOK_KJI[0] // 2)))
    middle = np.argwhere(body[levels])[:, 1:].mean(0) + 0.5  # from the first voxel's rim, as levels are
    middles = [(levels[0] + (n + 0.5) * height / count, *middle) for n in range(count)]
    corners = np.rint(middles).astype(int) - np.array(LOOK_KJI) // 2
    return crops_of(torch.from_numpy(image), corners, LOOK_KJI)


def crops_of(image: Tensor, corners: np.ndarray, shape_kji: Size3) -> Tensor:
    """(V, 1, D, H, W) of an image (K, J, I): views that begin at voxels (V, 3); beyond the image, air."""
    padded = F.pad(image, [side for size in reversed(shape_kji) for side in (size, size)], value=-1.0)
    boxes = [tuple(slice(c + n, c + 2 * n) for c, n in zip(corner, shape_kji)) for corner in corners.tolist()]
    return torch.stack([padded[box] for box in boxes])[:, None]


def seen_of(ref: VolumeRef, card: ModelCard, job: Job, model: Any) -> tuple[WholeScan, Features]:
    """The whole scan and the encoder's features of it, kept with the volume."""

    def make() -> tuple[WholeScan, Features]:
        scan = whole_scan(job.volume(ref))
        job.check()
        return scan, encoded(model, scan)

    return job.remember(("encoded", ref, card.sha256), make)
