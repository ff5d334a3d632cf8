"""Lesion candidates by rule: lung nodules, masses, pleural effusions. For a reader to judge, no diagnosis.

The search runs on axis-aligned grids over the lungs; masks come back on the native grid. A confidence orders
the candidates and says how well one fits the rules; it is no calibrated probability, and Region.note says so.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi

from ct3d.case import Region
from ct3d.imaging.resample import resample_onto
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_kji
from ct3d.pipeline.effusions import find_effusions
from ct3d.pipeline.job import Job
from ct3d.pipeline.nodules import Nodule, find_nodules

FINE_MM = 1.25  # nodules
COARSE_MM = 2.5  # masses, closing of the lungs, effusions
MARGIN_MM = 15.0  # of the search box around the lungs
SOFT_TISSUE_HU = -400.0  # half-way between lung and soft tissue: the border of a solid nodule
FLUID_EDGE_HU = -200.0  # the same for fluid, with room for noise
EDGE_MM = 2.5  # how far the native mask may reach beyond the smoothed candidate
LAYER = "lesions"


@dataclass(frozen=True)
class Search:
    """One grid over the lungs, axes toward R, A, S.

    Attributes:
        scan: HU, float32, isotropic.
        organs: (K, J, I) label map on the same grid.
        labels: region id → value in `organs`.
        native_spacing_mm: largest distance between native voxels; what is thinner can't be judged.
    """

    scan: Volume
    organs: np.ndarray
    labels: dict[str, int]
    native_spacing_mm: float

    def mask(self, *regions: str) -> np.ndarray:
        """Where any of these regions is; empty for one that has no label."""
        return np.isin(self.organs, [self.labels[region] for region in regions if region in self.labels])


def find_candidates(
    volume: Volume, organs: np.ndarray, labels: dict[str, int], job: Job
) -> tuple[np.ndarray, tuple[Region, ...]]:
    """Nodule and effusion candidates on the native grid.

    Args:
        volume: HU.
        organs: (K, J, I) label map on the volume's grid.
        labels: region id (right_lung, left_lung, airways, skeleton) → value in `organs`.
        job: is asked to stop between steps.

    Returns:
        Label map (K, J, I) uint8 and its regions, nodules first, each kind by falling confidence.
    """
    layer = np.zeros(volume.array.shape, np.uint8)
    lungs = np.isin(organs, [labels[name] for name in ("right_lung", "left_lung") if name in labels])
    if not lungs.any():
        return layer, ()
    box = ndi.find_objects(lungs.view(np.uint8))[0]
    fine = _search(volume, organs, labels, box, FINE_MM)
    job.check()
    coarse = _search(volume, organs, labels, box, COARSE_MM)
    job.check()
    regions = []
    for nodule in find_nodules(fine, coarse, job):
        label = len(regions) + 1
        if presence := _draw(layer, label, nodule.mask, volume):
            regions.append(_nodule_region(nodule, label, presence))
    for effusion in find_effusions(coarse, job):
        label = len(regions) + 1
        if presence := _draw(layer, label, effusion.mask, volume, low_hu=FLUID_EDGE_HU, edge_mm=0.0):
            regions.append(_effusion_region(effusion, label, presence))
    return layer, tuple(regions)


def _search(volume, organs, labels, box, spacing_mm):
    """The box of the lungs, and a margin, resampled to this spacing."""
    margin = np.ceil(MARGIN_MM / np.array(volume.spacing_kji_mm)).astype(int)
    box = tuple(
        slice(max(0, axis.start - m), min(n, axis.stop + m))
        for axis, m, n in zip(box, margin, organs.shape, strict=True)
    )
    part, part_organs = _cropped(volume, box), _cropped(Volume(organs, volume.ijk_to_ras), box)
    ends = np.array([(0, n - 1) for n in part.array.shape])
    corners_ras = ras_from_kji(np.array(np.meshgrid(*ends)).reshape(3, -1).T, part.ijk_to_ras)
    low, high = corners_ras.min(0), corners_ras.max(0)
    grid = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    grid[:3, 3] = low
    shape = tuple(int(n) for n in np.ceil((high - low) / spacing_mm).astype(int)[::-1] + 1)
    scan = resample_onto(part, grid, shape)
    on_grid = resample_onto(part_organs, grid, shape, is_label=True)
    scan = Volume(scan.array.astype(np.float32), grid)
    return Search(scan, on_grid.array, labels, max(volume.spacing_kji_mm))


def _cropped(volume, box):
    start_ijk = np.array([[axis.start for axis in box[::-1]]])
    grid = volume.ijk_to_ras.copy()
    grid[:3, 3] = volume.ijk_to_ras[:3, :3] @ start_ijk[0] + volume.ijk_to_ras[:3, 3]
    return Volume(np.ascontiguousarray(volume.array[box]), grid)


def _draw(layer, label, mask: Volume, volume, low_hu=SOFT_TISSUE_HU, edge_mm=EDGE_MM) -> str:
    """Write a candidate's mask into the native layer: "whole", "cut" at the scan's end, "" if none is left.

    Args:
        layer: (K, J, I), changed in place; earlier candidates keep their voxels.
        label: value to write.
        mask: the candidate on its search grid, in the smallest box that holds it.
        volume: native HU.
        low_hu: native voxels below it don't belong to the candidate.
        edge_mm: how far beyond the candidate's edge denser voxels still belong to it.
    """
    ends = np.array([(0, n - 1) for n in mask.array.shape])
    corners_ras = ras_from_kji(np.array(np.meshgrid(*ends)).reshape(3, -1).T, mask.ijk_to_ras)
    corners_kji = ijk_from_ras(corners_ras, volume.ijk_to_ras)[:, ::-1]
    spacing = np.array(volume.spacing_kji_mm)
    margin = np.ceil(edge_mm / spacing) + 1
    low = np.maximum(np.floor(corners_kji.min(0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(corners_kji.max(0) + margin) + 1, layer.shape).astype(int)
    box = tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
    part = _cropped(volume, box)
    core = resample_onto(mask, part.ijk_to_ras, part.array.shape, is_label=True).array > 0
    near = core if edge_mm == 0 else ndi.distance_transform_edt(~core, sampling=spacing) <= edge_mm
    blobs, _ = ndi.label(near & (part.array > low_hu) & (layer[box] == 0))
    inside = np.bincount(blobs[core], minlength=2)[1:]
    if not inside.any():
        return ""
    kept = blobs == inside.argmax() + 1
    layer[box][kept] = label
    (place,) = ndi.find_objects(kept.view(np.uint8))
    ends = zip(place, box, layer.shape)
    is_cut = any(p.start + b.start == 0 or p.stop + b.start == n for p, b, n in ends)
    return "cut" if is_cut else "whole"


def _nodule_region(nodule: Nodule, label, presence):
    return Region(
        id=f"nodule_{label}",
        title=f"{nodule.side} lung {'mass' if nodule.diameter_mm > 30 else 'nodule'} candidate",
        kind="lesion",
        layer=LAYER,
        label=label,
        presence=presence,
        confidence=round(nodule.confidence, 2),
        side=nodule.side,
        report_region="lungs",
        note=nodule.note,
    )


def _effusion_region(effusion, label, presence):
    return Region(
        id=f"effusion_{effusion.side}",
        title=f"{effusion.side} pleural effusion candidate",
        kind="lesion",
        layer=LAYER,
        label=label,
        presence=presence,
        confidence=round(effusion.confidence, 2),
        side=effusion.side,
        report_region="lungs",
        note=effusion.note,
    )
