"""What people decide about landmarks: pure functions on a Case, and what follows from the decisions.

The program's landmarks stay as they were found. A decision is a PointReview beside them, and an Action with
its time: verb, "landmark/<id>", and as detail the PointReview as it was before, as JSON. So `undo` gives back
exactly what was there, and the record says what was moved from where.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import dist

from ct3d.case import Action, Case, Landmark, Point, PointReview
from ct3d.errors import InvalidRequest
from ct3d.protocol.codec import decode, encode
from CT3DAssistantLib.landmark_sets import has_probability, named
from CT3DAssistantLib.review import utc_now

VERDICTS = {
    "accept": "accepted",
    "reject": "rejected",
    "move": "moved",
    "undefine": "undefined",
    "reopen": "open",
}
SECOND = ("place_second", "undefine_second", "clear_second")
OUTDATE = "outdate"  # by the program: the point was found anew elsewhere, so the verdict no longer holds
SAME_MM = 0.01  # a point that moved less is the same point
UNSURE = {"missing": 0.5, "outside": 0.2}  # doubt where the program gives no position
IMPACT = {"carina": 1.5}  # others are placed or judged by it
LESION_IMPACT = 1.5  # its place goes into the report
WIDE_MM = 20.0  # a 90 % radius that counts as much as an even chance of being there at all
SURE = 0.9  # a lower probability of being in the scan is said
FLAG_RISK = 0.5  # what one plausibility flag adds


@dataclass(frozen=True)
class Entry:
    """One landmark in the review queue.

    Attributes:
        landmark: as the program found it.
        review: what was decided; an open one where nothing was.
        flags: what is implausible about it, in words.
        risk: 0 and up; the queue's order.
        why: what makes it risky beside the flags, in words; "" where nothing does.
        row: its place in the card's order, which settles ties.
    """

    landmark: Landmark
    review: PointReview
    flags: tuple[str, ...]
    risk: float
    why: str
    row: int

    @property
    def is_open(self) -> bool:
        return self.review.verdict == "open"


def queue(case: Case, flags: Mapping[str, tuple[str, ...]] | None = None) -> tuple[Entry, ...]:
    """Every landmark, missing ones included: open ones first, then by risk, then in the card's order.

    risk = impact x (doubt + 0.5 for each plausibility flag, two count)
    doubt of a net whose confidence is a probability = 1 - |2 x probability - 1| (1 at an even chance, 0 where
    it is sure, also that the point is not in the scan) + 90 % radius / 20 mm, at most 1.
    doubt else = 1 - the program's confidence; 0.5 where it found no point (someone must say whether there is
    one); 0.2 where it says the point lies outside the scan (seen at a glance).
    impact = 1.5 for the carina, by which other points are placed and judged, and for lesion centres, which
    the report names; else 1.
    The risk is an order and no chance of error. The numbers are this project's choice, not measured.

    Args:
        flags: by landmark, what is implausible; see `plausibility.plausibility`.
    """
    flags = flags or {}
    rows = enumerate(case.landmarks)
    entries = [_entry(case, landmark, flags.get(landmark.id, ()), row) for row, landmark in rows]
    return tuple(sorted(entries, key=lambda entry: (not entry.is_open, -entry.risk, entry.row)))


def _entry(case: Case, landmark: Landmark, flags: tuple[str, ...], row: int) -> Entry:
    doubt = _doubt(landmark)
    impact = LESION_IMPACT if is_lesion(case, landmark) else IMPACT.get(landmark.id, 1.0)
    risk = impact * (doubt + FLAG_RISK * min(2, len(flags)))
    why = " ".join(filter(None, (_reason(landmark), "Much depends on it." if impact > 1 else "")))
    return Entry(landmark, review_of(case, landmark.id), flags, round(risk, 3), why, row)


def _doubt(landmark: Landmark) -> float:
    if not has_probability(landmark):
        return UNSURE.get(landmark.presence, 1 - landmark.confidence)
    unsure = 1 - abs(2 * landmark.confidence - 1)
    return unsure + min(1.0, (landmark.radius_mm or 0.0) / WIDE_MM)


def _reason(landmark: Landmark) -> str:
    """What about a landmark asks for a look, in words; "" for nothing."""
    if landmark.presence == "outside":
        return "The program places it outside the scan."
    if has_probability(landmark):
        share = f"{landmark.confidence:.0%} likely that it is"
        if landmark.presence == "missing":
            return f"Not in this scan, says the program ({share})."
        return f"Unsure whether it is in the scan ({share})." if landmark.confidence < SURE else ""
    if landmark.presence == "missing":
        return "The program found no such point."
    return f"Low confidence ({landmark.confidence:.2f})." if landmark.confidence < 0.7 else ""


def is_lesion(case: Case, landmark: Landmark) -> bool:
    """Whether a landmark is the centre of a lesion candidate: it exists because the program found one."""
    return any(region.id == landmark.region and region.kind == "lesion" for region in case.regions)


def review_of(case: Case, landmark_id: str) -> PointReview:
    """What was decided about a landmark; an open one where nothing was."""
    return next((each for each in case.reviews if each.landmark == landmark_id), PointReview(landmark_id))


def next_open(entries: tuple[Entry, ...], after: str = "") -> str:
    """Id of the open landmark to look at after this one; "" where all are decided.

    By falling risk; those passed over wait for the next round: what is less risky than `after` comes first.
    """
    order = sorted(entries, key=lambda entry: (-entry.risk, entry.row))
    names = [entry.landmark.id for entry in order]
    first = names.index(after) + 1 if after in names else 0
    round_trip = (*order[first:], *order[:first])
    return next((entry.landmark.id for entry in round_trip if entry.is_open), "")


def progress(case: Case) -> tuple[int, int]:
    """How many landmarks are decided, and how many there are."""
    return sum(review_of(case, each.id).verdict != "open" for each in case.landmarks), len(case.landmarks)


# what a person can do


def accept(case: Case, landmark_id: str) -> Case:
    """The point is right as it is shown: a moved one stays moved, and a missing one isn't to be seen."""
    return case if review_of(case, landmark_id).verdict == "moved" else _decide(case, landmark_id, "accept")


def reject(case: Case, landmark_id: str) -> Case:
    """The program's point is wrong, and no better place is given."""
    return _decide(case, landmark_id, "reject")


def move(case: Case, landmark_id: str, ras: Point) -> Case:
    """The point is here, RAS millimetres."""
    return _decide(case, landmark_id, "move", _point(ras))


def undefine(case: Case, landmark_id: str) -> Case:
    """The point can't be told in this scan: not there, outside it, or not to be made out."""
    return _decide(case, landmark_id, "undefine")


def reopen(case: Case, landmark_id: str) -> Case:
    """Take a decision back, whenever it was made."""
    return _decide(case, landmark_id, "reopen")


def place_second(case: Case, landmark_id: str, ras: Point) -> Case:
    """The second reader puts the point here, RAS millimetres."""
    return _decide_second(case, landmark_id, "place_second", "placed", _point(ras))


def undefine_second(case: Case, landmark_id: str) -> Case:
    """The second reader can't tell the point."""
    return _decide_second(case, landmark_id, "undefine_second", "undefined", None)


def clear_second(case: Case, landmark_id: str) -> Case:
    """Take back what the second reader said of a point."""
    return _decide_second(case, landmark_id, "clear_second", "", None)


def undo(case: Case, *, second: bool = False) -> Case:
    """Take back the last decision about a landmark that wasn't taken back yet.

    Args:
        second: the second reader's last decision, in place of the first one's.

    Raises:
        InvalidRequest: if there is none.
    """
    action = last_decision(case, second=second)
    if action is None:
        raise InvalidRequest("There is nothing to undo.")
    before = decode(PointReview, json.loads(action.detail), "action")
    now = review_of(case, before.landmark)
    if second:
        back = replace(now, second=before.second, second_ras=before.second_ras, second_utc=before.second_utc)
    else:
        back = replace(
            now, verdict=before.verdict, position_ras=before.position_ras, decided_utc=before.decided_utc
        )
    return _noted(case, back, "undo_second" if second else "undo", utc_now())


def last_decision(case: Case, *, second: bool = False) -> Action | None:
    """What `undo` would take back; None where there is nothing."""
    verbs, undone = (SECOND, "undo_second") if second else (tuple(VERDICTS), "undo")
    left: list[Action] = []
    for action in case.actions:
        if not action.target.startswith("landmark/"):
            continue
        if action.verb in verbs:
            left.append(action)
        elif action.verb == undone and left:
            left.pop()
        elif action.verb == OUTDATE:
            left = [each for each in left if each.target != action.target]
    return left[-1] if left else None


# what follows


def reviewed_points(case: Case) -> tuple[Landmark, ...]:
    """The landmarks as people left them, in the card's order: a moved one at its new place, an undefined or
    rejected one missing. Those still open are as the program found them."""
    return tuple(_reviewed(landmark, review_of(case, landmark.id)) for landmark in case.landmarks)


def _reviewed(landmark: Landmark, review: PointReview) -> Landmark:
    if review.verdict == "moved":
        return replace(landmark, presence="present", position_ras=review.position_ras, radius_mm=None)
    if review.verdict in ("rejected", "undefined"):
        return replace(landmark, presence="missing", position_ras=None, radius_mm=None)
    return landmark


def reviewed(case: Case) -> Case:
    """The case with `reviewed_points` for landmarks: what measurements, places and exports go by."""
    return replace(case, landmarks=reviewed_points(case)) if case.reviews else case


def found_anew(case: Case, landmarks: tuple[Landmark, ...]) -> Case:
    """The case with landmarks of a new run in place of those of the same card.

    Those of other cards stay with what was decided about them, unless one of the same id was found anew. A
    verdict stays where the program's own point stayed. Where the point moved by SAME_MM or more, came or
    went, the landmark is open again and an Action keeps the old verdict. What a second reader said stays: it
    never was about the program's point.
    """
    case, landmarks = named(case), named(replace(case, landmarks=landmarks)).landmarks
    before = {each.id: each for each in case.landmarks}
    landmarks = _beside_others(case, landmarks)
    after = {each.id: each for each in landmarks}
    now, kept, actions = utc_now(), [], []
    for review in case.reviews:
        old, new = before.get(review.landmark), after.get(review.landmark)
        if review.verdict != "open" and not (old and new and is_same_place(old, new)):
            actions.append(_action(review, OUTDATE, now))
            review = PointReview(
                review.landmark,
                second=review.second,
                second_ras=review.second_ras,
                second_utc=review.second_utc,
            )
        if review != PointReview(review.landmark):
            kept.append(review)
    return replace(case, landmarks=landmarks, reviews=tuple(kept), actions=(*case.actions, *actions))


def _beside_others(case: Case, landmarks: tuple[Landmark, ...]) -> tuple[Landmark, ...]:
    """New landmarks and those of other cards, each card's where the case has them, a new one's at the end."""
    ids, cards = {each.id for each in landmarks}, {each.card for each in landmarks} | {""}
    others = (each for each in case.landmarks if each.card not in cards and each.id not in ids)
    order = list(dict.fromkeys(each.card for each in (*case.landmarks, *landmarks)))
    return tuple(sorted((*others, *landmarks), key=lambda each: order.index(each.card)))


def is_same_place(one: Landmark, other: Landmark) -> bool:
    """Whether two landmarks lie at the same place, or both lie nowhere."""
    if one.position_ras is None or other.position_ras is None:
        return one.position_ras is other.position_ras and one.presence == other.presence
    return dist(one.position_ras, other.position_ras) < SAME_MM


def _decide(case: Case, landmark_id: str, verb: str, ras: Point | None = None) -> Case:
    review, now = _known(case, landmark_id), utc_now()
    decided = replace(
        review, verdict=VERDICTS[verb], position_ras=ras, decided_utc="" if verb == "reopen" else now
    )
    return _noted(case, decided, verb, now)


def _decide_second(case: Case, landmark_id: str, verb: str, said: str, ras: Point | None) -> Case:
    review, now = _known(case, landmark_id), utc_now()
    decided = replace(review, second=said, second_ras=ras, second_utc=now if said else "")
    return _noted(case, decided, verb, now)


def _known(case: Case, landmark_id: str) -> PointReview:
    if case.entry(f"landmark/{landmark_id}") is None:
        raise InvalidRequest(f"This case has no landmark {landmark_id!r}. Choose one of the list.")
    return review_of(case, landmark_id)


def _noted(case: Case, review: PointReview, verb: str, now: str) -> Case:
    """The case with a review in place of the landmark's earlier one, and the action that made it."""
    action = _action(review_of(case, review.landmark), verb, now)
    others = [each for each in case.reviews if each.landmark != review.landmark]
    return replace(case, reviews=(*others, review), actions=(*case.actions, action))


def _action(before: PointReview, verb: str, now: str) -> Action:
    return Action(now, verb, f"landmark/{before.landmark}", json.dumps(encode(before)))


def _point(ras: Point) -> Point:
    """Hundredths of a millimetre, as the program gives its own points."""
    right, anterior, superior = (round(float(x), 2) + 0.0 for x in ras)
    return right, anterior, superior
