"""What a card wants to see, made from a volume, and the exact way back to the volume's own grid."""

from dataclasses import dataclass

import numpy as np

from ct3d.cards import InputSpec
from ct3d.case import Geometry, InputReport
from ct3d.errors import InvalidRequest
from ct3d.imaging.resample import AIR_HU, resample, resample_onto
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_ijk


@dataclass(frozen=True, eq=False)
class WayBack:
    """From the grid that a model saw to the grid of the volume, and what was changed on the way there.

    Attributes:
        native, model: the two grids.
        orientations: axis letters of I, J, K, native and model.
        value_range: HU between which the values were clipped; None: not clipped.
        clipped_share: share of the volume's voxels outside that range.
        notes: what a person should know of the change.
    """

    native: Geometry
    model: Geometry
    orientations: tuple[str, str]
    value_range: tuple[float, float] | None
    clipped_share: float
    notes: tuple[str, ...] = ()

    def labels(self, array_kji: np.ndarray) -> np.ndarray:
        """Labels on the model's grid put on the native grid, by nearest value; 0 where the model saw nothing.

        Raises:
            InvalidRequest: if the array doesn't have the shape that the model saw.
        """
        if array_kji.shape != self.model.shape_kji:
            raise InvalidRequest(
                f"Labels of shape {array_kji.shape} don't fit the model's input {self.model.shape_kji}."
            )
        seen = Volume(array_kji, np.array(self.model.ijk_to_ras))
        return resample_onto(
            seen, np.array(self.native.ijk_to_ras), self.native.shape_kji, is_label=True
        ).array

    def to_ras(self, points_ijk: np.ndarray) -> np.ndarray:
        """Model voxel indices (N, 3) in the order i, j, k as RAS millimetres (N, 3)."""
        return ras_from_ijk(points_ijk, np.array(self.model.ijk_to_ras))

    def to_model(self, points_ras: np.ndarray) -> np.ndarray:
        """Points (N, 3) in RAS millimetres as continuous model voxel indices (N, 3) in the order i, j, k."""
        return ijk_from_ras(points_ras, np.array(self.model.ijk_to_ras))

    @property
    def kept_kji(self) -> tuple[tuple[int, int], ...]:
        """(first, past last) per native axis of what the model's grid covers."""
        size = self.model.shape_kji[::-1]
        corners = np.stack(np.meshgrid(*((-0.5, n - 0.5) for n in size)), axis=-1).reshape(-1, 3)
        there = ijk_from_ras(self.to_ras(corners), np.array(self.native.ijk_to_ras))[:, ::-1] + 0.5
        low = np.clip(np.floor(there.min(axis=0) + 1e-3), 0, self.native.shape_kji)
        high = np.clip(np.ceil(there.max(axis=0) - 1e-3), 0, self.native.shape_kji)
        return tuple((int(first), int(past)) for first, past in zip(low, high))

    def saw(
        self, card_id: str, *, coverage: dict[str, float] | None = None, notes: tuple[str, ...] = ()
    ) -> InputReport:
        """The record of what this card's model saw; `coverage` and more `notes` are the caller's to know."""
        return InputReport(
            card=card_id,
            orientation_from=self.orientations[0],
            orientation_to=self.orientations[1],
            shape_from_kji=self.native.shape_kji,
            shape_to_kji=self.model.shape_kji,
            spacing_from_kji_mm=self.native.spacing_kji_mm,
            spacing_to_kji_mm=self.model.spacing_kji_mm,
            crop_from_kji=self.kept_kji,
            value_range=self.value_range,
            clipped_share=self.clipped_share,
            coverage=coverage or {},
            notes=(*self.notes, *notes),
        )


def prepare(volume: Volume, spec: InputSpec) -> tuple[Volume, WayBack]:
    """The volume as a card's model wants to see it, and the way back.

    Turned to the card's orientation and resampled to its spacing (see `resample`), clipped to its HU range,
    then cut or padded with air about the centre to its shape. The values stay HU.
    """
    seen = resample(volume, spacing_kji_mm=spec.spacing_mm, orientation=spec.orientation)
    notes = () if spec.spatial_shape is None else _changes(seen.array.shape, spec.spatial_shape)
    share = 0.0
    if spec.value_range is not None:
        seen, share = _clipped(seen, spec.value_range)
    if spec.spatial_shape is not None:
        seen = _centred(seen, spec.spatial_shape, AIR_HU if spec.value_range is None else spec.value_range[0])
    orientations = (volume.orientation, seen.orientation)
    return seen, WayBack(volume.geometry, seen.geometry, orientations, spec.value_range, share, notes)


def _clipped(volume, value_range):
    low, high = value_range
    outside = np.count_nonzero(volume.array < low) + np.count_nonzero(volume.array > high)
    array = np.clip(volume.array, low, high).astype(volume.array.dtype)
    return Volume(array, volume.ijk_to_ras), outside / volume.array.size


def _centred(volume, shape_kji, fill):
    first_kji = [(there - wanted) // 2 for there, wanted in zip(volume.array.shape, shape_kji)]
    shift = np.eye(4)
    shift[:3, 3] = first_kji[::-1]
    return resample_onto(volume, volume.ijk_to_ras @ shift, tuple(shape_kji), fill=fill)


def _changes(given, wanted):
    cut = [f"{letter} {g - w}" for letter, g, w in zip("KJI", given, wanted) if g > w]
    padded = [f"{letter} {w - g}" for letter, g, w in zip("KJI", given, wanted) if g < w]
    notes = []
    if cut:
        notes.append(f"Cut about the centre to the model's shape (voxels lost: {', '.join(cut)}).")
    if padded:
        notes.append(f"Padded with air to the model's shape (voxels added: {', '.join(padded)}).")
    return tuple(notes)
