"""The outline in which a data set released its CT, altered: does a detector live on it?

OpenKBP's CT was withheld outside each patient's possible-dose mask. What is known then ends at sharp outlines
that no real scan has. Each alteration leaves the anatomy where it is and changes what is known around it, or
takes the anatomy away and leaves the outline.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial import ConvexHull

from ct3d.imaging.resample import AIR_HU
from ct3d.imaging.volume import ijk_from_ras
from ct3d.training.fields_of_view import generator
from ct3d.training.openkbp import LandmarkCase, is_supported

EROSION_MM = 10.0
BOX_TAILS = (0.05, 0.95)  # of the known voxels along each axis: where the box begins and ends
TISSUE_HU, TISSUE_SD_HU, TISSUE_GRAIN = 30.0, 60.0, 2.0  # mean, spread, and voxels of smoothing
COARSE = 4  # every fourth voxel is enough to find the hull

Alteration = Callable[[LandmarkCase, LandmarkCase, np.random.Generator], LandmarkCase]


def as_released(case: LandmarkCase, _other: LandmarkCase, _rng: np.random.Generator) -> LandmarkCase:
    """Nothing altered: withheld voxels are unknown."""
    return case


def eroded(case: LandmarkCase, _other: LandmarkCase, _rng: np.random.Generator) -> LandmarkCase:
    """The outline drawn in by 10 mm."""
    k, j, i = (np.arange(-np.ceil(EROSION_MM / s), np.ceil(EROSION_MM / s) + 1) * s for s in _spacing(case))
    ball = k[:, None, None] ** 2 + j[:, None] ** 2 + i**2 <= EROSION_MM**2
    return _known_in(case, binary_erosion(case.known, ball))


def boxed(case: LandmarkCase, _other: LandmarkCase, _rng: np.random.Generator) -> LandmarkCase:
    """Cut by an upright box that leaves off the outermost 5 % of the known voxels at each of its faces."""
    box = np.ones_like(case.known)
    for axis in range(3):
        held = np.cumsum(case.known.sum(axis=tuple({0, 1, 2} - {axis})))
        low, high = np.searchsorted(held, np.array(BOX_TAILS) * held[-1])
        inside = np.zeros(box.shape[axis], bool)
        inside[low : high + 1] = True
        box &= np.expand_dims(inside, tuple({0, 1, 2} - {axis}))
    return _known_in(case, case.known & box)


def of_another(case: LandmarkCase, other: LandmarkCase, _rng: np.random.Generator) -> LandmarkCase:
    """Cut by the outline of the next patient, its middle laid upon that of the known voxels."""
    shift = [int(round(a - b)) for a, b in zip(_middle(case.known), _middle(other.known))]
    return _known_in(case, case.known & _shifted(other.known, shift, case.known.shape))


def hull(case: LandmarkCase, _other: LandmarkCase, _rng: np.random.Generator) -> LandmarkCase:
    """Known in the convex hull of the outline; what was withheld there is air."""
    places = np.argwhere(case.known[::COARSE, ::COARSE, ::COARSE]) * COARSE
    faces = ConvexHull(places).equations
    inside = np.ones_like(case.known)
    k, j, i = np.ogrid[tuple(slice(0, n) for n in inside.shape)]
    for a, b, c, d in faces:
        inside &= a * k + b * j + c * i + d <= 1e-6
    return replace(case, known=inside | case.known)


def in_air(case: LandmarkCase, _other: LandmarkCase, _rng: np.random.Generator) -> LandmarkCase:
    """No outline is given: what was withheld is called known, and is air."""
    return replace(case, known=np.ones_like(case.known))


def in_tissue(case: LandmarkCase, _other: LandmarkCase, rng: np.random.Generator) -> LandmarkCase:
    """No outline is given: what was withheld is called known, and is noise with tissue's values."""
    noise = gaussian_filter(rng.standard_normal(case.known.shape, np.float32), TISSUE_GRAIN)
    tissue = TISSUE_HU + TISSUE_SD_HU * noise / noise.std()
    array = np.where(case.known, case.volume.array, np.rint(tissue).astype(case.volume.array.dtype))
    return replace(case, volume=replace(case.volume, array=array), known=np.ones_like(case.known))


def outline_alone(case: LandmarkCase, _other: LandmarkCase, _rng: np.random.Generator) -> LandmarkCase:
    """The anatomy taken away: the same outline around water (0 HU). Nothing should be found."""
    array = np.where(case.known, 0, AIR_HU).astype(case.volume.array.dtype)
    return replace(case, volume=replace(case.volume, array=array))


ALTERATIONS: dict[str, Alteration] = {
    each.__name__: each
    for each in (as_released, eroded, boxed, of_another, hull, in_air, in_tissue, outline_alone)
}


def altered(case: LandmarkCase, name: str, *, other: LandmarkCase, seed: int) -> LandmarkCase:
    """The case with its outline altered.

    Args:
        case: as the data set released it.
        name: a key of ALTERATIONS.
        other: the patient who lends an outline.
        seed: of what is random in it, together with the case and the name.
    """
    return ALTERATIONS[name](case, other, generator(seed, case.id, name))


def _known_in(case, known):
    points_ijk = ijk_from_ras(case.landmarks_ras, case.volume.ijk_to_ras).round(3)
    still = is_supported(points_ijk, known, case.volume)
    return replace(case, known=known, supported=case.supported & still)


def _spacing(case):
    return case.volume.spacing_kji_mm


def _middle(known):
    return np.argwhere(known).mean(axis=0)


def _shifted(known, shift, shape):
    """`known` moved by whole voxels into an array of this shape; False where nothing comes to lie."""
    moved = np.zeros(shape, bool)
    to = tuple(slice(max(0, s), max(0, min(n, m + s))) for s, n, m in zip(shift, shape, known.shape))
    of = tuple(slice(a.start - s, a.stop - s) for a, s in zip(to, shift))
    moved[to] = known[of]
    return moved
