"""Skeleton on a canonical RAS grid: bright and rough is bone, bright and smooth is contrast medium."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ct3d.pipeline.anatomy_lungs import Grid
from ct3d.pipeline.anatomy_masks import closed, distance_mm, filled_in_slices, grown, opened, parts_above
from ct3d.pipeline.job import Job

BRIGHT_HU = 150  # bone and contrast medium
MARROW_HU = 60  # what closing may take in between bright bone
METAL_HU = 1700  # at 2 mm no bone but teeth reaches this; undiluted contrast medium and metal do
SMOOTH_HU = 48.0  # standard deviation in a 6 mm cube: below it blood, above it bone
ORGAN_ROUGHNESS_HU = 58.0  # median inside a kidney lies below, inside bone above
VESSEL_EDGE_MM = 5.0  # the blurred rim of a vessel is as rough as bone
FILL_MM = 4.0  # marrow spaces up to twice this are closed
VERTEBRA_MM = 28.0  # from the middle of a vertebra's bone mass to the front of its body
DEEP_MM = 35.0  # farther than this from the skin no rib lies below the lungs
BELOW_MM = (
    150.0  # how far below the lungs bright deep parts are taken for vessels and kidneys, not for the pelvis
)


@dataclass(frozen=True)
class Spine:
    """Where the spine runs.

    Attributes:
        x_mm: R coordinate, one for all slices.
        y_mm: (K,) A coordinate of the middle of its bone mass.
        is_seen: whether there is bone at all where a spine should be.
    """

    x_mm: float
    y_mm: np.ndarray
    is_seen: bool


def find_spine(grid: Grid, body: np.ndarray) -> Spine:
    """The spine: where the back half of the body holds most bone; without bone, the body's middle."""
    rows = np.arange(body.shape[1])[None, :]
    mass = np.maximum(body.sum(axis=2), 1e-6)
    middle = (mass * rows).sum(axis=1) / mass.sum(axis=1)
    bone = body & (grid.hu > BRIGHT_HU) & (rows < middle[:, None])[:, :, None]
    columns = bone.sum(axis=(0, 1)).astype(float)
    is_seen = bool(columns.any())
    if is_seen:
        smooth = ndimage.gaussian_filter1d(columns, 10.0 / grid.spacing[2], mode="constant")
        x_mm = float(grid.x_mm[smooth.argmax()])
    else:
        columns = body.sum(axis=(0, 1)).astype(float)
        x_mm = float((columns * grid.x_mm).sum() / max(columns.sum(), 1.0))
    near = bone[:, :, np.abs(grid.x_mm - x_mm) < 20.0].sum(axis=2).astype(float)
    near = ndimage.gaussian_filter1d(near, 10.0 / grid.spacing[0], axis=0, mode="nearest")
    total = near.sum(axis=1)
    row = np.where(total > 0, (near * rows).sum(axis=1) / np.maximum(total, 1e-6), middle / 2)
    return Spine(x_mm, np.interp(row, np.arange(body.shape[1]), grid.y_mm), is_seen)


def find_bone(
    grid: Grid, body: np.ndarray, lungs: np.ndarray, spine: Spine, job: Job
) -> tuple[np.ndarray, np.ndarray]:
    """Bones with their marrow, without vessels, heart and kidneys; and the contrast-filled blood.

    Costal cartilage counts only where it is calcified.

    Args:
        lungs: both lungs; empty where there are none.
    """
    bright = body & (grid.hu > BRIGHT_HU)
    roughness = _roughness(grid.hu)
    job.check()
    blood = parts_above(opened(bright & (roughness < SMOOTH_HU), 3.0, grid.spacing), 1.0 / grid.voxel_ml)
    job.check()
    vessel = grown(blood, VESSEL_EDGE_MM, grid.spacing)
    vessel |= grown(body & (grid.hu > METAL_HU), VESSEL_EDGE_MM, grid.spacing)
    job.check()
    inner = _inner(grid, body, lungs, spine)
    job.check()
    rough = bright & ~vessel
    soft = _soft_parts(grid, rough, roughness, inner)
    job.check()
    vessel |= grown(soft, VESSEL_EDGE_MM, grid.spacing)
    job.check()
    bone = _without_specks(grid, rough & ~vessel, inner)
    job.check()
    marrow = filled_in_slices(closed(bone, FILL_MM, grid.spacing)) & (grid.hu > MARROW_HU) & ~vessel & body
    return bone | marrow, blood | soft | (inner & (grid.hu > METAL_HU))


def between_lungs(lungs: np.ndarray) -> np.ndarray:
    """Everything that has lung to its right and to its left in the same row."""
    seen = np.maximum.accumulate(lungs, axis=2)
    ahead = np.maximum.accumulate(lungs[:, :, ::-1], axis=2)[:, :, ::-1]
    return seen & ahead


def before_spine(grid: Grid, spine: Spine) -> np.ndarray:
    """(K, J, 1): rows in front of the vertebral bodies."""
    return (grid.y_mm[None, :] > spine.y_mm[:, None] + VERTEBRA_MM)[:, :, None]


def _inner(grid, body, lungs, spine):
    """Where no bone is: between the lungs, or deep below them, in front of the spine."""
    inner = between_lungs(lungs)
    slices = np.flatnonzero(lungs.any(axis=(1, 2)))
    if slices.size:
        low = max(0, int(slices[0] - BELOW_MM / grid.spacing[0]))
        chest = slice(low, slices[-1])
        inner[chest] |= distance_mm(body[chest], grid.spacing) < -DEEP_MM
    return inner & before_spine(grid, spine)


def _roughness(hu):
    values = hu.astype(np.float32)
    mean = ndimage.uniform_filter(values, 3)
    return np.sqrt(np.maximum(ndimage.uniform_filter(values * values, 3) - mean * mean, 0))


def _soft_parts(grid, rough, roughness, inner):
    """Cores of bright parts that are no bone: as smooth as a kidney, or where no bone is."""
    labels, count = ndimage.label(ndimage.binary_erosion(rough))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    is_soft = np.zeros(count + 1, bool)
    for n, box in enumerate(ndimage.find_objects(labels), 1):
        if sizes[n] * grid.voxel_ml < 0.3:
            continue
        part = labels[box] == n
        is_smooth = np.median(roughness[box][part]) < ORGAN_ROUGHNESS_HU
        is_soft[n] = is_smooth or inner[box][part].mean() > 0.6
    return is_soft[labels]


def _without_specks(grid, bone, inner):
    """Bone without specks, and without calcified vessels, coils and clips."""
    labels, count = ndimage.label(bone)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    inside = np.bincount(labels.ravel(), weights=inner.ravel(), minlength=count + 1)
    keep = (sizes * grid.voxel_ml > 0.3) & (inside < 0.5 * sizes)
    keep[0] = False
    return keep[labels]
