"""CT-RATE's way from a chest CT to what HSENet's encoders see: a small volume, and 32 slices.

Source: HSENet (arXiv 2506.09634), preparation of YanzhaoShi/HSENet @ c7198f3, re-derived from its behaviour.
"compat" is that recipe, bit for bit (Testing/parity): the file's own axes are taken as they come, and slices
are cut along x where a scan has no fewer slices than columns. "clean" turns the volume to RAS first and
always cuts axial slices. Neither writes JPEG: the reference's slices went through it, at quality 95.
torch's own interpolation is used, so this lies here and not in `imaging`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ct3d.case import InputReport
from ct3d.imaging.resample import resample
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_ijk

SPACING_KJI_MM = (1.5, 0.75, 0.75)
SHAPE = (32, 256, 256)  # of what the encoders see: D = z, H = x, W = y
SLICES = 32
VOLUME_HU, SLICE_HU = (-1000.0, 200.0), (-1000.0, 1000.0)
LEAST = 1e-8  # the range of values is taken to be at least this

Recipe = Literal["compat", "clean"]
Shape = tuple[int, int, int]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Seen:
    """What HSENet sees of a scan.

    Attributes:
        volume: (32, 256, 256) float32 in [0, 1], axes z, x, y.
        slices: (32, H, W) uint8, turned 90 degrees clockwise.
        slice_indices: which slices of the resampled scan they are; () where it had fewer than 32.
        box: (first, past last) of what was kept of the resampled scan, along z, x, y.
        resampled_shape: of the scan at 1.5 x 0.75 x 0.75 mm, z, x, y.
        report: for the person.
        zxy_to_ras: (4, 4) from an index (z, x, y, 1) of `volume` to RAS millimetres.
    """

    volume: np.ndarray
    slices: np.ndarray
    slice_indices: tuple[int, ...]
    box: Box
    resampled_shape: tuple[int, int, int]
    report: InputReport
    zxy_to_ras: np.ndarray


def see(volume: Volume, card_id: str, recipe: Recipe = "clean", shape: Shape = SHAPE) -> Seen:
    """What HSENet sees of a volume in HU.

    Args:
        volume: on its native grid; "compat" takes its axes for those of the file.
        card_id: for the report.
        recipe: see the module.
        shape: of what the encoders see.
    """
    given = volume if recipe == "compat" else resample(volume, orientation="RAS")
    hu_xyz = given.array.transpose(2, 1, 0).astype(np.float64)
    spacing_xyz = given.spacing_kji_mm[::-1]
    small, box, resampled = encoder_volume(hu_xyz, spacing_xyz, shape)
    slices, indices = encoder_slices(hu_xyz, spacing_xyz, is_compat=recipe == "compat")
    report = _report(volume, given, box, resampled, indices, card_id=card_id, shape=shape)
    way = _zxy_to_ras(given, box, resampled, shape)
    return Seen(small, slices, indices, box, resampled, report, way)


def encoder_volume(
    hu_xyz: np.ndarray, spacing_xyz_mm: tuple[float, float, float], shape: Shape = SHAPE
) -> tuple[np.ndarray, Box, Shape]:
    """HU (x, y, z) → float32 in [0, 1] of a shape, the box that was kept, and the resampled shape.

    Clipped to [-1000, 200] HU; resampled; scaled by the least and the largest value; cut to the box of what
    is above the least; resized.
    """
    zxy = np.ascontiguousarray(np.clip(hu_xyz, *VOLUME_HU).transpose(2, 0, 1))
    x, y, z = spacing_xyz_mm
    there = _resampled(zxy, (z, x, y)).float()
    low, high = float(there.min()), float(there.max())
    scaled = (there - there.min()) / max(high - low, LEAST)
    box = _box_above_zero(scaled)
    kept = scaled[tuple(slice(first, past) for first, past in box)]
    small = F.interpolate(kept[None, None], size=shape, mode="trilinear", align_corners=False)
    d, h, w = there.shape
    return small[0, 0].numpy(), box, (d, h, w)


def encoder_slices(
    hu_xyz: np.ndarray, spacing_xyz_mm: tuple[float, float, float], *, is_compat: bool
) -> tuple[np.ndarray, tuple[int, ...]]:
    """HU (x, y, z) → (32, H, W) uint8 slices, and which of the resampled ones they are.

    Clipped to [-1000, 1000] HU; resampled; 32 slices from the first to the last; each scaled by its own least
    and largest value.
    """
    scaled = np.clip(hu_xyz, *SLICE_HU) / SLICE_HU[1]
    is_turned = not is_compat or scaled.shape[2] < scaled.shape[0]
    x, y, z = spacing_xyz_mm
    zxy = np.ascontiguousarray(scaled.transpose(2, 0, 1)) if is_turned else scaled
    there = _resampled(zxy, (z, x, y))
    indices: tuple[int, ...] = ()
    if len(there) < SLICES:
        size = (SLICES, *there.shape[1:])
        chosen = F.interpolate(there[None, None], size=size, mode="trilinear", align_corners=False)[
            0, 0
        ].numpy()
    else:
        indices = tuple(int(each) for each in np.linspace(0, len(there) - 1, SLICES))
        chosen = there.numpy()[list(indices)]
    low, high = (each(chosen, axis=(1, 2), keepdims=True) for each in (np.min, np.max))
    grey = ((chosen - low) / np.maximum(high - low, LEAST) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.rot90(grey, -1, axes=(1, 2))), indices


def _resampled(array: np.ndarray, spacing_mm: tuple[float, float, float]) -> Tensor:
    """Float64, at 1.5 x 0.75 x 0.75 mm along its three axes."""
    pairs = zip(array.shape, spacing_mm, SPACING_KJI_MM)
    size = [max(1, int(np.floor(length * given / wanted))) for length, given, wanted in pairs]
    given = torch.from_numpy(array)[None, None]
    return F.interpolate(given, size=size, mode="trilinear", align_corners=False)[0, 0]


def _box_above_zero(scaled: Tensor) -> Box:
    """The least box that holds every value above 0; all of it where there is none."""
    where = scaled.nonzero()
    if not len(where):
        d, h, w = scaled.shape
        return (0, d), (0, h), (0, w)
    z, x, y = zip(where.min(dim=0).values.tolist(), (where.max(dim=0).values + 1).tolist())
    return z, x, y


def _report(volume, given, box, resampled, indices, *, card_id, shape):
    """The box, on the grid of the volume as it was given."""
    share = (
        np.count_nonzero((volume.array < VOLUME_HU[0]) | (volume.array > VOLUME_HU[1])) / volume.array.size
    )
    at = (
        f"slices {indices[0]} to {indices[-1]} of {resampled[0]}"
        if indices
        else "all slices, stretched to 32"
    )
    kept = ", ".join(f"{first} to {past}" for first, past in box)
    extent = [(past - first) * step for (first, past), step in zip(box, SPACING_KJI_MM)]
    d, h, w = (side / size for side, size in zip(extent, shape))
    return InputReport(
        card=card_id,
        orientation_from=volume.orientation,
        orientation_to=given.orientation,
        shape_from_kji=volume.geometry.shape_kji,
        shape_to_kji=(shape[0], shape[2], shape[1]),
        spacing_from_kji_mm=volume.geometry.spacing_kji_mm,
        spacing_to_kji_mm=(d, w, h),
        crop_from_kji=_on_native_grid(box, resampled, given, volume),
        value_range=VOLUME_HU,
        clipped_share=share,
        notes=(
            f"Resampled to 1.5 x 0.75 x 0.75 mm: {' x '.join(map(str, resampled))} (z, x, y).",
            f"Kept {kept} of these, then resized to {' x '.join(map(str, shape))}.",
            f"2D guide: 32 slices, {at}.",
        ),
    )


def _zxy_to_ras(given, box, resampled, shape):
    """4x4 from an index on the encoders' grid to RAS; both are counted between the centres of voxels."""
    lengths = given.array.transpose(0, 2, 1).shape  # z, x, y
    way = np.zeros((4, 4))
    way[3, 3] = 1
    for n, column in enumerate((2, 0, 1)):  # of x, y, z in i, j, k
        (first, past), scale = box[n], lengths[n] / resampled[n]
        step = (past - first) / shape[n]
        way[column, n], way[column, 3] = step * scale, (first + step / 2) * scale - 0.5
    return given.ijk_to_ras @ way


def _on_native_grid(box, resampled, given, volume):
    """(first, past last) along K, J, I of the volume of a box on the resampled grid of `given`."""
    lengths = given.array.transpose(0, 2, 1).shape  # z, x, y
    edges = [np.array(each) * length / size for each, length, size in zip(box, lengths, resampled)]
    z, x, y = (each - 0.5 for each in edges)
    corners = np.stack(np.meshgrid(x, y, z), axis=-1).reshape(-1, 3)
    there = ijk_from_ras(ras_from_ijk(corners, given.ijk_to_ras), volume.ijk_to_ras)[:, ::-1] + 0.5
    shape = volume.array.shape
    low = np.clip(np.floor(there.min(axis=0) + 1e-3), 0, shape)
    high = np.clip(np.ceil(there.max(axis=0) - 1e-3), 0, shape)
    return tuple((int(first), int(past)) for first, past in zip(low, high))
