"""Facts: all that a report may say about a case, each tied to its evidence and worded as a radiologist would.

The floor sentence of a fact is made of measurements alone. A language model may word a fact in other words,
around the same slots (wording.toml); what it can't word well stays as the floor has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import floor

from ct3d.case import REPORT_REGIONS, Case, Finding, Landmark, Point, Region
from ct3d.pipeline.wording import first_way, template

MASS_MM = 30  # from here on a nodule is called a mass (Fleischner Society glossary, Radiology 2008;246:697)
LISTED = 4  # so many nodule candidates get a sentence each; of more, the three largest, and one for the rest
COUNTS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
IMPRESSION = "impression"
LESION_PREFIX = {"lung_nodule": "nodule_", "pleural_effusion": "effusion_"}  # finding → ids of its candidates


@dataclass(frozen=True)
class Fact:
    """One statement that the case supports."""

    section: str  # key of REPORT_REGIONS or "impression"
    evidence: tuple[str, ...]
    template: str  # of wording.toml: the ways to say it
    slots: dict[str, str]  # what the measurements put into the template

    @property
    def floor(self) -> str:
        """The deterministic sentence."""
        return first_way(self.template, self.slots)


def facts_of(case: Case, sections: tuple[str, ...] = ()) -> tuple[Fact, ...]:
    """The closed fact list of a case, in reading order; every section says something, if only that it can't.

    Args:
        case: measured and with findings; sentences and answers are not looked at.
        sections: keys of REPORT_REGIONS and "impression"; empty for all.
    """
    all_facts: list[Fact] = []
    for section in REPORT_REGIONS:
        own = list(_section(case, section))
        all_facts += own or [_nothing_to_say(case, section)]
    all_facts += _impression(case)
    return tuple(fact for fact in all_facts if not sections or fact.section in sections)


def amount(value: float, unit: str) -> str:
    """A measurement as a report states it: mL to 10 (fewer: to 1, below 10 to 0.1), mm, HU and % to 1."""
    if unit == "mL" and value < 10:
        return f"{value:.1f} mL"
    step = 10 if unit == "mL" and value >= 100 else 1
    whole = int(floor(value / step + 0.5) * step)
    return f"{whole}%" if unit == "%" else f"{whole} {unit}"


def measured(case: Case, region: str, name: str) -> tuple[str, tuple[str, ...]]:
    """A measurement in words and its evidence; ("", ()) where it wasn't made."""
    attribute = case.attributes_of(region).get(name)
    if attribute is None or (attribute.value is None and not attribute.words):
        return "", ()
    words = attribute.words if attribute.value is None else amount(attribute.value, attribute.unit)
    return words, (f"attribute/{attribute.id}",)


def lesions(case: Case, prefix: str) -> list[Region]:
    """Lesion candidates of one kind ("nodule_", "effusion_"), the largest first."""
    found = [region for region in case.regions if region.kind == "lesion" and region.id.startswith(prefix)]
    found = [region for region in found if region.presence != "absent"]
    return sorted(found, key=lambda region: -size_of(case, region))


def size_of(case: Case, region: Region) -> float:
    """What lesions are ordered by: the long diameter, else the volume."""
    own = case.attributes_of(region.id)
    values = [own[name].value for name in ("long_diameter", "volume") if name in own]
    return next((value for value in values if value is not None), 0.0)


def finding_of(case: Case, finding_id: str) -> Finding | None:
    """The finding with this id."""
    return next((finding for finding in case.findings if finding.id == finding_id), None)


def position_of(case: Case, landmark: Landmark) -> Point | None:
    """Where a landmark lies, a person's decision first; None where it has no place."""
    review = next((each for each in case.reviews if each.landmark == landmark.id), None)
    if review is not None and review.verdict in ("rejected", "undefined"):
        return None
    moved = review is not None and review.verdict == "moved"
    return review.position_ras if moved else landmark.position_ras


def was_looked_for(finding: Finding) -> bool:
    """Whether candidates were looked for; finding none excludes nothing, so it stays not assessed."""
    return finding.id in LESION_PREFIX and bool(finding.evidence)


def _section(case: Case, section: str) -> Iterator[Fact]:
    for region in case.regions:
        if region.kind == "organ" and region.report_region == section:
            yield from _organ(case, region)
    if section == "large_airways":
        yield from _carina(case)
    if section == "lungs":
        yield from _nodules(case)
        yield from _effusions(case)
    yield from _findings(case, section)


def _organ(case: Case, region: Region) -> Iterator[Fact]:
    section, evidence = region.report_region, (f"region/{region.id}",)
    name = region.title.lower()
    if region.presence == "absent":
        yield Fact(section, evidence, template(f"{_number(name)}_absent"), {"name": name})
        return
    cut = region.presence == "cut"
    subject = {"name": f"imaged part of the {name}" if cut else name}
    volume, volume_evidence = measured(case, region.id, "volume") if region.id != "skeleton" else ("", ())
    mean, mean_evidence = measured(case, region.id, "mean_hu") if region.id != "airways" else ("", ())
    index, index_evidence = measured(case, region.id, "emphysema_index")
    key = "_".join(["volume"] * bool(volume) + ["mean"] * bool(mean))
    if key:
        slots = {**subject, "volume": volume, "mean": mean}
        key = f"{'organ' if cut else _number(name)}_{key}"
        yield Fact(section, (*evidence, *volume_evidence, *mean_evidence), template(key), slots)
    if index:
        yield Fact(section, (*evidence, *index_evidence), template("index"), {"name": name, "index": index})


def _number(name: str) -> str:
    """Which templates an organ's name takes: those in the singular or in the plural."""
    return "organs" if " and " in name else "organ"


def _carina(case: Case) -> Iterator[Fact]:
    entry = case.entry("landmark/carina")
    keys = {"present": "carina", "outside": "carina_outside"}
    if entry is not None and entry.presence in keys:
        yield Fact("large_airways", ("landmark/carina",), template(keys[entry.presence]), {})


def _nodules(case: Case) -> Iterator[Fact]:
    found = lesions(case, "nodule_")
    listed = found if len(found) <= LISTED else found[: LISTED - 1]
    for region in listed:
        yield _nodule(case, region)
    if rest := found[len(listed) :]:
        yield _further_nodules(case, rest)


def _nodule(case: Case, region: Region) -> Fact:
    kind, size, size_evidence = _kind_and_size(case, region)
    where, where_evidence = _where(case, region)
    volume, volume_evidence = measured(case, region.id, "volume")
    if volume == "0.0 mL":
        volume, volume_evidence = "", ()
    mean, mean_evidence = measured(case, region.id, "mean_hu")
    having = "_and_".join(["volume"] * bool(volume) + ["mean"] * bool(mean))
    keys = ("nodule" if size else "nodule_unsized", *((f"with_{having}",) if having else ()))
    evidence = (
        *_lesion_evidence(case, region),
        *size_evidence,
        *where_evidence,
        *volume_evidence,
        *mean_evidence,
    )
    slots = {"kind": kind, "size": size, "where": where, "volume": volume, "mean": mean}
    return Fact("lungs", evidence, template(*keys), slots)


def _further_nodules(case: Case, rest: list[Region]) -> Fact:
    sizes = [measured(case, region.id, "long_diameter") for region in rest]
    evidence = [each for region in rest for each in _lesion_evidence(case, region)]
    evidence += [each for _, own in sizes for each in own]
    words = [size for size, _ in sizes if size]
    reach = words[-1] if words[-1:] == words[:1] else f"{words[-1].removesuffix(' mm')} to {words[0]}"
    slots = {"Count": count_in_words(rest).capitalize(), "count": count_in_words(rest), "range": reach}
    return Fact("lungs", tuple(dict.fromkeys(evidence)), template("nodules_further"), slots)


def _effusions(case: Case, key: str = "effusion", section: str = "lungs") -> Iterator[Fact]:
    for region in lesions(case, "effusion_"):
        volume, volume_evidence = measured(case, region.id, "volume")
        evidence = (*_lesion_evidence(case, region), *volume_evidence)
        slots = {"volume": volume, "side": region.side}
        yield Fact(section, evidence, template(key if volume else f"{key}_unsized"), slots)


def _findings(case: Case, section: str) -> Iterator[Fact]:
    """Findings that no lesion candidate has told already."""
    for finding in _untold(case, section):
        slots = {"name": finding.title.lower(), "Name": finding.title}
        evidence = (f"finding/{finding.id}", *finding.evidence)
        key = f"finding_{finding.state}"
        if finding.state == "not_assessed":
            lungs = case.entry("region/lungs")
            is_cut = lungs is not None and lungs.presence == "cut"
            key = "none_found_in_part" if is_cut else "none_found"
            evidence += ("region/lungs",) if is_cut else ()
        yield Fact(section, evidence, template(key), slots)


def _untold(case: Case, section: str) -> list[Finding]:
    found = {finding_id: lesions(case, prefix) for finding_id, prefix in LESION_PREFIX.items()}
    known = [each for each in case.findings if each.state != "not_assessed" or was_looked_for(each)]
    return [each for each in known if each.report_region == section and not found.get(each.id)]


def _nothing_to_say(case: Case, section: str) -> Fact:
    region = next((region for region in case.regions if region.id == section), None)
    findings = tuple(f"finding/{finding.id}" for finding in case.findings if finding.report_region == section)
    own = (f"region/{section}",) if region is not None else ()
    evidence = (*own, *findings) or ("region/body",)
    if region is not None and region.presence == "absent":
        name = region.title.lower()
        return Fact(section, own, template(f"{_number(name)}_absent"), {"name": name})
    cut = region is not None and region.presence == "cut"
    return Fact(section, evidence, template("nothing_of_part" if cut else "nothing"), {})


def _impression(case: Case) -> list[Fact]:
    """Only what the sections say already: candidates, then what holds, what doesn't, what isn't known."""
    findings = [finding for section in REPORT_REGIONS for finding in _untold(case, section)]
    facts = [*_nodule_impression(case), *_effusions(case, "effusion_in_short", IMPRESSION)]
    for section in REPORT_REGIONS:
        facts += [replace(fact, section=IMPRESSION) for fact in _findings(case, section) if not _denies(fact)]
    absent = [finding for finding in findings if finding.state == "absent"]
    missing = [each for each in case.findings if each.state == "not_assessed" and each not in findings]
    facts += [_list(absent, "negatives", " or ")] if absent else []
    facts += [fact for region in case.regions for fact in _cut_lung(region)]
    facts += [_list(missing, "not_assessed", ", ")] if missing else []
    return facts or [_nothing_to_say(case, IMPRESSION)]


def _nodule_impression(case: Case) -> Iterator[Fact]:
    found = lesions(case, "nodule_")
    if not found:
        return
    kind, _, _ = _kind_and_size(case, found[0])
    size, size_evidence = measured(case, found[0].id, "long_diameter")
    where, where_evidence = _where(case, found[0])
    evidence = [each for region in found for each in _lesion_evidence(case, region)]
    evidence += [each for region in found for each in measured(case, region.id, "long_diameter")[1]]
    evidence = tuple(dict.fromkeys([*evidence, *size_evidence, *where_evidence]))
    key = "nodule_one" if len(found) == 1 else "nodule_largest"
    slots = {"kind": kind, "size": size, "where": where, "count": count_in_words(found)}
    yield Fact(IMPRESSION, evidence, template(key if size else f"{key}_unsized"), slots)


def _list(findings: list[Finding], key: str, last_join: str) -> Fact:
    names = [finding.title.lower() for finding in findings]
    text = last_join.join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
    evidence = [each for finding in findings for each in (f"finding/{finding.id}", *finding.evidence)]
    return Fact(IMPRESSION, tuple(dict.fromkeys(evidence)), template(key), {"names": text})


def _denies(fact: Fact) -> bool:
    return fact.template == template("finding_absent")


def _cut_lung(region: Region) -> Iterator[Fact]:
    if region.id in ("right_lung", "left_lung") and region.presence == "cut":
        yield Fact(IMPRESSION, (f"region/{region.id}",), template("cut"), {"name": region.title.lower()})


def count_in_words(found: list[Region]) -> str:
    """How many they are, in words up to twelve."""
    return COUNTS[len(found)] if len(found) < len(COUNTS) else str(len(found))


def _kind_and_size(case, region):
    long, long_evidence = measured(case, region.id, "long_diameter")
    short, short_evidence = measured(case, region.id, "short_diameter")
    kind = "mass candidate" if long and float(long.split()[0]) > MASS_MM else "nodule candidate"
    if long and short:
        return kind, f"{long.removesuffix(' mm')} x {short}", (*long_evidence, *short_evidence)
    return kind, long, long_evidence


def _where(case, region):
    zone, evidence = measured(case, region.id, "zone")
    return (
        (zone, evidence)
        if zone
        else (f"{region.side} lung" if region.side in ("left", "right") else "lungs", ())
    )


def _lesion_evidence(case, region):
    """The region, its side and the finding that it stands for."""
    finding = "lung_nodule" if region.id.startswith("nodule_") else "pleural_effusion"
    own = (f"region/{region.id}", f"attribute/{region.id}.side", f"finding/{finding}")
    return tuple(each for each in own if case.entry(each))
