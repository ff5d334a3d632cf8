"""Conversation: the questions of a case and their answers as text and as rich text, and what to ask next.

Rich text is of the kind that a text browser shows: tables and inline styles, colours given from outside.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

from ct3d.case import Answer, Attribute, Case, Region, Scope
from ct3d.protocol.tasks import Turn
from CT3DAssistantLib.labels import ORIGIN, READ_OFF, SUPPORT
from CT3DAssistantLib.scopes import region_name, scope_words

ANSWER = "\u2713 Answer"
NOT_BORNE_OUT = "? Answer to check"
CANNOT_TELL = "\u2298 Can't tell"
TURNED_DOWN = "the language model's wording was turned down, the measured sentence stands"
REMEMBERED = 6  # earlier turns that a question is sent with
LINKS = 6  # pieces of evidence that an answer shows
SHOWN = 60  # answers of a conversation in the window
SUGGESTED = 5
WHOLE_SCAN = Scope()
REMAKES = {"segment", "landmarks", "measure", "findings"}  # tasks that change what answers lean on


@dataclass(frozen=True)
class Ink:
    """Colours of a text, as "#rrggbb"."""

    text: str
    quiet: str
    link: str
    answer: str  # behind an answer
    edge: str  # around what can't be told
    good: str = "#1b6e3c"
    warn: str = "#845400"
    bad: str = "#a4201d"
    chosen: str = "#dbe9fb"  # behind what is selected


def history_of(case: Case) -> tuple[Turn, ...]:
    """The latest turns, for a follow-up to lean on."""
    return tuple(Turn(each.question, each.text) for each in case.answers[-REMEMBERED:])


def is_remade(jobs: Iterable[Any], volume_node: Any) -> bool:
    """Whether one of these jobs is about to change what is known of a volume."""
    own = [job for job in jobs if getattr(job, "volume_node", None) is volume_node]
    return any(REMAKES & set(getattr(job, "tasks", ())) for job in own)


def suggested_questions(case: Case, scope: Scope = WHOLE_SCAN) -> tuple[str, ...]:
    """Questions that the case can answer within a scope and that weren't asked yet, the most useful first."""
    asked = {answer.question for answer in case.answers if answer.scope == scope}
    if scope.kind == "region":
        region = case.entry(f"region/{scope.region}")
        wanted = _about_region(case, region) if isinstance(region, Region) else []
    else:
        wanted = _about_scan(case) if scope.kind == "scan" else []
    return tuple(each for each in wanted if each not in asked)[:SUGGESTED]


def _about_scan(case: Case) -> list[str]:
    nodules, effusions = _lesions(case, "nodule_"), _lesions(case, "effusion_")
    wanted = ["Summarize the findings."] if case.findings else []
    if len(nodules) > 1:
        wanted += ["How many nodules are there?"]
    if nodules:
        which = "largest nodule" if len(nodules) > 1 else "nodule"
        wanted += [f"Where is the {which}?"]
        wanted += [f"How large is the {which}?"] if _has(case, nodules, "long_diameter") else []
    wanted += ["How large is the pleural effusion?"] if _has(case, effusions, "volume") else []
    wanted += ["Is there emphysema?"] if _is_assessed(case, "emphysema") else []
    lungs = [each for each in case.regions if each.id in ("right_lung", "left_lung")]
    shown = [each for each in lungs if each.presence != "absent"]
    wanted += ["Which lung is larger?"] if len(shown) == 2 and _has(case, shown, "volume") else []
    wanted += ["What is the emphysema index?"] if _has(case, shown, "emphysema_index") else []
    carina = case.entry("landmark/carina")
    return wanted + (["Where is the carina?"] if carina is not None and carina.presence == "present" else [])


def _about_region(case: Case, region: Region) -> list[str]:
    own = case.attributes_of(region.id)
    if region.kind == "lesion":
        name = "nodule" if region.id.startswith("nodule_") else "pleural effusion"
        wanted = [f"How large is the {name}?"] if {"long_diameter", "volume"} & set(own) else []
        return [*wanted, f"Where is the {name}?"]
    name = region.title.lower()
    wanted = [f"What is the volume of the {name}?"] if "volume" in own else []
    return wanted + ([f"What is the mean attenuation of the {name}?"] if "mean_hu" in own else [])


def _lesions(case: Case, prefix: str) -> list[Region]:
    return [each for each in case.regions if each.id.startswith(prefix) and each.presence != "absent"]


def _has(case: Case, regions: list[Region], name: str) -> bool:
    """Whether there are regions, and all have this measurement."""
    values = [case.attributes_of(region.id).get(name) for region in regions]
    return bool(values) and all(each is not None and each.value is not None for each in values)


def _is_assessed(case: Case, finding_id: str) -> bool:
    return any(each.id == finding_id and each.state != "not_assessed" for each in case.findings)


def origin_words(answer: Answer) -> str:
    """Where an answer's words come from."""
    if answer.sentences:
        borne = sum(each.support == "supported" for each in answer.sentences)
        return f"{READ_OFF}; {borne} of {len(answer.sentences)} sentences borne out by measurements"
    if answer.support != "supported":
        return ""
    fell = any(reason.startswith("model_second_draw wrote ") for reason in answer.reasons)
    return f"{ORIGIN[answer.origin]}; {TURNED_DOWN}" if fell else ORIGIN[answer.origin]


def marked_text(answer: Answer) -> str:
    """The answer; of a model that read the scan, each sentence with the sign of how it stands."""
    if not answer.sentences:
        return answer.text
    return " ".join(f"{SUPPORT[each.support][0]} {each.text}" for each in answer.sentences)


def conversation_text(case: Case) -> str:
    """All questions and answers as plain text, under the research notice."""
    parts = [f"Questions and answers about a chest CT\n{case.notice}"]
    parts += ["\n".join(_lines(case, answer)) for answer in case.answers]
    return "\n\n".join(parts) + "\n"


def _lines(case: Case, answer: Answer) -> list[str]:
    can_tell = answer.support == "supported" or bool(answer.sentences)
    lines = [f"Question: {answer.question}", f"About: {scope_words(answer.scope, case)}"]
    said = marked_text(answer)
    lines += [f"Answer ({origin_words(answer)}): {said}" if can_tell else f"Can't tell: {said}"]
    if not can_tell and answer.reasons:
        lines.append(f"Why: {'; '.join(answer.reasons)}")
    if answer.evidence:
        titles = evidence_titles(case, answer.evidence).values()
        lines.append(
            "Evidence: " + "; ".join(": ".join(filter(None, (name, ", ".join(of)))) for name, of in titles)
        )
    return lines


def evidence_titles(case: Case, evidence: Iterable[str]) -> dict[str, tuple[str, list[str]]]:
    """By the evidence to select: its name, and which measurements of it are meant."""
    named: dict[str, tuple[str, list[str]]] = {}
    for each in evidence:
        entry = case.entry(each)
        if isinstance(entry, Attribute):
            each, title = f"region/{entry.region}", entry.title
            named.setdefault(each, (_name(case, each), []))[1].append(title)
        elif entry is not None:
            named.setdefault(each, (_name(case, each), []))
    return named


def _name(case: Case, evidence: str) -> str:
    entry = case.entry(evidence)
    name = region_name(entry, case) if isinstance(entry, Region) else getattr(entry, "title", evidence)
    return name[:1].lower() + name[1:]


def conversation_html(case: Case, ink: Ink, selected: str = "") -> str:
    """The end of the conversation as rich text; links lead to evidence strings.

    Args:
        selected: evidence whose links stand out.
    """
    earlier = len(case.answers) - SHOWN
    note = f'<p style="color:{ink.quiet}">{earlier} earlier answers: Copy all has them.</p>'
    turns = [_turn(case, answer, ink, selected) for answer in case.answers[-SHOWN:]]
    return "".join([note * (earlier > 0), *turns])


def question_html(question: str, about: str, ink: Ink) -> str:
    """A question and what it is about."""
    return (
        f'<p style="margin-top:10px; margin-bottom:2px"><b>{escape(question)}</b><br/>'
        f'<span style="color:{ink.quiet}">About: {escape(about)}</span></p>'
    )


def _turn(case: Case, answer: Answer, ink: Ink, selected: str) -> str:
    asked = question_html(answer.question, scope_words(answer.scope, case), ink)
    if answer.support == "supported" or answer.sentences:
        style, body = f'bgcolor="{ink.answer}" border="0"', _told(case, answer, ink, selected)
    else:
        style = f'border="1" style="border-style:dashed; border-color:{ink.edge}"'
        body = _not_told(answer, ink)
    return (
        f'{asked}<table width="100%" cellpadding="6" cellspacing="0" {style}><tr><td>{body}</td></tr></table>'
    )


def _told(case: Case, answer: Answer, ink: Ink, selected: str) -> str:
    title = ANSWER if answer.support == "supported" else NOT_BORNE_OUT
    head = f'<b>{title}</b> <span style="color:{ink.quiet}">{escape(origin_words(answer))}</span>'
    links = evidence_links(case, answer.evidence, ink, selected)
    shown = f'<br/><span style="color:{ink.quiet}">Evidence:</span> {links}' if links else ""
    return f"{head}<br/>{escape(marked_text(answer))}{shown}"


def _not_told(answer: Answer, ink: Ink) -> str:
    why = f'<br/><span style="color:{ink.quiet}">Why: {escape("; ".join(answer.reasons))}</span>'
    return f"<b>{CANNOT_TELL}</b><br/><i>{escape(answer.text)}</i>{why if answer.reasons else ''}"


def evidence_links(case: Case, evidence: Iterable[str], ink: Ink, selected: str = "") -> str:
    """Links to evidence by name; of many, the first."""
    titles = evidence_titles(case, evidence)
    links = [_link(each, name, ink, selected) for each, (name, _) in titles.items()][:LINKS]
    more = [f"{len(titles) - LINKS} more"] if len(titles) > LINKS else []
    return ", ".join(links + more)


def _link(evidence: str, title: str, ink: Ink, selected: str) -> str:
    text = f"<b>\u25b6 {escape(title)}</b>" if evidence == selected else escape(title)
    return f'<a href="{escape(evidence)}" style="color:{ink.link}">{text}</a>'
