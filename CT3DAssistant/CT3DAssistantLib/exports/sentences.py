"""The report's part of a page: sentences with their changes, how far it is reviewed, who did what when."""

from collections.abc import Callable, Iterable
from html import escape

from ct3d.case import SECTIONS, Action, Case, Sentence
from CT3DAssistantLib.labels import SUPPORT, marks_of, support_of
from CT3DAssistantLib.review import UNCHECKED, standing, state_text
from CT3DAssistantLib.worddiff import word_diff

REPORT_TITLES = {
    "draft": "Draft report",
    "edited": "Draft report, edited",
    "reviewed": "Reviewed report",
    "signed": "Signed report",
}
MARKED = ("draft", "edited")  # states whose exports carry a watermark
TAGS = {"same": "{}", "struck": "<del>{}</del>", "inserted": "<ins>{}</ins>"}

Links = Callable[[Iterable[str]], str]  # evidence strings as HTML


def banner(case: Case) -> str:
    """How far the report is reviewed, on top; across the page while nobody has reviewed it."""
    mark = '<div class="watermark" aria-hidden="true">AI draft, not reviewed</div>' * (
        case.report_state in MARKED
    )
    return f'{mark}<p class="review {case.report_state}" role="status">{escape(state_text(case))}</p>'


def report_section(case: Case, links: Links) -> str:
    """All sections with their sentences; those removed at a section's end, struck through."""
    parts = (
        [f'<p class="quiet">{_tally(case)}. Choose a piece of evidence to see it.</p>']
        if case.sentences
        else []
    )
    for section, title in SECTIONS.items():
        own = [each for each in case.sentences if each.section == section]
        written = [_sentence(each, links) for each in sorted(own, key=lambda each: each.removed)]
        if own or section != "impression":
            nothing = '<p class="quiet">Nothing was written.</p>'
            parts.append(f"<h3>{title}</h3>{''.join(written) or nothing}")
    return "".join(parts)


def _tally(case: Case) -> str:
    counts = {state: sum(each.support == state for each in standing(case)) for state in SUPPORT}
    return " · ".join(f"{SUPPORT[state][0]} {n} {state}" for state, n in counts.items() if n)


def _sentence(sentence: Sentence, links: Links) -> str:
    sign, word, meaning = support_of(sentence)
    if sentence.removed:
        sign, word, meaning = "–", "removed", "Struck out by a person"
    text = f"<del>{escape(sentence.text)}</del>" if sentence.removed else escape(sentence.text)
    kind = "removed" if sentence.removed else sentence.support
    evidence = "" if sentence.removed else links(sentence.evidence)
    return (
        f'<div class="sentence {kind}"><span class="state" title="{meaning}">{sign}'
        f'<span class="word">{word}</span></span><div><p>{text}</p>'
        f'{evidence}<span class="origin">{" · ".join(marks_of(sentence))}</span>'
        f"{_change(sentence)}{_reasons(sentence)}</div></div>"
    )


def _change(sentence: Sentence) -> str:
    """The AI's words with what a person struck and put in."""
    if not sentence.draft:
        return ""
    pieces = word_diff(sentence.draft, sentence.text)
    told = "".join(TAGS[piece.kind].format(escape(piece.text)) for piece in pieces)
    return f'<p class="change"><b>AI text, with changes:</b> {told}</p>'


def _reasons(sentence: Sentence) -> str:
    own = [each for each in sentence.reasons if each not in (*sentence.turned_down, UNCHECKED)]
    told = "".join(f'<p class="reason">{escape(reason)}</p>' for reason in own)
    why = "".join(f"<li>{escape(reason)}</li>" for reason in sentence.turned_down)
    return told + (f"<details><summary>Why it was changed</summary><ul>{why}</ul></details>" if why else "")


def record(case: Case) -> str:
    """What people did, in time order; "" where nobody did anything."""
    rows = "".join(map(_deed, case.actions))
    head = "<thead><tr><th>Time, UTC</th><th>What</th><th>Where</th><th>Before, or why</th></tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div>' if rows else ""


def _deed(action: Action) -> str:
    time = escape(action.at_utc.replace("T", " ").removesuffix("Z"))
    cells = (action.verb, action.target, action.detail)
    return f"<tr><td>{time}</td>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
