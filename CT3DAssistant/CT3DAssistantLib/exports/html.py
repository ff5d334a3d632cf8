"""report.html: the whole case on one self-contained page, nothing fetched from anywhere.

Evidence links open the picture of their place in the side panel: plain anchors and CSS, so they work without
JavaScript; with it, arrow keys walk from one piece of evidence to the next. Every state is said by an icon
and a word, never by colour alone.
"""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from ct3d.case import Attribute, Case, Finding, Flag, Landmark, PointReview, Region
from CT3DAssistantLib.conversation import marked_text, origin_words
from CT3DAssistantLib.exports.figures import Figure, Figures
from CT3DAssistantLib.exports.files import write_file
from CT3DAssistantLib.exports.sentences import REPORT_TITLES, banner, record, report_section
from CT3DAssistantLib.labels import ORIGIN, PRESENCE, SEVERITY, STATES, SUPPORT, value_text
from CT3DAssistantLib.landmark_review import review_of, reviewed_points
from CT3DAssistantLib.landmark_sets import cards_of, has_probability, of_card, radius_words, title_of
from CT3DAssistantLib.overview import range_words
from CT3DAssistantLib.resources import resource_path
from CT3DAssistantLib.review import state_text

ONLY_IN_CSV = ("sd_hu", "z_low", "z_high", "side")  # measurements too many for a page
CHIPS = 7  # pieces of evidence shown at once; the rest folds away


def write_html(path: Path, case: Case, figures: Figures, *, notes: tuple[str, ...] = ()) -> Path:
    """Write the report page.

    Args:
        notes: lines about the pictures, e.g. why there is none in 3D.

    Raises:
        DiskFull: if the file can't be written.
    """
    return write_file(path, report_html(case, figures, notes=notes))


def report_html(case: Case, figures: Figures, *, notes: tuple[str, ...] = ()) -> str:
    """The report page as text."""
    links = _Links(case, figures)
    sections = (
        ("pictures", "Key pictures", _pictures(figures, notes)),
        ("report", REPORT_TITLES[case.report_state], report_section(case, links)),
        ("findings", "Findings", _findings(case, links)),
        ("flags", "Points to check", _flags(case, links)),
        ("measurements", "Measurements", _measurements(case, links)),
        ("landmarks", "Landmarks", _landmarks(case, links)),
        ("answers", "Questions and answers", _answers(case, links)),
        ("record", "What people did", record(case)),
        ("input", "What the models saw", _saw(case)),
        ("provenance", "Provenance", _provenance(case)),
    )
    shown = [(name, title, body) for name, title, body in sections if body]
    menu = "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in shown)
    main = "".join(f'<section id="{name}"><h2>{title}</h2>{body}</section>' for name, title, body in shown)
    css, script = (
        resource_path("Report", name).read_text(encoding="utf-8") for name in ("report.css", "report.js")
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Chest CT analysis</title><style>{css}</style></head><body>"
        f'<p class="notice" role="note">{escape(case.notice)}</p>{banner(case)}'
        f'<div class="page"><header id="top"><h1>Chest CT analysis</h1>{_summary(case)}'
        f"<nav>{menu}</nav></header>"
        f"<main>{main}</main><footer>{escape(case.notice)} {escape(state_text(case))} To be checked by a "
        "radiologist against the images.</footer></div>"
        f'<aside class="viewer" aria-label="Picture of the chosen evidence">{_viewer(figures)}</aside>'
        f"<script>{script}</script></body></html>"
    )


class _Links:
    """Evidence strings as links to their pictures."""

    def __init__(self, case: Case, figures: Figures):
        self.case, self.figures = case, figures

    def __call__(self, evidence: Iterable[str]) -> str:
        cited = tuple(evidence)
        chips = [self._chip(each, cited) for each in cited]
        first, rest = "".join(chips[:CHIPS]), "".join(chips[CHIPS:])
        more = f"<details><summary>{len(chips) - CHIPS} more</summary>{rest}</details>" if rest else ""
        return f'<span class="evidence">{first}{more}</span>' if chips else ""

    def _chip(self, evidence: str, cited: tuple[str, ...]) -> str:
        return self.around(evidence, escape(self._label(evidence, cited)), "chip")

    def around(self, evidence: str, text: str, kind: str = "") -> str:
        """A text as link to the picture of this evidence, or as it is where there is none."""
        figure = self.figures.of.get(evidence) or self._figure_of_region(evidence)
        marked = f' class="{kind}"' if kind else ""
        return (
            f'<a{marked} data-figure href="#{figure}">{text}</a>'
            if figure
            else f"<span{marked}>{text}</span>"
        )

    def _figure_of_region(self, evidence: str) -> str | None:
        entry = self.case.entry(evidence)
        return self.figures.of.get(f"region/{entry.region}") if isinstance(entry, Attribute) else None

    def _label(self, evidence: str, cited: tuple[str, ...]) -> str:
        entry = self.case.entry(evidence)
        if isinstance(entry, Attribute):
            is_named = f"region/{entry.region}" in cited  # by a chip of its own
            region = "" if is_named else f"{self.region_title(entry.region)}: "
            return f"{region}{entry.title} {value_text(entry)}".strip()
        return entry.title if entry else evidence

    def region_title(self, region_id: str) -> str:
        """A region's name in words."""
        return next((region.title for region in self.case.regions if region.id == region_id), region_id)


def _summary(case: Case) -> str:
    grid, geometry = case.input.geometry.shape_kji, case.input.geometry
    spacing = " × ".join(f"{mm:.2f}" for mm in reversed(geometry.spacing_kji_mm))
    rows = {
        "Scan": f"{grid[2]} × {grid[1]} × {grid[0]} voxels of {spacing} mm",
        "Content": f"sha256 {case.input.sha256[:12]}…",
        "Analysed": max((step.finished_utc for step in case.provenance), default="").replace("T", " ")[:16]
        + " UTC",
        "Time": f"{sum(step.seconds for step in case.provenance):.0f} s",
    }
    if case.qc:
        rows["By the shared encoder"] = range_words(case.qc)
    facts = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in rows.items())
    notes = "".join(f"<li>{escape(note)}</li>" for note in case.input.notes)
    return f'<dl class="facts">{facts}</dl>' + (f'<ul class="notes">{notes}</ul>' if notes else "")


def _pictures(figures: Figures, notes: tuple[str, ...]) -> str:
    shown = "".join(
        f'<a data-figure href="#{each.id}"><img src="{each.source}" alt="{escape(each.title)}"></a>'
        for each in figures.key
    )
    said = "".join(f'<p class="quiet">{escape(note)}</p>' for note in notes)
    return f'<div class="keys">{shown}</div>{said}'


def _findings(case: Case, links: _Links) -> str:
    order = list(STATES)
    ranked = sorted(case.findings, key=lambda finding: order.index(finding.state))
    silent = [finding for finding in ranked if finding.state == "not_assessed" and not finding.evidence]
    cards = "".join(_finding(finding, links) for finding in ranked if finding not in silent)
    shown = f'<div class="findings">{cards}</div>' if cards else ""
    return shown + "".join(_unassessed(why, silent) for why in dict.fromkeys(each.why for each in silent))


def _unassessed(why: str, silent: list[Finding]) -> str:
    """Findings that nothing here looks for, in one line per reason."""
    icon, word = STATES["not_assessed"]
    titles = [finding.title for finding in silent if finding.why == why]
    names = escape(", ".join(titles))
    reason = f' <span class="quiet">{escape(why)}</span>' if why else ""
    return f'<p class="unassessed"><b>{icon} {word} ({len(titles)}):</b> {names}.{reason}</p>'


def _finding(finding: Finding, links: _Links) -> str:
    icon, word = STATES[finding.state]
    share = f" · {finding.probability:.0%}" if finding.probability is not None else ""
    title = finding.title[:1].upper() + finding.title[1:]
    return (
        f'<div class="finding {finding.state}"><h4>{escape(title)}</h4>'
        f'<p class="state">{icon} {word}{share}</p><p class="why">{escape(finding.why)}</p>'
        f"{links(finding.evidence)}</div>"
    )


def _flags(case: Case, links: _Links) -> str:
    order = list(SEVERITY)
    ranked = sorted(case.flags, key=lambda flag: order.index(flag.severity))
    return "".join(_flag(flag, links) for flag in ranked)


def _flag(flag: Flag, links: _Links) -> str:
    icon, word = SEVERITY[flag.severity]
    return (
        f'<div class="flag {flag.severity}"><span class="state">{icon} {word}</span>'
        f"<div>{escape(flag.text)} {links(flag.evidence)}</div></div>"
    )


def _measurements(case: Case, links: _Links) -> str:
    lesions = [region for region in case.regions if region.kind == "lesion"]
    others = [region for region in case.regions if region.kind != "lesion"]
    tables = _pivot(case, lesions, "Lesion candidate", links) + _pivot(case, others, "Region", links)
    return tables + '<p class="quiet">All measurements: attributes.csv.</p>' if tables else ""


def _pivot(case: Case, regions: list[Region], heading: str, links: _Links) -> str:
    """One row per region, one column per measurement that any of them has."""
    by_region = {
        region: {
            name: each for name, each in case.attributes_of(region.id).items() if name not in ONLY_IN_CSV
        }
        for region in regions
    }
    by_region = {region: values for region, values in by_region.items() if values}
    columns = {name: each for values in by_region.values() for name, each in values.items()}
    rows = []
    for region, values in by_region.items():
        cells = [(_bare(values[name]) if name in values else "") for name in columns]
        name = links.around(f"region/{region.id}", escape(region.title))
        cut = ' <span class="quiet">(cut)</span>' if region.presence == "cut" else ""
        rows.append((name + cut, f"{region.confidence:.0%}", *map(escape, cells)))
    heads = [f"{each.title}, {each.unit}" if each.unit else each.title for each in columns.values()]
    return _table((heading, "confidence", *heads), rows, numbers_from=1)


def _bare(attribute: Attribute) -> str:
    return (
        value_text(attribute).removesuffix(attribute.unit).strip()
        if attribute.unit
        else value_text(attribute)
    )


def _landmarks(case: Case, links: _Links) -> str:
    """A table per card that placed some, under the card's title where there are several."""
    cards = cards_of(case)
    tables = {card: _landmark_table(of_card(case, card), links) for card in cards}
    if len(cards) < 2:
        return "".join(tables.values())
    return "".join(f"<p><b>{escape(title_of(card))}</b></p>{table}" for card, table in tables.items())


def _landmark_table(case: Case, links: _Links) -> str:
    points = reviewed_points(case)
    rows = [_landmark_row(each, review_of(case, each.id), links) for each in points]
    is_share = any(map(has_probability, points))
    said = "Probability that it is in the scan" if is_share else "Confidence"
    return _table(("Landmark", "Presence", said, "R, A, S in mm", "Definition"), rows)


def _landmark_row(landmark: Landmark, review: PointReview, links: _Links) -> tuple[str, ...]:
    position = ", ".join(f"{x:.1f}" for x in landmark.position_ras or ()) or "–"
    name = links.around(f"landmark/{landmark.id}", escape(landmark.title))
    meter = f'<meter min="0" max="1" value="{landmark.confidence:.2f}"></meter> {landmark.confidence:.0%}'
    decided = "" if review.verdict == "open" else f"{review.verdict.capitalize()} by a person."
    near = radius_words(landmark)
    parts = (landmark.definition, near and f"The true place: {near}.", landmark.note, decided)
    text = " ".join(filter(None, parts))
    meter, position = (f'<span class="whole">{each}</span>' for each in (meter, position))
    return name, PRESENCE[landmark.presence], meter, position, escape(text)


def _answers(case: Case, links: _Links) -> str:
    parts = []
    for answer in case.answers:
        icon, meaning = SUPPORT[answer.support]
        origin = origin_words(answer) if answer.sentences else ORIGIN[answer.origin]
        parts.append(
            f'<div class="sentence {answer.support}"><span class="state" title="{meaning}">{icon}'
            f'<span class="word">{answer.support}</span></span><div>'
            f'<p class="question">{escape(answer.question)}</p>'
            f"<p>{escape(marked_text(answer))}</p>{links(answer.evidence)}"
            f'<span class="origin">{escape(origin)}</span></div></div>'
        )
    return "".join(parts)


def _saw(case: Case) -> str:
    rows = []
    for saw in case.saw:
        span = "not clipped" if saw.value_range is None else "{:.0f} to {:.0f} HU".format(*saw.value_range)
        shown = ", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in saw.coverage.items())
        rows.append(
            (
                escape(saw.card),
                f"{saw.orientation_from} → {saw.orientation_to}",
                f"{_by(saw.shape_from_kji)} → {_by(saw.shape_to_kji)}",
                f"{_by(saw.spacing_from_kji_mm, '.2f')} → {_by(saw.spacing_to_kji_mm, '.2f')}",
                f"{span}; {saw.clipped_share:.1%} outside",
                escape(shown),
                escape(" ".join(saw.notes)),
            )
        )
    heads = (
        "Card",
        "Orientation",
        "Grid K × J × I",
        "Spacing, mm",
        "Values",
        "In the field of view",
        "Notes",
    )
    return _table(heads, rows)


def _by(values: Iterable[float], form: str = "d") -> str:
    return " × ".join(format(value, form) for value in values)


def _provenance(case: Case) -> str:
    rows = []
    for step in case.provenance:
        stages = ", ".join(f"{escape(name)} {seconds:.1f} s" for name, seconds in step.stages.items())
        versions = ", ".join(f"{escape(name)} {number}" for name, number in step.versions.items())
        more = (
            f"<details><summary>{step.seconds:.1f} s</summary>{stages}</details>"
            if stages
            else f"{step.seconds:.1f} s"
        )
        hashes = " ".join(
            f"<code>{each[:12]}</code>" for each in (step.card_sha256, step.weights_sha256) if each
        )
        device = f"{step.device}, {step.dtype}"
        rows.append((escape(step.task), escape(step.card), hashes, escape(device), more, escape(versions)))
    heads = ("Task", "Card", "sha256 of card, weights", "Device", "Time", "Versions")
    full = f'<p class="quiet">Input <code>{case.input.sha256}</code></p>'
    return _table(heads, rows) + full if rows else ""


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]], numbers_from: int | None = None) -> str:
    """A table of cells that are HTML already; columns from `numbers_from` on are aligned as numbers."""
    if not rows:
        return ""
    kind = "" if numbers_from is None else ' class="numbers"'
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _viewer(figures: Figures) -> str:
    every = (*figures.key, *figures.places)
    shown = {figure.id: [each for each, name in figures.of.items() if name == figure.id] for figure in every}
    return "".join(_figure(each, shown[each.id], first=n == 0) for n, each in enumerate(every))


def _figure(figure: Figure, shown: Iterable[str], *, first: bool) -> str:
    marked = ' class="first"' if first else ""
    return (
        f'<figure id="{figure.id}" data-shows="{escape(" ".join(shown))}"{marked}>'
        '<a class="close" href="#report" aria-label="Close the picture">✕</a>'
        f'<img loading="lazy" src="{figure.source}" alt="{escape(figure.title)}">'
        f"<figcaption>{escape(figure.title)}</figcaption></figure>"
    )
