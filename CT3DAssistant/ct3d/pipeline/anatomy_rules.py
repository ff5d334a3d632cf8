"""Segmentation without weights: body, lungs, large airways, bones and report regions by thresholds and shape.

A learned segmenter has the same `segment`. The rules see a canonical RAS grid of 2 mm; edges are settled
on the native grid by its own HU. Sides come from R coordinates, never from the order of the array.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ct3d.cards import ModelCard
from ct3d.case import REPORT_REGIONS, Flag, InputReport, Region
from ct3d.imaging.prepare import WayBack, prepare
from ct3d.imaging.volume import Volume
from ct3d.pipeline.anatomy_airways import find_airways
from ct3d.pipeline.anatomy_bones import BRIGHT_HU, find_bone, find_spine
from ct3d.pipeline.anatomy_checks import check_anatomy
from ct3d.pipeline.anatomy_found import Findings, describe_organs, describe_report_regions
from ct3d.pipeline.anatomy_lungs import Grid, dense_spots, find_body, find_lungs, lung_hull, split_sides
from ct3d.pipeline.anatomy_masks import grown, shrunk
from ct3d.pipeline.anatomy_points import carina
from ct3d.pipeline.anatomy_regions import find_report_regions
from ct3d.pipeline.job import Job
from ct3d.pipeline.lesions import find_candidates

ORGANS = {
    "right_lung": 1,
    "left_lung": 2,
    "airways": 3,
    "skeleton": 4,
}  # region id → label in the layer "organs"
LUNG_HU = -400  # on the native grid: below it a voxel at the edge of a lung or bronchus is air
BONE_HU = 130  # on the native grid: above it a voxel at the edge of a bone is bone
CODE_KEEP, CODE_IF_AIR, CODE_IF_BRIGHT = 0, 8, 16  # added to a label on the canonical grid


@dataclass(frozen=True)
class Masks:
    """What a segmenter gives.

    Attributes:
        layers: name → label map (K, J, I) uint8 on the native grid.
        regions: what each label is, absent ones included.
        saw: what the segmenter saw of the volume.
        flags: what a person should look at.
    """

    layers: dict[str, np.ndarray]
    regions: tuple[Region, ...]
    saw: InputReport
    flags: tuple[Flag, ...] = ()


class AnatomyRules:
    """The card's segmenter; needs no weights."""

    def __init__(self, card: ModelCard, weights: Path | None = None):
        self.card = card
        self.weights = weights

    def segment(self, volume: Volume, job: Job) -> Masks:
        """Masks of one CT volume on its own grid."""
        job.stage("resample", 0.0)
        seen, way_back = prepare(volume, self.card.input)
        grid = Grid(np.asarray(seen.array, np.int16), seen.spacing_kji_mm, seen.ijk_to_ras)
        found = _find(grid, job)
        job.stage("report regions", 0.45)
        parts = find_report_regions(grid, found, job)
        job.stage("native grid", 0.55)
        layers = self._on_native_grid(volume, grid, found, parts, way_back, job)
        job.stage("lesion candidates", 0.7)
        job.check()
        layers["lesions"], lesions = find_candidates(volume, layers["organs"], ORGANS, job)
        job.stage("checks", 0.95)
        flags, coverage = check_anatomy(grid, found)
        regions = (
            *describe_organs(volume, layers, found, ORGANS),
            *describe_report_regions(volume, layers),
        )
        saw = way_back.saw(self.card.id, coverage=coverage)
        return Masks(layers, (*regions, *lesions), saw, flags)

    def _on_native_grid(self, volume, grid, found, parts, way_back: WayBack, job):
        layers = {"body": way_back.labels(found.body.astype(np.uint8))}
        job.check()
        codes = way_back.labels(_codes(grid, found, job))
        job.check()
        layers["organs"] = settle_edges(codes, volume.array, job)
        job.check()
        regions = way_back.labels(parts)
        job.check()
        ids = list(REPORT_REGIONS)
        organs = layers["organs"]
        for name, region in (
            ("right_lung", "lungs"),
            ("left_lung", "lungs"),
            ("airways", "large_airways"),
            ("skeleton", "bones"),
        ):
            regions[organs == ORGANS[name]] = ids.index(region) + 1
            job.check()
        layers["report_regions"] = regions
        return layers


def _find(grid, job):
    job.stage("body", 0.1)
    body = find_body(grid, job)
    spine = find_spine(grid, body)
    job.stage("airways", 0.2)
    airways = find_airways(grid, body, spine.x_mm, job)
    job.stage("lungs", 0.25)
    tissue = find_lungs(grid, body, airways, body & (grid.hu > BRIGHT_HU), spine.x_mm, job)
    if not tissue.any():
        airways = np.zeros_like(airways)
    right, left = split_sides(grid, tissue, spine.x_mm, job)
    right = lung_hull(grid, right, airways | left, job)
    left = lung_hull(grid, left, airways | right, job)
    job.stage("skeleton", 0.35)
    bone, blood = find_bone(grid, body, right | left, spine, job)
    bone &= ~(right | left | airways)
    notes = {}
    for name, lung, other in (("right_lung", right, left), ("left_lung", left, right)):
        dense = dense_spots(grid, lung, other | airways | bone, spine.x_mm, job)
        lung |= dense
        if dense.any():
            ml = np.count_nonzero(dense) * grid.voxel_ml
            notes[name] = f"About {ml:.0f} mL of dense tissue at the wall are counted as lung."
    split = carina(airways, grid.spacing)
    return Findings(body, right, left, tissue, airways, bone, blood, spine, grid.voxel_ml, split, notes)


def _codes(grid: Grid, found: Findings, job: Job) -> np.ndarray:
    """Labels of "organs" on the canonical grid, plus when a native voxel takes them (CODE_…)."""
    step = max(grid.spacing)
    codes = np.zeros(grid.hu.shape, np.uint8)
    for mask, label, kind in (
        (found.bone, ORGANS["skeleton"], CODE_IF_BRIGHT),
        (found.right, ORGANS["right_lung"], CODE_IF_AIR),
        (found.left, ORGANS["left_lung"], CODE_IF_AIR),
        (found.airways, ORGANS["airways"], CODE_IF_AIR),
    ):
        rim = grown(mask, step, grid.spacing) & ~found.taken
        codes[rim & (codes == 0)] = label + kind
        codes[mask] = label + CODE_KEEP
        job.check()
        at_edge = mask & ~shrunk(mask, step, grid.spacing)
        if kind == CODE_IF_AIR:
            at_edge &= grid.hu < LUNG_HU  # soft tissue that the hull took in stays
        codes[at_edge] = label + kind
        job.check()
    return codes


def settle_edges(codes: np.ndarray, hu: np.ndarray, job: Job) -> np.ndarray:
    """Labels from codes, slice by slice: an edge voxel counts where its own HU is that of the organ."""
    labels = np.zeros_like(codes)
    for k in range(len(codes)):
        code = codes[k]
        if not code.any():
            continue
        label, kind = code & 7, code & ~np.uint8(7)
        keep = kind == CODE_KEEP
        keep |= (kind == CODE_IF_AIR) & (hu[k] < LUNG_HU)
        keep |= (kind == CODE_IF_BRIGHT) & (hu[k] > BONE_HU)
        labels[k] = np.where(keep, label, 0)
        if k % 32 == 0:
            job.check()
    return labels
