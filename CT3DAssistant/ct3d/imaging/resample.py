"""Volumes and label maps from one grid onto another.

Every resampling is one affine map from voxel indices of the wanted grid to those of the given one. So it
holds for oblique, flipped, left-handed and sheared grids alike, and needs no frame but RAS. Where the map
only permutes, flips and shifts whole voxels, values are copied and nothing is interpolated.
"""

import numpy as np
import SimpleITK as sitk

from ct3d.errors import InvalidRequest
from ct3d.imaging.volume import AXIS_LETTERS, Volume, nearest_axes

AIR_HU = -1024
LARGEST_GRID = 2**31  # voxels
STRAIGHT = 1e-3  # sine of the angle to the anatomical axes below which a grid counts as aligned
WHOLE_VOXEL = 1e-3  # voxels; an index map this near to whole numbers is copied, not interpolated


def resample(
    volume: Volume,
    *,
    spacing_kji_mm: tuple[float, float, float] | None = None,
    orientation: str = "RAS",
    is_label: bool = False,
    fill: float | None = None,
) -> Volume:
    """The volume on the axis-aligned grid that just covers all of it.

    CT is interpolated linearly; where the wanted voxels are at least twice as large, whole blocks of voxels
    are averaged first, so that fine structures and noise don't fold into the coarse grid. Labels take the
    nearest value. A grid that is aligned already keeps its exact voxels when its spacing stays.

    Args:
        volume: any invertible affine.
        spacing_kji_mm: of the result, along its own K, J, I; None keeps that of the nearest given axes.
        orientation: directions toward which I, J, K of the result grow, e.g. "RAS" or "LPS".
        is_label: whether values are labels.
        fill: value outside the given volume; None: -1024 HU, or 0 for labels.

    Returns:
        A volume of the same integer type (CT rounded to the nearest HU), or float32 for any floating type.
        Its array shares the given memory where nothing had to change.

    Raises:
        InvalidRequest: for a grid, an orientation or a spacing that makes no sense.
    """
    _check(volume)
    axes, signs = _parse(orientation)
    given_axes = nearest_axes(volume.ijk_to_ras)
    order = [given_axes.index(axis) for axis in axes]  # given axis that I, J, K of the result come from
    native = np.linalg.norm(volume.ijk_to_ras[:3, :3], axis=0)[order]
    spacing = native if spacing_kji_mm is None else np.array(spacing_kji_mm[::-1], float)
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise InvalidRequest(
            f"A voxel spacing of {spacing_kji_mm} mm makes no sense. Give three lengths above 0."
        )
    if _is_straight(volume.ijk_to_ras) and np.allclose(spacing, native, rtol=1e-3):
        grid, shape = _turned(volume, order, signs)
    else:
        grid, shape = _covering(volume, axes, signs, spacing)
    return resample_onto(volume, grid, shape, is_label=is_label, fill=fill)


def resample_like(
    volume: Volume, like: Volume, *, is_label: bool = False, fill: float | None = None
) -> Volume:
    """The volume on the grid of another; interpolation and fill as in `resample`."""
    return resample_onto(volume, like.ijk_to_ras, like.array.shape, is_label=is_label, fill=fill)


def resample_onto(
    volume: Volume,
    ijk_to_ras: np.ndarray,
    shape_kji: tuple[int, int, int],
    *,
    is_label: bool = False,
    fill: float | None = None,
) -> Volume:
    """The volume on a grid given by its affine and shape; interpolation and fill as in `resample`."""
    _check(volume)
    if np.prod(shape_kji, dtype=float) > LARGEST_GRID:
        raise InvalidRequest(f"A grid of {shape_kji} voxels is too large. Choose a larger voxel spacing.")
    fill = (0 if is_label else AIR_HU) if fill is None else fill
    to_given = np.linalg.inv(volume.ijk_to_ras) @ ijk_to_ras
    if (whole := _whole_voxels(to_given, shape_kji)) is not None:
        array = _copied(volume.array, whole, shape_kji, fill)
    else:
        array = _interpolated(volume.array, to_given, shape_kji, is_label, fill)
    return Volume(array, np.array(ijk_to_ras, float))


def _check(volume):
    if volume.array.ndim != 3 or 0 in volume.array.shape:
        raise InvalidRequest(
            f"A volume has three axes, not the shape {volume.array.shape}. Choose a CT volume."
        )
    affine = volume.ijk_to_ras
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InvalidRequest(
            "The volume's axes span no space (spacing 0 or axes that coincide). Mend its header."
        )


def _parse(orientation):
    letters = {
        letter: (axis, sign) for axis, pair in enumerate(AXIS_LETTERS) for letter, sign in zip(pair, (-1, 1))
    }
    found = [letters[letter] for letter in orientation if letter in letters]
    if len(orientation) != 3 or sorted(axis for axis, _ in found) != [0, 1, 2]:
        raise InvalidRequest(
            f"{orientation!r} is no orientation. Give one letter each of LR, PA and IS, e.g. RAS."
        )
    return [axis for axis, _ in found], np.array([sign for _, sign in found])


def _is_straight(ijk_to_ras):
    cosines = np.abs(ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0))
    return np.sort(cosines, axis=0)[:2].max() < STRAIGHT


def _turned(volume, order, signs):
    """Affine and shape of the given voxels, permuted and flipped, nothing else."""
    axes = nearest_axes(volume.ijk_to_ras)
    size = volume.array.shape[::-1]
    to_given = np.eye(4)
    to_given[:3, :3] = 0
    for n, axis in enumerate(order):
        is_flipped = signs[n] * volume.ijk_to_ras[axes[axis], axis] < 0
        to_given[axis, n] = -1 if is_flipped else 1
        to_given[axis, 3] = size[axis] - 1 if is_flipped else 0
    return volume.ijk_to_ras @ to_given, tuple(size[axis] for axis in order)[::-1]


def _covering(volume, axes, signs, spacing):
    """Affine and shape of the aligned grid whose voxels cover the given ones, centred on them."""
    size = np.array(volume.array.shape[::-1])
    corners = np.array(np.meshgrid(*((-0.5, n - 0.5) for n in size))).reshape(3, -1)
    corners_ras = volume.ijk_to_ras[:3, :3] @ corners + volume.ijk_to_ras[:3, 3:]
    low, high = corners_ras.min(axis=1), corners_ras.max(axis=1)
    count = np.maximum(np.ceil((high - low)[axes] / spacing - 1e-3), 1)
    grid = np.eye(4)
    grid[:3, :3] = 0
    grid[axes, range(3)] = signs * spacing
    grid[:3, 3] = (low + high) / 2 - grid[:3, :3] @ ((count - 1) / 2)
    return grid, tuple(int(n) for n in count[::-1])


def _whole_voxels(to_given, shape_kji):
    """The index map in whole numbers, where it moves whole voxels only; else None."""
    whole = np.rint(to_given).astype(int)
    is_permutation = (np.abs(whole[:3, :3]).sum(axis=0) == 1).all() and (
        np.abs(whole[:3, :3]).sum(axis=1) == 1
    ).all()
    drift = np.abs(to_given - whole)[:3] @ (*shape_kji[::-1], 1)
    return whole if is_permutation and drift.max() < WHOLE_VOXEL else None


def _copied(array, whole, shape_kji, fill):
    """The wanted part of the array, permuted and flipped; `fill` beyond its ends."""
    order = [
        int(np.abs(whole[:3, n]).argmax()) for n in (2, 1, 0)
    ]  # given axis (as i, j, k) of wanted K, J, I
    steps = [whole[axis, n] for axis, n in zip(order, (2, 1, 0))]
    turned = array.transpose([2 - axis for axis in order])
    turned = np.flip(turned, tuple(n for n in range(3) if steps[n] < 0))
    offsets = [
        whole[axis, 3] if steps[n] > 0 else turned.shape[n] - 1 - whole[axis, 3]
        for n, axis in enumerate(order)
    ]
    firsts = [max(0, offset) for offset in offsets]
    pasts = [
        max(first, min(n, offset + m))
        for first, n, offset, m in zip(firsts, turned.shape, offsets, shape_kji)
    ]
    part = turned[tuple(slice(first, past) for first, past in zip(firsts, pasts))]
    if part.shape == tuple(shape_kji):
        return np.ascontiguousarray(part)
    result = np.full(shape_kji, fill, array.dtype)
    place = (slice(first - offset, past - offset) for first, past, offset in zip(firsts, pasts, offsets))
    result[tuple(place)] = part
    return result


def _interpolated(array, to_given, shape_kji, is_label, fill):
    kind = array.dtype if array.dtype.kind in "iub" else np.dtype(np.float32)
    image = sitk.GetImageFromArray(np.asarray(array, "u1" if kind.kind == "b" else kind.newbyteorder("=")))
    if not is_label:
        image, to_given = _averaged(image, to_given)
    transform = sitk.AffineTransform(to_given[:3, :3].ravel().tolist(), to_given[:3, 3].tolist())
    done = sitk.Resample(
        image,
        [int(n) for n in shape_kji[::-1]],
        transform,
        sitk.sitkNearestNeighbor if is_label else sitk.sitkLinear,
        [0.0] * 3,
        [1.0] * 3,
        np.eye(3).ravel().tolist(),
        float(fill),
        image.GetPixelID() if is_label else sitk.sitkFloat32,
    )
    result = sitk.GetArrayViewFromImage(done)
    if kind.kind in "iu" and not is_label:
        return np.rint(result).astype(kind)
    return result.astype(kind)


def _averaged(image, to_given):
    """The image shrunk by means of whole blocks where the wanted grid is coarser, and the map onto it."""
    step = np.abs(to_given[:3, :3]).max(axis=1)  # given voxels from one wanted voxel to the next
    factor = np.clip(np.floor(step + 1e-3), 1, image.GetSize()).astype(int)
    if (factor == 1).all():
        return image, to_given
    short = [int(-n % f) for n, f in zip(image.GetSize(), factor)]
    if any(short):
        image = sitk.ZeroFluxNeumannPad(image, [0, 0, 0], short)
    shrunk = sitk.BinShrink(image, [int(f) for f in factor])
    to_blocks = np.diag([*(1 / factor), 1])
    to_blocks[:3, 3] = -(factor - 1) / 2 / factor
    shrunk.SetOrigin([0.0] * 3)
    shrunk.SetSpacing([1.0] * 3)
    return shrunk, to_blocks @ to_given
