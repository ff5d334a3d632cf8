"""What the rules found, said as regions with presence and confidence."""

from dataclasses import dataclass

import numpy as np

from ct3d.case import REPORT_REGIONS, Region
from ct3d.imaging.volume import Volume
from ct3d.pipeline.anatomy_bones import Spine

TITLES = {
    "body": "body",
    "right_lung": "right lung",
    "left_lung": "left lung",
    "airways": "trachea and main bronchi",
    "skeleton": "skeleton",
}
REPORT_REGION_OF = {
    "body": "",
    "right_lung": "lungs",
    "left_lung": "lungs",
    "airways": "large_airways",
    "skeleton": "bones",
}
SIDES = {"right_lung": "right", "left_lung": "left", "airways": "midline"}
APPROXIMATE = {
    "mediastinum": 0.6,
    "heart_great_vessels": 0.6,
    "upper_abdomen": 0.6,
}  # confidence of the rough regions
NOTES = {
    "lungs": "Right and left lung with their vessels.",
    "large_airways": "Lumen of trachea and main bronchi; lobar bronchi count as lung.",
    "mediastinum": "Approximate: what lies between the lungs above the diaphragm and is neither heart nor "
    "contrast-filled vessel.",
    "heart_great_vessels": "Approximate: the thick part between the lungs below the carina, and contrast-"
    "filled vessels there; without contrast medium the great vessels above the heart count as mediastinum.",
    "upper_abdomen": "Approximate: what lies below the lungs within the body wall, at most 20 cm deep; no "
    "organ is outlined.",
    "bones": "Bones with marrow; costal cartilage only where calcified.",
}
SCORES = {"body": 0.95, "right_lung": 0.95, "left_lung": 0.95, "airways": 0.9, "skeleton": 0.8}  # at best
USUAL_LUNG_ML = (600.0, 4500.0)
COARSE_MM = 4.5  # voxels longer than this blur the edges
TOUCH_MM2 = 60.0  # of a mask's face on the edge of the volume, above which it counts as cut


@dataclass(frozen=True)
class Findings:
    """Masks (K, J, I) on the canonical grid.

    Attributes:
        tissue: air-filled lung of both sides; right, left: the lungs with vessels and dense spots.
        carina_kji: where the trachea divides; None: not seen.
        notes: region id → what a person should know of the mask.
        blood: smooth bright parts, mostly contrast-filled vessels.
    """

    body: np.ndarray
    right: np.ndarray
    left: np.ndarray
    tissue: np.ndarray
    airways: np.ndarray
    bone: np.ndarray
    blood: np.ndarray
    spine: Spine
    voxel_ml: float
    carina_kji: np.ndarray | None
    notes: dict[str, str]

    @property
    def taken(self) -> np.ndarray:
        """Everything that some organ has."""
        return self.right | self.left | self.airways | self.bone


def describe_organs(
    volume: Volume, layers: dict[str, np.ndarray], found: Findings, organs: dict[str, int]
) -> tuple[Region, ...]:
    """Regions of the layers "body" and "organs", absent ones included."""
    entries = [("body", "body", 1)] + [(name, "organs", label) for name, label in organs.items()]
    return tuple(_region(volume, layers[layer], name, layer, label, found) for name, layer, label in entries)


def organ_confidence(name: str, presence: str, volume: Volume, found: Findings) -> float:
    """How well a mask fits what the rules expect, 0 to 1: a plausibility score, no calibrated probability."""
    if presence == "absent":
        return 0.0
    score = SCORES[name]
    if name in ("right_lung", "left_lung"):
        ml = np.count_nonzero(found.right if name == "right_lung" else found.left) * found.voxel_ml
        is_usual = USUAL_LUNG_ML[0] < ml < USUAL_LUNG_ML[1]
        score *= 1.0 if is_usual else 0.8 if presence == "cut" else 0.6
        score *= 1.0 if found.right.any() and found.left.any() else 0.8
    if name == "airways" and found.carina_kji is None:
        score *= 0.7
    if max(volume.spacing_kji_mm) > COARSE_MM:
        score *= 0.9
    return round(score, 2)


def _region(volume, array, name, layer, label, found):
    presence = presence_of(array == label, volume)
    return Region(
        id=name,
        title=TITLES[name],
        kind="organ",
        layer=layer,
        label=label,
        presence=presence,
        confidence=organ_confidence(name, presence, volume, found),
        side=SIDES.get(name, "none"),
        report_region=REPORT_REGION_OF[name],
        note=found.notes.get(name, ""),
    )


def presence_of(mask: np.ndarray, volume: Volume) -> str:
    """whole, cut (it touches the edge of the volume) or absent."""
    if not mask.any():
        return "absent"
    dk, dj, di = volume.spacing_kji_mm
    faces = (
        (mask[0], dj * di),
        (mask[-1], dj * di),
        (mask[:, 0], dk * di),
        (mask[:, -1], dk * di),
        (mask[:, :, 0], dk * dj),
        (mask[:, :, -1], dk * dj),
    )
    return "cut" if max(np.count_nonzero(face) * area for face, area in faces) > TOUCH_MM2 else "whole"


def describe_report_regions(volume: Volume, layers: dict[str, np.ndarray]) -> tuple[Region, ...]:
    """The six report regions, absent ones included."""
    regions = []
    for label, (name, title) in enumerate(REPORT_REGIONS.items(), 1):
        presence = presence_of(layers["report_regions"] == label, volume)
        confidence = 0.0 if presence == "absent" else APPROXIMATE.get(name, 0.9)
        note = "Not found in this field of view." if presence == "absent" else NOTES[name]
        regions.append(
            Region(
                name, title.lower(), "report_region", "report_regions", label, presence, confidence, note=note
            )
        )
    return tuple(regions)
