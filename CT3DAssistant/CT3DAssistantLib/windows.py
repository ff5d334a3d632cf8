"""The grey scales in which regions are read."""

from dataclasses import dataclass

from ct3d.case import Region

LUNG_REGIONS = ("lungs", "large_airways")


@dataclass(frozen=True)
class Window:
    """A grey scale, in HU."""

    name: str
    width_hu: float
    level_hu: float

    def serves(self, width_hu: float, level_hu: float) -> bool:
        """Whether what this window is for can be read in another: most of its range shows, with contrast."""
        low = max(self.level_hu - self.width_hu / 2, level_hu - width_hu / 2)
        high = min(self.level_hu + self.width_hu / 2, level_hu + width_hu / 2)
        return high - low >= 0.6 * self.width_hu and width_hu <= 2.5 * self.width_hu


LUNG = Window("lung", 1500, -600)
SOFT = Window("soft tissue", 400, 40)
BONE = Window("bone", 2000, 450)


def window_of(region: Region | None) -> Window:
    """The grey scale in which a region is read."""
    if region is None:
        return SOFT
    if region.id in ("skeleton", "bones"):
        return BONE
    is_fluid = region.id.startswith("effusion")
    return LUNG if region.report_region in LUNG_REGIONS and not is_fluid else SOFT
