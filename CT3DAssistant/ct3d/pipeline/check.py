"""Task "check": compare sentences as they stand with what was measured; never change their text.

The program's own sentence must hold by the evidence of the fact that it words. A person's may lean on
anything in the case: what it names is found here and becomes its evidence.
"""

from collections.abc import Iterator
from dataclasses import replace

from ct3d.case import Case, Region, Sentence
from ct3d.errors import InvalidRequest
from ct3d.pipeline.evidence import DEFAULT, check, regions_of
from ct3d.pipeline.facts import LESION_PREFIX, facts_of, finding_of, lesions
from ct3d.pipeline.job import Job
from ct3d.pipeline.statements import Statement, read
from ct3d.protocol.tasks import CheckParams, CheckResult


def run(params: CheckParams, job: Job) -> CheckResult:
    """Judge the sentences asked for, in their order.

    Raises:
        InvalidRequest: if the case has no such sentence.
    """
    job.stage("sentences", 0.0)
    facts = {(fact.section, fact.floor): fact.evidence for fact in facts_of(params.case)}
    checked = []
    for sentence in _asked(params):
        job.check()
        given = facts.get((sentence.section, sentence.floor), ())
        checked.append(checked_sentence(sentence, params.case, given))
    return CheckResult(tuple(checked), job.step("check", None, counts=_counts(checked)))


def checked_sentence(sentence: Sentence, case: Case, given: tuple[str, ...]) -> Sentence:
    """The sentence with support, evidence and reasons as the case has them now.

    Args:
        given: evidence of the fact that the program worded here; () where the case has no such fact.
    """
    evidence, verdict = given, check(sentence.text, case, given) if given else None
    is_own = sentence.origin == "person" or bool(sentence.draft)
    if verdict is None or (is_own and verdict.support != "supported"):
        evidence, verdict = evidence_of(sentence.text, case), check(sentence.text, case)
    reasons = (*sentence.turned_down, *verdict.reasons)
    return replace(sentence, support=verdict.support, evidence=evidence, reasons=reasons)


def evidence_of(text: str, case: Case) -> tuple[str, ...]:
    """What of the case a text is about, in the order it is named; right or wrong."""
    found = [each for statement in read(text).statements for each in _evidence(statement, case)]
    return tuple(dict.fromkeys(each for each in found if case.entry(each)))


def _asked(params: CheckParams) -> list[Sentence]:
    known = {sentence.id: sentence for sentence in params.case.sentences}
    if missing := [each for each in params.sentences if each not in known]:
        raise InvalidRequest(f"The report has no sentence {missing[0]!r}. Choose one that is shown.")
    if params.sentences:
        return [known[each] for each in params.sentences]
    return [sentence for sentence in params.case.sentences if not sentence.removed]


def _evidence(statement: Statement, case: Case) -> Iterator[str]:
    if statement.kind == "landmark":
        yield f"landmark/{statement.subject}"
        return
    regions = _regions(statement, case)
    if statement.kind == "finding":
        yield from (f"region/{region.id}" for region in regions)
        yield f"finding/{statement.subject}"
        finding = None if regions else finding_of(case, statement.subject)
        yield from finding.evidence if finding else ()
    for region in regions:
        yield f"region/{region.id}"
        yield from (f"attribute/{region.id}.{name}" for name in _names(statement))


def _regions(statement: Statement, case: Case) -> list[Region]:
    """The masks that a statement is about: of its organ, or the candidates that it may mean."""
    if statement.kind == "organ":
        fitting = regions_of(case, statement.subject, statement.sides)
        return fitting or regions_of(case, statement.subject)
    found = lesions(case, LESION_PREFIX[statement.subject]) if statement.subject in LESION_PREFIX else []
    if statement.index is not None:
        found = [region for region in found if region.id.endswith(f"_{statement.index}")]
    sided = [region for region in found if region.side in statement.sides]
    fitting = [region for region in sided or found if _fits(statement, case, region)]
    return fitting or sided or found


def _fits(statement: Statement, case: Case, region: Region) -> bool:
    """Whether a candidate lies in the zone that is named, and has a number that is."""
    own = case.attributes_of(region.id)
    zone = own["zone"].words.split() if "zone" in own else []
    numbers = [(number, name or DEFAULT.get(number.unit, "")) for number, name in statement.numbers]
    near = [
        abs(own[name].value - number.value) <= max(number.slack, 0.5)
        for number, name in numbers
        if name in own and own[name].value is not None
    ]
    return statement.zones <= set(zone) and (any(near) or not near)


def _names(statement: Statement) -> Iterator[str]:
    """The measurements that its numbers and words are of."""
    for number, name in statement.numbers:
        name = name or DEFAULT.get(number.unit, "")
        yield "short_diameter" if name == "long_diameter" and number.dimension == 2 else name
    yield from statement.attributes
    if statement.zones:
        yield "zone"
    if statement.sides and statement.kind == "finding":
        yield "side"


def _counts(checked: list[Sentence]) -> dict[str, int]:
    states = [sentence.support for sentence in checked]
    return {state: states.count(state) for state in ("supported", "unsupported", "contradicted")}
