"""The report as simple HTML for paper: the kind that a rich-text document lays out on pages."""

import base64
import io
from collections.abc import Mapping
from html import escape

from PIL import Image

from ct3d.case import SECTIONS, Case, Finding, Sentence
from CT3DAssistantLib.exports.sentences import MARKED, REPORT_TITLES
from CT3DAssistantLib.labels import STATES, marks_of, support_of, told
from CT3DAssistantLib.review import state_text
from CT3DAssistantLib.worddiff import word_diff

INK, QUIET, RED, GREEN, LINE = "#000000", "#505050", "#8c1513", "#155c31", "#999999"
TAGS = {
    "same": "{}",
    "struck": f'<s style="color:{RED}">{{}}</s>',
    "inserted": f'<u style="color:{GREEN}">{{}}</u>',
}
PICTURE_PX = 215  # width of a key picture; three stand side by side on 650 px


def paper_html(case: Case, pictures: Mapping[str, str]) -> str:
    """Title, state, key pictures, report, findings, signature and what the analysis ran on.

    Args:
        pictures: data URLs of the key pictures by plane.
    """
    title = f"Chest CT: {REPORT_TITLES[case.report_state].lower()}"
    parts = [
        f'<p style="color:{RED}"><b>{escape(case.notice)}</b></p>',
        f'<p style="font-size:15pt; margin-bottom:2px"><b>{title}</b></p>',
        _state(case),
        _pictures(pictures),
        *(_section(case, section, title) for section, title in SECTIONS.items()),
        _removed(case),
        _findings(case),
        _origin(case),
    ]
    body = "".join(parts)
    return f'<html><body style="font-family:sans-serif; font-size:10pt; color:{INK}">{body}</body></html>'


def footer_text(case: Case) -> str:
    """What stands at the foot of every page."""
    mark = "AI draft, not reviewed. " * (case.report_state in MARKED)
    return f"{mark}{case.notice}"


def _state(case: Case) -> str:
    color = RED if case.report_state in MARKED else GREEN
    return f'<p style="color:{color}"><b>{escape(state_text(case))}</b></p>'


def png_url(image: Image.Image) -> str:
    """A key picture as data URL, in the one format that every Qt can read."""
    buffer, wide = io.BytesIO(), 3 * PICTURE_PX // 2
    image.resize((wide, wide * image.height // image.width)).save(buffer, "PNG", compress_level=3)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _pictures(pictures: Mapping[str, str]) -> str:
    cells = "".join(
        f'<td align="center"><img src="{source}" width="{PICTURE_PX}"><br/>'
        f'<span style="color:{QUIET}; font-size:8pt">{plane.capitalize()} plane</span></td>'
        for plane, source in pictures.items()
    )
    return f'<table cellpadding="2" cellspacing="0"><tr>{cells}</tr></table>' if cells else ""


def _section(case: Case, section: str, title: str) -> str:
    own = [each for each in case.sentences if each.section == section and not each.removed]
    body = "".join(map(_sentence, own)) or f'<p style="color:{QUIET}">Nothing was written.</p>'
    return f"{_heading(title)}{body}"


def _heading(title: str) -> str:
    return f'<p style="font-size:11pt; margin-top:10px; margin-bottom:2px"><b>{escape(title)}</b></p>'


def _sentence(sentence: Sentence) -> str:
    sign, word, _ = support_of(sentence)
    notes = " \u00b7 ".join((f"{sign} {word}", *marks_of(sentence)))
    change = ""
    if sentence.draft:
        pieces = word_diff(sentence.draft, sentence.text)
        shown = "".join(TAGS[piece.kind].format(escape(piece.text)) for piece in pieces)
        change = f"<br/>AI text, with changes: {shown}"
    return (
        f'<p style="margin-top:2px; margin-bottom:3px">{escape(sentence.text)}<br/>'
        f'<span style="color:{QUIET}; font-size:8pt">{escape(notes)}{change}</span></p>'
    )


def _removed(case: Case) -> str:
    gone = [each.text for each in case.sentences if each.removed]
    lines = "".join(f'<p style="margin:1px; color:{QUIET}"><s>{escape(text)}</s></p>' for text in gone)
    return f"{_heading('Struck out by a person')}{lines}" if gone else ""


def _findings(case: Case) -> str:
    known = [each for each in case.findings if each.state != "not_assessed"]
    others = [each.title for each in case.findings if each.state == "not_assessed"]
    lines = [f'<p style="margin:1px">{escape(_finding(each))}</p>' for each in known]
    if others:
        names = escape(", ".join(others))
        lines.append(f'<p style="margin:1px; color:{QUIET}">{" ".join(STATES["not_assessed"])}: {names}</p>')
    return f"{_heading('Findings')}{''.join(lines)}" if lines else ""


def _finding(finding: Finding) -> str:
    return f"{finding.title}: {told(finding)}"


def _origin(case: Case) -> str:
    cards = ", ".join(dict.fromkeys(step.card for step in case.provenance if step.card))
    grid, spacing = case.input.geometry.shape_kji, case.input.geometry.spacing_kji_mm
    size = " \u00d7 ".join(map(str, reversed(grid))) + " voxels of "
    size += " \u00d7 ".join(f"{mm:.2f}" for mm in reversed(spacing)) + " mm"
    lines = (f"Scan: {size}", f"Input sha256: {case.input.sha256}", f"Models: {cards}", *case.input.notes)
    text = "<br/>".join(map(escape, lines))
    return f'<p style="color:{QUIET}; font-size:8pt; margin-top:10px">{text}</p>'
