"""Task "report": word a case as a draft report whose every sentence leans on evidence.

Facts come first, each with its floor sentence. A language model may say a fact in another way; its sentence
stands only if it is one of the ways of wording.toml and the guard finds nothing in it that the case doesn't
hold. A sentence that fails is drawn once more, then the floor stands. So all text that reaches the person,
streamed or final, has been checked.
"""

import time
import tomllib
from collections.abc import Callable
from functools import cache
from typing import Any

from ct3d.cards import ModelCard
from ct3d.case import REPORT_REGIONS, Case, Flag, Sentence
from ct3d.models.language import LanguageModel, Message
from ct3d.pipeline.evidence import check
from ct3d.pipeline.facts import IMPRESSION, Fact, facts_of
from ct3d.pipeline.job import Job
from ct3d.pipeline.wording import grammar, has_ways, is_a_way, may_become_a_way
from ct3d.pipeline.words import read_prompt
from ct3d.protocol.tasks import ReportParams, ReportResult

MAX_TOKENS = 80  # of one sentence
PATIENCE_S = 20.0  # of wording in all; facts that are left then stay as the floor has them
SECOND_TEMPERATURE = 0.5  # of the second draw, where the first was cooler

Show = Callable[[str], None]  # takes a sentence that is still being written, as far as it goes


def run(params: ReportParams, job: Job) -> ReportResult:
    """Draft the report. `card` "" asks for the floor alone, one of the role "report" reads the scan.

    Streams one checked sentence at a time, a section's title on its own line before them.
    """
    card = job.card(params.card) if params.card else None
    if card is not None and card.role == "report":
        from ct3d.pipeline.read_scan import read_report  # which needs torch

        return read_report(params, job, card)
    job.stage("facts", 0.0)
    facts = facts_of(params.case, params.sections)
    job.stage("language model", 0.02)
    writer = Writer(params, job, card)
    sentences: list[Sentence] = []
    for place, fact in enumerate(facts):
        job.stage(f"writing: {fact.section}", 0.05 + 0.95 * place / len(facts))
        if not sentences or sentences[-1].section != fact.section:
            job.emit(("\n\n" if sentences else "") + _title(fact.section) + "\n")
        sentence = writer.sentence(fact, f"{fact.section}.{place + 1}")
        sentences.append(sentence)
        job.emit(sentence.text + " ")
    counts = writer.counts | {"sentences": len(sentences)}
    more = {"seed": params.seed, "prompts": writer.prompts, "counts": counts}
    if writer.model is not None:
        more |= {"dtype": writer.model.dtype}
    return ReportResult(tuple(sentences), job.step("report", writer.card, **more), _flags(sentences))


class Writer:
    """Words facts one by one, and counts whose words stood.

    Args:
        show: called with a sentence while the model writes it, as long as it is the beginning of one that the
            template allows. What the guard makes of it is known at its end.

    counts: worded (facts given to the model), model and model_second_draw (its sentences that stood), floor
    (facts where neither did), fixed (facts that have one way only), late (facts after patience had ended).
    """

    def __init__(self, params: ReportParams, job: Job, card: ModelCard | None, show: Show | None = None):
        self.case: Case = params.case
        self.params = params
        self.job = job
        self.card = card
        self.show = show
        self.model: LanguageModel | None = job.model(card) if card else None
        self.started = time.perf_counter()
        self.counts = dict.fromkeys(("worded", "model", "model_second_draw", "floor", "fixed", "late"), 0)
        self.asked: list[str] = []

    @property
    def prompts(self) -> tuple[str, ...]:
        """What the model was asked: the common beginning once, then the line of each fact."""
        return (str(beginning()), *self.asked) if self.asked else ()

    def sentence(self, fact: Fact, sentence_id: str) -> Sentence:
        """The fact's sentence, in the best words that stand."""
        text, origin, reasons = fact.floor, "measured", ()
        late = time.perf_counter() - self.started > PATIENCE_S
        if self.model is None or late or not has_ways(fact.template):
            self.counts["late" if late and has_ways(fact.template) else "fixed"] += 1
        else:
            text, origin, reasons = self._worded(fact)
            self.counts["worded"] += 1
            self.counts["floor" if origin == "measured" else origin] += 1
        verdict = check(text, self.case, fact.evidence)
        reasons += verdict.reasons
        return Sentence(
            sentence_id, fact.section, text, fact.evidence, verdict.support, origin, fact.floor, reasons
        )

    def _worded(self, fact):
        """(text, origin, why the model's sentences were turned down)."""
        self.asked.append(_line(fact))
        reasons: tuple[str, ...] = ()
        first = self.params.temperature
        draws = (("model", first), ("model_second_draw", max(first, SECOND_TEMPERATURE)))
        for number, (origin, temperature) in enumerate(draws):
            text = self._draw(fact, temperature, self.params.seed + number)
            problems = self._problems(fact, text)
            if not problems:
                return text, origin, reasons
            reasons += tuple(f"{origin} wrote {text!r}: {problem}" for problem in problems)
        return fact.floor, "measured", reasons

    def _draw(self, fact, temperature, seed):
        more = {"grammar": grammar(fact.template, fact.slots)} if self.model.takes_grammar else {}
        messages = [*beginning(), {"role": "user", "content": _line(fact)}]
        text = self.model.write(
            messages,
            on_piece=self._watching(fact),
            max_tokens=MAX_TOKENS,
            temperature=temperature,
            seed=seed,
            **more,
        )
        return " ".join(text.split())

    def _watching(self, fact):
        """Takes the model's pieces: heeds a stop, and shows what may stand."""
        written = []

        def take(piece):
            self.job.check()
            written.append(piece)
            text = " ".join("".join(written).split())
            if piece and self.show and may_become_a_way(fact.template, fact.slots, text):
                self.show(text)

        return take

    def _problems(self, fact, text):
        reasons = check(text, self.case, fact.evidence).reasons
        if is_a_way(fact.template, fact.slots, text):
            return reasons
        return ("wording: it is not one of the ways to say this fact", *reasons)


@cache
def beginning() -> tuple[Message, ...]:
    """The chat that every fact's line follows; its keys and values are computed once."""
    table = _table()
    messages = [{"role": "system", "content": table["system"]}]
    for example in table["examples"]:
        messages.append({"role": "user", "content": example["facts"]})
        messages.append({"role": "assistant", "content": example["sentence"]})
    return tuple(messages)


def _line(fact: Fact) -> str:
    """The items of a fact as the model reads them: "right lung | volume 2340 mL"."""
    labels = _table()["labels"]
    items = [
        f"{labels.get(name, '')} {text}".strip()
        for name, text in fact.slots.items()
        if text and name.islower()
    ]
    return " | ".join(items) or fact.floor


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(read_prompt("report.toml"))


def _title(section: str) -> str:
    return "Impression" if section == IMPRESSION else REPORT_REGIONS[section]


def _flags(sentences: list[Sentence]) -> tuple[Flag, ...]:
    """Sentences that the guard turns down even as floor: a mistake of ours that a person must see."""
    return tuple(
        Flag(
            f"report.{each.id}",
            "error",
            f"The guard turns down: {each.text} {'; '.join(each.reasons)}",
            each.evidence,
        )
        for each in sentences
        if each.support != "supported"
    )
