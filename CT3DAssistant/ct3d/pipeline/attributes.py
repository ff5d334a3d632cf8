"""Task "measure": masks to volumes, densities, diameters and locations, all on the native grid.

Long and short diameter follow the caliper of RECIST 1.1 (Eisenhauer et al., Eur J Cancer 2009;45:228): the
longest extent of the lesion in any one axial slice, and the widest extent at right angles to it in that same
slice. Differs: both are taken from the convex hull of the mask, not by hand, so a spicule that is in the mask
counts; on an oblique grid "axial" means the slices of the grid axis nearest to the head-foot direction.

The emphysema index is the share of lung voxels below -950 HU (Gevenois et al., AJRCCM 1996;154:187). It
rises with noise, sharp kernels and deep inspiration and falls with thick slices, contrast medium and
expiration.

Mean and standard deviation of a lesion leave out its rim, whose voxels are partly air, as a reader's region
of interest does; those of an organ are of its whole mask.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
import SimpleITK as sitk
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from ct3d.case import Attribute, Flag, Landmark, Region
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.pipeline.job import Job
from ct3d.protocol.tasks import MeasureParams, MeasureResult

EMPHYSEMA_HU = -950.0
LUNGS = ("right_lung", "left_lung")
WITH_EMPHYSEMA_INDEX = (*LUNGS, "lungs")
ZONES = ("lower", "middle", "upper")  # thirds of the lung's height, from below
PLEURA_REACH_MM = 60.0  # farther from the pleura than any point of a lung
RIM_MM = 2.0  # of a lesion
FEWEST_VOXELS = 8  # that make a density; a lesion with a smaller core is measured whole
VESSEL_MM = 6.0  # gaps of a lung mask that are narrower are vessels, not pleura


@dataclass(frozen=True)
class Part:
    """One region's mask in the smallest box that holds it.

    Attributes:
        mask: (K, J, I) bool.
        box: where that box lies in the native grid.
        ijk_to_ras: affine of the box.
    """

    region: Region
    mask: np.ndarray
    box: tuple[slice, slice, slice]
    ijk_to_ras: np.ndarray


def run(params: MeasureParams, job: Job) -> MeasureResult:
    """Measure every region that is there."""
    job.stage("measure", 0.0)
    volume = job.volume(params.volume)
    arrays = {layer.name: job.array(layer.array) for layer in params.layers}
    attributes, flags = measure(volume, arrays, params.regions, params.landmarks, job)
    return MeasureResult(attributes, job.step("measure", None), flags)


def measure(
    volume: Volume,
    layers: dict[str, np.ndarray],
    regions: tuple[Region, ...],
    landmarks: tuple[Landmark, ...],
    job: Job,
) -> tuple[tuple[Attribute, ...], tuple[Flag, ...]]:
    """Attributes of all regions in their order, and what to know about them.

    Args:
        volume: HU.
        layers: name → label map (K, J, I) on the volume's grid.
        regions: what to measure; absent ones are passed over.
        landmarks: the carina is the one that distances are measured to.
        job: is told the progress and asked to stop between regions.
    """
    boxes = {name: ndi.find_objects(array) for name, array in layers.items()}
    attributes: list[Attribute] = []
    flags: list[Flag] = []
    shown = [region for region in regions if region.presence != "absent"]
    heights: dict[str, tuple[float, float]] = {}
    for n, region in enumerate(sorted(shown, key=lambda region: region.kind == "lesion")):
        job.stage("measure", n / len(shown))
        part = _part(region, layers, boxes, volume)
        if part is None:
            flags.append(_empty(region))
            continue
        found = _basics(part, volume)
        heights[region.id] = found["z_low"].value, found["z_high"].value
        if region.kind == "lesion":
            found |= _of_lesion(part, volume, layers, regions, heights, landmarks)
        attributes += found.values()
        if region.id in LUNGS and region.presence == "cut":
            flags.append(_cut(region))
    order = {region.id: n for n, region in enumerate(regions)}
    return tuple(sorted(attributes, key=lambda each: order[each.region])), tuple(flags)


def _part(region, layers, boxes, volume):
    places = boxes.get(region.layer, [])
    box = places[region.label - 1] if 0 < region.label <= len(places) else None
    if box is None:
        return None
    mask = layers[region.layer][box] == region.label
    grid = volume.ijk_to_ras.copy()
    grid[:3, 3] = ras_from_kji(np.array([[axis.start for axis in box]]), volume.ijk_to_ras)[0]
    return Part(region, mask, box, grid)


def _basics(part: Part, volume: Volume) -> dict[str, Attribute]:
    hu = volume.array[part.box][part.mask]
    inner, where = (_core(part, volume), " within the rim") if part.region.kind == "lesion" else (hu, "")
    low, high = height_mm(part.mask, part.ijk_to_ras)
    values = {
        "volume": ("volume", hu.size * volume.voxel_ml, "mL"),
        "mean_hu": (f"mean attenuation{where}", float(inner.mean(dtype=np.float64)), "HU"),
        "sd_hu": (f"standard deviation of attenuation{where}", float(inner.std(dtype=np.float64)), "HU"),
        "z_low": ("lowest level", low, "mm"),
        "z_high": ("highest level", high, "mm"),
    }
    if part.region.id in WITH_EMPHYSEMA_INDEX:
        share = 100.0 * np.count_nonzero(hu < EMPHYSEMA_HU) / hu.size
        values["emphysema_index"] = ("emphysema index (voxels below -950 HU)", share, "%")
    found = {name: _number(part.region, name, *value) for name, value in values.items()}
    if part.region.side != "none":
        found["side"] = _words(part.region, "side", "side", part.region.side)
    return found


def _core(part: Part, volume: Volume) -> np.ndarray:
    outside = ~np.pad(part.mask, 1)
    depth = _distance_mm(outside, np.array(volume.spacing_kji_mm))[1:-1, 1:-1, 1:-1]
    core = part.mask & (depth > RIM_MM)
    return volume.array[part.box][core if np.count_nonzero(core) >= FEWEST_VOXELS else part.mask]


def _of_lesion(part: Part, volume, layers, regions, heights, landmarks) -> dict[str, Attribute]:
    region = part.region
    long, short = axial_diameters(part.mask, part.ijk_to_ras)
    found = {
        "long_diameter": _number(region, "long_diameter", "longest axial diameter", long, "mm"),
        "short_diameter": _number(region, "short_diameter", "perpendicular short diameter", short, "mm"),
    }
    center = ras_from_kji(np.argwhere(part.mask).mean(axis=0)[None], part.ijk_to_ras)[0]
    lung = next((each for each in regions if each.id == f"{region.side}_lung"), None)
    if lung is not None and lung.presence == "whole" and lung.id in heights:
        words = f"{region.side} {zone_of(center[2], *heights[lung.id])} zone"
        found["zone"] = _words(region, "zone", "zone", words)
    carina = next((each for each in landmarks if each.id == "carina" and each.position_ras), None)
    if carina is not None:
        distance = float(np.linalg.norm(center - np.array(carina.position_ras)))
        title = "distance of its centre to the carina"
        found["distance_to_carina"] = _number(region, "distance_to_carina", title, distance, "mm")
    if region.id.startswith("nodule") and lung is not None and lung.layer in layers:
        distance = pleura_distance(part, layers[lung.layer], lung.label, volume)
        title = "shortest distance of its edge to the pleura"
        found["pleura_distance"] = _number(region, "pleura_distance", title, distance, "mm")
    return found


def _number(region: Region, name, title, value, unit) -> Attribute:
    value = None if value is None else round(float(value), 3)
    words = "not reached" if value is None else ""
    return Attribute(f"{region.id}.{name}", region.id, name, title, value, unit if words == "" else "", words)


def _words(region: Region, name, title, words) -> Attribute:
    return Attribute(f"{region.id}.{name}", region.id, name, title, None, "", words)


def _empty(region: Region) -> Flag:
    text = f"The mask of {region.title} is empty, so nothing of it was measured. Segment again."
    return Flag(f"empty.{region.id}", "warning", text, (f"region/{region.id}",))


def _cut(region: Region) -> Flag:
    text = (
        f"The field of view ends inside the {region.title}: its volume is a lower bound, its density and "
        "emphysema index are those of the part shown."
    )
    return Flag(f"cut.{region.id}", "info", text, (f"region/{region.id}", f"attribute/{region.id}.volume"))


def height_mm(mask: np.ndarray, ijk_to_ras: np.ndarray) -> tuple[float, float]:
    """Lowest and highest S (mm) of a mask (K, J, I), to the outer ends of its voxels, on any grid."""
    to_s = ijk_to_ras[2, :3]
    rows = np.argwhere(mask.any(axis=2))  # a plane is highest and lowest at the ends of a row
    across = mask[rows[:, 0], rows[:, 1]]
    first, last = across.argmax(axis=1), mask.shape[2] - 1 - across[:, ::-1].argmax(axis=1)
    level = rows[:, 0] * to_s[2] + rows[:, 1] * to_s[1] + ijk_to_ras[2, 3]
    levels = np.concatenate([level + first * to_s[0], level + last * to_s[0]])
    half = np.abs(to_s).sum() / 2
    return float(levels.min() - half), float(levels.max() + half)


def axial_diameters(mask: np.ndarray, ijk_to_ras: np.ndarray) -> tuple[float, float]:
    """Longest extent (mm) in one axial slice and the widest at right angles to it in the same slice.

    Points are the middles of the outer faces of the mask's voxels, where a surface at half height lies, so a
    disc of n voxels measures n spacings.

    Args:
        mask: (K, J, I) bool, not empty.
        ijk_to_ras: affine of its grid.
    """
    slice_axis = int(np.abs(ijk_to_ras[2, :3]).argmax())  # of i, j, k: the one nearest to head-foot
    axes = [axis for axis in (0, 1, 2) if axis != slice_axis]
    slices = np.moveaxis(mask, 2 - slice_axis, 0)  # remaining order: later ijk axis first
    to_mm = _plane_mm(ijk_to_ras[:3, axes])
    long = short = 0.0
    for cut in slices:
        if not cut.any():
            continue
        points = _outline(cut)[:, ::-1] @ to_mm.T
        points = points[ConvexHull(points).vertices]
        apart = squareform(pdist(points))
        if apart.max() > long:
            long = float(apart.max())
            one, other = np.unravel_index(apart.argmax(), apart.shape)
            along = (points[other] - points[one]) / long
            short = float(np.ptp(points @ np.array([-along[1], along[0]])))
    return long, short


def _plane_mm(columns: np.ndarray) -> np.ndarray:
    """2x2 map from two voxel indices to millimetres in their own plane, for axes at any angle."""
    first = columns[:, 0] / np.linalg.norm(columns[:, 0])
    second = columns[:, 1] - (columns[:, 1] @ first) * first
    second /= np.linalg.norm(second)
    return np.stack([first, second]) @ columns


def _outline(cut: np.ndarray) -> np.ndarray:
    """Middles of the outer faces of the first and last voxel of each row and column, (N, 2)."""
    rows, columns = np.flatnonzero(cut.any(axis=1)), np.flatnonzero(cut.any(axis=0))
    left, right = cut[rows].argmax(axis=1), cut.shape[1] - 1 - cut[rows, ::-1].argmax(axis=1)
    top, bottom = cut[:, columns].argmax(axis=0), cut.shape[0] - 1 - cut[::-1, columns].argmax(axis=0)
    return np.concatenate(
        [
            np.stack([rows, left - 0.5], axis=1),
            np.stack([rows, right + 0.5], axis=1),
            np.stack([top - 0.5, columns], axis=1),
            np.stack([bottom + 0.5, columns], axis=1),
        ]
    )


def zone_of(level_mm: float, low_mm: float, high_mm: float) -> str:
    """ "upper", "middle" or "lower" third of a lung's height."""
    third = int(3 * (level_mm - low_mm) / (high_mm - low_mm))
    return ZONES[min(max(third, 0), 2)]


def pleura_distance(part: Part, organs: np.ndarray, label: int, volume: Volume) -> float | None:
    """Shortest distance (mm) from a nodule's edge to what is neither it nor its lung.

    None where that is farther than PLEURA_REACH_MM. Gaps of the lung mask narrower than a large vessel don't
    count as pleura. Touching measures 0.
    """
    spacing = np.array(volume.spacing_kji_mm)
    margin = np.ceil(PLEURA_REACH_MM / spacing).astype(int)
    box = tuple(
        slice(max(0, axis.start - m), min(n, axis.stop + m))
        for axis, m, n in zip(part.box, margin, organs.shape)
    )
    inside = organs[box] == label
    shift = tuple(slice(axis.start - own.start, axis.stop - own.start) for axis, own in zip(part.box, box))
    inside[shift] |= part.mask
    closed = _distance_mm(inside, spacing) <= VESSEL_MM / 2  # grown, then shrunk: thin gaps are gone
    depth = _distance_mm(~closed, spacing)
    away = depth[shift][part.mask] - VESSEL_MM / 2
    least = float(away.min())
    return max(0.0, least) if least < PLEURA_REACH_MM else None


def _distance_mm(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Distance (mm) of every voxel to the nearest one of the mask."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing[::-1].tolist())
    signed = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    return np.maximum(sitk.GetArrayFromImage(signed), 0)
