"""The six report regions on a canonical RAS grid, from lungs, airways, bone and bright blood.

Lungs, large airways and bones are the organs' masks. The other three are rough: heart and mediastinum share
what lies between the lungs above the diaphragm; the upper abdomen lies below the lungs, inside the wall.
"""

import numpy as np
from scipy import ndimage

from ct3d.case import REPORT_REGIONS
from ct3d.pipeline.anatomy_bones import before_spine, between_lungs
from ct3d.pipeline.anatomy_found import Findings
from ct3d.pipeline.anatomy_lungs import Grid
from ct3d.pipeline.anatomy_masks import closed, distance_mm, grown, largest_part, opened
from ct3d.pipeline.anatomy_points import dome
from ct3d.pipeline.job import Job

WALL_MM = 18.0  # skin, fat and muscle around the abdomen
DEEP_MM = 200.0  # how far below the lungs the upper abdomen reaches
HEART_MM = 16.0  # the heart is what stays of the middle when it is opened by this
HEART_BELOW_CARINA_MM = 20.0
SINK_MM = 22.0  # the heart's floor lies this far below the higher dome
OVER_HEART_MM = (
    10.0  # a lung column that ends this far above its dome ends on the heart, not on the diaphragm
)

LABELS = {name: n for n, name in enumerate(REPORT_REGIONS, 1)}


def find_report_regions(grid: Grid, found: Findings, job: Job) -> np.ndarray:
    """Label map (K, J, I) of the report regions, numbered in the order of REPORT_REGIONS."""
    parts = np.zeros(grid.hu.shape, np.uint8)
    lungs = found.right | found.left
    if lungs.any():
        floor = _floor(grid, found)
        job.check()
        middle = _middle(grid, found, lungs, floor, job)
        job.check()
        parts[_upper_abdomen(grid, found, floor, job)] = LABELS["upper_abdomen"]
        parts[middle] = LABELS["mediastinum"]
        parts[_heart(grid, found, middle, job)] = LABELS["heart_great_vessels"]
    parts[lungs] = LABELS["lungs"]
    parts[found.airways] = LABELS["large_airways"]
    parts[found.bone] = LABELS["bones"]
    return parts


def _floor(grid, found):
    """Slice index (J, I) from which upward a column belongs to the chest: in place of the diaphragm."""
    domes = [
        dome(lung, is_right, grid.spacing) for lung, is_right in ((found.right, True), (found.left, False))
    ]
    tops = [point[0] for point in domes if point is not None]
    flat = (max(tops) if tops else 0.0) - SINK_MM / grid.spacing[0]
    floor = np.full(grid.hu.shape[1:], flat)
    for lung, point in zip((found.right, found.left), domes):
        shadow = lung.any(axis=0)
        lowest = lung.argmax(axis=0)
        limit = (point[0] if point is not None else flat) + OVER_HEART_MM / grid.spacing[0]
        floor = np.where(shadow & (lowest <= limit), lowest, floor)
    return ndimage.gaussian_filter(floor, 4.0 / grid.spacing[1])


def _middle(grid, found, lungs, floor, job):
    """Soft tissue between the lungs, in front of the spine, above the diaphragm."""
    height = np.arange(grid.hu.shape[0])[:, None, None]
    zone = between_lungs(lungs) & (height >= floor[None]) & (grid.hu > -300)
    zone &= before_spine(grid, found.spine) | found.blood
    job.check()
    zone &= ~(found.taken | grown(found.bone, 2.0, grid.spacing))
    job.check()
    return largest_part(opened(zone, 2.0, grid.spacing))


def _heart(grid, found, middle, job):
    below = np.zeros_like(middle)
    below[: _heart_top(grid, found)] = True
    core = largest_part(opened(middle & below, HEART_MM, grid.spacing))
    job.check()
    vessels = opened(middle & closed(found.blood, 4.0, grid.spacing), 3.0, grid.spacing)
    return middle & (core | grown(vessels, 2.0, grid.spacing))


def _heart_top(grid, found):
    """First slice above the heart: below the carina, else at 60 % of the lungs' height."""
    if found.carina_kji is not None:
        return max(int(found.carina_kji[0] - HEART_BELOW_CARINA_MM / grid.spacing[0]), 1)
    k = np.flatnonzero((found.right | found.left).any(axis=(1, 2)))
    return int(k[0] + 0.6 * (k[-1] - k[0])) + 1


def _upper_abdomen(grid, found, floor, job):
    height = np.arange(grid.hu.shape[0])[:, None, None]
    inside = distance_mm(found.body, grid.spacing) < -WALL_MM
    job.check()
    low = (height < floor[None]) & (height > floor.max() - DEEP_MM / grid.spacing[0])
    is_front = grid.y_mm[None, :, None] > found.spine.y_mm[:, None, None]
    return inside & low & is_front & ~found.taken
