"""Facts: all that a report may say about a case, each tied to its evidence and worded as a radiologist would.

The floor sentence of a fact is made of measurements alone. A language model may word a fact in other words,
around the same slots; whatever it can't word well stays as the floor has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor

from ct3d.case import REPORT_REGIONS, Case, Finding, Region

MASS_MM = 30  # from here on a nodule is called a mass (Fleischner Society glossary, Radiology 2008;246:697)
LISTED = (
    4  # so many nodule candidates get their own sentence; of more, the three largest and one for the rest
)
COUNTS = (
    "No",
    "One",
    "Two",
    "Three",
    "Four",
    "Five",
    "Six",
    "Seven",
    "Eight",
    "Nine",
    "Ten",
    "Eleven",
    "Twelve",
)
IMPRESSION = "impression"


@dataclass(frozen=True)
class Fact:
    """One statement that the case supports."""

    section: str  # key of REPORT_REGIONS or "impression"
    evidence: tuple[str, ...]
    floor: str  # the deterministic sentence
    slots: tuple[str, ...] = ()  # phrases of the floor that other words must keep, in order; none: floor only


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
    evidence = (f"region/{region.id}",)
    name = region.title.lower()
    if region.presence == "absent":
        yield Fact(region.report_region, evidence, f"The {name} is not in the field of view.")
        return
    volume, volume_evidence = measured(case, region.id, "volume") if region.id != "skeleton" else ("", ())
    mean, mean_evidence = measured(case, region.id, "mean_hu") if region.id != "airways" else ("", ())
    index, index_evidence = measured(case, region.id, "emphysema_index")
    cut = region.presence == "cut"
    whose = f"The imaged part of the {name}" if cut else f"The {name}"
    verb = "measure" if " and " in name and not cut else "measures"
    slots = (*(("imaged part",) if cut else ()), name)
    if volume:
        more = f" with a mean attenuation of {mean}" if mean else ""
        numbers = tuple(each for each in (volume, mean) if each)
        evidence = (*evidence, *volume_evidence, *mean_evidence)
        yield Fact(region.report_region, evidence, f"{whose} {verb} {volume}{more}.", (*slots, *numbers))
    elif mean:
        text = f"{whose} has a mean attenuation of {mean}."
        yield Fact(
            region.report_region, (*evidence, *mean_evidence), text, (*slots, "mean attenuation", mean)
        )
    if index:
        text = f"The emphysema index of the {name} is {index}."
        evidence = (f"region/{region.id}", *index_evidence)
        yield Fact(region.report_region, evidence, text, ("emphysema index", name, index))


def _carina(case: Case) -> Iterator[Fact]:
    carina = next((landmark for landmark in case.landmarks if landmark.id == "carina"), None)
    if carina is not None and carina.presence == "present":
        yield Fact("large_airways", ("landmark/carina",), "The carina is identified.", ("carina",))
    if carina is not None and carina.presence == "outside":
        yield Fact("large_airways", ("landmark/carina",), "The carina is not in the field of view.")


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
    having = [f"a volume of {volume}"] * bool(volume) + [f"a mean attenuation of {mean}"] * bool(mean)
    text = f"A {kind}{size and f' of {size}'} lies in the {where}"
    text += f", with {' and '.join(having)}." if having else "."
    evidence = (
        *_lesion_evidence(case, region),
        *size_evidence,
        *where_evidence,
        *volume_evidence,
        *mean_evidence,
    )
    return Fact("lungs", evidence, text, tuple(each for each in (kind, size, where, volume, mean) if each))


def _further_nodules(case: Case, rest: list[Region]) -> Fact:
    sizes = [measured(case, region.id, "long_diameter") for region in rest]
    evidence = [each for region in rest for each in _lesion_evidence(case, region)]
    evidence += [each for _, own in sizes for each in own]
    count = COUNTS[len(rest)] if len(rest) < len(COUNTS) else str(len(rest))
    words = [size for size, _ in sizes if size]
    reach = words[-1] if words[-1:] == words[:1] else f"{words[-1].removesuffix(' mm')} to {words[0]}"
    text = f"{count} further nodule candidates measure {reach}."
    slots = (f"{count} further nodule candidates", reach)
    return Fact("lungs", tuple(dict.fromkeys(evidence)), text, slots)


def _effusions(case: Case) -> Iterator[Fact]:
    for region in lesions(case, "effusion_"):
        volume, volume_evidence = measured(case, region.id, "volume")
        evidence = (*_lesion_evidence(case, region), *volume_evidence)
        text = f"A possible pleural effusion{volume and f' of {volume}'} is seen on the {region.side}."
        slots = ("possible pleural effusion", *((volume,) if volume else ()), region.side)
        yield Fact("lungs", evidence, text, slots)


def _findings(case: Case, section: str) -> Iterator[Fact]:
    """Findings that no lesion candidate has told already."""
    told = {"lung_nodule": lesions(case, "nodule_"), "pleural_effusion": lesions(case, "effusion_")}
    for finding in case.findings:
        if finding.report_region != section or finding.state == "not_assessed" or told.get(finding.id):
            continue
        name = finding.title.lower()
        words = {
            "present": f"{finding.title} is present.",
            "possible": f"Possible {name}.",
            "absent": f"No {name}.",
        }
        slots = {"present": (name,), "possible": (f"possible {name}",), "absent": (f"no {name}",)}
        evidence = (f"finding/{finding.id}", *finding.evidence)
        yield Fact(section, evidence, words[finding.state], slots[finding.state])


def _nothing_to_say(case: Case, section: str) -> Fact:
    region = next((region for region in case.regions if region.id == section), None)
    evidence = tuple(f"finding/{finding.id}" for finding in case.findings if finding.report_region == section)
    if region is not None:
        evidence = (f"region/{section}", *evidence)
    if region is not None and region.presence == "absent":
        return Fact(section, (f"region/{section}",), "Not in the field of view.")
    if region is not None and region.presence == "cut":
        return Fact(section, evidence, "Only partly in the field of view; not assessed by these models.")
    return Fact(section, evidence or ("region/body",), "Not assessed by these models.")


def _impression(case: Case) -> list[Fact]:
    facts = [
        *_nodule_impression(case),
        *_effusion_impression(case),
        *_finding_impression(case),
        *_cut_lungs(case),
    ]
    if missing := [finding for finding in case.findings if finding.state == "not_assessed"]:
        text = "Not assessed: " + ", ".join(finding.title.lower() for finding in missing) + "."
        facts.append(Fact(IMPRESSION, tuple(f"finding/{finding.id}" for finding in missing), text))
    return facts or [_nothing_to_say(case, IMPRESSION)]


def _nodule_impression(case: Case) -> Iterator[Fact]:
    found = lesions(case, "nodule_")
    if not found:
        return
    kind, _, _ = _kind_and_size(case, found[0])
    size, size_evidence = measured(case, found[0].id, "long_diameter")
    where, where_evidence = _where(case, found[0])
    evidence = [each for region in found for each in _lesion_evidence(case, region)]
    evidence += [f"attribute/{region.id}.long_diameter" for region in found if size_of(case, region)]
    evidence = [each for each in evidence if case.entry(each)] + [*size_evidence, *where_evidence]
    count = COUNTS[len(found)].lower() if len(found) < len(COUNTS) else str(len(found))
    if len(found) == 1:
        text = f"One {kind}{size and f' of {size}'} in the {where}."
        slots = (f"one {kind}", size, where)
    else:
        text = (
            f"The largest of {count} nodule candidates{size and f' measures {size} and'} lies in the {where}."
        )
        slots = (f"largest of {count} nodule candidates", size, where)
    yield Fact(IMPRESSION, tuple(dict.fromkeys(evidence)), text, tuple(each for each in slots if each))


def _effusion_impression(case: Case) -> Iterator[Fact]:
    for region in lesions(case, "effusion_"):
        volume, volume_evidence = measured(case, region.id, "volume")
        text = f"Possible {region.side} pleural effusion{volume and f' of {volume}'}."
        slots = (f"possible {region.side} pleural effusion", *((volume,) if volume else ()))
        yield Fact(IMPRESSION, (*_lesion_evidence(case, region), *volume_evidence), text, slots)


def _finding_impression(case: Case) -> Iterator[Fact]:
    """What holds or may hold, first; then what was looked for and not found, in one sentence."""
    for section in REPORT_REGIONS:
        for fact in _findings(case, section):
            if not fact.floor.startswith("No "):
                yield Fact(IMPRESSION, fact.evidence, fact.floor, fact.slots)
    negative = [
        fact
        for section in REPORT_REGIONS
        for fact in _findings(case, section)
        if fact.floor.startswith("No ")
    ]
    if negative:
        names = [fact.floor.removesuffix(".").removeprefix("No ") for fact in negative]
        text = "No " + " or ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names) + "."
        evidence = tuple(dict.fromkeys(each for fact in negative for each in fact.evidence))
        yield Fact(IMPRESSION, evidence, text)


def _cut_lungs(case: Case) -> Iterator[Fact]:
    for region in case.regions:
        if region.id in ("right_lung", "left_lung") and region.presence == "cut":
            text = f"The {region.title.lower()} is only partly in the field of view."
            yield Fact(IMPRESSION, (f"region/{region.id}",), text)


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
