"""Named points read off the masks of a CT, each with presence and confidence.

The points come from masks alone, whoever made them, on a canonical RAS grid. A confidence is that of the
point's region times a fixed factor for how firmly the rule pins the point (FIRMNESS): no probability.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ct3d.cards import LandmarkSpec, ModelCard
from ct3d.case import Flag, Landmark, Region
from ct3d.imaging.plausibility import flags_of
from ct3d.imaging.resample import resample
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_kji
from ct3d.pipeline.anatomy_masks import box_around
from ct3d.pipeline.anatomy_points import aortic_arch, carina, dome, end_of
from ct3d.pipeline.job import Job
from ct3d.pipeline.landmarks import Placed

GRID_MM = 1.5
EDGE_VOXELS = 1.0  # a point nearer than this to the edge of the volume lies beyond the field of view
HEART = "heart_great_vessels"
ARCH_NOTE = "Highest wide contrast-filled cross-section left of the trachea; needs contrast medium."
FIRMNESS = {
    "carina": 0.95,
    "trachea_top": 0.9,
    "right_lung_apex": 0.95,
    "left_lung_apex": 0.95,
    "right_lung_base": 0.9,
    "left_lung_base": 0.9,
    "right_diaphragm_dome": 0.85,
    "left_diaphragm_dome": 0.75,
    "aortic_arch_level": 0.65,
}


@dataclass(frozen=True)
class MaskRules:
    """The card's landmark finder; needs no weights."""

    card: ModelCard
    weights: None = None

    def place(
        self, volume: Volume, layers: dict[str, np.ndarray], regions: tuple[Region, ...], job: Job
    ) -> Placed:
        """See `find_landmarks`."""
        return Placed(*find_landmarks(volume, layers, regions, self.card, job))


@dataclass(frozen=True)
class Scene:
    """Masks on a canonical RAS grid.

    Attributes:
        masks: region id → (K, J, I) bool.
        hu: the volume on the same grid.
        ijk_to_ras: 4x4 affine of that grid.
        spacing: of K, J, I in mm.
    """

    masks: dict[str, np.ndarray]
    hu: np.ndarray
    ijk_to_ras: np.ndarray
    spacing: tuple[float, float, float]


def find_landmarks(
    volume: Volume, layers: dict[str, np.ndarray], regions: tuple[Region, ...], card: ModelCard, job: Job
) -> tuple[tuple[Landmark, ...], tuple[Flag, ...]]:
    """Every landmark of the card, missing ones included, then lesion centres; and plausibility flags."""
    job.stage("resample masks", 0.0)
    by_id = {region.id: region for region in regions if region.presence != "absent"}
    scene = _scene(volume, layers, by_id, job)
    job.stage("points", 0.5)
    found = []
    for spec in card.landmarks:
        job.check()
        found.append(_landmark(spec, scene, by_id.get(spec.region), volume))
    job.stage("lesion centres", 0.8)
    definition = card.config["lesion_definition"]
    found += list(_lesion_centers(volume, layers, regions, definition, job))
    landmarks = tuple(found)
    return landmarks, flags_of(landmarks, card.limits)


def _scene(volume, layers, by_id, job):
    spacing = (GRID_MM,) * 3
    wanted = ("right_lung", "left_lung", "airways", HEART)
    needed = {region.layer for name, region in by_id.items() if name in wanted}
    maps = {}
    for name in sorted(needed):
        maps[name] = resample(Volume(layers[name], volume.ijk_to_ras), spacing_kji_mm=spacing, is_label=True)
        job.check()
    masks = {name: maps[by_id[name].layer].array == by_id[name].label for name in wanted if name in by_id}
    seen = resample(volume, spacing_kji_mm=spacing)
    return Scene(masks, seen.array, seen.ijk_to_ras, spacing)


def _landmark(spec: LandmarkSpec, scene: Scene, region: Region | None, volume: Volume) -> Landmark:
    if region is None or spec.region not in scene.masks:
        return _absent(spec, "missing", f"No {spec.region.replace('_', ' ')} was found in this scan.")
    point, why = _place(spec.id, scene)
    if point is None:
        is_cut = (
            spec.id == "carina" and scene.masks["airways"][:2].any()
        )  # they leave the scan before they divide
        return _absent(spec, "outside" if is_cut else "missing", why)
    position = ras_from_kji(point[None], scene.ijk_to_ras)[0]
    if _is_at_edge(position, volume):
        return _absent(spec, "outside", "The field of view ends here: the true place lies beyond.")
    confidence = round(region.confidence * FIRMNESS[spec.id], 2)
    position = tuple(round(float(x), 2) for x in position)
    return Landmark(
        spec.id, spec.title, spec.definition, "present", confidence, position, None, spec.region, why
    )


def _place(name, scene):
    """Continuous (k, j, i) of a landmark and a note; None and the reason where it can't be placed."""
    masks, spacing = scene.masks, scene.spacing
    if name in ("carina", "aortic_arch_level"):
        split = carina(masks["airways"], spacing) if "airways" in masks else None
        if name == "carina":
            return split, "" if split is not None else "The outlined airways don't divide in two."
        return aortic_arch(masks[HEART], scene.hu, split, spacing), ARCH_NOTE
    if name == "trachea_top":
        return end_of(masks["airways"], spacing, is_top=True), "Where the outlined lumen ends upward."
    lung = masks["right_lung" if name.startswith("right") else "left_lung"]
    if name.endswith("dome"):
        return dome(lung, name.startswith("right"), spacing), "Read off the lung's under-surface."
    return end_of(lung, spacing, is_top=name.endswith("apex")), ""


def _absent(spec, presence, note):
    return Landmark(spec.id, spec.title, spec.definition, presence, 0.0, None, None, spec.region, note)


def _is_at_edge(position_ras, volume):
    """Whether a point lies in the outermost voxels of the volume, or beyond."""
    ijk = ijk_from_ras(np.array([position_ras]), volume.ijk_to_ras)[0]
    last = np.array(volume.array.shape[::-1]) - 1
    return bool((ijk < EDGE_VOXELS).any() or (ijk > last - EDGE_VOXELS).any())


def _lesion_centers(volume, layers, regions, definition, job) -> Iterator[Landmark]:
    for region in regions:
        if region.kind != "lesion" or region.presence == "absent":
            continue
        job.check()
        position = _center(layers[region.layer] == region.label, volume)
        name, title = f"{region.id}_center", f"centre of {region.title}"
        yield Landmark(name, title, definition, "present", region.confidence, position, None, region.id)


def _center(mask, volume):
    """The voxel of a mask that is nearest to its centre of mass, RAS mm."""
    box = box_around(mask)
    points = ras_from_kji(np.argwhere(mask[box]) + [each.start for each in box], volume.ijk_to_ras)
    nearest = np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()
    return tuple(round(float(x), 2) for x in points[nearest])
