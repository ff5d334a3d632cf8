"""Lung nodule and mass candidates: compact soft tissue that lung surrounds.

Soft tissue inside the lungs' hull is opened with balls of growing radius, so that thinner vessels fall off;
what remains at each radius is judged by its axes, by how much of its surface meets soft tissue (a vessel goes
on, a nodule ends), by its density and by its distance to the central airways. Two searches: nodules on a fine
grid in a tight hull, masses that dent the lung from outside on a coarse grid in a wide hull.
"""

from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import scipy.ndimage as ndi
import SimpleITK as sitk

from ct3d.imaging.volume import Volume, ras_from_kji

MOST = 8  # candidates that are ever listed
SMALLEST_MM = 6.0  # below it these rules can't tell nodules from vessels
SPACINGS_ACROSS = 2.0  # a candidate is at least this many native spacings thick
LEAST_SCORE = 0.3
SHELL_VOXELS = 2.5  # thickness of the layer around a candidate that tells how its surface goes on


@dataclass(frozen=True)
class Pass:
    """One search: its hull, threshold, the radii of its openings, and from where to where a term rises."""

    hull_mm: float
    tissue_hu: float
    radii_mm: tuple[float, ...]
    flattest: tuple[float, float]  # shortest / longest axis: worst, good
    longest: tuple[float, float]  # middle / longest axis: worst, good
    free: tuple[float, float]  # share of the surface that meets air: worst, good
    size_mm: tuple[float, float]  # diameter of the ball of the same volume: worst, good


NODULES = Pass(
    15.0, -450.0, (1.8, 2.5, 3.5, 5.0, 7.0, 10.0), (0.3, 0.75), (0.4, 0.85), (0.45, 0.85), (5.0, 10.0)
)
MASSES = Pass(32.0, -150.0, (6.0, 9.0, 13.0, 18.0), (0.1, 0.5), (0.2, 0.6), (0.05, 0.35), (15.0, 60.0))


@dataclass(frozen=True)
class Nodule:
    """One candidate; mask on its search grid, cut to its box."""

    mask: Volume
    center_ras: tuple[float, float, float]
    diameter_mm: float  # of the ball of the same volume
    side: str
    confidence: float
    note: str


@dataclass(frozen=True)
class Shape:
    """What is measured of one opened component.

    Attributes:
        axes_mm: lengths of the ellipsoid of the same second moments, longest first.
        touch: share of the surface that goes on as soft tissue.
        outside: share of the surface on the hull (pleura).
        hu: mean of the core.
        airway_mm: distance to the central airways.
    """

    diameter_mm: float
    axes_mm: tuple[float, float, float]
    touch: float
    outside: float
    hu: float
    airway_mm: float


def find_nodules(fine, coarse, job) -> list[Nodule]:
    """At most eight candidates, best first.

    Args:
        fine: lesions.Search, about 1.25 mm.
        coarse: lesions.Search, about 2.5 mm.
        job: is asked to stop between components.
    """
    hull = _hull(coarse, NODULES.hull_mm)
    job.check()
    tight = _on(fine, hull, coarse) | fine.mask("right_lung", "left_lung")
    tight &= ~fine.mask("airways", "skeleton")
    job.check()
    found = _pass(fine, tight, NODULES, job)
    wide = _hull(coarse, MASSES.hull_mm) & ~coarse.mask("airways")
    wide &= ~ndi.binary_dilation(coarse.mask("skeleton"))
    job.check()
    found += _pass(coarse, wide, MASSES, job)
    least = max(SMALLEST_MM, SPACINGS_ACROSS * fine.native_spacing_mm)
    good = [each for each in found if each.diameter_mm >= least]
    return _without_repeats(sorted(good, key=lambda each: -each.confidence))[:MOST]


def _hull(search, radius_mm):
    """The lungs, each closed with a ball: vessels, nodules and dents narrower than the ball belong to it."""
    hull = np.zeros(search.organs.shape, bool)
    spacing = search.scan.spacing_kji_mm[0]
    pad = int(np.ceil(radius_mm / spacing)) + 1
    for side in ("right_lung", "left_lung"):
        lung = search.mask(side)
        if lung.any():
            grown = distance_mm(np.pad(lung, pad, mode="edge"), spacing) >= -radius_mm  # a cut lung goes on
            closed = distance_mm(grown, spacing) > radius_mm
            hull |= ndi.binary_fill_holes(closed[pad:-pad, pad:-pad, pad:-pad] | lung)
    return hull


def distance_mm(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Distance to the mask's outermost voxels on an isotropic grid, positive inside, (K, J, I) float32."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    signed = sitk.SignedMaurerDistanceMap(
        image, insideIsPositive=True, squaredDistance=False, useImageSpacing=False
    )
    return sitk.GetArrayFromImage(signed) * np.float32(spacing_mm)


def _on(fine, mask, coarse):
    """A mask of the coarse grid on the fine one; the two share their first voxel."""
    step = fine.scan.spacing_kji_mm[0] / coarse.scan.spacing_kji_mm[0]
    take = [
        np.minimum(np.rint(np.arange(n) * step).astype(int), m - 1)
        for n, m in zip(fine.organs.shape, mask.shape, strict=True)
    ]
    return mask[np.ix_(*take)]


def _pass(search, hull, rules: Pass, job) -> list[Nodule]:
    spacing = search.scan.spacing_kji_mm[0]
    soft = hull & (search.scan.array > rules.tissue_hu)
    job.check()
    depth = distance_mm(soft, spacing) if soft.any() else np.zeros(soft.shape, np.float32)
    job.check()
    airways = search.mask("airways")
    to_airways = -distance_mm(airways, spacing) if airways.any() else None
    found = []
    deepest = depth.max()
    for radius in takewhile(lambda r: r < deepest, rules.radii_mm):
        job.check()
        cores, _ = ndi.label(depth > radius)
        for label, place in enumerate(ndi.find_objects(cores), 1):
            job.check()
            box = _grown(place, int(np.ceil(radius / spacing)) + 3, cores.shape)
            core = cores[box] == label
            body = soft[box] & (distance_mm(core, spacing) >= -radius - 1.5 * spacing)
            if body.sum() * spacing**3 < 0.4 * SMALLEST_MM**3:
                continue
            shape = _shape(body, core, search.scan.array[box], soft[box], hull[box], spacing)
            if to_airways is not None:
                shape = Shape(**{**vars(shape), "airway_mm": float(to_airways[box][core].min())})
            score, note = _judge(shape, rules)
            if score >= LEAST_SCORE:
                found.append(_nodule(body, box, search, shape, score, note))
    return found


def _grown(place, margin, shape):
    return tuple(
        slice(max(0, axis.start - margin), min(n, axis.stop + margin))
        for axis, n in zip(place, shape, strict=True)
    )


def _shape(body, core, hu, soft, hull, spacing) -> Shape:
    shell = ~body & (distance_mm(body, spacing) >= -SHELL_VOXELS * spacing)
    points_mm = np.argwhere(body) * spacing
    variances = np.linalg.eigvalsh(np.cov(points_mm.T))[::-1]
    axes = 2 * np.sqrt(5 * np.maximum(variances, spacing**2 / 12))  # of a solid ellipsoid
    count = max(1, int(shell.sum()))
    return Shape(
        diameter_mm=float((6 * len(points_mm) * spacing**3 / np.pi) ** (1 / 3)),
        axes_mm=tuple(float(axis) for axis in axes),
        touch=float((shell & soft).sum() / count),
        outside=float((shell & ~hull).sum() / count),
        hu=float(hu[core].mean()),
        airway_mm=np.inf,
    )


def ramp(value: float, worst: float, good: float) -> float:
    """0 at `worst` and beyond, 1 at `good` and beyond, straight between."""
    return float(np.clip((value - worst) / (good - worst), 0.0, 1.0))


def _judge(shape: Shape, rules: Pass) -> tuple[float, str]:
    """Score, 0 to 1, and what raised and lowered it."""
    longest, middle, shortest = shape.axes_mm
    free = 1 - shape.touch - (0.5 if rules is NODULES else 1.0) * shape.outside
    terms = {
        f"axes {longest:.0f} x {middle:.0f} x {shortest:.0f} mm": ramp(shortest / longest, *rules.flattest)
        * ramp(middle / longest, *rules.longest),
        f"{100 * shape.touch:.0f} % of its surface goes on as soft tissue, "
        f"{100 * shape.outside:.0f} % lies on the pleura": ramp(free, *rules.free),
        f"size {shape.diameter_mm:.0f} mm": ramp(shape.diameter_mm, *rules.size_mm),
        f"mean {shape.hu:.0f} HU (vessels with contrast and calcium above 150)": 1
        - 0.8 * ramp(shape.hu, 130.0, 220.0),
        "solid": 0.3 + 0.7 * ramp(shape.hu, -200.0, -20.0),
        f"{min(shape.airway_mm, 99):.0f} mm from the central airways": 0.4
        + 0.6 * ramp(shape.airway_mm, 3, 12),
    }
    score = float(np.prod(list(terms.values())))
    raised = [text for text, value in terms.items() if value >= 0.75]
    lowered = [text for text, value in terms.items() if value < 0.75]
    note = f"Raised by: {'; '.join(raised) or 'nothing'}. Lowered by: {'; '.join(lowered) or 'nothing'}."
    return score, f"{note} By rule, not calibrated."


def _nodule(body, box, search, shape, score, note) -> Nodule:
    start_kji = np.array([axis.start for axis in box])
    grid = search.scan.ijk_to_ras.copy()
    grid[:3, 3] = ras_from_kji(start_kji[None], search.scan.ijk_to_ras)[0]
    center = ras_from_kji(np.argwhere(body).mean(0)[None], grid)[0]
    near = search.organs[box]
    right, left = ((near == search.labels.get(side, -1)).sum() for side in ("right_lung", "left_lung"))
    return Nodule(
        mask=Volume(body.astype(np.uint8), grid),
        center_ras=tuple(float(x) for x in center),
        diameter_mm=shape.diameter_mm,
        side="right" if right >= left else "left",
        confidence=0.95 * np.sqrt(score),
        note=note,
    )


def _without_repeats(nodules):
    """Of candidates about the same place, the most confident one."""
    kept = []
    for each in nodules:
        near = (
            np.linalg.norm(np.subtract(each.center_ras, other.center_ras))
            < 0.6 * max(each.diameter_mm, other.diameter_mm)
            for other in kept
        )
        if not any(near):
            kept.append(each)
    return kept
