"""What a person should look at before trusting the masks: the field of view, and the axes."""

import numpy as np

from ct3d.case import Flag
from ct3d.pipeline.anatomy_bones import BRIGHT_HU, before_spine, between_lungs
from ct3d.pipeline.anatomy_found import Findings
from ct3d.pipeline.anatomy_lungs import Grid
from ct3d.pipeline.anatomy_points import dome

FLOOR_HU = -700  # a scan without any value below is cut off or not in HU: air and lung look the same
HEIGHT_TO_WIDTH = 0.75  # of both lungs of an adult, apex to base against side to side
LEAST_BONE_MM2 = 60.0  # in a slice: a vertebra has more
HEART_HEIGHT = (0.3, 0.55)  # shares of the lungs' height between which the heart lies
LEAST_HEIGHT_MM = 170.0  # of an adult's lungs
HEART_MM = 4.0  # off the spine's plane, beyond which the heart's side is told
DOME_MM = 5.0  # between the domes, beyond which the higher one is told
ABDOMEN_MM = 150.0  # below the domes: what counts as the whole upper abdomen
MIDDLE_MM = 30.0  # half width of the strip in which spine and sternum are weighed


def check_anatomy(grid: Grid, found: Findings) -> tuple[tuple[Flag, ...], dict[str, float]]:
    """Flags on field of view and orientation, and which share of lungs and upper abdomen the scan shows."""
    flags = (*_field_of_view(grid, found), *_orientation(grid, found))
    return flags, _coverage(grid, found)


def _field_of_view(grid, found):
    if not found.body.any():
        text = "No patient was found in this volume. Nothing was outlined. Choose a CT of the chest."
        return (Flag("field_of_view", "error", text),)
    missing = [name for name, lung in (("right", found.right), ("left", found.left)) if not lung.any()]
    if len(missing) == 2:
        why = _what_it_shows(grid, found)
        text = (
            f"No lung was found{why}. Lungs, airways, heart, mediastinum and upper abdomen are not assessed."
        )
        return (Flag("field_of_view", "warning", text),)
    if missing:
        text = f"No {missing[0]} lung was found: it lies outside or holds no air. It is not assessed."
        return (Flag("field_of_view", "warning", text),)
    share = _coverage(grid, found)["lungs"]
    if share < 0.9:
        text = f"The scan shows only about {share:.0%} of the lungs. What lies outside is not assessed."
        return (Flag("field_of_view", "warning", text),)
    return ()


def _what_it_shows(grid, found):
    if grid.hu.min() > FLOOR_HU:
        return f" because no value lies below {FLOOR_HU} HU, so that air can't be told from tissue"
    bone_share = np.count_nonzero(found.bone) / np.count_nonzero(found.body)
    body_ml = np.count_nonzero(found.body) * grid.voxel_ml
    if bone_share > 0.1 and body_ml < 8000:
        return "; the scan looks like a head or a limb"
    if bone_share > 0.01:
        return "; the scan looks like another part of the body"
    return "; hardly any bone is seen, so this may be no patient"


def _coverage(grid, found):
    """Share of the lungs and of the upper abdomen that the scan shows, 0 to 1; rough where they are cut."""
    lungs = found.right | found.left
    if not lungs.any():
        return {"lungs": 0.0, "upper_abdomen": 0.0}
    area = lungs.sum(axis=(1, 2)).astype(float)
    slices = np.flatnonzero(area)
    seen = (slices[-1] - slices[0] + 1) * grid.spacing[0]
    columns = np.flatnonzero(lungs.any(axis=(0, 1)))
    width = (columns[-1] - columns[0] + 1) * grid.spacing[2]
    usual = max(HEIGHT_TO_WIDTH * width, LEAST_HEIGHT_MM)
    ends = max(area[0], area[-1]) / area.max()  # a small cross-section at the end: little is missing
    missing = max(usual - seen, 0.25 * usual) * ends if ends > 0.02 else 0.0
    sides = int(found.right.any()) + int(found.left.any())
    below = slices[0] * grid.spacing[0] + _dome_height(grid, found, slices[0])
    return {
        "lungs": round(float(sides / 2 * seen / (seen + missing)), 2),
        "upper_abdomen": round(float(np.clip(below / ABDOMEN_MM, 0, 1)), 2),
    }


def _dome_height(grid, found, lowest):
    """How far the higher dome lies above the lowest slice of the lungs, mm."""
    points = _domes(grid, found)
    heights = [point[0] for point in points if point is not None]
    return (max(heights) - lowest) * grid.spacing[0] if heights else 0.0


def _domes(grid, found):
    """Both domes, sought alike, so that sides can be compared."""
    return tuple(
        dome(lung, is_right, grid.spacing, has_heart=True)
        for lung, is_right in ((found.right, True), (found.left, False))
    )


def _orientation(grid, found):
    """Flags where the body contradicts the axes of the file: spine in front, apex below, sides swapped."""
    signs = []
    if _spine_is_in_front(grid, found):
        signs.append("the spine lies in front")
    if found.right.any() and found.left.any():
        if _is_upside_down(found):
            signs.append("the lungs narrow toward the feet")
        elif _is_mirrored(grid, found):
            signs.append("heart and higher diaphragm lie on the sides opposite to the usual ones")
    if not signs:
        return ()
    text = (
        f"The orientation of this scan may be wrong: {' and '.join(signs)}. Sides and positions can't "
        "be trusted. Check the orientation of the file; rarer: situs inversus, raised left diaphragm."
    )
    return (Flag("orientation", "warning", text),)


def _spine_is_in_front(grid, found):
    """Whether bone near the middle runs through all slices of the chest in front, and not behind."""
    slices = np.flatnonzero((found.right | found.left).any(axis=(1, 2)))
    if slices.size * grid.spacing[0] < 60.0:
        return False
    chest = slice(slices[0], slices[-1] + 1)
    strip = np.abs(grid.x_mm - _middle_mm(grid, found)) < MIDDLE_MM
    body = found.body[chest][:, :, strip]
    bone = (body & (grid.hu[chest][:, :, strip] > 2 * BRIGHT_HU)).sum(axis=2)
    rows = np.arange(bone.shape[1])[None, :]
    mass = body.sum(axis=2)
    is_back = rows < ((mass * rows).sum(axis=1) / np.maximum(mass.sum(axis=1), 1))[:, None]
    least = LEAST_BONE_MM2 / (grid.spacing[1] * grid.spacing[2])
    behind = np.mean((bone * is_back).sum(axis=1) > least)
    in_front = np.mean((bone * ~is_back).sum(axis=1) > least)
    return bool(in_front > 0.95 and behind < 0.9)


def _middle_mm(grid, found):
    columns = found.body.sum(axis=(0, 1)).astype(float)
    return float((columns * grid.x_mm).sum() / columns.sum())


def _is_upside_down(found):
    """Whether the lungs' lower half is the smaller one and the trachea, where seen, leads downward."""
    lungs = found.right | found.left
    area = lungs.sum(axis=(1, 2)).astype(float)
    slices = np.flatnonzero(area)
    if area[0] > 0.3 * area.max() or area[-1] > 0.3 * area.max():
        return False  # cut lungs don't tell
    centre = (area * np.arange(len(area))).sum() / area.sum()
    airways = found.airways.sum(axis=(1, 2)).astype(float)
    if airways.any():
        return bool((airways * np.arange(len(area))).sum() / airways.sum() < centre)
    return bool(centre > slices.mean() + 0.05 * len(slices))


def _is_mirrored(grid, found):
    """Whether both the heart lies right and the left dome is the higher one."""
    right, left = _domes(grid, found)
    if right is None or left is None or (left[0] - right[0]) * grid.spacing[0] < DOME_MM:
        return False
    return _heart_mm(grid, found) > HEART_MM


def _heart_mm(grid, found):
    """How far right of the spine the soft tissue between the lungs lies at the heart's height, mm."""
    lungs = found.right | found.left
    slices = np.flatnonzero(lungs.any(axis=(1, 2)))
    low, high = (int(slices[0] + share * (slices[-1] - slices[0])) for share in HEART_HEIGHT)
    level = slice(low, high + 1)
    middle = between_lungs(lungs[level]) & ~lungs[level] & before_spine(grid, found.spine)[level]
    columns = middle.sum(axis=(0, 1)).astype(float)
    return float((columns * grid.x_mm).sum() / max(columns.sum(), 1.0)) - found.spine.x_mm
