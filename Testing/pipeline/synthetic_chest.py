"""A synthetic chest for tests: two ellipsoid lungs in a body, ribs behind and beside them. It is no CT."""

from dataclasses import dataclass

import numpy as np

from ct3d.imaging.volume import Volume, ras_from_kji

LABELS = {"right_lung": 1, "left_lung": 2, "airways": 3, "skeleton": 4}
LUNG_CENTERS = {"right_lung": (60.0, 0.0, 0.0), "left_lung": (-60.0, 0.0, 0.0)}
LUNG_RADII_MM = np.array([45.0, 60.0, 65.0])
AXIAL = np.diag([1.0, 1.0, 1.0])


@dataclass
class Chest:
    """HU and organs on one grid; what is planted changes both in place."""

    volume: Volume
    organs: np.ndarray
    points_ras: np.ndarray  # (K, J, I, 3)

    def plant_ball(self, center_ras, diameter_mm, hu=40.0):
        inside = np.linalg.norm(self.points_ras - center_ras, axis=3) <= diameter_mm / 2
        self._fill(inside, hu)

    def plant_tube(self, start_ras, end_ras, diameter_mm, hu=40.0):
        start, along = np.asarray(start_ras, float), np.subtract(end_ras, start_ras)
        share = np.clip(((self.points_ras - start) @ along) / (along @ along), 0, 1)
        off = np.linalg.norm(self.points_ras - start - share[..., None] * along, axis=3)
        self._fill(off <= diameter_mm / 2, hu)

    def plant_layer(self, side, depth_mm, hu):
        """Fill the lowest part of a supine lung, as free fluid does."""
        lung = self.organs == LABELS[side]
        self._fill(lung & (self.points_ras[..., 1] < -LUNG_RADII_MM[1] + depth_mm), hu)

    def _fill(self, where, hu):
        noise = np.random.default_rng(1).normal(0, 15, int(where.sum()))
        self.volume.array[where] = hu + noise
        self.organs[where & np.isin(self.organs, (1, 2))] = 0


def synthetic_chest(spacing_kji_mm=(2.5, 2.0, 2.0), turn=AXIAL) -> Chest:
    """A chest around the RAS origin.

    Args:
        spacing_kji_mm: of the grid.
        turn: 3x3, columns are the RAS directions of I, J, K; flips and oblique ones welcome.
    """
    spacing_ijk = np.array(spacing_kji_mm[::-1])
    reach = np.abs(np.linalg.inv(turn)) @ np.array([122.0, 80.0, 75.0])
    size_ijk = np.ceil(2 * reach / spacing_ijk).astype(int)
    grid = np.eye(4)
    grid[:3, :3] = turn * spacing_ijk
    grid[:3, 3] = -grid[:3, :3] @ ((size_ijk - 1) / 2)
    kji = np.stack(np.indices(size_ijk[::-1]), axis=-1).reshape(-1, 3)
    points = ras_from_kji(kji, grid).astype(np.float32).reshape(*size_ijk[::-1], 3)
    noise = np.random.default_rng(0).normal(0, 15, points.shape[:3])
    in_body = ((points[..., :2] / (118.0, 76.0)) ** 2).sum(axis=3) <= 1
    hu = np.where(in_body, 50.0, -1000.0) + noise
    organs = np.zeros(points.shape[:3], np.uint8)
    for side, center in LUNG_CENTERS.items():
        offset = (points - center) / LUNG_RADII_MM
        radius = np.linalg.norm(offset, axis=3)
        organs[radius <= 1] = LABELS[side]
        hu[radius <= 1] = -850.0 + noise[radius <= 1]
        shell = np.linalg.norm((points - center) / (LUNG_RADII_MM + 6.0), axis=3)
        outer = np.linalg.norm((points - center) / (LUNG_RADII_MM + 12.0), axis=3)
        medial = np.abs(points[..., 0]) < 25
        ribs = (shell > 1) & (outer <= 1) & ~medial & (organs == 0) & (points[..., 2] % 24 < 10)
        organs[ribs] = LABELS["skeleton"]
        hu[ribs] = 400.0
    return Chest(Volume(hu.astype(np.float32), grid), organs, points)
