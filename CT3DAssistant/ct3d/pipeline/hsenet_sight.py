"""A scan as HSENet's models take it in, kept between jobs: prepared and encoded once, read once a part."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np

from ct3d.cards import ModelCard
from ct3d.case import Case, InputReport, Scope
from ct3d.errors import InvalidRequest
from ct3d.imaging.exchange import content_hash
from ct3d.imaging.volume import Volume, ijk_from_ras, ras_from_ijk, ras_from_kji
from ct3d.pipeline.ct_rate import LEAST, VOLUME_HU, Seen, see
from ct3d.pipeline.hsenet_reader import HSENetAligner, HSENetReader, Sight, config_of
from ct3d.pipeline.job import Job
from ct3d.pipeline.scope import bounds_of
from ct3d.protocol.tasks import MaskLayer, VolumeRef

POLL_S = 0.1  # between two looks whether the person stopped

T = TypeVar("T")


def needed(volume: VolumeRef | None, card: ModelCard, case: Case | None = None) -> VolumeRef:
    """The volume that a card's model must see.

    Raises:
        InvalidRequest: there is none, or it is not the one of the case.
    """
    if volume is None:
        raise InvalidRequest(f"{card.title} looks at the scan itself. Give the volume, too.")
    if case is not None and case.input.sha256 and case.input.sha256 != volume.array.sha256:
        raise InvalidRequest("This volume is not the one that the case is of. Give that one, or analyse it.")
    return volume


def seen_of(volume: VolumeRef, card: ModelCard, job: Job) -> Seen:
    """What a card's model sees of a volume."""
    recipe = card.input.recipe if card.input else "clean"

    def make() -> Seen:
        job.stage("prepare the scan", 0.05)
        shape = config_of(card.config).encoder.image_size
        return _heeding(job, lambda: see(job.volume(volume), card.id, recipe, shape))

    return job.remember(_key("seen", volume, card), make)


def sight_of(
    volume: VolumeRef, card: ModelCard, job: Job, part: np.ndarray | None = None
) -> tuple[HSENetReader, Sight]:
    """The card's model, and what it has read of a volume.

    Args:
        part: (D, H, W) bool on the encoders' grid; None: all of the scan.
    """
    job.stage("load the model", 0.0)
    model = job.model(card)
    key = _key("sight", volume, card, "" if part is None else content_hash(part))

    def read() -> Sight:
        visual = _visual(volume, card, job, model)
        job.stage("read the scan", 0.3)
        return model.read(visual, job.check, part)

    return model, job.remember(key, read)


def shown(volume: VolumeRef, card: ModelCard, job: Job) -> tuple[Volume, InputReport]:
    """What a card's model sees of a volume, in HU on the encoders' grid, for a person to look at."""
    seen = seen_of(volume, card, job)
    low, high = (float(each) for each in np.clip(_ends(job.volume(volume).array), *VOLUME_HU))
    hu = np.ascontiguousarray((low + seen.volume * max(high - low, LEAST)).transpose(0, 2, 1))
    return Volume(hu.astype(np.float32), seen.zxy_to_ras[:, [1, 2, 0, 3]]), seen.report


def vector_of(volume: VolumeRef, card: ModelCard, job: Job, model: HSENetAligner) -> np.ndarray:
    """(dim,) float32 of length 1: where a volume lies among texts and other volumes."""

    def encode() -> np.ndarray:
        seen = seen_of(volume, card, job)
        job.stage("encode the scan", 0.2)
        features = model.slice_features(seen.slices, job.check) if model.is_guided else None
        return model.embed_volume(seen.volume, features, job.check)

    return job.remember(_key("vector", volume, card), encode)


def part_of(
    scope: Scope, case: Case, layers: tuple[MaskLayer, ...], seen: Seen, job: Job
) -> np.ndarray | None:
    """(D, H, W) bool on the encoders' grid: voxels that hold some of the scope; None for the whole scan.

    Raises:
        InvalidRequest: the region's mask isn't given, or none of the scope is in what the encoders see.
    """
    if scope.kind == "scan":
        return None
    if scope.kind == "region":
        part = _held(_mask(scope.region, case, layers, job), np.array(case.input.geometry.ijk_to_ras), seen)
    else:
        part = _between(bounds_of(scope), seen)
    if not part.any():
        raise InvalidRequest("Nothing of this part of the scan is in what the model sees. Choose another.")
    return part


def _heeding(job: Job, work: Callable[[], T]) -> T:
    """Do what is one long piece, and heed a stop meanwhile; what was begun then ends by itself, unheard."""
    pool = ThreadPoolExecutor(1)
    try:
        running = pool.submit(work)
        while not wait([running], POLL_S).done:
            job.check()
        return running.result()
    finally:
        pool.shutdown(wait=False)


def _visual(volume, card, job, model):
    def encode():
        seen = seen_of(volume, card, job)
        job.stage("encode the slices", 0.1)
        features = model.slice_features(seen.slices, job.check)
        job.stage("encode the scan", 0.2)
        return model.visual(seen.volume, features, job.check)

    return job.remember(_key("visual", volume, card), encode)


def _key(what, volume, card, *more):
    return (what, volume.array.sha256, volume.ijk_to_ras, card.id, card.sha256, *more)


def _ends(array):
    return array.min(), array.max()


def _mask(region_id, case, layers, job):
    """(K, J, I) bool of a region."""
    region = next(each for each in case.regions if each.id == region_id)
    layer = next((each for each in layers if each.name == region.layer), None)
    if layer is None:
        told = f"The mask of {region.title} isn't there."
        raise InvalidRequest(f"{told} Analyse the scan, or ask about all of it.")
    return job.array(layer.array) == region.label


def _held(mask, ijk_to_ras, seen):
    """Encoder voxels in which the centre of a voxel of a mask lies."""
    part = np.zeros(seen.volume.shape, bool)
    for k in np.flatnonzero(mask.any(axis=(1, 2))):  # slice by slice: a mask may have ten million voxels
        rows = np.argwhere(mask[k])
        ras = ras_from_kji(np.insert(rows, 0, k, axis=1), ijk_to_ras)
        at = np.rint(ijk_from_ras(ras, seen.zxy_to_ras)).astype(int)
        z, x, y = at[((at >= 0) & (at < part.shape)).all(axis=1)].T
        part[z, x, y] = True
    return part


def _between(bounds, seen):
    """Encoder voxels that a box along R, A, S touches."""
    centres = ras_from_ijk(np.stack(np.indices(seen.volume.shape), axis=-1), seen.zxy_to_ras)
    reach = np.abs(seen.zxy_to_ras[:3, :3]).sum(axis=1) / 2
    low, high = np.array(bounds).T
    return ((centres + reach > low) & (centres - reach < high)).all(axis=-1)
