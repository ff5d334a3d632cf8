"""Task "locate": where in the body a CT lies by the shared encoder, and whether its header agrees.

Source: the kept coordinate head of spatial_ssl.md section 11 (uses a and b), a reconstruction [R]. Ours: the
model is asked about the scan and about its mirror images, and says nothing where both fit alike; a chest's
sides are told by a net of their own.
"""

from collections.abc import Mapping

import numpy as np

from ct3d.cards import Anchor, ModelCard, PositionSpec
from ct3d.case import AxisCheck, ExpectedPlace, Flag, ScanCheck
from ct3d.errors import InvalidRequest
from ct3d.pipeline.job import Job
from ct3d.pipeline.whole_scan import AXES, margins, points_mm, seen_of
from ct3d.protocol.tasks import LocateParams, LocateResult

LEAST_SLICE = 0.02  # share of the body's cells that must lie in a part for the scan to show it
RIM_MM = 15.0  # beyond the outermost cells where a place still counts as in the scan
RIDGE = 1e-3
MIRRORED = {"right": "left and right swapped", "front": "front and back swapped", "up": "upside down"}


def run(params: LocateParams, job: Job) -> LocateResult:
    """Check one CT's orientation, and say what of the body it shows.

    Raises:
        InvalidRequest: the card has no coordinate head, or there is no body in the volume.
    """
    card = job.card(params.card)
    if card.position is None:
        raise InvalidRequest(f"{card.title} can't tell where it is. Choose a card of a shared encoder.")
    job.stage("load model", 0.0)
    model = job.model(card)
    job.stage("encode", 0.2)
    scan, features = seen_of(params.volume, card, job, model)
    points = points_mm(model, scan, features)
    job.stage("compare with mirror images", 0.5)
    found = margins(model, scan, points, job.check)
    check = ScanCheck(
        card.id,
        verdicts(found, card.position),
        _parts(points[:, 2], card.position),
        places(points, scan.cells_ras, card.position.anchors),
    )
    return LocateResult(check, job.step("locate", card), _flags(check, card))


def places(
    points: np.ndarray, cells_ras: np.ndarray, anchors: Mapping[str, Anchor]
) -> tuple[ExpectedPlace, ...]:
    """Those anchors that lie in a scan, where they should lie.

    A linear map from the head's frame to the scan's is fitted to the body's cells, so that no single cell
    decides.

    Args:
        points: (N, 3) of the body's cells in mm of the head's frame, along R, A, S.
        cells_ras: (N, 3) mm, where those cells lie.
        anchors: by id, in the head's frame.
    """
    if not anchors:
        return ()
    found = placed(points, cells_ras, np.array([each.place_mm for each in anchors.values()]))
    low, high = cells_ras.min(0) - RIM_MM, cells_ras.max(0) + RIM_MM
    is_in = ((found > low) & (found < high)).all(1)
    return tuple(
        ExpectedPlace(name, each.title, _point(place), each.radius_mm, each.level)
        for (name, each), place, inside in zip(anchors.items(), found, is_in)
        if inside
    )


def placed(points: np.ndarray, cells_ras: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(M, 3) RAS mm of places (M, 3) in the head's frame; see `places`."""
    middle, there = points.mean(0), cells_ras.mean(0)
    apart = points - middle
    square = apart.T @ apart
    square += RIDGE * np.trace(square) / 3 * np.eye(3)
    linear = np.linalg.solve(square, apart.T @ (cells_ras - there))
    return (wanted - middle) @ linear + there


def verdicts(found: np.ndarray, spec: PositionSpec) -> tuple[AxisCheck, ...]:
    """What margins (3,) of `whole_scan.margins` mean, by the card's limits."""
    return tuple(map(_verdict, AXES, found, spec.least_margins))


def _verdict(axis: str, margin: float, least: float) -> AxisCheck:
    verdict = "untold" if abs(margin) < least else "agrees" if margin > 0 else "mirrored"
    return AxisCheck(axis, verdict, round(float(margin), 3))


def _parts(heights_mm: np.ndarray, spec: PositionSpec) -> tuple[str, ...]:
    """Parts of the body, from the top, of which the scan shows more than a slice."""
    shown, above = [], np.inf
    for name, begin_mm in spec.parts.items():
        share = ((heights_mm >= begin_mm) & (heights_mm < above)).mean()
        above = begin_mm
        if share > LEAST_SLICE:
            shown.append(name)
    return tuple(shown)


def _flags(check: ScanCheck, card: ModelCard) -> tuple[Flag, ...]:
    if not check.mirrored:
        return ()
    told = " and ".join(MIRRORED[axis] for axis in check.mirrored)
    text = (
        f"By its content this scan looks {told}, against its header ({card.title}). Sides and positions "
        "can't be trusted. Check the orientation of the file."
    )
    if "right" in check.mirrored:
        text += " Rarer: organs that lie the other way round (situs inversus)."
    return (Flag("position_orientation", "warning", text),)


def _point(place):
    x, y, z = (round(float(each), 1) for each in place)
    return (x, y, z)
