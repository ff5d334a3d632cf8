"""Whether a volume can be a CT in Hounsfield units: its grid and its values, judged before any model sees it.

The limits are wide on purpose: they catch what can't be right (a header of zeros, an MR, a picture of 256
greys), not what is merely poor. The same gate stands before files and before volumes that come out of a
scene.
"""

import numpy as np

from ct3d.errors import InvalidRequest
from ct3d.imaging.volume import Volume

SPACING_MM = (0.05, 15.0)
EXTENT_MM = (10.0, 3000.0)
FEWEST_VOXELS = 4  # along an axis
SHEAR = 1e-3  # cosine between two axes up to which they count as square
SAMPLE = 2_000_000  # voxels that the value checks look at
NO_HU = "This doesn't look like CT in HU: {}. Choose a CT, stored in Hounsfield units (air -1000, water 0)."


def check_grid(shape_kji: tuple[int, ...], ijk_to_ras: np.ndarray) -> None:
    """Judge a grid by its shape and affine alone.

    Raises:
        InvalidRequest: too few slices, a spacing or an extent no CT has, or axes that aren't square.
    """
    spacing = np.linalg.norm(ijk_to_ras[:3, :3], axis=0)[::-1]
    if len(shape_kji) != 3:
        raise InvalidRequest(
            f"This has {len(shape_kji)} axes, a CT volume has three. Choose a single 3D volume."
        )
    if not np.isfinite(ijk_to_ras).all() or spacing.min() < SPACING_MM[0] or spacing.max() > SPACING_MM[1]:
        raise InvalidRequest(
            f"A voxel spacing of {_by(spacing)} mm can't be right. Mend the header or export the CT again."
        )
    if min(shape_kji) < FEWEST_VOXELS:
        raise InvalidRequest(
            f"{_by(shape_kji)} voxels make no volume: at least {FEWEST_VOXELS} slices are needed. "
            "Choose a whole CT."
        )
    extent = spacing * shape_kji
    if extent.min() < EXTENT_MM[0] or extent.max() > EXTENT_MM[1]:
        raise InvalidRequest(
            f"This volume measures {_by(extent)} mm, which no CT does. "
            "Mend the header or export the CT again."
        )
    if largest_shear(ijk_to_ras) > SHEAR:
        raise InvalidRequest("The axes of this volume aren't square to each other. Export the CT again.")


def largest_shear(ijk_to_ras: np.ndarray) -> float:
    """Largest cosine between two axes of the grid: 0 where all are square, 1 where two coincide."""
    axes = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def check_ct(volume: Volume) -> tuple[str, ...]:
    """Judge grid and values; returns what a person should know though the volume can be used.

    Raises:
        InvalidRequest: if it can't be CT in HU, with the reason and what to do.
    """
    check_grid(volume.array.shape, volume.ijk_to_ras)
    values = _sample(volume.array)
    if not np.isfinite(values).all():
        raise InvalidRequest(
            "This volume holds values that are no numbers (NaN or infinite). Export the CT again."
        )
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise InvalidRequest(
            f"Every voxel of this volume has the value {low:g}. Choose a CT with an image in it."
        )
    if high - low < 300:
        raise InvalidRequest(
            NO_HU.format(f"its values span only {low:g} to {high:g} (normalised or windowed)")
        )
    if is_shifted_ct(values):
        raise InvalidRequest(NO_HU.format("its values are HU + 1024. Subtract 1024"))
    if np.mean(values < -50) < 0.02:
        raise InvalidRequest(
            NO_HU.format("nothing in it is as dark as air or fat (MR, or a picture with 256 greys?)")
        )
    if np.mean((values > -200) & (values < 400)) < 0.001:
        raise InvalidRequest(NO_HU.format("nothing in it is as bright as soft tissue"))
    return _notes(values)


def is_shifted_ct(values: np.ndarray) -> bool:
    """Whether values are unmistakably HU + 1024, as 16-bit CT without its rescale is stored.

    That is: none is negative, air lies near 0, most of what is brighter than lung lies in the narrow range of
    fat to muscle (HU -150 to 200), and hardly anything lies between lung and fat.
    """
    if values.min() < 0 or values.max() < 1200:
        return False
    dense = values[values > 500]
    if len(dense) < 0.01 * len(values) or np.mean(values < 200) < 0.02:
        return False
    tissue = np.mean((dense > 874) & (dense < 1224))
    between = np.mean(dense < 800)
    fat, muscle = np.mean((dense > 874) & (dense < 1004)), np.mean((dense > 1034) & (dense < 1124))
    return bool(tissue > 0.75 and between < 0.1 and fat > 0.03 and muscle > 0.25)


def _notes(values):
    notes = []
    if (share := float(np.mean(values > 3071))) > 1e-3:
        notes.append(f"{share:.1%} of the voxels lie above 3071 HU: metal, or values that are no HU.")
    return tuple(notes)


def _sample(array):
    step = max(1, round((array.size / SAMPLE) ** (1 / 3)))
    return np.asarray(array[::step, ::step, ::step]).astype(np.float32).ravel()


def _by(values):
    return " x ".join(f"{value:.4g}" for value in values)
