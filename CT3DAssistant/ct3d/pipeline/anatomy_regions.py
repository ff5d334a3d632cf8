"""The six report regions on a canonical RAS grid, from lungs, airways, bone and bright blood."""

import numpy as np
from scipy import ndimage

from ct3d.case import REPORT_REGIONS
from ct3d.pipeline.anatomy_bones import between_lungs
from ct3d.pipeline.anatomy_checks import Findings
from ct3d.pipeline.anatomy_lungs import Grid
from ct3d.pipeline.anatomy_masks import closed, distance_mm, grown, largest_part, opened
from ct3d.pipeline.job import Job

WALL_MM = 18.0  # skin, fat and muscle around the abdomen
DEEP_MM = 200.0  # how far below the lungs the upper abdomen reaches
HEART_MM = 12.0  # the heart is what stays of the middle when it is opened by this
SINK_MM = 25.0  # the heart's floor lies this far below the right dome

LABELS = {name: n for n, name in enumerate(REPORT_REGIONS, 1)}


def find_report_regions(grid: Grid, found: Findings, job: Job) -> tuple[np.ndarray, dict[str, str]]:
    """Label map (K, J, I) of the report regions in the order of REPORT_REGIONS, and a note on each."""
    parts = np.zeros(grid.hu.shape, np.uint8)
    lungs = found.right | found.left
    if lungs.any():
        floor = _floor(grid, found)
        job.check()
        middle = _middle(grid, found, lungs, floor, job)
        heart = _heart(grid, found, middle, job)
        parts[_upper_abdomen(grid, found, lungs, floor, job)] = LABELS["upper_abdomen"]
        parts[middle] = LABELS["mediastinum"]
        parts[heart] = LABELS["heart_great_vessels"]
    parts[lungs] = LABELS["lungs"]
    parts[found.airways] = LABELS["large_airways"]
    parts[found.bone] = LABELS["bones"]
    return parts, NOTES


NOTES = {
    "lungs": "Right and left lung with their vessels.",
    "large_airways": "Lumen of trachea and main bronchi; lobar bronchi count as lung.",
    "mediastinum": "Approximate: soft tissue between the lungs above the diaphragm that is neither heart nor bright vessel.",
    "heart_great_vessels": "Approximate: the thick part between the lungs below the carina, and contrast-filled vessels there. "
    "Without contrast medium, great vessels above the heart count as mediastinum.",
    "upper_abdomen": "Approximate: what lies below the lungs inside the body wall, at most 20 cm deep; no organ is outlined.",
    "bones": "Bones with marrow; costal cartilage only where calcified.",
}


def _floor(grid, found):
    """Slice index (J, I) above which a column belongs to the chest."""
    lungs = found.right | found.left
    lowest = np.where(lungs.any(axis=0), lungs.argmax(axis=0), 0).astype(float)
    nearest = ndimage.distance_transform_edt(~lungs.any(axis=0), return_distances=False, return_indices=True)
    return ndimage.gaussian_filter(lowest[tuple(nearest)], 10.0 / grid.spacing[1])


def _middle(grid, found, lungs, floor, job):
    """Soft tissue between the lungs, in front of the spine, above the diaphragm."""
    height = np.arange(grid.hu.shape[0])[:, None, None]
    zone = between_lungs(lungs) & (height >= floor[None]) & (grid.hu > -300)
    job.check()
    zone &= ~grown(closed(found.bone, 6.0, grid.spacing), 2.0, grid.spacing)
    job.check()
    return largest_part(opened(zone & ~lungs & ~found.airways, 2.0, grid.spacing))


def _heart(grid, found, middle, job):
    below = np.zeros_like(middle)
    below[: _heart_top(grid, found)] = True
    core = largest_part(opened(middle & below, HEART_MM, grid.spacing))
    job.check()
    return middle & (core | grown(found.blood, 2.0, grid.spacing))


def _heart_top(grid, found):
    """First slice above the heart: just below the carina, else at 60 % of the lungs' height."""
    airways = np.flatnonzero(found.airways.any(axis=(1, 2)))
    if airways.size:
        return max(int(airways[0]), 1)
    k = np.flatnonzero((found.right | found.left).any(axis=(1, 2)))
    return int(k[0] + 0.6 * (k[-1] - k[0])) + 1


def _upper_abdomen(grid, found, lungs, floor, job):
    height = np.arange(grid.hu.shape[0])[:, None, None]
    top = floor.max()
    inside = distance_mm(found.body, grid.spacing) < -WALL_MM
    job.check()
    low = (height < floor[None]) & (height > top - DEEP_MM / grid.spacing[0])
    return inside & low & ~lungs & ~grown(found.bone, 2.0, grid.spacing) & found.body
