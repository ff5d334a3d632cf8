"""Two readers and the program compared: how far apart they put each landmark."""

from dataclasses import dataclass
from math import dist
from statistics import fmean, median

from ct3d.case import Case, Landmark, Point, PointReview
from CT3DAssistantLib.landmark_review import is_lesion, review_of

SDR_MM = (2.0, 2.5, 3.0, 4.0)  # success detection rates as papers on landmarks report them
PAIRS = {  # a pair's name → who is compared
    "first_second": ("first", "second"),
    "first_program": ("first", "program"),
    "second_program": ("second", "program"),
}


@dataclass(frozen=True)
class Distances:
    """One landmark: where each put it, and the distances in mm; None where one of the two gives no place."""

    landmark: Landmark
    places: dict[str, Point | None]  # by "first", "second", "program"
    mm: dict[str, float | None]  # by pair
    disagree: bool  # one reader gives a place, the other says that there is none


@dataclass(frozen=True)
class Agreement:
    """All distances of one pair in mm, and the share of them up to each of SDR_MM; None: no distance."""

    count: int
    mean: float | None
    median: float | None
    largest: float | None
    success: dict[float, float | None]


def to_second(case: Case) -> tuple[Landmark, ...]:
    """The landmarks that a second reader places, in the card's order.

    Not in the order of risk, which would tell of the program's confidence; and no centres of lesion
    candidates, which exist only because the program found them.
    """
    return tuple(each for each in case.landmarks if not is_lesion(case, each))


def second_progress(case: Case) -> tuple[int, int]:
    """How many landmarks the second reader has decided, and how many there are for them."""
    todo = to_second(case)
    return sum(bool(review_of(case, each.id).second) for each in todo), len(todo)


def next_for_second(case: Case, after: str = "") -> str:
    """Id of the landmark that the second reader comes to after this one; "" where all are decided."""
    ids = [each.id for each in to_second(case)]
    first = ids.index(after) + 1 if after in ids else 0
    order = (*ids[first:], *ids[:first])
    return next((name for name in order if not review_of(case, name).second), "")


def distances(case: Case) -> tuple[Distances, ...]:
    """Each landmark that a second reader can place.

    The first reader's place is the program's where they accepted it, which makes their distance to the
    program 0, and none while they haven't decided.
    """
    return tuple(_distances(landmark, review_of(case, landmark.id)) for landmark in to_second(case))


def _distances(landmark: Landmark, review: PointReview) -> Distances:
    first = {"accepted": landmark.position_ras, "moved": review.position_ras}.get(review.verdict)
    places = {"first": first, "second": review.second_ras, "program": landmark.position_ras}
    apart = {pair: _apart(places[one], places[other]) for pair, (one, other) in PAIRS.items()}
    is_said = review.second and review.verdict in ("accepted", "moved", "undefined")
    return Distances(
        landmark, places, apart, bool(is_said and (first is None) != (review.second_ras is None))
    )


def _apart(one: Point | None, other: Point | None) -> float | None:
    return None if one is None or other is None else dist(one, other)


def agreement(rows: tuple[Distances, ...], pair: str) -> Agreement:
    """Mean, median, largest and success rates of one pair's distances; `pair` is one of PAIRS."""
    known = [mm for mm in (row.mm[pair] for row in rows) if mm is not None]
    if not known:
        return Agreement(0, None, None, None, dict.fromkeys(SDR_MM))
    success = {limit: sum(mm <= limit for mm in known) / len(known) for limit in SDR_MM}
    return Agreement(len(known), fmean(known), median(known), max(known), success)
