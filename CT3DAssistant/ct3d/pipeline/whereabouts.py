"""How well the shared encoder knows where it is in a scan: its coordinate head against the scan's own grid.

A few crops of the body are looked at one by one, each without a word about where it was cut out, and once the
whole scan. What the head says of them is compared with where they truly lie; nobody's truth is needed but the
header's. Where the two disagree for the whole scan, the header may be wrong (spatial_ssl.md section 11).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ct3d.cards import ModelCard
from ct3d.errors import InvalidRequest
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.models.side_net import SideNet
from ct3d.models.spatial_ssl import (
    CHUNK,
    UNIT_MM,
    HeadConfig,
    SpatialHead,
    chunk_alike,
    chunk_starts,
    layout,
    watched,
)
from ct3d.models.threedme import Config, Decoder, Encoder
from ct3d.pipeline.encoder_input import as_seen, body_view
from ct3d.pipeline.landmark_net import load_weights
from ct3d.pipeline.whole_scan import crops_of, encoded, points_mm, slopes, whole_scan

VIEW_KJI = (32, 48, 48)
VIEW_MM = 4.0
VIEWS = 6
BATCH = 2


class SharedEncoder(nn.Module):
    """The encoder, its coordinate head and the decoder of hidden voxels, as pretrained; the net for sides."""

    def __init__(self, card: ModelCard, weights: Path | None = None):
        super().__init__()
        config = Config(**card.config)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.spatial = SpatialHead(HeadConfig(dim=config.dim, chunk_dim=config.stem[1]))
        self.sides = SideNet()
        if weights is not None:
            load_weights(self, weights)
        self.eval()


@dataclass(frozen=True, eq=False)
class Whereabouts:
    """What the coordinate head says of a scan, beside what its header says; all in RAS mm.

    Attributes:
        seen: the body at 4 mm, which the views were cut from.
        centers_ras: (V, 3) where the views truly lie.
        points_mm: (V, 3) where they lie by the point head; its origin is anywhere.
        edges_mm: (V, V, 3) from view i to view j by the edge head.
        pairs: (P, 2) views whose parts were told apart.
        chunks_ras: (P, 4, 3) centres of their near parts and of their far ones, view i before view j.
        alike: (P, 2) likeness of the near parts and of the far ones.
        slopes: (3,) how far the whole scan's cells move by the head for each mm by the header, along R, A, S:
            about 1 where both agree, below 0 where an axis is mirrored.
    """

    seen: Volume
    centers_ras: np.ndarray
    points_mm: np.ndarray
    edges_mm: np.ndarray
    pairs: np.ndarray
    chunks_ras: np.ndarray
    alike: np.ndarray
    slopes: np.ndarray

    @property
    def gaps_mm(self) -> np.ndarray:
        """(V, V, 3) true vectors from view i to view j."""
        return self.centers_ras[None] - self.centers_ras[:, None]

    def scores(self) -> dict[str, float]:
        """What a person can watch, in mm, degrees and shares."""
        points = self.points_mm - self.points_mm.mean(0) - self.centers_ras + self.centers_ras.mean(0)
        edges = torch.from_numpy(self.edges_mm).double()[None]
        lengths, degrees, ends = watched(edges, torch.from_numpy(self.gaps_mm).double()[None])
        return {
            "gap_error_mm": _median(lengths),
            "arrow_error_deg": _median(degrees),
            "ranking": float((self.alike[:, 0] > self.alike[:, 1]).mean()) if len(self.alike) else np.nan,
            "closure_mm": _median(ends),
            "inconsistency_mm": float(layout(edges)[1][0]),
            "place_error_mm": _median(np.linalg.norm(points, axis=1)),
        }


@torch.inference_mode()
def whereabouts(volume: Volume, model: SharedEncoder, views: int = VIEWS) -> Whereabouts:
    """Ask the coordinate head about a scan.

    Args:
        volume: on its native grid.
        model: in the processor's memory.
        views: how many crops.

    Raises:
        InvalidRequest: there is no body, or it is too small for two crops that lie apart.
    """
    view = body_view(volume, (VIEW_MM,) * 3)
    corners = _corners(view.body, views)
    image = torch.from_numpy(as_seen(view.seen.array))
    crops = crops_of(image, corners, VIEW_KJI)
    spacing = torch.full((1, 3), VIEW_MM)
    maps = [model.encoder(part, spacing.expand(len(part), 3)) for part in crops.split(BATCH)]
    seen = model.spatial.views(torch.cat([each.f8 for each in maps]))[None]
    centers_kji = corners + (np.array(VIEW_KJI) - 1) / 2
    pairs, chunks, alike = _parts(model.spatial, torch.cat([each.f4 for each in maps]), centers_kji)
    return Whereabouts(
        seen=view.seen,
        centers_ras=ras_from_kji(centers_kji, view.seen.ijk_to_ras),
        points_mm=_ras(model.spatial.points(seen)[0]),
        edges_mm=_ras(model.spatial.edges(seen)[0]),
        pairs=pairs,
        chunks_ras=ras_from_kji(chunks.reshape(-1, 3), view.seen.ijk_to_ras).reshape(-1, 4, 3),
        alike=alike,
        slopes=_slopes(volume, model),
    )


def _corners(body: np.ndarray, count: int) -> np.ndarray:
    """(V, 3) first voxels of views about places as far from one another as can be, each well in the body."""
    inside = np.argwhere(body[::2, ::2, ::2]) * 2
    margin = np.minimum(np.array(VIEW_KJI) // 3, (np.array(body.shape) - 1) // 3)
    is_well_in = ((inside >= margin) & (inside < np.array(body.shape) - margin)).all(1)
    inside = inside[is_well_in] if is_well_in.any() else inside
    chosen = [inside[np.linalg.norm(inside - inside.mean(0), axis=1).argmin()]]
    while len(chosen) < count:
        apart = np.abs(inside[:, None] - np.array(chosen)[None]) / np.array(VIEW_KJI)
        nearest = apart.max(-1).min(-1)
        if nearest.max() < 0.25:
            break
        chosen.append(inside[nearest.argmax()])
    if len(chosen) < 2:
        raise InvalidRequest("This scan shows too little for two crops that lie apart. Choose a larger one.")
    return np.array(chosen) - np.array(VIEW_KJI) // 2


def _parts(head: SpatialHead, f4: Tensor, centers_kji: np.ndarray):
    """Pairs of views (P, 2), their parts' centres (P, 4, 3) in voxels, and the likeness (P, 2) of these."""
    grid = tuple(f4.shape[-3:])
    cell = VIEW_KJI[0] // grid[0]
    centers = torch.tensor(centers_kji[None] * VIEW_MM, dtype=torch.float32)
    starts, margins = chunk_starts(centers, torch.full((1, 3), VIEW_MM * cell), grid)
    if not len(margins):
        return np.zeros((0, 2), int), np.zeros((0, 4, 3)), np.zeros((0, 2))
    alike = torch.stack(chunk_alike(head, f4[None], starts), 1).numpy()
    near, far = starts.view(2, -1, 2, 5).numpy()
    both = np.concatenate([near, far], 1)  # (P, 4, 5)
    corners = centers_kji[both[..., 1]] - (np.array(VIEW_KJI) - 1) / 2
    return near[..., 1], corners + (both[..., 2:] + CHUNK / 2) * cell - 0.5, alike


def _slopes(volume: Volume, model: SharedEncoder) -> np.ndarray:
    scan = whole_scan(volume)
    return slopes(points_mm(model, scan, encoded(model, scan)), scan.cells_ras)


def _ras(vectors: Tensor) -> np.ndarray:
    """100 mm along S, A, R as mm along R, A, S."""
    return UNIT_MM * vectors.flip(-1).numpy()


def _median(values):
    return float(np.median(values))
