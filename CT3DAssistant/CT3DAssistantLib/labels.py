"""How the entries of a case are said in words: the same in the window and in every export."""

from ct3d.case import Attribute, Case, Finding, Landmark, Region, Sentence
from CT3DAssistantLib.review import UNCHECKED

SUPPORT = {
    "supported": ("✓", "Supported by measurements"),
    "unsupported": ("?", "No evidence in this scan"),
    "contradicted": ("✗", "Contradicted by measurements"),
}
ORIGIN = {
    "measured": "sentence from measurements",
    "model": "worded by the model",
    "model_second_draw": "worded by the model, second draw",
    "person": "written by a person",
    "none": "no answer from this scan",
}
READ_OFF = "written by a model that read the scan"
STATES = {
    "present": ("●", "Present"),
    "possible": ("◐", "Possible"),
    "absent": ("○", "Absent"),
    "not_assessed": ("–", "Not assessed"),
}
SEVERITY = {"error": ("✗", "Error"), "warning": ("⚠", "Warning"), "info": ("i", "Note")}
PRESENCE = {"present": "● Present", "missing": "○ Not found", "outside": "– Outside the field of view"}
WHOLE = {"whole": "whole", "cut": "cut by the field of view", "absent": "not in the field of view"}
NOT_CHECKED = ("…", "Not checked against the measurements yet")


def support_of(sentence: Sentence) -> tuple[str, str, str]:
    """Sign, word and meaning of how a sentence stands against the measurements."""
    if UNCHECKED in sentence.reasons:
        sign, meaning = NOT_CHECKED
        return sign, "not checked", meaning
    sign, meaning = SUPPORT[sentence.support]
    return sign, sentence.support, meaning


def marks_of(sentence: Sentence) -> tuple[str, ...]:
    """Whose words a sentence is, and what a person did with it."""
    edited = ("edited by a person",) if sentence.draft else ()
    kept = ("kept by a person",) if sentence.kept and sentence.support != "supported" else ()
    is_read_off = sentence.origin == "model" and not sentence.floor  # it words no fact of ours
    return (
        READ_OFF if is_read_off else ORIGIN[sentence.origin],
        *edited,
        *kept,
        *(("removed",) if sentence.removed else ()),
    )


def told(entry: Region | Attribute | Landmark | Finding) -> str:
    """What is known of an entry, without its name: number and unit, state, place, why."""
    if isinstance(entry, Attribute):
        return value_text(entry)
    if isinstance(entry, Region):
        return f"{WHOLE[entry.presence]}, confidence {entry.confidence:.0%}"
    if isinstance(entry, Landmark):
        where = ", ".join(f"{x:.1f}" for x in entry.position_ras or ())
        place = f"R, A, S {where} mm, confidence {entry.confidence:.0%}" if where else ""
        return "; ".join(filter(None, (PRESENCE[entry.presence], place, entry.note)))
    share = f" {entry.probability:.0%}" if entry.probability is not None else ""
    sign, word = STATES[entry.state]
    return f"{sign} {word}{share}. {entry.why}".strip()


def name_of(case: Case, evidence: str) -> str:
    """The name of what an evidence string leads to, a measurement with its region."""
    entry = case.entry(evidence)
    if entry is None:
        return evidence
    if not isinstance(entry, Attribute):
        return entry.title
    region = case.entry(f"region/{entry.region}")
    return f"{region.title if region else entry.region}: {entry.title}"


def value_text(attribute: Attribute) -> str:
    """A measurement as a report prints it, with its unit."""
    if attribute.value is None:
        return attribute.words
    digits = 0 if abs(attribute.value) >= 100 else 1
    return f"{attribute.value:,.{digits}f} {attribute.unit}".strip()
