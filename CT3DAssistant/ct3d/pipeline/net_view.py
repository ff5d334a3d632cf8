"""What a net of heat maps is shown of a volume: the body, on the card's grid; without torch."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from ct3d.cards import ModelCard
from ct3d.case import InputReport
from ct3d.errors import InvalidRequest
from ct3d.imaging.network_input import known_voxels, network_input
from ct3d.imaging.prepare import WayBack, prepare
from ct3d.imaging.volume import Volume, cut_to
from ct3d.pipeline.anatomy_masks import BODY_HU, body_parts, box_around

BODY_MARGIN_MM = 20.0


@dataclass(frozen=True, eq=False)
class View:
    """A volume on the card's grid, cut to the body.

    Attributes:
        seen: HU.
        known: (K, J, I) bool, which of its voxels the scan gives a value (see `known_voxels`).
        is_edge: (K, J, I) bool, which of them are unknown or have a neighbour that is.
        way_back: to the grid of the volume.
        value_range: HU that become 0 and 1.
    """

    seen: Volume
    known: np.ndarray
    is_edge: np.ndarray
    way_back: WayBack
    value_range: tuple[float, float]

    @property
    def network_input(self) -> np.ndarray:
        """(2, K, J, I) float32, see `network_input`."""
        return network_input(self.seen, self.value_range, self.known)

    def saw(self, card_id: str) -> InputReport:
        """The record of what a net saw."""
        notes = [f"Cut to the body and {BODY_MARGIN_MM:g} mm about it."]
        unknown = 1 - self.known.mean()
        if unknown >= 0.001:
            notes.append(f"{unknown:.1%} of these voxels are unknown: they lie beyond the scan.")
        return self.way_back.saw(card_id, notes=tuple(notes))


def view_of(volume: Volume, card: ModelCard, has_data: np.ndarray | None = None) -> View:
    """The volume as a net of this card is shown it.

    Args:
        volume: on its native grid.
        card: one with input, its HU range and heatmaps.
        has_data: (K, J, I) bool on the native grid, where a data set withheld voxels; None: nowhere.

    Raises:
        InvalidRequest: the card doesn't say how its net sees a volume.
    """
    if card.heatmaps is None or card.input is None or card.input.value_range is None:
        raise InvalidRequest(
            f"The card {card.id} must have [heatmaps] and [input] with a value_range. Mend it."
        )
    seen, way_back = prepare(volume, card.input)
    known = known_voxels(volume, seen, has_data)
    box = _body(seen, known)
    cut = cut_to(seen, box)
    is_edge = ~ndimage.binary_erosion(known)
    way_back = replace(way_back, model=cut.geometry)
    return View(cut, known[box], is_edge[box], way_back, card.input.value_range)


def _body(seen, known):
    """The box around the body; the whole volume where there is none."""
    dense = (seen.array > BODY_HU) & known
    if not dense.any():
        return tuple(slice(0, size) for size in seen.array.shape)
    return box_around(body_parts(dense), margin_mm=BODY_MARGIN_MM, spacing_kji_mm=seen.spacing_kji_mm)
