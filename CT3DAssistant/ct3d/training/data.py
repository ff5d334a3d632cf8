"""Training windows for landmark nets: one real CT, one random look at it in world space, three states.

A window is made in one interpolation from the CT's own voxels, as in `imaging.prepare`; without augmentation
it equals what inference shows the net (test). All chance comes from (seed, step), so a resumed run sees what
it would have seen.

A landmark in a window is PRESENT; MISSING, known to lie outside what the window shows; or UNKNOWN, not
annotated or too near to the rim of what is shown to say.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.spatial.transform import Rotation
from torch.nn.functional import grid_sample

from ct3d.imaging.network_input import WHOLE, network_input
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_ijk
from ct3d.training import State
from ct3d.training.openkbp import LandmarkCase

RIM_MM = 6.0  # a point this near to the rim of what is shown is neither present nor missing
KNOWN_NEAR = 0.5  # share of the voxels around a point that must be shown for it to be present
NEAR_VOXELS = 2
ORDER = 1 << 40  # beyond any step: tells the chance of an epoch's order from that of a step


@dataclass(frozen=True)
class Looks:
    """How far a look at a CT may differ from the CT: standard deviations, unless said otherwise."""

    rotation_deg: float = 8.0
    scale: float = 0.07
    stretch: float = 0.03  # of each axis by itself
    jitter_mm: float = 25.0  # of the window about the landmarks
    anywhere: float = 0.2  # share of windows that lie anywhere in the body
    mirror: float = 0.5  # share; left and right change their names
    cut: float = 0.4  # share of windows whose field of view ends inside
    gain: float = 0.08
    offset_hu: float = 30.0
    noise_hu: float = 25.0  # the most
    negatives: float = 0.1  # share of windows from scans of another body part
    outline: float = 0.5  # share where the outline of what was released is changed
    unknown_kept: float = 0.5  # share where what was withheld is shown as unknown; else as air or as tissue


@dataclass(frozen=True)
class Grid:
    """What the net's card says of its input; and which landmarks are (left, right) of each other."""

    spacing_mm: float
    window_kji: tuple[int, int, int]
    value_range: tuple[float, float]
    mirror_pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Window:
    """What a net sees, and what it should say.

    Attributes:
        image: (2, D, H, W), see `imaging.network_input`.
        points_kji: (L, 3) voxels of the window; NaN where not PRESENT.
        states: (L,) int8.
        ijk_to_ras: of the window's grid, without the look's distortion.
    """

    image: torch.Tensor
    points_kji: torch.Tensor
    states: torch.Tensor
    ijk_to_ras: np.ndarray


class Windows:
    """Random windows of a set of cases.

    Args:
        cases: with landmarks.
        negatives: of another body part: all landmarks are MISSING.
    """

    def __init__(
        self,
        cases: list[LandmarkCase],
        negatives: list[LandmarkCase],
        *,
        grid: Grid,
        looks: Looks,
        seed: int,
    ):
        self.cases, self.negatives = cases, negatives
        self.grid, self.looks, self.seed = grid, looks, seed

    def sample(self, step: int) -> Window:
        """The window of a step."""
        rng = np.random.default_rng((self.seed, step))
        return self.window(self._case_of(step, rng), rng)

    def _case_of(self, step, rng):
        """Each case once an epoch, in a new order; now and then one of another body part instead."""
        if self.negatives and rng.random() < self.looks.negatives:
            return self.negatives[rng.integers(len(self.negatives))]
        epoch, place = divmod(step, len(self.cases))
        order = np.random.default_rng((self.seed, epoch, ORDER)).permutation(len(self.cases))
        return self.cases[order[place]]

    def window(self, case: LandmarkCase, rng: np.random.Generator) -> Window:
        """One random look at a case."""
        hu, known = self._as_shown(case, rng)
        grid = _window_grid(self._center(case, rng), self.grid.window_kji, self.grid.spacing_mm)
        turn = self._distortion(grid, rng)
        points = np.linalg.inv(turn) @ _homogeneous(case.landmarks_ras).T
        names = np.arange(len(case.landmarks_ras))
        if turn[0, 0] < 0:
            for left, right in self.grid.mirror_pairs:
                names[[left, right]] = right, left
        image_hu, shown = _look(Volume(hu, case.volume.ijk_to_ras), known, turn @ grid, self.grid.window_kji)
        shown &= self._field_of_view(rng)
        seen = Volume(self._shaded(image_hu, rng), grid)
        points_kji = ijk_from_ras(points[:3].T, grid)[names][:, ::-1]
        states = _states(points_kji, shown, self.grid.spacing_mm)
        if case in self.negatives:
            states[:] = State.MISSING
        places = np.where((states == State.PRESENT)[:, None], points_kji, np.nan)
        return Window(
            torch.from_numpy(network_input(seen, self.grid.value_range, shown)),
            torch.from_numpy(places.astype(np.float32)),
            torch.from_numpy(states),
            grid,
        )

    def _as_shown(self, case, rng):
        """The case's voxels with their support altered, so that its outline says nothing."""
        known = case.known
        if known.all():
            return case.volume.array, known
        if rng.random() < self.looks.outline:
            known = _reshaped(known, rng)
        if rng.random() < self.looks.unknown_kept:
            return case.volume.array, known
        hu = case.volume.array.copy()
        fill = (
            -1000 if rng.random() < 0.5 else rng.normal(0, 60, np.count_nonzero(~known)) + rng.normal(0, 60)
        )
        hu[~known] = fill
        return hu, np.ones_like(known)

    def _center(self, case, rng):
        points = case.landmarks_ras[np.isfinite(case.landmarks_ras[:, 0])]
        if len(points) and rng.random() > self.looks.anywhere:
            return points.mean(axis=0) + rng.normal(0, self.looks.jitter_mm, 3)
        inside = np.argwhere(case.known[::8, ::8, ::8]) * 8
        return ras_from_ijk(inside[rng.integers(len(inside))][::-1], case.volume.ijk_to_ras)

    def _distortion(self, grid, rng):
        """World → world about the window's middle, from what the net sees to where the CT holds it."""
        looks = self.looks
        turn = np.eye(4)
        scale = np.exp(rng.normal(0, looks.scale) + rng.normal(0, looks.stretch, 3))
        turn[:3, :3] = Rotation.from_rotvec(rng.normal(0, np.radians(looks.rotation_deg), 3)).as_matrix()
        turn[:3, :3] *= scale
        if rng.random() < looks.mirror:
            turn[:3, 0] *= -1
        middle = ras_from_ijk((np.array(self.grid.window_kji[::-1]) - 1) / 2, grid)
        turn[:3, 3] = middle - turn[:3, :3] @ middle
        return turn

    def _field_of_view(self, rng):
        """(D, H, W) bool: a box in which the scan ends, at some of its faces; mostly above or below."""
        shown = np.ones(self.grid.window_kji, bool)
        if rng.random() > self.looks.cut:
            return shown
        for axis, share in enumerate((0.5, 0.15, 0.15)):
            for is_low in (False, True):
                if rng.random() < share:
                    size = self.grid.window_kji[axis]
                    gone = int(size * rng.uniform(0, 0.55))
                    part = slice(0, gone) if is_low else slice(size - gone, size)
                    shown[(slice(None),) * axis + (part,)] = False
        return shown

    def _shaded(self, hu, rng):
        looks = self.looks
        noise = rng.standard_normal(hu.shape, np.float32) * np.float32(rng.uniform(0, looks.noise_hu))
        gain, offset = 1 + rng.normal(0, looks.gain), rng.normal(0, looks.offset_hu)
        return np.float32(gain) * hu + noise + np.float32(offset)


def _window_grid(center_ras, window_kji, spacing_mm):
    grid = np.diag([spacing_mm] * 3 + [1.0])
    grid[:3, 3] = center_ras - spacing_mm * (np.array(window_kji[::-1]) - 1) / 2
    return grid


def _homogeneous(points):
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def _look(volume: Volume, known: np.ndarray, grid_to_ras: np.ndarray, shape_kji: tuple[int, int, int]):
    """HU (float32) at the voxels of a grid, and which are made of known voxels alone."""
    to_given = np.linalg.inv(volume.ijk_to_ras) @ grid_to_ras
    d, h, w = shape_kji
    size = np.array(volume.array.shape[::-1])
    to_unit = np.diag([*(2 / (size - 1)), 1.0])
    to_unit[:3, 3] = -1
    to_unit = to_unit @ to_given
    axes = [np.arange(n, dtype=np.float32) for n in (w, h, d)]
    at = sum(
        np.float32(to_unit[:3, n]) * axes[n].reshape([-1 if 2 - n == m else 1 for m in range(3)] + [1])
        for n in range(3)
    ) + np.float32(to_unit[:3, 3])
    at = torch.from_numpy(np.ascontiguousarray(at))[None]
    inside = (at.abs() <= torch.from_numpy(1 + 1 / (size - 1))).all(-1)[0].numpy()
    weight = _sampled(known, at) if not known.all() else inside
    return _sampled(volume.array, at), inside & (weight > (WHOLE - 0.5) / 255)


def _sampled(array, at):
    given = torch.from_numpy(np.asarray(array, np.float32))[None, None]
    return grid_sample(given, at, padding_mode="border", align_corners=True)[0, 0].numpy()


def _reshaped(known, rng):
    """The support, worn away at its rim, cut by a box, or turned to another's outline."""
    kind = rng.integers(3)
    if kind == 0:
        return binary_erosion(known, iterations=int(rng.integers(1, 6)))
    if kind == 1:
        low = [int(rng.integers(0, 1 + n // 5)) for n in known.shape]
        high = [int(n - rng.integers(0, 1 + n // 5)) for n in known.shape]
        box = np.zeros_like(known)
        box[tuple(slice(a, b) for a, b in zip(low, high))] = True
        return known & box
    bites = rng.random([1 + n // 16 for n in known.shape]) < 0.15
    bites = bites.repeat(16, 0).repeat(16, 1).repeat(16, 2)[tuple(slice(0, n) for n in known.shape)]
    return known & ~(binary_dilation(bites, iterations=2) & ~binary_erosion(known, iterations=4))


def _states(points_kji, shown, spacing_mm):
    """State of every landmark by where it lies in what the window shows."""
    return np.array([_state(point, shown, RIM_MM / spacing_mm) for point in points_kji], np.int8)


def _state(point, shown, rim):
    if not np.isfinite(point).all():
        return State.UNKNOWN
    voxel = np.rint(point).astype(int)
    if (point < -rim).any() or (point > np.array(shown.shape) - 1 + rim).any():
        return State.MISSING
    around = shown[tuple(slice(max(0, v - NEAR_VOXELS), max(0, v + NEAR_VOXELS + 1)) for v in voxel)]
    share = around.sum() / (2 * NEAR_VOXELS + 1) ** 3
    if share >= KNOWN_NEAR:
        return State.PRESENT
    return State.MISSING if share == 0 else State.UNKNOWN
