"""A model card as a page to read."""

from html import escape

from ct3d.cards import ModelCard
from CT3DAssistantLib.weights import CardState

STATES = {
    "here": "✔ here",
    "shipped": "✔ comes with the program",
    "missing": "✖ missing",
    "broken": "✖ broken",
    "none needed": "✔ none needed",
}
TASKS = {
    "segment": "Finds regions",
    "landmarks": "Places landmarks",
    "findings": "Derives findings",
    "language": "Words report and answers",
    "encoder": "Sees the scan",
    "report": "Drafts the report",
    "answer": "Answers questions",
    "retrieve": "Finds similar cases",
}


def card_html(card: ModelCard, state: CardState | None) -> str:
    """All that a card says, and whether its weights are here (None: not looked yet)."""
    rows = [
        ("Task", TASKS.get(card.role, card.role)),
        ("Licence", card.license),
        ("Intended use", card.intended_use),
        ("Made for", card.heatmaps.body_part if card.heatmaps else ""),
        ("Source", "; ".join(card.source)),
        ("Measured quality", _measured(card)),
        ("Flags go by", card.limits.basis if card.limits else ""),
        ("Weights", _weights(card, state)),
    ]
    lines = (f"<p style='margin:3px 0'><b>{topic}</b>: {escape(text)}</p>" for topic, text in rows if text)
    return f"<p style='margin:3px 0'><b>{escape(card.title)}</b></p>{''.join(lines)}"


def _measured(card: ModelCard) -> str:
    single = {name: value for name, value in card.measured.items() if not isinstance(value, dict)}
    told = (f"{name.replace('_', ' ')}: {value}" for name, value in single.items())
    return "; ".join(told) or "not measured by this project."


def _weights(card: ModelCard, state: CardState | None) -> str:
    if card.obtain:
        return f"{STATES['missing']}. {card.obtain}"
    if card.weights is None:
        return "none needed: the model is a set of rules."
    size = f", {card.weights.megabytes:g} MB" if card.weights.megabytes else ""
    parts = [f"{card.weights.file}{size}, sha256 {card.weights.sha256}"]
    if card.weights.package:
        parts.append(f"carried by the package {card.weights.package}")
    if state is not None:
        parts.append(f"{STATES[state.state]} ({state.path})")
    return "; ".join(parts) + "."
