"""Task "warm_up": what the first answer would else wait for; a job that comes after it finds it done."""

from ct3d.pipeline.job import Job
from ct3d.pipeline.report import beginning
from ct3d.protocol.tasks import WarmUpParams, WarmUpResult


def run(params: WarmUpParams, job: Job) -> WarmUpResult:
    """Load the model, and have it keep the beginning that all facts share."""
    card = job.card(params.card)
    job.stage("language model", 0.0)
    model = job.model(card)
    if card.role != "language":
        return WarmUpResult(job.step("warm_up", card))
    job.stage("prompt", 0.3)
    chat = [*beginning(), {"role": "user", "content": "-"}]
    model.write(chat, on_piece=lambda _: job.check(), max_tokens=1)
    return WarmUpResult(job.step("warm_up", card, dtype=model.dtype))
