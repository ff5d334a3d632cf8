"""A net that knows where the landmarks are and answers perfect maps, and the volume that guides it.

The oracle sees one window at a time, as every net does. The volume is a ruler: its value is a linear function
of the place that is never the same twice on the card's grid, and linear interpolation keeps it. So the oracle
reads off its own window where that lies. What is tested is all that stands between a volume and a point.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ct3d.cards import HeatmapSpec, LandmarkSpec, ModelCard, load_card
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.pipeline.net_view import view_of

LONGEST = 1e6  # value at the ruler's end
AIR = -1000.0
SLOPES = np.array([1.0, 67.0, 67.0**2])  # of the value along R, A, S; no two voxels have the same sum
SPAN_MM = 260.0  # along each axis, about the origin, that the ruler measures
FEWEST_VOTES = 20  # voxels that agree on where a window lies
RADIUS_VOXELS = 5.0  # of the maps' targets


def oracle_card(points_ras: dict[str, tuple], window_kji=(24, 16, 16), **more) -> ModelCard:
    """A card of these landmarks whose net measures the ruler; calibrated so that a half peak is 0.5."""
    card = load_card("h3denet_headneck")
    named = {spec.id: spec for spec in card.landmarks}
    specs = tuple(
        replace(named.get(name, LandmarkSpec(name, name, "A point.")), presence=(6.0, -3.0), radius_mm=7.5)
        for name in points_ras
    )
    return replace(
        card,
        landmarks=specs,
        input=replace(card.input, value_range=(AIR, AIR + LONGEST)),
        heatmaps=HeatmapSpec(window_kji, 0.5, "head and neck"),
        **{"limits": None, "shape": None} | more,
    )


def ruler(points_ras: np.ndarray) -> np.ndarray:
    """Values at places (…, 3) in RAS mm."""
    share = (np.asarray(points_ras) / SPAN_MM + 0.5) @ SLOPES / SLOPES.sum()
    return share * LONGEST


def a_ruler(affine: np.ndarray, shape_kji: tuple[int, int, int], half_size_mm=(70.0, 60.0, 80.0)) -> Volume:
    """A box of ruler about the origin with air around it, on a grid."""
    places = ras_from_kji(np.moveaxis(np.indices(shape_kji), 0, -1).reshape(-1, 3), affine)
    is_body = (np.abs(places) <= half_size_mm).all(axis=1)
    return Volume(np.where(is_body, ruler(places), AIR).reshape(shape_kji).astype(np.float32), affine)


def grid(turn=None, spacing=(3.0, 3.0, 3.0), half_extent_mm=110.0) -> tuple[np.ndarray, tuple]:
    """Affine and shape of a grid about the origin; columns of `turn` are the directions of I, J, K."""
    turn = np.eye(3) if turn is None else np.asarray(turn, float)
    size = [int(np.ceil(2 * half_extent_mm / step)) for step in spacing]
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(size) - 1) / 2)
    return affine, tuple(size[::-1])


class Oracle(nn.Module):
    """(1, 2, D, H, W) → (1, L, D, H, W), the maps that training asks for; -1 everywhere for a NaN point.

    Args:
        points_ras: of the landmarks, in the card's order.
        volume, card: whose grid the windows lie on.
    """

    def __init__(self, points_ras: np.ndarray, volume: Volume, card: ModelCard):
        super().__init__()
        self.points_ras = np.asarray(points_ras, float)
        seen = view_of(volume, card).seen
        self.grid, self.spacing = seen.ijk_to_ras, seen.spacing_kji_mm[0]
        self.shape = np.array(seen.array.shape)
        values = ruler(ras_from_kji(np.indices(self.shape).reshape(3, -1).T, self.grid)) / LONGEST
        self.order = values.argsort()
        self.values = values[self.order]
        self.windows = 0
        self.residuals = [0.0]

    def forward(self, x: Tensor) -> Tensor:
        self.windows += 1
        window = x[0].double().numpy()
        start = self.start_of(window)
        places = ras_from_kji(np.indices(window.shape[1:]).reshape(3, -1).T + start, self.grid)
        maps = [self.target(places, point).reshape(window.shape[1:]) for point in self.points_ras]
        return torch.from_numpy(np.stack(maps)[None]).float()

    def start_of(self, window: np.ndarray) -> np.ndarray:
        """First voxel (k, j, i) of a window, as most of its voxels tell; far away where it shows no ruler.

        Where the ruler's surface was mixed with air, voxels tell something else, each its own.
        """
        shares = window[0] + AIR / LONGEST
        where = np.argwhere((window[1] > 0) & (shares > 0.01))
        values = shares[tuple(where.T)]
        middles = (self.values[1:] + self.values[:-1]) / 2
        nearest = self.order[np.searchsorted(middles, values)]
        starts = np.stack(np.unravel_index(nearest, self.shape), axis=1) - where
        found, told_by, votes = np.unique(starts, axis=0, return_inverse=True, return_counts=True)
        if max(votes, default=0) < FEWEST_VOTES:
            return np.full(3, -10_000)
        agree = told_by.ravel() == votes.argmax()
        expected = ruler(ras_from_kji((where + starts)[agree], self.grid)) / LONGEST
        self.residuals.append(float(np.median(values[agree] - expected)))
        return found[votes.argmax()]

    @property
    def shift_mm(self) -> float:
        """How far a window's values lie beside the places that its grid gives them, at most.

        In mm toward the right; a shift upward shows as 4489 times as much.
        """
        return float(np.abs(self.residuals).max() * SPAN_MM * SLOPES.sum() / SLOPES[0])

    def target(self, places: np.ndarray, point: np.ndarray) -> np.ndarray:
        away = np.linalg.norm(places - point, axis=1) / self.spacing
        with np.errstate(invalid="ignore"):
            return np.where(away <= RADIUS_VOXELS, 2 * np.exp(-(away**2) / (0.2 * RADIUS_VOXELS**2)), -1.0)
