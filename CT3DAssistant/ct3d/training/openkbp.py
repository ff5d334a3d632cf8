"""OpenKBP head-and-neck CT as cases with landmarks: one npz a patient (Babier et al., Medical Physics 2021).

The files' axes are anterior → posterior, patient right → left, superior → inferior; here they become a grid
whose I, J, K grow toward L, P, I. Where the CT was withheld (value 0) nothing is known of the body.
"""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ct3d.errors import InvalidRequest
from ct3d.imaging.resample import AIR_HU
from ct3d.imaging.volume import Volume, ras_from_ijk

LANDMARKS = (
    "brainstem_centroid",
    "brainstem_superior_end",
    "brainstem_inferior_end",
    "cord_superior_end",
    "left_parotid_centroid",
    "right_parotid_centroid",
    "larynx_centroid",
    "mandible_anterior",
    "mandible_left_posterior",
    "mandible_right_posterior",
    "esophagus_superior_end",
)
ORGANS = ("Brainstem", "SpinalCord", "LeftParotid", "RightParotid", "Larynx", "Mandible", "Esophagus")
LOW_HU, HIGH_HU = -500.0, 1100.0  # of the stored values 1 and 255
SUPPORT_MM, SUPPORTED = 15.0, 0.95  # a landmark is supported where this share of the ball is known
SHAPES = {
    "ct": (None,) * 3,
    "landmarks": (len(LANDMARKS), 3),
    "spacing": (3,),
    "organs": (None,) * 3,
    "contoured": (),
}


@dataclass(frozen=True, eq=False)
class LandmarkCase:
    """A CT with named points.

    Attributes:
        id: file name without its ending.
        volume: int16 HU on an LPI grid; air where nothing is known.
        known: (K, J, I) bool, where the CT was released.
        landmarks_ras: (L, 3) mm; NaN where the point is not known (its organ was not contoured).
        supported: (L,) bool, whether at least 95 % of the voxels within 15 mm of the point are known.
    """

    id: str
    volume: Volume
    known: np.ndarray
    landmarks_ras: np.ndarray
    supported: np.ndarray


def cases(folder: Path) -> list[Path]:
    """The npz files of a folder, by patient number.

    Raises:
        InvalidRequest: no such folder, or nothing in it.
    """
    found = sorted(Path(folder).glob("*.npz"), key=lambda path: (len(path.stem), path.stem))
    if not found:
        raise InvalidRequest(f"There is no .npz case in {folder}. Give the folder that holds pt_1.npz, ….")
    return found


def open_case(path: Path) -> LandmarkCase:
    """Read one patient.

    Raises:
        InvalidRequest: the file doesn't have this data set's layout.
    """
    stored = _read(path)
    array = stored["ct"].transpose(2, 0, 1)
    a, b, c = (float(x) for x in stored["spacing"])
    ijk_to_ras = np.diag([-b, -a, -c, 1.0])
    known = array > 0
    hu = np.rint(LOW_HU + (array.astype(np.float32) - 1) * (HIGH_HU - LOW_HU) / 254).astype(np.int16)
    volume = Volume(np.where(known, hu, np.int16(AIR_HU)), ijk_to_ras)
    points_ijk = stored["landmarks"][:, [1, 0, 2]]
    return LandmarkCase(
        path.stem,
        volume,
        known,
        ras_from_ijk(points_ijk, ijk_to_ras),
        is_supported(points_ijk, known, volume),
    )


def organs_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Organs as drawn, and which of them (7,) bool were drawn at all.

    Labels are (K, J, I) uint8 on the grid of `open_case`: 1 + the place in ORGANS; a later one wins.

    Raises:
        InvalidRequest: the file holds no organs.
    """
    stored = _read(path, ("organs", "contoured"))
    bits = stored["organs"].transpose(2, 0, 1)
    labels = np.zeros(bits.shape, np.uint8)
    for n in range(len(ORGANS)):
        labels[(bits >> n) & 1 > 0] = n + 1
    return labels, (int(stored["contoured"]) >> np.arange(len(ORGANS))) & 1 > 0


def _read(path, names=("ct", "landmarks", "spacing")):
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in names if name in stored}
    except (OSError, ValueError, BadZipFile) as error:
        raise InvalidRequest(f"{path} can't be read ({error}). Copy it again, or leave it out.") from error
    for name in names:
        shape = SHAPES[name]
        given = arrays[name].shape if name in arrays else None
        if given is None or len(given) != len(shape) or any(s not in (None, g) for s, g in zip(shape, given)):
            raise InvalidRequest(f"{path} is no OpenKBP case: {name} is {given}, not {shape}. Leave it out.")
    return arrays


def is_supported(points_ijk: np.ndarray, known: np.ndarray, volume: Volume) -> np.ndarray:
    """Which points (L, 3) have enough known voxels around them; see SUPPORTED. Unknown points (NaN) don't."""
    return np.array([_share(point[::-1], known, volume.spacing_kji_mm) >= SUPPORTED for point in points_ijk])


def _share(point_kji, known, spacing_kji_mm):
    """Share of the voxels within SUPPORT_MM of a point's voxel that are known; none beyond the grid is."""
    if not np.isfinite(point_kji).all():
        return 0.0
    point_kji = np.round(point_kji)
    reach = np.ceil(SUPPORT_MM / np.array(spacing_kji_mm)).astype(int) + 1
    first = np.floor(point_kji).astype(int) - reach
    cells = np.stack(
        np.meshgrid(*(f + np.arange(2 * r + 2) for f, r in zip(first, reach)), indexing="ij"), -1
    )
    near = cells[np.linalg.norm((cells - point_kji) * spacing_kji_mm, axis=-1) <= SUPPORT_MM]
    inside = near[((near >= 0) & (near < known.shape)).all(axis=-1)]
    return known[tuple(inside.T)].sum() / len(near)
