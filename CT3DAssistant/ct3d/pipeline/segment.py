"""Task "segment": one CT volume in, masks on its own grid out."""

from ct3d.pipeline.job import Job
from ct3d.protocol.tasks import MaskLayer, SegmentParams, SegmentResult


def run(params: SegmentParams, job: Job) -> SegmentResult:
    """Find the card's regions in one CT volume."""
    card = job.card(params.card)
    masks = job.model(card).segment(job.volume(params.volume), job)
    job.stage("store", 0.98)
    layers = tuple(MaskLayer(name, job.store(array)) for name, array in masks.layers.items())
    return SegmentResult(layers, masks.regions, masks.saw, job.step("segment", card), masks.flags)
