"""Landmarks under review as markups: decisions show in the node, and what is dragged reaches the case.

A node remembers in an attribute what was written into it, point by point. So a drag by hand is told from our
own writing whenever it happened: before the panel was opened, or in a scene that was saved and read again.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import dist
from typing import Any

import slicer
import vtk

from ct3d.case import Case, Landmark, Point, PointReview
from CT3DAssistantLib.landmark_aids import helper, helpers
from CT3DAssistantLib.landmark_review import (
    SAME_MM,
    move,
    place_second,
    review_of,
    reviewed_points,
    undefine,
    undefine_second,
)
from CT3DAssistantLib.landmark_sets import cards_of, confidence_words, latest_card, of_card
from CT3DAssistantLib.ownership import (
    CARD,
    EARLIER,
    MODULE,
    is_edited,
    make_parameter_node,
    nodes_of,
    release,
    stamp,
)
from CT3DAssistantLib.readers import to_second
from CT3DAssistantLib.scene import add_landmarks, description_of

MarkupsNode = slicer.vtkMRMLMarkupsFiducialNode
WRITTEN = f"{MODULE}.points"  # control point ID → [landmark id, local position or null]
BLINDED = f"{MODULE}.blinded"  # on a display node that a second reader must not see
OPEN_COLOR, DECIDED_COLOR = (1.0, 0.75, 0.1), (0.35, 0.85, 0.4)


@dataclass(frozen=True)
class Mark:
    """One control point as it should be."""

    id: str  # of the landmark
    title: str
    description: str
    ras: Point | None  # None: missing
    is_open: bool


def show_landmarks(
    scene: slicer.vtkMRMLScene, volume_node: Any, case: Case, card: str | None = None
) -> MarkupsNode:
    """Write a card's landmarks after they were found anew; a node that a person edited is kept as another.

    The node of a card of which the case holds no landmarks any more is kept as "… (earlier)".

    Args:
        card: id of the card; None: the one that placed landmarks last.
    """
    for node in nodes_of(scene, volume_node, "landmarks"):
        if node.GetAttribute(CARD) not in (None, *cards_of(case)):
            release(make_parameter_node(scene, volume_node), node, "landmarks", EARLIER)
    node = add_landmarks(
        scene, volume_node, of_card(case, latest_card(case) if card is None else card).landmarks
    )
    node.RemoveAttribute(WRITTEN)
    show_review(node, case)
    return node


def show_missing(scene: slicer.vtkMRMLScene, volume_node: Any, case: Case) -> None:
    """Write the landmarks of those cards that have no node yet."""
    for card in cards_of(case):
        if node_of_card(scene, volume_node, card) is None:
            show_landmarks(scene, volume_node, case, card)


def shown_of(node: MarkupsNode, case: Case) -> Case:
    """The case with the landmarks of a node's card only; a node that doesn't say its card holds all."""
    card = node.GetAttribute(CARD)
    return case if card is None else of_card(case, card)


def node_of_card(scene: slicer.vtkMRMLScene, volume_node: Any, card: str) -> MarkupsNode | None:
    """The node that shows a card's landmarks of a volume, where there is one."""
    nodes = nodes_of(scene, volume_node, "landmarks")
    return next((node for node in nodes if node.GetAttribute(CARD) in (None, card)), None)


def show_review(node: MarkupsNode, case: Case) -> None:
    """Bring a case's markups up to what was decided; only what differs is written.

    A point that a person put elsewhere, and whatever a person added or renamed, stays; the node then still
    counts as edited. `take_in` first, so that drags are known.
    """
    case = shown_of(node, case)
    is_ours = not is_edited(node) or not _strangers(node, case)
    is_whole = _write(node, case, marks_of(case))
    display = node.GetDisplayNode()
    if display is not None:
        display.SetSelectedColor(*OPEN_COLOR)
        display.SetColor(*DECIDED_COLOR)
    if is_ours and is_whole:
        stamp(node)


def marks_of(case: Case) -> list[Mark]:
    """The control points of a reviewed case, in the card's order."""
    return [
        Mark(
            landmark.id,
            landmark.title,
            described(landmark, review_of(case, landmark.id)),
            reviewed.position_ras,
            review_of(case, landmark.id).verdict == "open",
        )
        for landmark, reviewed in zip(case.landmarks, reviewed_points(case), strict=True)
    ]


def described(landmark: Landmark, review: PointReview) -> str:
    """A control point's description: what the landmark is, what the program says of it, what was decided."""
    said, decided = description_of(landmark), f"{review.verdict} by a person at {review.decided_utc}"
    if review.verdict == "open":
        return said
    if review.verdict == "accepted":
        return f"{said}; {decided}"
    definition = landmark.definition.rstrip(".")
    return f"{definition}; {decided}; the program: {confidence_words(landmark)}"


def take_in(node: MarkupsNode, case: Case) -> Case:
    """The case with what a person did to its markups by hand: dragged is moved, deleted is undefined."""
    for name, ras in _changes(node, shown_of(node, case)):
        case = undefine(case, name) if ras is None else move(case, name, ras)
    return case


def with_drags(scene: slicer.vtkMRMLScene, volume_node: Any, case: Case) -> Case:
    """`take_in` for all of a volume's markups, which then count as ours; the same case if nobody dragged.

    A node of before cards were noted says from now on which card its landmarks are of.
    """
    nodes, changed = nodes_of(scene, volume_node, "landmarks"), case
    for node in nodes:
        if node.GetAttribute(CARD) is None and latest_card(case):
            node.SetAttribute(CARD, latest_card(case))
        changed = take_in(node, changed)
    if changed is not case:
        for node in nodes:
            show_review(node, changed)
    return changed


def show_second(scene: slicer.vtkMRMLScene, volume_node: Any, case: Case) -> MarkupsNode:
    """The second reader's own points, in a node that is not saved: the case holds them."""
    node = helper(scene, "vtkMRMLMarkupsFiducialNode", "second", f"{volume_node.GetName()} second reader")
    _write(node, case, [_second_mark(each, review_of(case, each.id)) for each in to_second(case)])
    return node


def _second_mark(landmark: Landmark, review: PointReview) -> Mark:
    return Mark(landmark.id, landmark.title, landmark.definition, review.second_ras, not review.second)


def second_node(scene: slicer.vtkMRMLScene) -> MarkupsNode | None:
    """The second reader's node, where there is one."""
    return next(iter(helpers(scene, "vtkMRMLMarkupsFiducialNode", "second")), None)


def take_in_second(node: MarkupsNode, case: Case) -> Case:
    """The case with the points that the second reader dragged."""
    for name, ras in _changes(node, case):
        case = undefine_second(case, name) if ras is None else place_second(case, name, ras)
    return case


def unlock_only(node: MarkupsNode, landmark_id: str) -> None:
    """Let one of our points be dragged and no other; "" locks all."""
    for n, name in _rows(node, json.loads(node.GetAttribute(WRITTEN) or "{}")).items():
        if bool(node.GetNthControlPointLocked(n)) == (name == landmark_id):
            node.SetNthControlPointLocked(n, name != landmark_id)


def blind(scene: slicer.vtkMRMLScene, volume_node: Any, is_blind: bool) -> None:
    """Hide the case's landmarks from a second reader, or show them as they were."""
    for display in _displays(scene, volume_node):
        if (display.GetAttribute(BLINDED) is not None) == is_blind:
            continue
        if is_blind:
            display.SetAttribute(BLINDED, str(int(display.GetVisibility())))
            display.SetVisibility(False)
        else:
            display.SetVisibility(display.GetAttribute(BLINDED) == "1")
            display.RemoveAttribute(BLINDED)


def is_blinded(scene: slicer.vtkMRMLScene, volume_node: Any) -> bool:
    """Whether the case's landmarks are hidden from a second reader."""
    return any(display.GetAttribute(BLINDED) is not None for display in _displays(scene, volume_node))


def _displays(scene: slicer.vtkMRMLScene, volume_node: Any) -> list[Any]:
    nodes = nodes_of(scene, volume_node, "landmarks")
    return [display for display in (node.GetDisplayNode() for node in nodes) if display is not None]


def remove_second(scene: slicer.vtkMRMLScene) -> None:
    """Take the second reader's node out of the scene; the case keeps the points."""
    for node in helpers(scene, "vtkMRMLMarkupsFiducialNode", "second"):
        scene.RemoveNode(node)


# control points


def _write(node: MarkupsNode, case: Case, marks: list[Mark]) -> bool:
    """Write the marks; False where one stays that a person put where the case doesn't know of."""
    written = _written(node, case)
    dragged, wanted = dict(_changes(node, case)), {mark.id: mark.ras for mark in marks}
    unknown = {
        name: at
        for name, at in written.values()
        if name in dragged and name in wanted and not _is_same(dragged[name], wanted[name])
    }
    was_modifying = node.StartModify()
    rows = {name: n for n, name in _rows(node, written).items()}
    if [mark.id for mark in marks] != list(rows):
        rows = _start_over(node, marks, set(rows.values()))
        unknown = {}
    for mark in marks:
        if mark.id not in unknown:
            _write_point(node, rows[mark.id], mark)
    now = {node.GetNthControlPointID(n): [name, _local(node, n)] for name, n in rows.items()}
    now |= {node.GetNthControlPointID(rows[name]): [name, at] for name, at in unknown.items()}
    node.SetAttribute(WRITTEN, json.dumps(now))
    node.EndModify(was_modifying)
    return not unknown


def _start_over(node: MarkupsNode, marks: list[Mark], ours: set[int]) -> dict[str, int]:
    """Replace our control points; those that a person added stay, behind ours."""
    strangers = []
    for n in range(node.GetNumberOfControlPoints()):
        if n not in ours:
            strangers.append((node.GetNthControlPointLabel(n), _world(node, n)))
    node.RemoveAllControlPoints()
    node.SetControlPointLabelFormat("%d")
    rows = {mark.id: node.AddControlPoint(vtk.vtkVector3d(0, 0, 0), mark.title) for mark in marks}
    for label, ras in strangers:
        if ras is not None:
            node.AddControlPointWorld(vtk.vtkVector3d(*ras), label)
    return rows


def _write_point(node: MarkupsNode, n: int, mark: Mark) -> None:
    if mark.ras is None:
        if node.GetNthControlPointPositionStatus(n) != node.PositionMissing:
            node.SetNthControlPointPositionMissing(n)
    elif not _is_same(_world(node, n), mark.ras):
        node.SetNthControlPointPositionWorld(n, *mark.ras)
    if node.GetNthControlPointDescription(n) != mark.description:
        node.SetNthControlPointDescription(n, mark.description)
    if bool(node.GetNthControlPointSelected(n)) != mark.is_open:
        node.SetNthControlPointSelected(n, mark.is_open)


def _changes(node: MarkupsNode, case: Case) -> Iterator[tuple[str, Point | None]]:
    """Which points a person has put elsewhere since they were written, and where; None: taken away."""
    rows = {node.GetNthControlPointID(n): n for n in range(node.GetNumberOfControlPoints())}
    titles = {landmark.id for landmark in case.landmarks}
    for point, (name, before) in _written(node, case).items():
        now = _local(node, rows[point]) if point in rows else None
        if name in titles and not _is_same(before, now):
            yield name, _world(node, rows[point]) if now else None


def _written(node: MarkupsNode, case: Case) -> dict[str, tuple[str, Sequence[float] | None]]:
    """What was written into a node, by control point ID.

    A node that doesn't say holds the program's own points: as it is, where nobody has touched it.
    """
    text = node.GetAttribute(WRITTEN)
    if text is not None:
        return json.loads(text)
    found, is_touched = case.landmarks, is_edited(node)
    rows = range(min(len(found), node.GetNumberOfControlPoints()))
    return {
        node.GetNthControlPointID(n): (found[n].id, found[n].position_ras if is_touched else _local(node, n))
        for n in rows
        if node.GetNthControlPointLabel(n) == found[n].title
    }


def _rows(node: MarkupsNode, written: Mapping[str, Any]) -> dict[int, str]:
    """Our control points: position in the list → landmark id."""
    points = {n: node.GetNthControlPointID(n) for n in range(node.GetNumberOfControlPoints())}
    return {n: written[point][0] for n, point in points.items() if point in written}


def _strangers(node: MarkupsNode, case: Case) -> bool:
    """Whether a node holds points that aren't ours, or ours under other names."""
    titles = {landmark.id: landmark.title for landmark in case.landmarks}
    known = _rows(node, _written(node, case))
    renamed = [n for n, name in known.items() if node.GetNthControlPointLabel(n) != titles.get(name)]
    return bool(renamed) or len(known) < node.GetNumberOfControlPoints()


def _is_same(one: Sequence[float] | None, other: Sequence[float] | None) -> bool:
    if one is None or other is None:
        return one is other
    return dist(one, other) < SAME_MM


def _local(node: MarkupsNode, n: int) -> list[float] | None:
    if node.GetNthControlPointPositionStatus(n) != node.PositionDefined:
        return None
    return [float(x) for x in node.GetNthControlPointPosition(n)]


def _world(node: MarkupsNode, n: int) -> Point | None:
    if node.GetNthControlPointPositionStatus(n) != node.PositionDefined:
        return None
    right, anterior, superior = (float(x) for x in node.GetNthControlPointPositionWorld(n))
    return right, anterior, superior
