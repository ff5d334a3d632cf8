"""Task "landmarks": the card's named points in one CT, each with presence and confidence.

Two kinds of cards: rules read the points off masks, nets of heat maps (card.heatmaps) see the voxels.
"""

import math
from dataclasses import dataclass, replace

from ct3d.case import ExpectedPlace, Flag, InputReport, Landmark
from ct3d.pipeline.job import Job
from ct3d.protocol.tasks import LandmarkParams, LandmarkResult

FAR_MM = 60.0  # a point this far from where it should lie is told, or farther than the place's own radius


@dataclass(frozen=True)
class Placed:
    """What a model says of a card's landmarks.

    Attributes:
        landmarks: every landmark of the card, missing ones included.
        flags: what a person should look at.
        saw: what a net saw of the volume; None: masks.
        device, dtype: where and in what numbers it was computed.
    """

    landmarks: tuple[Landmark, ...]
    flags: tuple[Flag, ...] = ()
    saw: InputReport | None = None
    device: str = "cpu"
    dtype: str = "float32"


def run(params: LandmarkParams, job: Job) -> LandmarkResult:
    """Place the card's landmarks; a card of rules also the centres of all lesions."""
    card = job.card(params.card)
    volume = job.volume(params.volume)
    job.stage("load model", 0.0)
    model = job.model(card)
    if card.heatmaps is None:
        layers = {layer.name: job.array(layer.array) for layer in params.layers}
        placed = model.place(volume, layers, params.regions, job)
    else:
        placed = model.place(volume, job)
    landmarks = tuple(replace(each, card=card.id) for each in placed.landmarks)
    step = job.step("landmarks", card, device=placed.device, dtype=placed.dtype)
    flags = (*placed.flags, *far_off(landmarks, params.expected))
    return LandmarkResult(landmarks, step, flags, placed.saw)


def far_off(landmarks: tuple[Landmark, ...], expected: tuple[ExpectedPlace, ...]) -> tuple[Flag, ...]:
    """A flag for each landmark that lies far from where the shared encoder expects it; none is moved."""
    places = {each.id: each for each in expected}
    flags = []
    for each in landmarks:
        place = places.get(each.id)
        if place is None or each.position_ras is None:
            continue
        off_mm = math.dist(each.position_ras, place.position_ras)
        if off_mm > max(FAR_MM, place.radius_mm):
            text = (
                f"{each.title} lies {off_mm:.0f} mm from where the shared encoder expects it. "
                "Look at it before it is used."
            )
            flags.append(Flag(f"landmark_expected_{each.id}", "warning", text, (f"landmark/{each.id}",)))
    return tuple(flags)
