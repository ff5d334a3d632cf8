"""What the rules found, said as regions with presence and confidence, and what a person should look at."""

from dataclasses import dataclass

import numpy as np

from ct3d.case import REPORT_REGIONS, Flag, Region
from ct3d.imaging.volume import Volume
from ct3d.pipeline.anatomy_bones import Spine
from ct3d.pipeline.anatomy_lungs import Grid

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
    "heart_great_vessels": "Approximate: the thick part between the lungs below the carina, and contrast-filled "
    "vessels there; without contrast medium the great vessels above the heart count as mediastinum.",
    "upper_abdomen": "Approximate: what lies below the lungs within the body wall, at most 20 cm deep; no organ "
    "is outlined.",
    "bones": "Bones with marrow; costal cartilage only where calcified.",
}
TOUCH_MM2 = 60.0  # of a mask's face on the edge of the volume, above which it counts as cut


@dataclass(frozen=True)
class Findings:
    """Masks (K, J, I) on the canonical grid.

    Attributes:
        tissue: air-filled lung of both sides; right, left: the lungs with vessels and dense spots.
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

    @property
    def taken(self) -> np.ndarray:
        """Everything that some organ has."""
        return self.right | self.left | self.airways | self.bone


def describe_organs(
    volume: Volume, layers: dict[str, np.ndarray], found: Findings, organs: dict[str, int]
) -> tuple[Region, ...]:
    """Regions of the layers "body" and "organs", absent ones included."""
    entries = [("body", "body", 1)] + [(name, "organs", label) for name, label in organs.items()]
    return tuple(
        _region(volume, layers[layer], name, layer, label, confidence=_organ_confidence(name, found))
        for name, layer, label in entries
    )


def _organ_confidence(name, found):
    return 0.9


def _region(volume, array, name, layer, label, confidence):
    mask = array == label
    presence = presence_of(mask, volume)
    return Region(
        id=name,
        title=TITLES[name],
        kind="organ",
        layer=layer,
        label=label,
        presence=presence,
        confidence=0.0 if presence == "absent" else confidence,
        side=SIDES.get(name, "none"),
        report_region=REPORT_REGION_OF[name],
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


def check_anatomy(grid: Grid, found: Findings) -> tuple[tuple[Flag, ...], dict[str, float]]:
    """Flags on field of view and orientation, and the coverage of the lungs."""
    return (), {}
