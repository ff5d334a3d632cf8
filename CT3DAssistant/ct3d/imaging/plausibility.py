"""What is implausible about a set of landmarks: sides, order, distances; from points and a card's limits."""

from collections.abc import Iterator, Mapping
from math import dist
from typing import TypeVar

from ct3d.cards import LandmarkLimits
from ct3d.case import Flag, Landmark, Point

RIGHT, ANTERIOR, SUPERIOR = 0, 1, 2  # of a RAS point
Complaint = tuple[str, tuple[str, ...]]  # what is wrong, and the ids of the landmarks it is about
Points = Mapping[str, Point]
Titles = Mapping[str, str]
Limit = TypeVar("Limit")


def complaints(points_ras: Points, titles: Titles, limits: LandmarkLimits | None) -> list[Complaint]:
    """What breaks a card's limits, each with the landmarks concerned; nothing without limits.

    Args:
        points_ras: RAS mm by landmark id; whatever has no place is left out and never complained of.
        titles: by landmark id, as a person reads it.
    """
    if limits is None:
        return []
    return [
        *_sides(points_ras, titles, limits),
        *_order(points_ras, titles, limits.above, SUPERIOR, "no higher than"),
        *_order(points_ras, titles, limits.in_front, ANTERIOR, "no further to the front than"),
        *_distances(points_ras, titles, limits),
        *_heights(points_ras, titles, limits),
        *_widths(points_ras, titles, limits),
    ]


def flags_of(landmarks: tuple[Landmark, ...], limits: LandmarkLimits | None) -> tuple[Flag, ...]:
    """The complaints about landmarks as the program found them, as flags of the case."""
    points = {each.id: each.position_ras for each in landmarks if each.position_ras is not None}
    titles = {each.id: each.title for each in landmarks}
    return tuple(
        Flag(
            "landmark_order",
            "warning",
            f"{text} Check the points, the masks and the orientation.",
            tuple(f"landmark/{name}" for name in about),
        )
        for text, about in complaints(points, titles, limits)
    )


def _sides(points: Points, titles: Titles, limits: LandmarkLimits) -> Iterator[Complaint]:
    for right, left in limits.pairs:
        if right in points and left in points and points[right][RIGHT] <= points[left][RIGHT]:
            told = f"{_the(titles[right])} lies to the patient's left of the {titles[left]}: sides swapped?"
            yield told, (right, left)
            continue
        for name, sign in ((right, 1), (left, -1)):
            yield from _side_of_midline(points, titles, limits.midline, name, sign)


def _side_of_midline(
    points: Points, titles: Titles, middle: str, name: str, sign: int
) -> Iterator[Complaint]:
    if name in points and middle in points and sign * (points[name][RIGHT] - points[middle][RIGHT]) <= 0:
        yield f"{_the(titles[name])} lies on the other side of the {titles[middle]}.", (name, middle)


def _order(
    points: Points, titles: Titles, order: tuple[tuple[str, str], ...], axis: int, told: str
) -> Iterator[Complaint]:
    for first, second in order:
        if first in points and second in points and points[first][axis] <= points[second][axis]:
            yield f"{_the(titles[first])} lies {told} the {titles[second]}.", (first, second)


def _distances(points: Points, titles: Titles, limits: LandmarkLimits) -> Iterator[Complaint]:
    for (one, other), (least, most) in _of_both(limits.distances_mm, points):
        apart = dist(points[one], points[other])
        if not least <= apart <= most:
            both = f"{_the(titles[one])} and {titles[other]}"
            yield f"{both} are {apart:.0f} mm apart; {least:g} to {most:g} mm is usual.", (one, other)


def _heights(points: Points, titles: Titles, limits: LandmarkLimits) -> Iterator[Complaint]:
    for (right, left), most in _of_both(limits.height_difference_mm, points):
        apart = abs(points[right][SUPERIOR] - points[left][SUPERIOR])
        if apart > most:
            yield _differ(titles, right, left, f"{apart:.0f} mm in height", most), (right, left)


def _widths(points: Points, titles: Titles, limits: LandmarkLimits) -> Iterator[Complaint]:
    if limits.midline not in points:
        return
    middle = points[limits.midline][RIGHT]
    for (right, left), most in _of_both(limits.width_difference_mm, points):
        apart = abs(abs(points[right][RIGHT] - middle) - abs(points[left][RIGHT] - middle))
        if apart > most:
            told = f"{apart:.0f} mm in distance from the midline"
            yield _differ(titles, right, left, told, most), (right, left)


def _differ(titles: Titles, right: str, left: str, told: str, most: float) -> str:
    return f"{_the(titles[right])} and {titles[left]} differ by {told}; up to {most:g} mm is usual."


def _of_both(table: Mapping[str, Limit], points: Points) -> Iterator[tuple[tuple[str, str], Limit]]:
    """The entries of a table of which both points have a place."""
    for names, limit in table.items():
        one, other = names.split()
        if one in points and other in points:
            yield (one, other), limit


def _the(title: str) -> str:
    return f"The {title}"
