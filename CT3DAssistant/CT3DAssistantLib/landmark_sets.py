"""The landmarks of a case by the card that placed them: each card's are one set, shown by itself."""

from dataclasses import replace

from ct3d.cards import LandmarkLimits, ModelCard, load_cards
from ct3d.case import Case, Landmark


def card_of(case: Case, landmark: Landmark) -> str:
    """Id of the card that placed a landmark; where it isn't noted, that of the case's last step."""
    return landmark.card or latest_card(case)


def latest_card(case: Case) -> str:
    """Id of the card whose landmarks were placed last; "" where no step says so."""
    return next((step.card for step in reversed(case.provenance) if step.task == "landmarks"), "")


def cards_of(case: Case) -> tuple[str, ...]:
    """Ids of the cards whose landmarks a case holds, in the case's order."""
    return tuple(dict.fromkeys(card_of(case, each) for each in case.landmarks))


def of_card(case: Case, card: str) -> Case:
    """The case with one card's landmarks only; reviews and actions stay whole."""
    return replace(case, landmarks=tuple(each for each in case.landmarks if card_of(case, each) == card))


def find_card(card: str) -> ModelCard | None:
    """The card with this id; None where this installation has none, as for a case from elsewhere."""
    return next((each for each in load_cards() if each.id == card), None)


def limits_of(card: str) -> LandmarkLimits | None:
    """What the places of a card's landmarks keep to; None: nothing is known of it."""
    found = find_card(card)
    return found and found.limits
