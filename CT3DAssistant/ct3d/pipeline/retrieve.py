"""Tasks "index" and "retrieve": cases that are like a CT or a sentence, by a card of a contrastive model."""

from pathlib import Path

import numpy as np

from ct3d.cards import ModelCard
from ct3d.errors import InvalidRequest
from ct3d.pipeline.case_index import Entry, entries, entry_of, keep, key_of, refuse_others, start_index
from ct3d.pipeline.hsenet_sight import seen_of, vector_of
from ct3d.pipeline.job import Job
from ct3d.protocol.tasks import Hit, IndexParams, IndexResult, RetrieveParams, RetrieveResult


def take_in(params: IndexParams, job: Job) -> IndexResult:
    """Take one CT and its report into an index.

    Raises:
        InvalidRequest: the card has no contrastive model, or the index was made with another.
        DiskFull: the index can't be written.
    """
    card, folder, key = _card(params.card, job), Path(params.index), key_of(params.volume)
    refuse_others(folder, card)
    known = entry_of(folder, key)
    if known is not None and params.text in ("", known.text):
        return IndexResult("known", job.step("index", card))
    job.stage("load the model", 0.0)
    model = job.model(card)
    start_index(folder, card)
    vector = vector_of(params.volume, card, job, model) if known is None else known.volume
    job.stage("encode the report", 0.9)
    text_vector = model.embed_text(params.text) if params.text else None
    keep(folder, key, Entry(params.source, params.text, vector, text_vector))
    return IndexResult("added" if known is None else "report", _step("index", card, job, model))


def run(params: RetrieveParams, job: Job) -> RetrieveResult:
    """The cases of an index nearest to a CT, or to a sentence, by the cosine with their volumes.

    Raises:
        InvalidRequest: no index, one of another card, or neither or both of CT and sentence.
    """
    if (params.volume is None) == (not params.text.strip()) or params.count < 1:
        raise InvalidRequest("Give a CT or a sentence to look for, one of the two, and a count from 1.")
    card, folder = _card(params.card, job), Path(params.index)
    refuse_others(folder, card)
    job.stage("read the index", 0.0)
    found = entries(folder)
    job.stage("load the model", 0.05)
    model, saw = job.model(card), None
    if params.volume is not None:
        wanted = vector_of(params.volume, card, job, model)
        saw = seen_of(params.volume, card, job).report
    else:
        wanted = model.embed_text(params.text)
    scores = np.stack([each.volume for each in found]) @ wanted
    nearest = np.argsort(-scores, kind="stable")[: params.count]
    hits = tuple(Hit(found[n].source, round(float(scores[n]), 6), found[n].text) for n in nearest)
    return RetrieveResult(hits, len(found), _step("retrieve", card, job, model), saw)


def _card(card_id: str, job: Job) -> ModelCard:
    card = job.card(card_id)
    if card.role != "retrieve":
        raise InvalidRequest(
            f"{card.title} puts no CTs and reports in one space. Choose a card of the role 'retrieve'."
        )
    return card


def _step(task, card, job, model):
    return job.step(task, card, device=model.device)
