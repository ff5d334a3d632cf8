"""The report as rich text for a window: sentences as chips, what is behind the chosen one, who mentions what.

Links lead to "sentence/<id>" or to evidence strings; colours are given from outside.
"""

from collections.abc import Collection, Iterable
from html import escape

from ct3d.case import SECTIONS, Attribute, Case, Landmark, Region, Sentence
from CT3DAssistantLib.conversation import Ink
from CT3DAssistantLib.labels import marks_of, name_of, support_of, told
from CT3DAssistantLib.review import UNCHECKED, standing
from CT3DAssistantLib.worddiff import Piece, word_diff

CHOSEN, MENTIONS = "\u25b6", "\u25c6"
STEPS = {"draft": "Draft", "edited": "Edited", "reviewed": "Reviewed", "signed": "Signed"}
SHOWN = 8  # pieces of evidence at once


def report_html(case: Case, ink: Ink, chosen: str = "", marked: Collection[str] = ()) -> str:
    """All sections with their sentences, those removed struck through.

    Args:
        chosen: id of the sentence that is worked on.
        marked: ids of sentences that mention what is selected.
    """
    parts = []
    for section, title in SECTIONS.items():
        parts.append(f'<p style="margin-top:8px; margin-bottom:2px"><b>{escape(title)}</b></p>')
        own = [each for each in case.sentences if each.section == section]
        parts += [_chip(each, ink, is_chosen=each.id == chosen, is_marked=each.id in marked) for each in own]
        if not own:
            parts.append(f'<p style="margin:2px; color:{ink.quiet}">Nothing was written.</p>')
    return "".join(parts)


def _chip(sentence: Sentence, ink: Ink, *, is_chosen: bool, is_marked: bool) -> str:
    sign, word, meaning = support_of(sentence)
    lead = f"{CHOSEN} " if is_chosen else f"{MENTIONS} " if is_marked else ""
    text = f"<s>{escape(sentence.text)}</s>" if sentence.removed else escape(sentence.text)
    ground = ink.chosen if is_chosen or is_marked else ink.answer
    colour, letters = _colour(sentence, ink), ink.quiet if sentence.removed else ink.text
    marks = escape(" \u00b7 ".join(marks_of(sentence)))
    return (
        '<table width="100%" cellpadding="3" cellspacing="1"><tr>'
        f'<td width="3" bgcolor="{colour}"></td><td bgcolor="{ground}">'
        f'<a name="{escape(sentence.id)}" href="sentence/{escape(sentence.id)}" title="{escape(meaning)}" '
        f'style="color:{letters}; text-decoration:none">{lead}{text}</a><br/>'
        f'<small><span style="color:{colour}">{sign} {word}</span> '
        f'<span style="color:{ink.quiet}">\u00b7 {marks}</span></small></td></tr></table>'
    )


def _colour(sentence: Sentence, ink: Ink) -> str:
    if sentence.removed:
        return ink.quiet
    return {"supported": ink.good, "unsupported": ink.warn, "contradicted": ink.bad}[sentence.support]


def detail_html(
    case: Case, sentence: Sentence, ink: Ink, *, selected: str = "", is_full: bool = False
) -> str:
    """What is behind a sentence: how it stands and why, what a person changed, the evidence with its numbers.

    Links: evidence strings, "check" where a check is due, "more" and "less" for the rest of the evidence.
    """
    sign, word, meaning = support_of(sentence)
    parts = [f'<b><span style="color:{_colour(sentence, ink)}">{sign} {word}</span></b>: {escape(meaning)}.']
    if UNCHECKED in sentence.reasons:
        parts.append(f'<a href="check" style="color:{ink.link}">Check it now</a>')
    own = [each for each in sentence.reasons if each not in (*sentence.turned_down, UNCHECKED)]
    parts += [escape(f"{_plain(reason)}.") for reason in own]
    if sentence.draft:
        parts += [
            f"AI text, with what was changed: {diff_html(word_diff(sentence.draft, sentence.text), ink)}"
        ]
    parts += _evidence(case, sentence.evidence, ink, selected, is_full)
    if sentence.turned_down:
        words = len(sentence.turned_down)
        parts.append(
            _quiet(f"The model's own words were turned down ({words} reason{'s' * (words > 1)}).", ink)
        )
        parts += [_quiet(reason, ink) for reason in sentence.turned_down if is_full]
    return "<br/>".join(parts)


def _plain(reason: str) -> str:
    """A reason of the guard without the name of its slot."""
    text = reason.partition(": ")[2] or reason
    return text[:1].upper() + text[1:]


def _quiet(text: str, ink: Ink) -> str:
    return f'<span style="color:{ink.quiet}">{escape(text)}</span>'


def _evidence(case: Case, evidence: tuple[str, ...], ink: Ink, selected: str, is_full: bool) -> list[str]:
    known = [each for each in evidence if case.entry(each)]
    if not known:
        return [_quiet("Nothing that was measured is named in it.", ink)]
    shown = known if is_full else known[:SHOWN]
    lines = [_evidence_line(case, each, known, ink, is_selected=each == selected) for each in shown]
    if len(known) > SHOWN:
        link, text = ("less", "Show less") if is_full else ("more", f"{len(known) - SHOWN} more")
        lines.append(f'<a href="{link}" style="color:{ink.link}">{text}</a>')
    return lines


def _evidence_line(case: Case, evidence: str, known: list[str], ink: Ink, *, is_selected: bool) -> str:
    entry = case.entry(evidence)
    has_own_line = isinstance(entry, Attribute) and f"region/{entry.region}" in known
    name = escape(entry.title if has_own_line else name_of(case, evidence))
    name = f"<b>{CHOSEN} {name}</b>" if is_selected else name
    link = f'<a href="{escape(evidence)}" style="color:{ink.link}">{name}</a>'
    return f"{link} {escape(told(entry))}"


def diff_html(pieces: Iterable[Piece], ink: Ink) -> str:
    """A changed text: what was struck is struck through, what was put in underlined."""
    marks = {
        "same": "{}",
        "struck": f'<s style="color:{ink.bad}">{{}}</s>',
        "inserted": f'<u style="color:{ink.good}">{{}}</u>',
    }
    return "".join(marks[piece.kind].format(escape(piece.text)) for piece in pieces)


def state_html(case: Case, ink: Ink) -> str:
    """The four states in a row, the present one in bold with a dot."""
    parts = [
        f"<b>\u25cf {title}</b>" if state == case.report_state else _quiet(f"\u25cb {title}", ink)
        for state, title in STEPS.items()
    ]
    return " \u203a ".join(parts)


def tally(case: Case) -> str:
    """How many sentences are supported, unsupported, contradicted, not checked, removed."""
    words: dict[str, int] = {}
    for sentence in standing(case):
        sign, word, _ = support_of(sentence)
        words[f"{sign} {{}} {word}"] = words.get(f"{sign} {{}} {word}", 0) + 1
    removed = len(case.sentences) - len(standing(case))
    parts = [text.format(count) for text, count in words.items()]
    return " \u00b7 ".join(parts + ([f"{removed} removed"] if removed else []))


def mentions(case: Case, evidence: str) -> tuple[Sentence, ...]:
    """The standing sentences that lean on a piece of evidence; on anything of it, where that is a region."""
    wanted = _same(case, evidence)
    return tuple(
        each
        for each in standing(case)
        if wanted & {about for e in each.evidence for about in _about(case, e)}
    )


def _same(case: Case, evidence: str) -> set[str]:
    """A piece of evidence, and of a report's region all regions that lie in it."""
    entry = case.entry(evidence)
    inner = isinstance(entry, Region) and entry.kind == "report_region"
    return {evidence} | {
        f"region/{each.id}" for each in case.regions if inner and each.report_region == entry.id
    }


def _about(case: Case, evidence: str) -> set[str]:
    """A piece of evidence and the region that it belongs to."""
    entry = case.entry(evidence)
    region = entry.region if isinstance(entry, Attribute | Landmark) and entry.region else ""
    return {evidence, f"region/{region}"} if region else {evidence}


def mention_html(case: Case, evidence: str, found: tuple[Sentence, ...], ink: Ink) -> str:
    """How many sentences mention what is selected, each as a link."""
    name = escape(name_of(case, evidence))
    if not found:
        return f"No sentence mentions: {name}."
    links = [
        f'<a href="sentence/{escape(each.id)}" style="color:{ink.link}" title="{escape(each.text)}">{n}</a>'
        for n, each in enumerate(found, 1)
    ]
    verb = "sentence mentions" if len(found) == 1 else "sentences mention"
    return f"{MENTIONS} {len(found)} {verb}: {name} ({', '.join(links)})."
