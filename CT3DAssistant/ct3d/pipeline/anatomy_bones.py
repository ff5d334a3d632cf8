"""Skeleton on a canonical RAS grid: bright and rough is bone, bright and smooth is contrast medium."""

import numpy as np
from scipy import ndimage

from ct3d.pipeline.anatomy_lungs import Grid
from ct3d.pipeline.anatomy_masks import closed, filled_in_slices, grown, opened, parts_above
from ct3d.pipeline.job import Job

BRIGHT_HU = 150  # bone and contrast medium
MARROW_HU = 60  # what closing may take in between bright bone
METAL_HU = 1700  # at 2 mm no bone but teeth reaches this; undiluted contrast medium and metal do
SMOOTH_HU = 48.0  # standard deviation in a 6 mm cube: below it blood, above it bone
ORGAN_ROUGHNESS_HU = 75.0  # median inside a kidney lies below, inside bone above
VESSEL_EDGE_MM = 5.0  # the blurred rim of a vessel is as rough as bone
FILL_MM = 4.0  # marrow spaces up to twice this are closed


def find_bone(
    grid: Grid, body: np.ndarray, lungs: np.ndarray, spine_mm: float, job: Job
) -> tuple[np.ndarray, np.ndarray]:
    """Bones with their marrow, without vessels, heart and kidneys; and the contrast-filled blood.

    Costal cartilage counts only where it is calcified.

    Args:
        lungs: both lungs; empty where there are none.
        spine_mm: R coordinate of the spine.
    """
    bright = body & (grid.hu > BRIGHT_HU)
    roughness = _roughness(grid.hu)
    job.check()
    blood = parts_above(opened(bright & (roughness < SMOOTH_HU), 3.0, grid.spacing), 1.0 / grid.voxel_ml)
    job.check()
    vessel = grown(blood, VESSEL_EDGE_MM, grid.spacing)
    vessel |= grown(body & (grid.hu > METAL_HU), VESSEL_EDGE_MM, grid.spacing)
    job.check()
    rough = bright & ~vessel
    soft = _soft_parts(grid, rough, roughness, between_lungs(lungs), spine_mm)
    job.check()
    vessel |= grown(soft, VESSEL_EDGE_MM, grid.spacing)
    job.check()
    bone = _outside(rough & ~vessel, between_lungs(lungs), grid, spine_mm)
    job.check()
    marrow = filled_in_slices(closed(bone, FILL_MM, grid.spacing)) & (grid.hu > MARROW_HU) & ~vessel & body
    return bone | marrow, blood


def find_spine(grid: Grid, body: np.ndarray) -> float:
    """R coordinate of the spine in mm: where the back half of the body holds most bone; the body's middle without bone."""
    rows = np.arange(body.shape[1])[None, :]
    mass = np.maximum(body.sum(axis=2), 1e-6)
    middle = (mass * rows).sum(axis=1) / mass.sum(axis=1)
    is_back = rows < middle[:, None]
    bone = (body & (grid.hu > BRIGHT_HU) & is_back[:, :, None]).sum(axis=(0, 1)).astype(float)
    if not bone.any():
        bone = body.any(axis=(0, 1)).astype(float)
        return float((bone * grid.x_mm).sum() / max(bone.sum(), 1.0))
    return float(grid.x_mm[ndimage.gaussian_filter1d(bone, 10.0 / grid.spacing[2], mode="constant").argmax()])


def _roughness(hu):
    values = hu.astype(np.float32)
    mean = ndimage.uniform_filter(values, 3)
    return np.sqrt(np.maximum(ndimage.uniform_filter(values * values, 3) - mean * mean, 0))


def between_lungs(lungs: np.ndarray) -> np.ndarray:
    """Everything that has lung to its right and to its left in the same row."""
    seen = np.maximum.accumulate(lungs, axis=2)
    ahead = np.maximum.accumulate(lungs[:, :, ::-1], axis=2)[:, :, ::-1]
    return seen & ahead


def _soft_parts(grid, rough, roughness, between, spine_mm):
    """Cores of bright parts that are no bone: as smooth as a kidney, or between the lungs and off the spine."""
    labels, count = ndimage.label(ndimage.binary_erosion(rough))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    is_soft = np.zeros(count + 1, bool)
    for n, box in enumerate(ndimage.find_objects(labels), 1):
        if sizes[n] * grid.voxel_ml < 1.0:
            continue
        part = labels[box] == n
        is_smooth = np.median(roughness[box][part]) < ORGAN_ROUGHNESS_HU
        is_inner = between[box][part].mean() > 0.6 and not _holds_spine(grid, part, box, spine_mm)
        is_soft[n] = is_smooth or is_inner
    return is_soft[labels]


def _holds_spine(grid, part, box, spine_mm):
    """Whether much of a part lies behind the middle of the body, near the spine's plane."""
    k, j, i = np.nonzero(part)
    x = grid.x_mm[i + box[2].start]
    is_near = np.abs(x - spine_mm) < 25.0
    return is_near.mean() > 0.5 and (k.max() - k.min()) * grid.spacing[0] > 30.0


def _outside(bone, between, grid, spine_mm):
    """Bone without specks, and without small bright parts between the lungs (calcified vessels, coils, clips)."""
    labels, count = ndimage.label(bone)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    inner = np.bincount(labels.ravel(), weights=between.ravel(), minlength=count + 1)
    keep = sizes * grid.voxel_ml > 0.3
    keep &= (inner < 0.5 * sizes) | (sizes * grid.voxel_ml > 30.0)
    keep[0] = False
    return keep[labels]
