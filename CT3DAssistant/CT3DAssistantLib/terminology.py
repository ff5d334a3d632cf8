"""Region and landmark ids as coded names and colours: SNOMED CT, and the colours of Slicer's generic anatomy
table.

The tables lie in Resources/Terminologies. A numbered id finds the row without its number ("nodule_3" →
"nodule"); an id that no row names is coded by its kind.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ct3d.case import Region
from CT3DAssistantLib.resources import resource_path

SEGMENT_CONTEXT = "Segmentation category and type - DICOM master list"
ANATOMY_CONTEXT = "Anatomic codes - DICOM master list"
SCHEME = "SCT"


@dataclass(frozen=True)
class Code:
    """One concept of SNOMED CT."""

    value: str
    meaning: str

    def __str__(self) -> str:
        """The code as Slicer writes it: scheme^value^meaning, or ^^ where there is none."""
        return f"{SCHEME}^{self.value}^{self.meaning}" if self.value else "^^"


@dataclass(frozen=True)
class SegmentTerm:
    """How a region is coded and drawn."""

    category: Code
    type: Code
    modifier: Code
    anatomy: Code
    side: Code
    color: tuple[int, int, int]  # 0 to 255
    opacity: float  # of its surface in 3D

    @property
    def serialized(self) -> str:
        """The value of a segment's terminology tag in Slicer."""
        codes = f"{self.category}~{self.type}~{self.modifier}"
        return f"{SEGMENT_CONTEXT}~{codes}~{ANATOMY_CONTEXT}~{self.anatomy}~{self.side}"


@dataclass(frozen=True)
class LandmarkTerm:
    """How a landmark is coded."""

    code: Code
    modifier: Code


def segment_term(region: Region) -> SegmentTerm:
    """Codes and colour of a region; a numbered lesion takes its side as modifier of its anatomy."""
    rows = _rows("regions.csv")
    row = rows.get(region.id) or rows.get(_without_number(region.id)) or rows[region.kind]
    category, kind, modifier, anatomy, side = (
        _code(row, name) for name in ("category", "type", "modifier", "anatomy", "side")
    )
    if region.kind == "lesion" and not side.value and anatomy.value:
        side = SIDES.get(region.side, side)
    color = tuple(int(row[name]) for name in ("red", "green", "blue"))
    return SegmentTerm(category, kind, modifier, anatomy, side, color, float(row["opacity"]))


def landmark_term(landmark_id: str) -> LandmarkTerm | None:
    """Codes of a landmark; None where the table has none."""
    rows = _rows("landmarks.csv")
    row = rows.get(landmark_id) or rows.get(_without_number(landmark_id))
    return row and LandmarkTerm(Code(row["code"], row["meaning"]), _code(row, "modifier"))


SIDES = {"right": Code("24028007", "Right"), "left": Code("7771000", "Left")}


@cache
def _rows(name: str) -> Mapping[str, dict[str, str]]:
    with resource_path("Terminologies", name).open(encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def _code(row: Mapping[str, str], name: str) -> Code:
    return Code(row[f"{name}_code"], row[name])


def _without_number(name: str) -> str:
    return re.sub(r"_\d+", "", name)
