"""Body and lungs on a canonical RAS grid: thresholds, connected parts, and what a lung must look like."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ct3d.pipeline.anatomy_masks import (
    box_around,
    closed,
    distance_mm,
    filled_in_slices,
    grown,
    largest_part,
    opened,
    parts_above,
)
from ct3d.pipeline.job import Job

SOFT_HU = -300
THINNEST_WALL_MM = 6.5  # of a chest wall; table tops are thinner
AIR_HU = -400
GAS_HU = -965  # free gas lies below, lung parenchyma above, emphysema mostly too
SMALLEST_LUNG_ML = 40.0  # both together, where the field of view cuts them
SMALLEST_WHOLE_ML = 250.0  # where it doesn't
BESIDE_MM = 25.0  # off the spine's plane lies most of a lung; pharynx and trachea lie nearer
DOME_MM2 = 150.0  # a hole in the lung that opens downward by more than this is the diaphragm
NOTCH_MM = 30.0  # a mass at the wall up to twice this wide counts as lung
NOTCH_ML = 8.0  # and not less than this
NOTCH_LOW, NOTCH_FRONT = (
    0.3,
    0.75,
)  # shares of a lung's height and depth below and before which liver and heart notch it
OFF_SPINE_MM = 35.0  # nearer to the spine's plane lies the mediastinum
SOLID_HU = (-30, 150)  # tissue, no fat, no contrast medium
HULL_MM = 10.0  # vessels and nodules up to twice this are taken into the lung


@dataclass(frozen=True)
class Grid:
    """A canonical RAS volume as the rules see it.

    Attributes:
        hu: (K, J, I) int16; K grows to the head, J to the front, I to the right.
        spacing: of K, J, I in mm.
        ijk_to_ras: 4x4, diagonal.
    """

    hu: np.ndarray
    spacing: tuple[float, float, float]
    ijk_to_ras: np.ndarray

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def x_mm(self) -> np.ndarray:
        """R coordinate of each column (I,)."""
        return self.ijk_to_ras[0, 0] * np.arange(self.hu.shape[2]) + self.ijk_to_ras[0, 3]

    @property
    def y_mm(self) -> np.ndarray:
        """A coordinate of each row (J,)."""
        return self.ijk_to_ras[1, 1] * np.arange(self.hu.shape[1]) + self.ijk_to_ras[1, 3]


def find_body(grid: Grid, job: Job) -> np.ndarray:
    """The patient with everything inside, without table and loose clothing; empty where there is none."""
    soft = grid.hu > SOFT_HU
    core = largest_part(opened(soft, THINNEST_WALL_MM / 2, grid.spacing))
    job.check()
    skin = grown(core, 3 * max(grid.spacing), grid.spacing) & soft | core
    job.check()
    without_gaps = closed(skin, 3 * max(grid.spacing), grid.spacing)
    job.check()
    return filled_in_slices(_closed_along_the_edge(without_gaps))


def _closed_along_the_edge(body):
    """A body that the image cuts off is closed along the image's edge: an open lung counts as inside."""
    body = body.copy()
    for side in (body[:, 0], body[:, -1], body[:, :, 0], body[:, :, -1]):
        after = np.maximum.accumulate(side, axis=1)
        before = np.maximum.accumulate(side[:, ::-1], axis=1)[:, ::-1]
        side |= after & before
    return body


def find_lungs(
    grid: Grid, body: np.ndarray, airways: np.ndarray, bone: np.ndarray, spine_mm: float, job: Job
) -> np.ndarray:
    """Air-filled lung tissue of both sides, without vessels and without gas elsewhere in the body.

    A part counts when it is large, holds tissue (gas alone doesn't), lies along ribs and beside the spine.

    Args:
        spine_mm: R coordinate of the spine.
    """
    air = body & (grid.hu < AIR_HU) & ~grown(airways, grid.spacing[1], grid.spacing)
    job.check()
    inner = ndimage.binary_opening(air)  # parts joined by a voxel come apart
    labels, count = ndimage.label(inner)
    job.check()
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * grid.voxel_ml
    near_bone = grown(bone, 12.0, grid.spacing)
    lungs = np.zeros_like(air)
    for n, box in enumerate(ndimage.find_objects(labels), 1):
        if sizes[n] < SMALLEST_LUNG_ML / 4:
            continue
        job.check()
        part = labels[box] == n
        is_beside = np.abs(grid.x_mm[box[2]] - spine_mm) > BESIDE_MM
        if part[:, :, is_beside].sum() > 0.5 * sizes[n] / grid.voxel_ml and _is_lung(
            grid.hu[box], part, near_bone[box]
        ):
            lungs[box] |= part
    lungs = grown(lungs, 1.5 * grid.spacing[1], grid.spacing) & air
    ml = np.count_nonzero(lungs) * grid.voxel_ml
    is_cut = bool(lungs[0].any() or lungs[-1].any())
    return lungs if ml > (SMALLEST_LUNG_ML if is_cut else SMALLEST_WHOLE_ML) else np.zeros_like(lungs)


def _is_lung(hu, part, near_bone):
    core = ndimage.binary_erosion(part, border_value=1)
    values = hu[core]
    if values.size < 0.2 * np.count_nonzero(part):
        return False
    shell = part & ~core
    is_gas = np.mean(values < GAS_HU) > 0.6
    return not is_gas and np.median(values) < -500 and near_bone[shell].mean() > 0.2


def split_sides(grid: Grid, lungs: np.ndarray, midline_mm: float, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Right and left part of lung tissue, told apart by R coordinates; where they touch, the neck is cut.

    Args:
        lungs: tissue of both sides.
        midline_mm: R coordinate of the spine.
    """
    box = box_around(lungs)
    inside = lungs[box]
    empty = np.zeros_like(lungs)
    if not inside.any():
        return empty, empty.copy()
    depth = -distance_mm(inside, grid.spacing)
    job.check()
    middle = np.interp(midline_mm, grid.x_mm, np.arange(grid.hu.shape[2])) - box[2].start
    markers = _side_markers(inside, depth, middle)
    job.check()
    image = sitk.GetImageFromArray(-depth)
    marked = sitk.GetImageFromArray(markers)
    basins = sitk.GetArrayFromImage(
        sitk.MorphologicalWatershedFromMarkers(image, marked, markWatershedLine=False)
    )
    job.check()
    right, left = empty, empty.copy()
    right[box] = inside & (basins == 1)
    left[box] = inside & (basins == 2)
    return right, left


def _side_markers(inside, depth, middle):
    """Labels 1 (right) and 2 (left): parts of the tissue that stay apart once it is thinned enough."""
    for least_mm in (0.0, 3.0, 5.0, 8.0, 12.0, 16.0):
        labels, count = ndimage.label(inside & (depth > least_mm))
        if not count:
            break
        index = np.arange(1, count + 1)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        columns = np.array([slices[2] for slices in ndimage.find_objects(labels)])
        centre = np.array([c[2] for c in ndimage.center_of_mass(inside, labels, index)])
        crosses = [s.start < middle - 12 and s.stop > middle + 12 for s in columns]
        big = sizes[1:] > 0.02 * sizes[1:].sum()
        if not (np.array(crosses) & big).any():
            side = np.zeros(count + 1, np.uint8)
            side[1:] = np.where(centre > middle, 1, 2)
            return side[labels]
    markers = np.where(np.arange(inside.shape[2]) > middle, 1, 2).astype(np.uint8)
    return np.where(inside, markers[None, None], 0).astype(np.uint8)


def lung_hull(grid: Grid, tissue: np.ndarray, taken: np.ndarray, job: Job) -> np.ndarray:
    """A lung with its vessels and dense spots: gaps closed, holes in slices filled, minus what is taken."""
    box = box_around(tissue, margin_mm=HULL_MM + 4, spacing_kji_mm=grid.spacing)
    if not tissue[box].size:
        return tissue.copy()
    solid = closed(tissue[box], HULL_MM, grid.spacing)
    job.check()
    solid = _without_domes(solid, filled_in_slices(solid), grid) & ~taken[box]
    result = np.zeros_like(tissue)
    result[box] = parts_above(solid, 5.0 / grid.voxel_ml)
    return result


def dense_spots(grid: Grid, lung: np.ndarray, taken: np.ndarray, spine_mm: float, job: Job) -> np.ndarray:
    """Solid tissue in a deep notch of a lung, off mediastinum and diaphragm: mass or consolidation there.

    Args:
        lung: one lung's hull.
        taken: other organs, bone included.
        spine_mm: R coordinate of the spine.
    """
    box = box_around(lung)
    if not lung[box].size:
        return lung.copy()
    notch = closed(lung[box], NOTCH_MM, grid.spacing) & ~lung[box] & ~taken[box]
    job.check()
    solid = notch & (grid.hu[box] > SOLID_HU[0]) & (grid.hu[box] < SOLID_HU[1])
    solid &= np.abs(grid.x_mm[box[2]] - spine_mm) > OFF_SPINE_MM
    shape = solid.shape
    solid[: int(NOTCH_LOW * shape[0])] = False
    solid[:, int(NOTCH_FRONT * shape[1]) :] = False
    solid = parts_above(opened(solid, NOTCH_MM / 5, grid.spacing), NOTCH_ML / grid.voxel_ml)
    result = np.zeros_like(lung)
    result[box] = solid
    return result


def _without_domes(solid, filled, grid):
    """The filled lung, but not where a hole opens downward: that is the diaphragm's top, no dense spot."""
    labels, count = ndimage.label(filled & ~solid)
    below = np.zeros_like(solid)
    below[1:] = ~filled[:-1]  # what lies under the lowest slice is not known and counts as closed
    opens = np.bincount(labels.ravel(), weights=below.ravel(), minlength=count + 1)
    face_mm2 = opens * grid.spacing[1] * grid.spacing[2]
    is_spot = face_mm2 < DOME_MM2
    is_spot[0] = False
    return solid | is_spot[labels]
