"""The landmarks of a case by the card that placed them: each card's are one set, shown by itself."""

from dataclasses import replace

from ct3d.cards import LandmarkLimits, LandmarkSpec, ModelCard, cards_folder, load_card
from ct3d.case import Case, Flag, Landmark


def latest_card(case: Case) -> str:
    """Id of the card whose landmarks were placed last; "" where no step says so."""
    return next((step.card for step in reversed(case.provenance) if step.task == "landmarks"), "")


def card_of(case: Case, landmark: Landmark) -> str:
    """Id of the card that placed a landmark; where it isn't noted, that of the case's last step."""
    return landmark.card or latest_card(case)


def cards_of(case: Case) -> tuple[str, ...]:
    """Ids of the cards whose landmarks a case holds, in the case's order."""
    return tuple(dict.fromkeys(card_of(case, each) for each in case.landmarks))


def of_card(case: Case, card: str) -> Case:
    """The case with one card's landmarks only; reviews and actions stay whole."""
    return replace(case, landmarks=tuple(each for each in case.landmarks if card_of(case, each) == card))


def named(case: Case) -> Case:
    """The case with each landmark's card noted, as far as it is known."""
    return replace(case, landmarks=tuple(replace(each, card=card_of(case, each)) for each in case.landmarks))


def flags_of(case: Case, card: str) -> tuple[Flag, ...]:
    """The flags that are about landmarks of one card and nothing else."""
    mine = {f"landmark/{each.id}" for each in of_card(case, card).landmarks}
    return tuple(flag for flag in case.flags if flag.evidence and mine.issuperset(flag.evidence))


def notes_of(case: Case, card: str) -> tuple[str, ...]:
    """What is to be said of a card's landmarks as a whole: that the scan shows another part of the body."""
    whole = len(of_card(case, card).landmarks)
    return tuple(flag.text for flag in flags_of(case, card) if len(set(flag.evidence)) == whole > 1)


def find_card(card: str) -> ModelCard | None:
    """The card with this id; None where this installation has none, as for a case from elsewhere."""
    return load_card(card) if card and (cards_folder() / f"{card}.toml").is_file() else None


def title_of(card: str) -> str:
    """A card's title; its id where it isn't here, and "landmarks" where it isn't known."""
    found = find_card(card)
    return found.title if found else card or "landmarks"


def limits_of(card: str) -> LandmarkLimits | None:
    """What the places of a card's landmarks keep to; None: nothing is known of it."""
    found = find_card(card)
    return found and found.limits


def has_probability(landmark: Landmark) -> bool:
    """Whether a landmark's confidence is a calibrated probability: that it is in the scan."""
    spec = _spec(landmark)
    return spec is not None and spec.presence is not None


def confidence_words(landmark: Landmark) -> str:
    """The confidence as a person reads it: a probability where it is one, else a score from 0 to 1."""
    if has_probability(landmark):
        return f"{landmark.confidence:.0%} likely in the scan"
    return f"confidence {landmark.confidence:.2f}"


def radius_words(landmark: Landmark) -> str:
    """How near the true place is in nine of ten; "" where that wasn't calibrated, or there is no place."""
    if landmark.radius_mm is None or landmark.position_ras is None:
        return ""
    return f"90 % within {landmark.radius_mm:.1f} mm"


def _spec(landmark: Landmark) -> LandmarkSpec | None:
    card = find_card(landmark.card)
    return next((each for each in card.landmarks if each.id == landmark.id), None) if card else None
