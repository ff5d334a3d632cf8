"""Task "landmarks": the card's named points in one CT, each with presence and confidence.

Two kinds of cards: rules read the points off masks, nets of heat maps (card.heatmaps) see the voxels.
"""

from dataclasses import dataclass, replace

from ct3d.case import Flag, InputReport, Landmark
from ct3d.pipeline.job import Job
from ct3d.protocol.tasks import LandmarkParams, LandmarkResult


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
    return LandmarkResult(landmarks, step, placed.flags, placed.saw)
