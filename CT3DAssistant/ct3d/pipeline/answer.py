"""Task "answer": answer a question about a case from what was measured, or say that it can't be told.

Size, side, count, place, attenuation, volume and yes/no are answered by rule; "describe" and "summarise" are
the facts of the report about what was asked, worded by the language model as there. Every answer passes the
guard with its own evidence, within the scope of the question.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ct3d.case import Answer, Case, Landmark, Region
from ct3d.pipeline.evidence import check, regions_of
from ct3d.pipeline.facts import (
    IMPRESSION,
    LESION_PREFIX,
    Fact,
    count_in_words,
    facts_of,
    finding_of,
    lesions,
    measured,
    position_of,
    size_of,
    was_looked_for,
)
from ct3d.pipeline.job import Job
from ct3d.pipeline.questions import Question, goes_on, read_question
from ct3d.pipeline.report import Writer
from ct3d.pipeline.scope import scoped
from ct3d.pipeline.statements import UNIT_OF
from ct3d.pipeline.stream import Stream
from ct3d.pipeline.wording import first_way, template
from ct3d.protocol.tasks import AnswerParams, AnswerResult, ReportParams

CANNOT_TELL = "This can't be told from this scan with these models."
SPOKEN = {  # how an answer names a measurement
    "volume": "volume",
    "mean_hu": "mean attenuation",
    "sd_hu": "attenuation standard deviation",
    "long_diameter": "long diameter",
    "short_diameter": "short diameter",
    "emphysema_index": "emphysema index",
    "distance_to_carina": "distance to the carina",
    "pleura_distance": "distance to the pleura",
}
LISTED = 4  # candidates that one answer lists
REFERENCES = ("carina", "aortic_arch_level", "right_lung_apex", "left_lung_apex", "right_diaphragm_dome")
SURE_ENOUGH = 0.5  # confidence of a landmark whose height others are told by


@dataclass(frozen=True)
class Said:
    """One sentence of an answer and what it leans on."""

    text: str
    evidence: tuple[str, ...]
    origin: Literal["measured", "model", "model_second_draw"] = "measured"
    reasons: tuple[str, ...] = ()  # why the model's own words were turned down


class CannotTell(Exception):
    """Nothing in the case answers the question; the text says why."""


def run(params: AnswerParams, job: Job) -> AnswerResult:
    """Answer one question.

    Streams each sentence once it is checked. What the model words is streamed while it writes, as long as it
    is the beginning of a sentence that may be said; the guard may still take that back. A card of the role
    "answer" looks at the scan itself, see read_scan.
    """
    card = job.card(params.card) if params.card else None
    if card is not None and card.role == "answer":
        from ct3d.pipeline.read_scan import read_answer  # which needs torch

        return read_answer(params, job, card)
    job.stage("question", 0.0)
    case = scoped(params.case, params.scope)
    question = _question(params)
    stream, writer = Stream(job), None
    try:
        if question.asks in ("summary", "describe") and not question.strange:
            writer = _writer(params, case, job, stream)
            said = _described(question, case, writer)
        else:
            said = _by_rule(question, case)
        answer = _answer(params, case, said, stream)
    except CannotTell as reason:
        answer = _no_answer(params, (str(reason),))
    stream.show(answer.text)
    card = writer.card if writer else None
    more = {"counts": writer.counts, "prompts": writer.prompts, "dtype": writer.model.dtype} if card else {}
    return AnswerResult(answer, job.step("answer", card, seed=params.seed, **more))


def _question(params: AnswerParams) -> Question:
    """The question; what it doesn't name is the region that it is limited to, else what was asked before."""
    alone, scope = read_question(params.question), params.scope
    if scope.kind != "region" or alone.statement.kind or goes_on(params.question):
        return read_question(params.question, params.history)
    if alone.asks not in ("attribute", "size", "where", "describe"):
        return read_question(params.question, params.history)
    finding = next((name for name, prefix in LESION_PREFIX.items() if scope.region.startswith(prefix)), "")
    subject = finding or _organ_in(params.case, scope.region)
    named = {"kind": "finding" if finding else "organ", "subject": subject}
    return replace(alone, statement=replace(alone.statement, **named))


def _organ_in(case: Case, region_id: str) -> str:
    """The organ that a part of the report consists of ("lung" of "lungs"); any other region itself."""
    organs = [each.id for each in case.regions if each.kind == "organ" and each.report_region == region_id]
    return organs[0].removeprefix("right_").removeprefix("left_") if organs else region_id


def _answer(params: AnswerParams, case: Case, sentences: Iterator[Said], stream: Stream) -> Answer:
    said = []
    for one in sentences:
        verdict = check(one.text.removeprefix("Yes. ").removeprefix("No. "), case, one.evidence)
        if verdict.support != "supported":
            raise CannotTell(f"{one.text} was turned down: {'; '.join(verdict.reasons)}")
        stream.keep(one.text)
        said.append(one)
    evidence = tuple(dict.fromkeys(each for one in said for each in one.evidence))
    if not evidence:
        raise CannotTell("nothing that was measured answers it")
    text = " ".join(one.text for one in said)
    origin = next((one.origin for one in said if one.origin != "measured"), "measured")
    reasons = tuple(reason for one in said for reason in one.reasons)
    question, scope = params.question, params.scope
    return Answer(_next_id(params), question, text, evidence, "supported", origin, scope, reasons)


def _no_answer(params: AnswerParams, reasons: tuple[str, ...]) -> Answer:
    return Answer(
        _next_id(params), params.question, CANNOT_TELL, (), "unsupported", "none", params.scope, reasons
    )


def _next_id(params: AnswerParams) -> str:
    return f"answer.{len(params.case.answers) + 1}"


def _writer(params: AnswerParams, case: Case, job: Job, stream: Stream) -> Writer:
    card = job.card(params.card) if params.card else None
    words = ReportParams(case, params.card, seed=params.seed, temperature=params.temperature)
    job.stage("language model", 0.1)
    return Writer(words, job, card, stream.draft)


def _described(question: Question, case: Case, writer: Writer) -> Iterator[Said]:
    """The report's facts about the thing asked for, in the model's words where they stand."""
    facts = list(facts_of(case, (IMPRESSION,))) if question.asks == "summary" else []
    if question.statement.kind:
        facts = _facts_about(question, case)
    if not facts:
        raise CannotTell("no fact of the case is about this")
    for fact in facts:
        sentence = writer.sentence(fact, fact.section)
        yield Said(sentence.text, sentence.evidence, sentence.origin, sentence.reasons)


def _facts_about(question: Question, case: Case) -> list[Fact]:
    statement = question.statement
    _refuse_others(question, case)
    if statement.kind == "finding" and statement.subject in LESION_PREFIX:
        wanted = {f"region/{region.id}" for region in _chosen(question, case)}
    elif statement.kind == "organ":
        wanted = {f"region/{region.id}" for region in regions_of(case, statement.subject, statement.sides)}
    else:
        wanted = {f"{statement.kind}/{statement.subject}"}
    facts = [fact for fact in facts_of(case) if fact.section != IMPRESSION]
    return [fact for fact in facts if wanted & set(fact.evidence)]


def _by_rule(question: Question, case: Case) -> Iterator[Said]:
    statement = question.statement
    if question.strange:
        raise CannotTell(f"nothing was measured about: {', '.join(question.strange)}")
    _refuse_others(question, case)
    if statement.kind == "organ":
        yield from _about_organ(question, case)
    elif "emphysema_index" in question.attributes and statement.kind in ("", "finding"):
        yield from _about_organ(
            replace(question, statement=replace(statement, kind="organ", subject="lung")), case
        )
    elif statement.kind == "landmark":
        yield _about_landmark(question, case)
    elif statement.subject in LESION_PREFIX:
        yield from _about_lesions(question, case)
    elif statement.kind == "finding":
        yield _about_finding(case, statement.subject)
    else:
        raise CannotTell("the question names no organ, finding or landmark of this case")


def _refuse_others(question: Question, case: Case) -> None:
    """Anything else that is named must be known, or the answer would pass over half of the question."""
    for each in (question.statement, *question.others):
        if each.kind == "finding":
            finding = finding_of(case, each.subject)
            if finding is None or (finding.state == "not_assessed" and not was_looked_for(finding)):
                why = finding.why if finding else "nothing here, or in the part asked about, tells of it"
                raise CannotTell(f"{each.subject.replace('_', ' ')} was not assessed: {why}")
        elif each.kind == "organ" and not regions_of(case, each.subject):
            raise CannotTell(f"{each.subject.replace('_', ' ')} is not among the regions that were found")


def _about_organ(question: Question, case: Case) -> Iterator[Said]:
    statement = question.statement
    regions = regions_of(case, statement.subject, statement.sides)
    if not regions:
        raise CannotTell("there is no such region on that side")
    if question.asks in ("yes_no", "where", "") and not statement.numbers and not question.attributes:
        yield from (_said_presence(region) for region in regions)
        return
    names = question.attributes or ("volume",)
    if question.asks == "count":
        raise CannotTell("organs are not counted")
    for region in regions:
        for name in _names_asked(question, names):
            yield _measurement(question, case, region, region.title.lower(), name)


def _names_asked(question: Question, names: tuple[str, ...]) -> tuple[str, ...]:
    """The measurements asked for, or that have the unit of the number in the question."""
    units = {number.unit for number, _ in question.statement.numbers}
    if question.attributes or not units:
        return names
    return tuple(name for name in SPOKEN if UNIT_OF[name] in units)[:1]


def _measurement(question: Question, case: Case, region: Region, name: str, attribute: str) -> Said:
    value, evidence = measured(case, region.id, attribute)
    if attribute not in SPOKEN or not evidence or not any(sign.isdigit() for sign in value):
        raise CannotTell(f"{attribute.replace('_', ' ')} of the {name} was not measured")
    if region.presence == "cut":
        name = f"imaged part of the {name}"
    slots = {"attribute": SPOKEN[attribute], "name": name, "value": value}
    text = first_way(template("said_measurement"), slots)
    number = case.attributes_of(region.id)[attribute].value
    return Said(_verdict_of_numbers(question, number) + text, (f"region/{region.id}", *evidence))


def _verdict_of_numbers(question: Question, value: float) -> str:
    """ "Yes. " or "No. " where the question holds a number to compare with."""
    numbers = [number for number, _ in question.statement.numbers]
    if not numbers or question.asks not in ("yes_no", "size", "attribute"):
        return ""
    number = numbers[0]
    if number.compare in ("<", ">"):
        return "Yes. " if (value < number.value) == (number.compare == "<") else "No. "
    return "Yes. " if abs(value - number.value) <= max(number.slack, 0.02 * abs(number.value)) else "No. "


def _said_presence(region: Region) -> Said:
    text = first_way(template(f"said_{region.presence}"), {"name": region.title.lower()})
    return Said(text, (f"region/{region.id}",))


def _about_landmark(question: Question, case: Case) -> Said:
    entry = case.entry(f"landmark/{question.statement.subject}")
    if not isinstance(entry, Landmark):
        raise CannotTell("this landmark was not looked for")
    name, evidence = entry.title.lower(), (f"landmark/{entry.id}",)
    if entry.presence != "present":
        return Said(first_way(template("said_no_position"), {"name": name}), evidence)
    point = position_of(case, entry)
    if point is None:
        raise CannotTell(f"a reader has turned down the point of the {name}")
    if question.asks != "where":
        return Said(first_way(template("said_position"), {"name": name}), evidence)
    place = "R {:.0f}, A {:.0f}, S {:.0f} mm".format(*(round(x) + 0.0 for x in point))
    if (other := _reference(case, entry)) is not None:
        height = round(point[2] - position_of(case, other)[2])
        place += f", {abs(height)} mm {'cranial' if height > 0 else 'caudal'} to the {other.title.lower()}"
        evidence += (f"landmark/{other.id}",)
    return Said(first_way(template("said_position_at"), {"name": name, "place": place}), evidence)


def _reference(case: Case, landmark: Landmark) -> Landmark | None:
    """The landmark that tells a radiologist at what height another lies."""
    known = {each.id: each for each in case.landmarks if each.confidence >= SURE_ENOUGH}
    sure = (known[name] for name in REFERENCES if name in known and name != landmark.id)
    return next((each for each in sure if position_of(case, each) is not None), None)


def _about_finding(case: Case, finding_id: str) -> Said:
    finding = finding_of(case, finding_id)
    text = first_way(
        template(f"finding_{finding.state}"), {"name": finding.title.lower(), "Name": finding.title}
    )
    return Said("Yes. " * (finding.state == "present") + text, (f"finding/{finding.id}", *finding.evidence))


def _about_lesions(question: Question, case: Case) -> Iterator[Said]:
    statement = question.statement
    chosen = _chosen(question, case)
    if question.asks == "count" or not chosen:
        yield _counted(question, case, chosen)
        return
    if question.asks in ("yes_no", "where", "") and not statement.numbers and not question.attributes:
        said = [_said_lesion(case, region) for region in chosen[:LISTED]]
        yes = "Yes. " if question.asks == "yes_no" and statement.subject == "lung_nodule" else ""
        yield Said(yes + said[0].text, said[0].evidence)
        yield from said[1:]
        return
    region = chosen[0]
    name = _lesion_name(case, region, statement.subject)
    names = question.attributes or (
        ("long_diameter", "short_diameter") if "nodule" in region.id else ("volume",)
    )
    for attribute in _names_asked(question, names):
        if attribute != "short_diameter" or question.attributes or measured(case, region.id, attribute)[1]:
            said = _measurement(question, case, region, name, attribute)
            others = (f"region/{each.id}" for each in lesions(case, LESION_PREFIX[statement.subject]))
            leans_on = (*said.evidence, *measured(case, region.id, "zone")[1], *others)
            yield Said(said.text, tuple(dict.fromkeys(leans_on)))


def _chosen(question: Question, case: Case) -> list[Region]:
    """The candidates that the question is about, the largest first."""
    statement = question.statement
    found = lesions(case, LESION_PREFIX[statement.subject])
    if statement.index is not None:
        found = [region for region in found if region.id.endswith(f"_{statement.index}")]
    if statement.sides and "both" not in statement.sides:
        found = [region for region in found if region.side in statement.sides]
    if statement.zones:
        found = [each for each in found if statement.zones & set(measured(case, each.id, "zone")[0].split())]
    if statement.superlative and found:
        pick = max if statement.superlative == "largest" else min
        found = [pick(found, key=lambda region: size_of(case, region))]
    return found


def _counted(question: Question, case: Case, chosen: list[Region]) -> Said:
    statement = question.statement
    kind = "nodule candidate" if statement.subject == "lung_nodule" else "pleural effusion candidate"
    where = "".join(f" on the {side}" for side in sorted(statement.sides - {"both"}))
    where += "".join(f" in the {zone} zone" for zone in sorted(statement.zones))
    finding = (f"finding/{statement.subject}",)
    others = lesions(case, LESION_PREFIX[statement.subject])  # that they lie elsewhere is part of the answer
    evidence = (*finding, *(f"region/{region.id}" for region in chosen or others))
    if not chosen:
        evidence += tuple(each for region in others for each in measured(case, region.id, "zone")[1])
        text = first_way(template("said_none"), {"kind": kind, "where": where})
        return Said(text, evidence)
    evidence += tuple(each for region in chosen for each in measured(case, region.id, "zone")[1])
    count = count_in_words(chosen)
    verb, kind = ("is", kind) if len(chosen) == 1 else ("are", f"{kind}s")
    return Said(f"There {verb} {count} {kind}{where}.", evidence)


def _said_lesion(case: Case, region: Region) -> Said:
    """The report's own sentence about a candidate, without what wasn't asked."""
    finding = "lung_nodule" if region.id.startswith("nodule_") else "pleural_effusion"
    size, size_evidence = measured(case, region.id, "long_diameter")
    zone, zone_evidence = measured(case, region.id, "zone")
    if finding == "pleural_effusion":
        text = f"A possible pleural effusion is seen on the {region.side}."
        return Said(text, (f"region/{region.id}", f"finding/{finding}"))
    where = zone or f"{region.side} lung"
    text = f"A nodule candidate{size and f' of {size}'} lies in the {where}."
    return Said(text, (f"region/{region.id}", f"finding/{finding}", *size_evidence, *zone_evidence))


def _lesion_name(case: Case, region: Region, finding_id: str) -> str:
    found = lesions(case, LESION_PREFIX[finding_id])
    if finding_id == "pleural_effusion":
        return f"{region.side} pleural effusion candidate"
    if len(found) == 1:
        return "nodule candidate"
    if region.id == found[0].id:
        return "largest nodule candidate"
    zone, _ = measured(case, region.id, "zone")
    return f"nodule candidate {region.id.removeprefix('nodule_')}" + (f" in the {zone}" if zone else "")
