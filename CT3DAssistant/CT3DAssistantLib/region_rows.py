"""The rows of a case's region list and of its measurements, and how they are ordered and copied."""

import math
from dataclasses import dataclass

from ct3d.case import Attribute, Case, Region
from CT3DAssistantLib.labels import value_text

GROUPS = {"lesion": "Lesion candidates", "organ": "Organs", "report_region": "Report regions"}
PRESENCE = {"whole": "● whole", "cut": "◐ cut", "absent": "○ not found"}
PRESENCE_TOLD = {
    "whole": "All of it lies within the scan.",
    "cut": "The scan ends inside it: its measurements are those of the imaged part only.",
    "absent": "It was not found in this scan. That does not mean that it isn't there.",
}
COLUMNS = ("Region", "Measurement", "Value")
NAMES = ("region", "measurement", "value", "unit")  # of the columns that are copied


@dataclass(frozen=True)
class Measurement:
    """One measurement as a row.

    Attributes:
        id: of the attribute.
        region: title of its region.
        text: value and unit as a report prints them.
    """

    id: str
    region: str
    title: str
    value: float | None
    unit: str
    words: str
    text: str

    @property
    def copied(self) -> tuple[str, str, str, str]:
        """Region, measurement, value with all its digits (or in words) and unit."""
        value = self.words if self.value is None else repr(self.value)
        return self.region, self.title, value, self.unit


def groups_of(case: Case) -> tuple[tuple[str, tuple[Region, ...]], ...]:
    """(heading, regions) of each group that has any; lesion candidates first."""
    groups = ((title, tuple(r for r in case.regions if r.kind == kind)) for kind, title in GROUPS.items())
    return tuple((title, regions) for title, regions in groups if regions)


def region_tip(region: Region) -> str:
    """What a person should know of a region, in sentences."""
    confidence = f"Confidence {region.confidence:.0%}: a plausibility score of the program, no probability."
    return "\n".join(filter(None, (PRESENCE_TOLD[region.presence], confidence, region.note)))


def measurements(case: Case, region_id: str = "") -> list[Measurement]:
    """The measurements of one region, or of all."""
    titles = {region.id: region.title for region in case.regions}
    chosen = [each for each in case.attributes if region_id in ("", each.region)]
    return [_row(each, titles.get(each.region, each.region)) for each in chosen]


def _row(attribute: Attribute, region: str) -> Measurement:
    number, unit, words = attribute.value, attribute.unit, attribute.words
    return Measurement(attribute.id, region, attribute.title, number, unit, words, value_text(attribute))


def ordered(rows: list[Measurement], column: int, *, descending: bool) -> list[Measurement]:
    """Rows by one of COLUMNS; numbers by their size within a unit, what is said in words behind them."""
    keys = (
        lambda row: row.region.casefold(),
        lambda row: row.title.casefold(),
        lambda row: (row.unit, row.value or 0.0, row.words.casefold()),
    )
    counted = [row for row in rows if column != 2 or row.value is not None]
    said = [row for row in rows if column == 2 and row.value is None]
    return [row for part in (counted, said) for row in sorted(part, key=keys[column], reverse=descending)]


def as_text(rows: list[Measurement]) -> str:
    """Rows to be pasted into a spreadsheet: tabs between columns, numbers with all their digits."""
    return "\n".join("\t".join(cells) for cells in (NAMES, *(row.copied for row in rows))) + "\n"


def field_mm(volume_ml: float | None) -> float:
    """Side of the square that shows a region of this volume with its surroundings, millimetres."""
    if not volume_ml:
        return 150.0
    diameter = (volume_ml * 1000 * 6 / math.pi) ** (1 / 3)
    return max(100.0, 2.2 * diameter)
