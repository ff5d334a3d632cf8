"""Findings as a table, and the points of a case that a person should look at; as text and rich text."""

import csv
import io
from dataclasses import dataclass
from html import escape

from ct3d.cards import load_card
from ct3d.case import RESEARCH_USE, Case, Finding, Flag, Sentence
from ct3d.errors import InvalidRequest
from CT3DAssistantLib.conversation import Ink, evidence_links
from CT3DAssistantLib.labels import SEVERITY, STATES, marks_of, support_of

COLUMNS = ("State", "Finding", "Probability")
FULL_COLUMNS = ("finding", "state", "probability", "why", "source", "evidence")
NOT_GIVEN = "not given"  # the source says that it is there or not, and no more
NOT_ASSESSED = "not assessed"
INKS = {"error": "bad", "warning": "warn", "info": "quiet"}  # severity: attribute of Ink
SENTENCE = "sentence/"  # begins a link that leads to a sentence's evidence


@dataclass(frozen=True)
class Row:
    """One finding as the table shows it."""

    finding: Finding

    @property
    def cells(self) -> tuple[str, str, str]:
        """As COLUMNS has them."""
        return " ".join(STATES[self.finding.state]), self.finding.title, probability_words(self.finding)


def probability_words(finding: Finding) -> str:
    """A probability where the source gives one; never a made-up number."""
    if finding.state == "not_assessed":
        return NOT_ASSESSED
    return NOT_GIVEN if finding.probability is None else f"{finding.probability:.0%}"


def finding_rows(case: Case, *, unassessed: bool = True) -> list[Row]:
    """Present, possible, absent, and where wanted those not assessed; within a state, the likeliest first."""
    order = list(STATES)
    shown = [each for each in case.findings if unassessed or each.state != "not_assessed"]
    ranked = sorted(shown, key=lambda each: (order.index(each.state), -(each.probability or 0.0)))
    return [Row(finding) for finding in ranked]


def unassessed_words(case: Case) -> str:
    """How many findings nobody has looked for."""
    count = sum(each.state == "not_assessed" for each in case.findings)
    if not count:
        return f"All {len(case.findings)} labels were assessed." if case.findings else ""
    return f"{count} label{'s were' if count > 1 else ' was'} not assessed."


def findings_text(case: Case) -> str:
    """The whole table as text, under the research notice."""
    rows = finding_rows(case)
    widths = [max(len(row.cells[n]) for row in rows) if rows else 0 for n in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row.cells, widths, strict=True)) for row in rows
    ]
    return "\n".join([RESEARCH_USE, "", *(line.rstrip() for line in lines)]) + "\n"


def findings_csv(case: Case) -> str:
    """The whole table as CSV with a header; a probability that isn't known is empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*FULL_COLUMNS, "notice"))
    for finding in (row.finding for row in finding_rows(case)):
        number = "" if finding.probability is None else repr(finding.probability)
        evidence = " ".join(finding.evidence)
        row = (finding.title, finding.state, number, finding.why, finding.source, evidence)
        writer.writerow((*row, RESEARCH_USE))
    return text.getvalue()


def finding_html(case: Case, finding: Finding, ink: Ink, selected: str = "") -> str:
    """Why a finding has its state, who says so, and links to its evidence."""
    sign, word = STATES[finding.state]
    links = evidence_links(case, finding.evidence, ink, selected)
    shown = f'<br/><span style="color:{ink.quiet}">Evidence:</span> {links}' if links else ""
    source = f'<br/><span style="color:{ink.quiet}">Source: {escape(source_words(finding))}</span>'
    return f"<b>{escape(finding.title)}: {sign} {word.lower()}.</b> {escape(finding.why)}{source}{shown}"


def source_words(finding: Finding) -> str:
    """The title of the card that a finding comes from."""
    try:
        return load_card(finding.source).title
    except InvalidRequest:  # a case from another installation
        return finding.source


def checks_html(case: Case, ink: Ink, selected: str = "") -> str:
    """Sentences that don't hold and the case's flags, the worst first, with links to what they are about."""
    doubtful = [each for each in case.sentences if each.support != "supported" and not each.removed]
    order = list(SEVERITY)
    flags = sorted(case.flags, key=lambda flag: order.index(flag.severity))
    contradicted = [each for each in doubtful if each.support == "contradicted"]
    others = [each for each in doubtful if each.support != "contradicted"]
    parts = [_sentence(each, ink) for each in (*contradicted, *others)]
    parts += [_flag(case, each, ink, selected) for each in flags]
    return "".join(parts)


def checks_words(case: Case) -> str:
    """How much there is to look at."""
    doubtful = sum(each.support != "supported" and not each.removed for each in case.sentences)
    counts = [(doubtful, "sentence that is not supported", "sentences that are not supported")]
    for severity, (_, word) in SEVERITY.items():
        count = sum(flag.severity == severity for flag in case.flags)
        counts.append((count, word.lower(), f"{word.lower()}s"))
    told = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    return ", ".join(told) if told else "The checks found nothing that needs a look."


def evidence_of_link(case: Case, link: str) -> str:
    """What a link of these texts selects; "" where there is nothing to see."""
    if not link.startswith(SENTENCE):
        return link
    name = link.removeprefix(SENTENCE)
    sentence = next((each for each in case.sentences if each.id == name), None)
    return sentence.evidence[0] if sentence and sentence.evidence else ""


def _sentence(sentence: Sentence, ink: Ink) -> str:
    sign, word, _ = support_of(sentence)
    tint = ink.bad if sentence.support == "contradicted" else ink.warn
    text = escape(sentence.text)
    linked = f'<a href="{SENTENCE}{escape(sentence.id)}" style="color:{ink.link}">{text}</a>'
    reasons = [each for each in sentence.reasons if each not in sentence.turned_down]
    kept = [each for each in marks_of(sentence) if each.startswith("kept")]
    why = "; ".join((*kept, *reasons))
    body = linked if sentence.evidence else text
    return _item(f"{sign} {word.capitalize()}", tint, f"Report: {body}", escape(why), ink)


def _flag(case: Case, flag: Flag, ink: Ink, selected: str) -> str:
    sign, word = SEVERITY[flag.severity]
    links = evidence_links(case, flag.evidence, ink, selected)
    return _item(f"{sign} {word}", getattr(ink, INKS[flag.severity]), escape(flag.text), links, ink)


def _item(head: str, tint: str, body: str, more: str, ink: Ink) -> str:
    below = f'<br/><span style="color:{ink.quiet}">{more}</span>' if more else ""
    return f'<p style="margin-bottom:6px"><b style="color:{tint}">{head}</b> {body}{below}</p>'
