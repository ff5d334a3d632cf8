"""Task "prepare": the volume as a card's model sees it, made by the same function as for the model."""

from ct3d.cards import READS_SCANS
from ct3d.errors import InvalidRequest
from ct3d.imaging.prepare import prepare
from ct3d.pipeline.job import Job
from ct3d.pipeline.net_view import view_of
from ct3d.protocol.tasks import PrepareParams, PrepareResult, VolumeRef


def run(params: PrepareParams, job: Job) -> PrepareResult:
    """Turn, resample, clip and crop one CT volume as the card says."""
    card = job.card(params.card)
    if card.input is None:
        raise InvalidRequest(f"{card.title} sees no voxels, only what was measured. Choose another model.")
    job.stage("resample", 0.0)
    seen, saw = _shown(params.volume, card, job)
    job.stage("store", 0.8)
    ref = VolumeRef(job.store(seen.array), seen.geometry.ijk_to_ras)
    return PrepareResult(ref, saw, job.step("prepare", card))


def _shown(ref, card, job):
    if card.role in READS_SCANS:
        from ct3d.pipeline.hsenet_sight import shown  # which needs torch

        return shown(ref, card, job)
    volume = job.volume(ref)
    if card.heatmaps is not None:
        view = view_of(volume, card)
        return view.seen, view.saw(card.id)
    seen, way_back = prepare(volume, card.input)
    return seen, way_back.saw(card.id)
