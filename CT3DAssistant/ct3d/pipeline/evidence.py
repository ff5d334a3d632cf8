"""The guard: does a sentence say anything that the case doesn't?

Everything in a sentence must have its counterpart: side, number, unit, negation, presence, place, count. A
word of no vocabulary, a comparison with another time, advice and judgement have none: such a sentence isn't
supported.
"""

from dataclasses import dataclass, replace
from typing import Literal

from ct3d.case import Case, Landmark, Region
from ct3d.pipeline.facts import LESION_PREFIX, finding_of, lesions, position_of, size_of, was_looked_for
from ct3d.pipeline.statements import UNIT_OF, Statement, read
from ct3d.pipeline.words import Number

DEFAULT = {"mL": "volume", "HU": "mean_hu", "%": "emphysema_index", "mm": "long_diameter"}
COORDINATES = ("position_r", "position_a", "position_s")
ABOUT = 0.05  # share of its value by which a number "about" may be off


@dataclass(frozen=True)
class Reason:
    """Why a sentence is turned down: the slot, and whether the case says otherwise or says nothing."""

    slot: str  # side, zone, number, unit, negation, presence, organ, finding, count, place, word, change, …
    text: str
    contradicted: bool = False


@dataclass(frozen=True)
class Verdict:
    """The guard's judgement of a sentence."""

    support: Literal["supported", "unsupported", "contradicted"]
    reasons: tuple[str, ...] = ()


def check(sentence: str, case: Case, allowed_evidence: tuple[str, ...] | None = None) -> Verdict:
    """Judge a sentence against a case.

    Args:
        sentence: anybody's own words.
        case: what was measured.
        allowed_evidence: entries that the sentence may lean on; None for the whole case. What is true of the
            case but not of these entries is unsupported.
    """
    reading = read(sentence)
    reasons = [
        Reason(slot, f"{words!r} is not something that was measured") for slot, words in reading.strange
    ]
    if not reading.statements and not reasons:
        reasons.append(Reason("word", "the sentence claims nothing that could be checked"))
    narrow = None if allowed_evidence is None else restricted(case, allowed_evidence)
    for statement in reading.statements:
        reasons += _judge(statement, case, narrow)
    contradicted = any(reason.contradicted for reason in reasons)
    support = "contradicted" if contradicted else "unsupported" if reasons else "supported"
    return Verdict(support, tuple(dict.fromkeys(f"{reason.slot}: {reason.text}" for reason in reasons)))


def restricted(case: Case, evidence: tuple[str, ...]) -> Case:
    """The case with only these entries; a measurement brings its region."""
    allowed = set(evidence)
    attributes = tuple(each for each in case.attributes if f"attribute/{each.id}" in allowed)
    ids = {attribute.region for attribute in attributes}
    return replace(
        case,
        attributes=attributes,
        regions=tuple(each for each in case.regions if each.id in ids or f"region/{each.id}" in allowed),
        landmarks=tuple(each for each in case.landmarks if f"landmark/{each.id}" in allowed),
        findings=tuple(each for each in case.findings if f"finding/{each.id}" in allowed),
    )


def regions_of(case: Case, term: str, sides: set[str] = frozenset()) -> list[Region]:
    """Regions that an organ's word means: itself, or its left and right one."""
    ids = (term, f"right_{term}", f"left_{term}")
    found = [region for region in case.regions if region.id in ids]
    return [region for region in found if not sides or "both" in sides or region.side in (*sides, "both")]


def _judge(statement: Statement, case: Case, narrow: Case | None) -> list[Reason]:
    if not statement.kind:
        return _of_nothing(statement, narrow)
    reasons = _of(statement, case, whole=True)
    if reasons or narrow is None:
        return reasons
    if beyond := _of(statement, narrow, whole=False):
        return [replace(reason, contradicted=False) for reason in beyond]
    return []


def _of(statement: Statement, case: Case, *, whole: bool) -> list[Reason]:
    if statement.kind == "finding":
        return _of_finding(statement, case, whole)
    return _of_organ(statement, case) if statement.kind == "organ" else _of_landmark(statement, case)


def _of_nothing(statement, narrow):
    """No subject: then it must be about the one thing that the evidence names."""
    if narrow is None or not (narrow.regions or narrow.findings):
        return [Reason("organ", "no organ or finding is named")]
    reasons = []
    if statement.numbers or statement.sides or statement.zones:
        if len(narrow.regions) != 1:
            return [Reason("organ", "no organ or finding is named")]
        reasons += _of_region(statement, narrow, narrow.regions[0])
    if "not_assessed" in statement.states and any(each.state != "not_assessed" for each in narrow.findings):
        reasons.append(Reason("presence", "it was assessed", contradicted=True))
    for state in statement.states - {"not_assessed"}:
        if any(region.presence != state for region in narrow.regions):
            reasons.append(
                Reason("presence", f"the field of view is not as said ({state})", contradicted=True)
            )
    return reasons


def _of_organ(statement, case):
    term = statement.subject
    regions = regions_of(case, term, statement.sides)
    if not regions:
        known = regions_of(case, term)
        return [Reason("side" if known else "organ", f"{term.replace('_', ' ')} is not among what was found")]
    if statement.numbers and len(regions) > 1:
        return _of_pair(statement, case, regions)
    return [reason for region in regions for reason in _of_region(statement, case, region)]


def _of_pair(statement, case, regions):
    """Numbers of two regions at once: each of them, their total, or their range."""
    reasons = [reason for region in regions for reason in _presence(statement, region)]
    for number, name in statement.numbers:
        values = [_value(case, region, name or DEFAULT.get(number.unit, "")) for region in regions]
        values = [value for value in values if value is not None]
        if number.range_end and len(values) == len(regions):
            values = [min(values) if number.range_end == "low" else max(values)]
        elif name in ("", "volume") and number.unit == "mL" and len(values) == len(regions):
            values = [sum(values)]
        elif (
            together := _together(case, statement.subject, name or DEFAULT.get(number.unit, ""))
        ) is not None:
            values = [together]
        if not values or not all(_matches(number, value) for value in values):
            said = f"{number.value:g} {number.unit}"
            reasons.append(Reason("number", f"{said} does not hold for both", contradicted=bool(values)))
    return reasons


def _together(case, term, name):
    """The measurement of both sides as one region, as "lungs" of "lung"."""
    attribute = case.attributes_of(f"{term}s").get(name)
    return None if attribute is None else attribute.value


def _of_region(statement, case, region):
    reasons = _presence(statement, region)
    if statement.sides - {region.side}:
        said = " and ".join(sorted(statement.sides))
        if not (region.side == "none" or statement.sides == {"both"} or statement.sides == {"left", "right"}):
            reasons.append(Reason("side", f"{region.title} is not {said}", contradicted=True))
        elif region.side == "none":
            reasons.append(Reason("side", f"{region.title} has no side"))
    for zone in statement.zones:
        words = _words(case, region, "zone")
        if zone not in words.split():
            known = f"lies in the {words}" if words else "has no measured zone"
            reasons.append(Reason("zone", f"{region.title} {known}", contradicted=bool(words)))
    for number, name in statement.numbers:
        reasons += _number(case, region, number, name)
    return reasons


def _presence(statement, region):
    said = statement.states
    if "not_assessed" in said and region.kind != "report_region":
        return [Reason("presence", f"{region.title} was assessed", contradicted=True)]
    if wrong := [state for state in said - {"not_assessed"} if state != region.presence]:
        return [Reason("presence", f"{region.title} is {region.presence}, not {wrong[0]}", contradicted=True)]
    gone = region.presence == "absent"
    if (statement.negated or "absent" in said) and not gone:
        return [Reason("negation", f"{region.title} is in the scan", contradicted=True)]
    if gone and not statement.negated and "absent" not in said:
        return [Reason("presence", f"{region.title} is not in the field of view", contradicted=True)]
    return []


def _number(case: Case, region: Region, number: Number, name: str) -> list[Reason]:
    said = f"{number.value:g} {number.unit}"
    name = name or DEFAULT.get(number.unit, "")
    if name == "long_diameter" and number.dimension == 2:
        name = "short_diameter"
    if not name or UNIT_OF.get(name) != number.unit:
        return [Reason("unit", f"{said} is in no unit that was measured so", contradicted=bool(name))]
    value = _value(case, region, name)
    if value is None:
        return [Reason("number", f"{name.replace('_', ' ')} of {region.title} was not measured")]
    if _matches(number, value):
        return []
    unit = "" if number.unit == "%" else " "
    known = f"{value:.1f}{unit}{number.unit}"
    return [
        Reason(
            "number", f"{name.replace('_', ' ')} of {region.title} is {known}, not {said}", contradicted=True
        )
    ]


def _matches(number, value):
    if number.compare == "<":
        return value < number.value
    if number.compare == ">":
        return value > number.value
    slack = max(number.slack, ABOUT * abs(number.value)) if number.compare == "~" else number.slack
    return abs(value - number.value) <= slack + 1e-6


def _value(case, region, name):
    attribute = case.attributes_of(region.id).get(name)
    return None if attribute is None else attribute.value


def _words(case, region, name):
    attribute = case.attributes_of(region.id).get(name)
    return "" if attribute is None else attribute.words


def _of_landmark(statement, case):
    entry = case.entry(f"landmark/{statement.subject}")
    if entry is None:
        return [Reason("organ", f"{statement.subject.replace('_', ' ')} was not looked for")]
    seen = entry.presence == "present"
    denied = statement.negated or "absent" in statement.states
    reasons = []
    if seen == denied:
        reasons.append(Reason("presence", f"{entry.title} is {entry.presence}", contradicted=True))
    for number, name in statement.numbers:
        value = _of_point(case, entry, name)
        if value is None:
            reasons.append(Reason("number", f"no such number is measured at {entry.title}"))
        elif not _matches(number, value):
            said = f"{number.value:g} {number.unit}"
            reasons.append(Reason("place", f"{entry.title}: {value:.1f} mm, not {said}", contradicted=True))
    return reasons


def _of_point(case: Case, landmark: Landmark, name: str) -> float | None:
    """A coordinate of a landmark, or its height over another ("above carina"), in mm; None: not measured."""
    point = position_of(case, landmark)
    kind, _, other_id = name.partition(" ")
    other = case.entry(f"landmark/{other_id}")
    if point is not None and kind in COORDINATES:
        return point[COORDINATES.index(kind)]
    if point is None or kind not in ("above", "below") or other is None:
        return None
    beside = position_of(case, other)
    return None if beside is None else (point[2] - beside[2]) * (1 if kind == "above" else -1)


def _of_finding(statement, case, whole):
    finding = finding_of(case, statement.subject)
    if "not_assessed" in statement.states:
        known = finding is not None and finding.state != "not_assessed"
        missing = [] if finding else [Reason("finding", f"{statement.subject} is in no list")]
        return [Reason("presence", f"{finding.title} was assessed", contradicted=True)] if known else missing
    if prefix := LESION_PREFIX.get(statement.subject):
        return _of_lesions(statement, case, lesions(case, prefix), whole)
    return _finding_state(statement, finding) + _finding_where(statement, case, finding)


def _finding_state(statement, finding):
    name = statement.subject.replace("_", " ")
    if finding is None or finding.state == "not_assessed":
        return [Reason("finding", f"{name} was not assessed")]
    if statement.negated != (finding.state == "absent"):
        said = "denied" if statement.negated else "claimed"
        return [Reason("negation", f"{name} is {said}, but it is {finding.state}", contradicted=True)]
    if finding.state == "possible" and not statement.hedged:
        return [Reason("presence", f"{name} is only possible")]
    return []


def _finding_where(statement, case, finding):
    """Side, place and numbers of a finding that has no mask of its own: those of the organ that it is in."""
    if not (statement.numbers or statement.sides or statement.zones or statement.places):
        return []
    wide = {"lung"} if finding is not None and finding.report_region == "lungs" else set()
    if statement.zones or set(statement.places or ["?"]) - wide:
        return [Reason("place", f"the place of {statement.subject.replace('_', ' ')} was not measured")]
    if not statement.numbers:
        return [Reason("side", f"the side of {statement.subject.replace('_', ' ')} was not measured")]
    organ = replace(statement, kind="organ", subject="lung", states=set(), negated=False)
    return _of_organ(organ, case)


def _of_lesions(statement, case, found, whole):
    finding = finding_of(case, statement.subject)
    if statement.negated:
        return _no_lesion(statement, case, found, finding)
    if statement.index is not None:
        found = [region for region in found if region.id.endswith(f"_{statement.index}")]
    if wrong := _no_such(statement, found, finding) or _count(statement, case, found, whole):
        return [wrong]
    if statement.superlative:
        pick = max if statement.superlative == "largest" else min
        found = [pick(found, key=lambda region: size_of(case, region))]
    if any(number.range_end for number, _ in statement.numbers):
        return _range(statement, case, found, whole)
    single = replace(statement, negated=False)
    reasons = min((_of_region(single, case, region) for region in found), key=len)
    if not _is_hedged_enough(statement, finding):
        reasons = [*reasons, Reason("presence", f"{finding.title} is only possible")]
    return reasons


def _no_such(statement, found, finding):
    """Why no candidate can be the one that is meant, before its measurements are looked at."""
    if not found:
        assessed = finding is not None and finding.state != "not_assessed"
        return Reason(
            "negation" if assessed else "finding", "no such candidate was found", contradicted=assessed
        )
    if set(statement.places) - {"lung"}:
        return Reason("place", "candidates lie in the lungs and around them", contradicted=True)
    both = {"left", "right"} if statement.sides >= {"left", "right"} or "both" in statement.sides else set()
    if missing := both - {region.side for region in found}:
        return Reason("side", f"there is no candidate on the {missing.pop()}", contradicted=True)
    return None


def _is_hedged_enough(statement, finding):
    surely = finding is None or finding.state in ("present", "not_assessed")
    return statement.hedged or surely or statement.subject == "lung_nodule"


def _no_lesion(statement, case, found, finding):
    plain = replace(statement, negated=False)
    if [region for region in found if not _of_region(plain, case, region)]:
        return [Reason("negation", f"{finding.title} is {finding.state}", contradicted=True)]
    if finding is None or (finding.state == "not_assessed" and not was_looked_for(finding)):
        return [Reason("finding", f"{statement.subject.replace('_', ' ')} was not assessed")]
    if finding.state == "not_assessed" and not statement.hedged:
        return [Reason("presence", f"no candidate was found, which does not exclude {finding.title.lower()}")]
    if not found and finding.state in ("present", "possible"):
        return [Reason("negation", f"{finding.title} is {finding.state}", contradicted=True)]
    return []


def _count(statement, case, found, whole):
    if statement.count is None:
        return None
    bare = replace(statement, numbers=[], negated=False)
    if statement.superlative:  # "the largest of six, in the left lung": the six are everywhere
        bare = replace(bare, sides=set(), zones=set())
    number = len([region for region in found if not _of_region(bare, case, region)])
    if statement.more:
        right = statement.count < number if whole else statement.count == number
    else:
        right = statement.count == number or not whole
    return None if right else Reason("count", f"there are {number} candidates", contradicted=True)


def _range(statement, case, found, whole):
    """Both ends of "4 to 7 mm" are sizes of candidates; of the allowed ones, the smallest and the largest."""
    bare = replace(statement, numbers=[])
    found = [region for region in found if not _of_region(bare, case, region)]
    reasons = []
    for number, name in statement.numbers:
        if UNIT_OF.get(name or DEFAULT.get(number.unit, "")) != number.unit:
            return [
                Reason(
                    "unit",
                    f"{number.value:g} {number.unit} is in no unit that was measured so",
                    contradicted=True,
                )
            ]
        values = [_value(case, region, name or DEFAULT[number.unit]) for region in found]
        values = [value for value in values if value is not None]
        if values and not whole and number.range_end:
            values = [min(values) if number.range_end == "low" else max(values)]
        if not any(_matches(number, value) for value in values):
            reasons.append(
                Reason("number", f"no candidate has {number.value:g} {number.unit}", contradicted=True)
            )
    return reasons
