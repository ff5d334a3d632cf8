"""Pleural effusion candidates: fluid density in the dependent gap between lung and chest wall.

The scan is taken to be supine, so fluid gathers behind the lung. In every column of voxels that runs from
front to back, the gap goes from the lung's hindmost voxel to the first bone behind it (ribs of neighbouring
slices count, because ribs run oblique). A healthy gap is a few millimetres of pleura, fat and muscle; an
effusion widens it and fills it with water density. Liver, spleen and stomach lie before the hindmost lung
voxel and never enter the gap; consolidation and atelectasis are denser than the band; the muscles of the back
lie behind the ribs.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi

from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.pipeline.nodules import distance_mm, ramp

FLUID_HU = (-20.0, 45.0)  # of the smoothed scan
MEAN_HU = (-10.0, 35.0)  # of the whole candidate; unenhanced muscle and spleen are denser
SMOOTHING_MM = 2.5
RIB_REACH_MM = 15.0  # ribs this far above or below close the cage of a slice
THINNEST_MM = 8.0  # opening: thinner sheets are pleura, fat and partial volume
SMALLEST_ML = 25.0
DEEPEST_MM = 90.0  # a wider gap is no gap: the wall was not found
DEPENDENT_SHARE = 0.5  # the lung's hindmost voxel lies in the hinder half of the lung


@dataclass(frozen=True)
class Effusion:
    """One side's candidate; mask on its search grid, cut to its box."""

    mask: Volume
    side: str
    confidence: float
    note: str


def find_effusions(coarse, job) -> list[Effusion]:
    """At most one candidate a side; none where the skeleton, and so the chest wall, isn't known.

    Args:
        coarse: lesions.Search, about 2.5 mm, axes toward R, A, S.
        job: is asked to stop between sides.
    """
    bones = coarse.mask("skeleton")
    if not bones.any():
        return []
    spacing = coarse.scan.spacing_kji_mm[0]
    smooth = ndi.gaussian_filter(coarse.scan.array, SMOOTHING_MM / spacing / 2)
    fluid = (smooth > FLUID_HU[0]) & (smooth < FLUID_HU[1])
    wall = ndi.maximum_filter1d(bones, 2 * round(RIB_REACH_MM / spacing) + 1, axis=0)
    found = []
    for side in ("right", "left"):
        job.check()
        lung = coarse.mask(f"{side}_lung")
        if lung.any():
            found.append(_side(side, lung, wall, fluid, smooth, coarse))
    return [each for each in found if each]


def _side(side, lung, wall, fluid, smooth, coarse):
    spacing = coarse.scan.spacing_kji_mm[0]
    gap = dependent_gap(lung, wall, spacing)
    inner = gap & fluid
    if not inner.any():
        return None
    kept = distance_mm(inner, spacing) >= THINNEST_MM / 2
    if not kept.any():
        return None
    opened = inner & (distance_mm(kept, spacing) >= -THINNEST_MM / 2 - spacing)
    blobs, _ = ndi.label(opened)
    body = blobs == np.bincount(blobs.ravel())[1:].argmax() + 1
    ml = body.sum() * spacing**3 / 1000
    hu = float(smooth[body].mean())
    if ml < SMALLEST_ML or not MEAN_HU[0] <= hu <= MEAN_HU[1]:
        return None
    filled = body.sum() / max(1, (gap & body.any(axis=1, keepdims=True)).sum())
    return _effusion(side, body, ml, hu, filled, coarse)


def dependent_gap(lung: np.ndarray, wall: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Voxels behind the lung and before the first bone behind it, (K, J, I), J growing toward anterior."""
    last = np.where(lung.any(axis=1), lung.argmax(axis=1), -1)  # hindmost lung voxel of each (k, i)
    front, back = np.flatnonzero(lung.any(axis=(0, 2)))[[-1, 0]]
    is_dependent = (last >= 0) & (last <= back + DEPENDENT_SHARE * (front - back))
    rows = np.arange(lung.shape[1])[None, :, None]
    behind = rows < last[:, None, :]
    bone = np.where(wall & behind, rows, -1).max(axis=1)  # first bone met on the way back
    is_bounded = is_dependent & (bone >= 0) & ((last - bone) * spacing_mm <= DEEPEST_MM)
    return behind & (rows > bone[:, None, :]) & is_bounded[:, None, :]


def _effusion(side, body, ml, hu, filled, coarse) -> Effusion:
    place = ndi.find_objects(body.view(np.uint8))[0]
    grid = coarse.scan.ijk_to_ras.copy()
    grid[:3, 3] = ras_from_kji(np.array([[axis.start for axis in place]]), coarse.scan.ijk_to_ras)[0]
    size, share, water = ramp(ml, 15.0, 120.0), ramp(filled, 0.3, 0.8), 1 - ramp(abs(hu - 10), 10.0, 30.0)
    return Effusion(
        mask=Volume(body[place].astype(np.uint8), grid),
        side=side,
        confidence=0.7 * float(np.cbrt(size * share * max(water, 0.1))),
        note=f"At least {ml:.0f} mL of {hu:.0f} HU between lung and posterior chest wall, filling "
        f"{100 * filled:.0f} % of the gap there. Raised by volume, share of the gap and nearness to water "
        "(0 to 20 HU); never above 0.7, because pleural thickening, old blood, atelectasis look alike. "
        "Assumes a supine scan. By rule, not calibrated.",
    )
