"""What a task would need on this machine, told before the volume is sent.

The model is a line per task: memory = base + bytes per voxel, time = base + seconds per million voxels,
both of the native grid. Constants of segment: measured on the demo CT (35 million voxels, 713 MB) and on the
same with four times the slices (139 million, 1551 MB), rounded up by a fifth. The landmark net's, on the same
two: 782 and 1383 MB, 570 of them torch; its time grows with the body, 5 s of its base is the import of torch.
Times are for two threads.
"""

import math
from dataclasses import dataclass

from ct3d.cards import load_card
from ct3d.errors import InvalidRequest
from ct3d.pipeline.job import Job
from ct3d.pipeline.machine import device, memory_mb
from ct3d.protocol.tasks import EstimateParams, EstimateResult

MB = 1 << 20
SPARE = 0.9  # share of the available memory that a task may take


@dataclass(frozen=True)
class Cost:
    """What a task costs on two processor threads."""

    base_mb: float
    bytes_per_voxel: float
    base_s: float
    s_per_megavoxel: float


COSTS = {  # by task, or by task and card where the card makes the difference
    "segment": Cost(500, 11, 12, 0.25),
    "landmarks": Cost(150, 12, 1, 0.05),
    "landmarks h3denet_headneck": Cost(700, 7.5, 7, 0.08),
    "locate": Cost(720, 7, 6, 0.03),  # demo CT and four times its slices: 792 and 1394 MB, 4.2 and 4.9 s
    "measure": Cost(150, 16, 1, 0.06),
    "findings": Cost(150, 0, 0.5, 0),
    "report": Cost(450, 0, 10, 0),
    "answer": Cost(450, 0, 3, 0),
    "report smollm2_135m_transformers": Cost(1400, 0, 40, 0),
    "answer smollm2_135m_transformers": Cost(1400, 0, 10, 0),
    "report ": Cost(150, 0, 1, 0),  # without a language model
    "answer ": Cost(150, 0, 1, 0),
    "report hsenet_ct_rate": Cost(11000, 16, 300, 0.1),  # from the sizes of its parts; never run here
    "answer hsenet_radgenome": Cost(11000, 16, 120, 0.1),
    "warm_up hsenet_radgenome": Cost(10000, 0, 60, 0),
    "check": Cost(150, 0, 0.5, 0),
    "warm_up": Cost(450, 0, 5, 0),
    "warm_up smollm2_135m_transformers": Cost(1400, 0, 20, 0),
    "index": Cost(1700, 24, 60, 0.3),  # full size with random numbers, on the demo CT: 2.4 GB, 67 s
    "retrieve": Cost(1700, 24, 60, 0.3),
    "prepare": Cost(150, 6, 0.5, 0.05),
    "estimate": Cost(60, 0, 0.1, 0),
}


def run(params: EstimateParams, job: Job) -> EstimateResult:
    """Estimate one task on this machine."""
    job.stage("estimate", 0.0)
    card = load_card(params.card) if params.card else None
    here = device()
    estimated = estimate(params, available_mb=memory_mb()[1], device_kind=here.kind)
    wanted_mb = card.weights.min_vram_gb * 1024 if card and card.weights else 0.0
    if wanted_mb and here.kind != "cpu" and here.available_mb < wanted_mb:
        return _refused(estimated, wanted_mb, here.available_mb)
    return estimated


def estimate(params: EstimateParams, *, available_mb: float, device_kind: str = "cpu") -> EstimateResult:
    """Memory and time of a task for a volume of this shape, against this much available memory.

    Raises:
        InvalidRequest: for a task that has no costs, or a shape that is none.
    """
    cost = COSTS.get(f"{params.task} {params.card}") or COSTS.get(params.task)
    if cost is None:
        raise InvalidRequest(
            f"There is no estimate for the task {params.task!r}. Choose one of: {', '.join(COSTS)}."
        )
    if min(params.shape_kji) < 1:
        raise InvalidRequest(f"{params.shape_kji} is no shape of a volume. Give three numbers from 1.")
    voxels = math.prod(params.shape_kji)
    memory = cost.base_mb + voxels * cost.bytes_per_voxel / MB
    seconds = cost.base_s + voxels / 1e6 * cost.s_per_megavoxel
    fits = memory <= SPARE * available_mb
    notes = () if fits else (_what_to_do(params, cost, memory, available_mb),)
    return EstimateResult(
        round(memory, 1), round(seconds, 1), round(available_mb, 1), device_kind, fits, notes
    )


def _what_to_do(params: EstimateParams, cost: Cost, memory: float, available_mb: float) -> str:
    """Why it doesn't fit, and how many slices would."""
    k, j, i = params.shape_kji
    room = (SPARE * available_mb - cost.base_mb) * MB
    slices = int(room / (cost.bytes_per_voxel * j * i)) if cost.bytes_per_voxel and room > 0 else 0
    why = f"{params.task} needs about {memory / 1024:.1f} GB for {k} x {j} x {i} voxels and "
    why += f"{available_mb / 1024:.1f} GB are free."
    if slices < 1:
        return f"{why} Close other programs or use a machine with more memory."
    return (
        f"{why} Close other programs, crop the volume to the chest, or resample it: "
        f"about {slices} slices of this size fit."
    )


def _refused(estimated: EstimateResult, wanted_mb: float, available_mb: float) -> EstimateResult:
    note = (
        f"The model wants {wanted_mb / 1024:.1f} GB of video memory and {available_mb / 1024:.1f} GB are "
        "free. Close other programs that use the GPU, or choose a smaller model."
    )
    return EstimateResult(
        wanted_mb, estimated.seconds, available_mb, estimated.device, False, (*estimated.notes, note)
    )
