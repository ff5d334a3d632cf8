"""Reports and answers of models that read the scan itself: free text, judged sentence by sentence.

What such a model says is not held to wording.toml: it may name what nobody measured. So each sentence goes
through the guard, is tied to what supports it, and stays marked where nothing does.
"""

import re
import tomllib
from functools import cache
from typing import Any

from ct3d.cards import ModelCard
from ct3d.case import SECTIONS, Answer, Case, Flag, Sentence
from ct3d.errors import InvalidRequest
from ct3d.pipeline.check import checked_sentence
from ct3d.pipeline.facts import IMPRESSION
from ct3d.pipeline.hsenet_sight import needed, part_of, seen_of, sight_of
from ct3d.pipeline.job import Job
from ct3d.pipeline.scope import scoped
from ct3d.pipeline.words import mentions, read_prompt
from ct3d.protocol.tasks import AnswerParams, AnswerResult, ReportParams, ReportResult, Turn

END = re.compile(r"(?<=[.!?])\s+|\n+")
HEADING = re.compile(r"([A-Za-z]+)\s*:\s*")
NOTHING = "The model wrote nothing."


def read_report(params: ReportParams, job: Job, card: ModelCard) -> ReportResult:
    """Have a card's model report on the volume; streams its text as it comes.

    Raises:
        InvalidRequest: there is no volume, or it is not the one of the case.
    """
    if strange := [each for each in params.sections if each not in SECTIONS]:
        raise InvalidRequest(f"There is no section {strange[0]!r}. Choose one of: {', '.join(SECTIONS)}.")
    volume = needed(params.volume, card, params.case)
    writing = _Writing(params, job, card)
    text = writing.write(volume, prompts()["report"], prompts()["report_tokens"])
    job.stage("check the sentences", 0.95)
    sections = params.sections or tuple(SECTIONS)
    judged = [each for each in judged_sentences(text, params.case) if each.section in sections]
    sentences = tuple(sorted(judged, key=lambda each: list(SECTIONS).index(each.section)))
    step = writing.step("report", sentences)
    return ReportResult(sentences, step, _flags(text, sentences), writing.saw, sections)


def read_answer(params: AnswerParams, job: Job, card: ModelCard) -> AnswerResult:
    """Have a card's model answer from the volume, or from the part that the scope names; streams its text.

    Raises:
        InvalidRequest: there is no volume or mask, or it is not the one of the case.
    """
    volume, case = needed(params.volume, card, params.case), scoped(params.case, params.scope)
    part = part_of(params.scope, params.case, params.layers, seen_of(volume, card, job), job)
    writing = _Writing(params, job, card)
    prompt = asked(params.question, params.history)
    text = writing.write(volume, prompt, prompts()["answer_tokens"], part)
    job.stage("check the sentences", 0.95)
    sentences = judged_sentences(text, case)
    answer_id = f"answer.{len(params.case.answers) + 1}"
    answer = _answer(answer_id, params, sentences)
    return AnswerResult(answer, writing.step("answer", sentences), writing.saw)


def asked(question: str, history: tuple[Turn, ...]) -> str:
    """A question behind the latest turns, each as the model learned one: "question answer"."""
    turns = [f"{turn.question} {turn.answer}" for turn in history[-prompts()["turns"] :]]
    return " ".join([*turns, question])


def judged_sentences(text: str, case: Case) -> tuple[Sentence, ...]:
    """The sentences of a free text, each with section, evidence, and what the guard makes of it."""
    judged: list[Sentence] = []
    section, under = IMPRESSION, ""
    for sentence in END.split(text):
        heading = HEADING.match(sentence.strip())
        if heading and heading[1].lower() in prompts()["headings"]:
            under, sentence = prompts()["headings"][heading[1].lower()], sentence.strip()[heading.end() :]
        if not (said := " ".join(sentence.split())):
            continue
        section = under or section_of(said) or section
        plain = Sentence(f"{section}.{len(judged) + 1}", section, said, (), "unsupported", "model", "")
        judged.append(checked_sentence(plain, case, ()))
    return tuple(judged)


def section_of(sentence: str) -> str:
    """The section of the first organ or finding that a sentence names; "" where it names none."""
    sections = {name: section for section, names in prompts()["sections"].items() for name in names}
    named = (each.value for each in mentions(sentence) if each.kind in ("organ", "finding", "landmark"))
    return next((sections[name] for name in named if name in sections), "")


@cache
def prompts() -> dict[str, Any]:
    """What the model is asked, and how its text is sorted: Resources/Prompts/hsenet.toml."""
    return tomllib.loads(read_prompt("hsenet.toml"))


class _Writing:
    """One text of one model about one volume, and the record of how it came about."""

    def __init__(self, params: ReportParams | AnswerParams, job: Job, card: ModelCard):
        self.params, self.job, self.card = params, job, card

    def write(self, volume, prompt, most, part=None) -> str:
        params, job = self.params, self.job
        model, sight = sight_of(volume, self.card, job, part)
        self.saw = seen_of(volume, self.card, job).report
        self.prompt, self.model = prompt, model
        seen = sight.prefix.seen[0, 1:]
        self.counts = {"visual_tokens": len(seen), "visual_tokens_seen": int(seen.sum()), "pieces": 0}
        job.stage("write", 0.4)
        more = {"temperature": params.temperature, "seed": params.seed}
        return model.write(sight, prompt, on_piece=self._take, max_tokens=most, **more)

    def step(self, task, sentences):
        support = [each.support for each in sentences]
        counts = self.counts | {"sentences": len(support), "supported": support.count("supported")}
        net = self.model.net.net.language
        more = {"seed": self.params.seed, "prompts": (self.prompt,), "counts": counts}
        more |= {"device": self.model.device, "dtype": str(net.dtype).removeprefix("torch.")}
        return self.job.step(task, self.card, **more)

    def _take(self, piece):
        if not piece:
            self.job.check()
            return
        self.counts["pieces"] += 1
        self.job.emit(piece)


def _answer(answer_id, params, sentences):
    evidence = tuple(dict.fromkeys(each for one in sentences for each in one.evidence))
    reasons = tuple(dict.fromkeys(reason for one in sentences for reason in one.reasons)) or (NOTHING,)
    is_supported = bool(sentences) and all(each.support == "supported" for each in sentences)
    return Answer(
        answer_id,
        params.question,
        " ".join(each.text for each in sentences) or NOTHING,
        evidence,
        "supported" if is_supported else "unsupported",
        "model" if sentences else "none",
        params.scope,
        () if is_supported else reasons,
        sentences,
    )


def _flags(text, sentences):
    """What a person must know of a free text; none: every sentence is borne out by what was measured."""
    if not sentences:
        return (Flag("report_empty", "warning", NOTHING),)
    flags = []
    if count := sum(each.support != "supported" for each in sentences):
        told = f"{count} of {len(sentences)} sentences of the model are not borne out by what was measured."
        flags.append(Flag("report_unsupported", "warning", f"{told} Check them against the scan."))
    if not text.rstrip().endswith((".", "!", "?")):
        flags.append(Flag("report_cut", "info", "The model's text ends within a sentence."))
    return tuple(flags)
