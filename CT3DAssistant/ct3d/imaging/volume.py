"""A scalar volume on its grid, and the way between voxel indices and RAS millimetres."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from ct3d.case import Geometry

AXIS_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))  # toward negative, toward positive, of R, A, S


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT grid.

    Attributes:
        array: (K, J, I), HU.
        ijk_to_ras: 4x4 affine from voxel (i, j, k) to RAS millimetres.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray

    @property
    def spacing_kji_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along K, J, I."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(k), float(j), float(i)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return abs(float(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000.0

    @property
    def geometry(self) -> Geometry:
        """The grid as the case records it."""
        k, j, i = self.array.shape
        a, b, c, d = ((float(w), float(x), float(y), float(z)) for w, x, y, z in self.ijk_to_ras)
        return Geometry((int(k), int(j), int(i)), self.spacing_kji_mm, (a, b, c, d))

    @property
    def orientation(self) -> str:
        """Anatomical direction toward which I, J and K grow, e.g. "LPS"; the nearest axis where oblique."""
        axes = nearest_axes(self.ijk_to_ras)
        return "".join(AXIS_LETTERS[axis][int(self.ijk_to_ras[axis, n] > 0)] for n, axis in enumerate(axes))


def right_handed(volume: Volume) -> Volume:
    """The same volume on a right-handed grid: K runs the other way where it has to; nothing is copied."""
    if np.linalg.det(volume.ijk_to_ras[:3, :3]) > 0:
        return volume
    turn = np.diag([1.0, 1.0, -1.0, 1.0])
    turn[2, 3] = volume.array.shape[0] - 1
    return Volume(volume.array[::-1], volume.ijk_to_ras @ turn)


def cut_to(volume: Volume, box_kji: tuple[slice, slice, slice]) -> Volume:
    """A box of a volume; its array shares the given memory."""
    starts = np.eye(4)
    starts[:3, 3] = [each.start for each in reversed(box_kji)]
    return Volume(volume.array[box_kji], volume.ijk_to_ras @ starts)


def nearest_axes(ijk_to_ras: np.ndarray) -> tuple[int, int, int]:
    """For I, J and K the RAS axis (0, 1, 2) that each runs along most; never the same axis twice."""
    cosines = np.abs(ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0))
    i, j, k = max(permutations(range(3)), key=lambda axes: cosines[axes, range(3)].sum())
    return i, j, k


def ijk_from_ras(points_ras: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
    """Points (N, 3) in RAS millimetres as continuous voxel indices (N, 3) in the order i, j, k."""
    inverse = np.linalg.inv(ijk_to_ras)
    return np.asarray(points_ras, float) @ inverse[:3, :3].T + inverse[:3, 3]


def ras_from_ijk(points_ijk: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
    """Voxel indices (N, 3) in the order i, j, k as RAS millimetres (N, 3)."""
    return np.asarray(points_ijk, float) @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]


def ras_from_kji(points_kji: np.ndarray, ijk_to_ras: np.ndarray) -> np.ndarray:
    """Array indices (N, 3) in the order k, j, i (as np.argwhere gives them) as RAS millimetres (N, 3)."""
    return ras_from_ijk(np.asarray(points_kji, float)[..., ::-1], ijk_to_ras)
