"""One person going through the landmarks of a volume: where they are, what they decide, what they see.

No Qt: the panel, a script and a test without a screen drive the same one. The case holds every decision at
once; this holds only which landmark is under review and in which role the person reads.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ct3d.case import Case, Landmark
from CT3DAssistantLib.landmark_aids import off_masks, pointed_at, show_radius
from CT3DAssistantLib.landmark_node import (
    blind,
    is_blinded,
    node_of_card,
    remove_second,
    second_node,
    show_review,
    show_second,
    take_in_second,
    unlock_only,
    with_drags,
)
from CT3DAssistantLib.landmark_review import (
    Entry,
    accept,
    last_decision,
    move,
    next_open,
    place_second,
    queue,
    reject,
    review_of,
    reviewed_points,
    undefine,
    undefine_second,
    undo,
)
from CT3DAssistantLib.landmark_sets import card_of, cards_of, latest_card, notes_of, of_card
from CT3DAssistantLib.ownership import node_of, nodes_of
from CT3DAssistantLib.plausibility import plausibility
from CT3DAssistantLib.readers import next_for_second
from CT3DAssistantLib.scene import analysed_volumes
from CT3DAssistantLib.workspace import Workspace

ZOOM_MM = 100.0


class LandmarkSession:
    """The review of one workspace's landmarks.

    Args:
        workspace: whose chosen volume is reviewed.
        safely: gives a context that tells the person of errors, for what a drag in a view sets off.

    Attributes:
        current: id of the landmark under review; "" for none.
        is_active: whether the person reviews now; only then can the current point be dragged.
        is_blinded: whether a second reader is at work, who must see nothing of program and first reader.
        zooms: whether the views zoom to the landmark they come to.
    """

    def __init__(self, workspace: Workspace, safely: Callable[[], AbstractContextManager[None]]):
        self.workspace = workspace
        self.current = ""
        self.is_active = False
        self.is_blinded = False
        self.zooms = True
        self._safely = safely
        self._watched: list[tuple[Any, int]] = []
        self._volume_node: Any = None  # whose landmarks were shown last
        self._card = ""  # whose landmarks are under review
        self._latest = ""  # card that had placed landmarks last
        self._part: tuple[Case, str, Case] | None = None  # case, card, and what `case` gave for them
        self._queue: tuple[Entry, ...] = ()
        self._made_from: tuple[Case, Any] | None = None  # case and time of the masks

    @property
    def whole(self) -> Case | None:
        """The chosen volume's case with the landmarks of all cards; None where it has none."""
        case = self.workspace.case
        return case if case and case.landmarks else None

    @property
    def card(self) -> str:
        """Id of the card whose landmarks are under review."""
        cards = cards_of(self.whole) if self.whole else ("",)
        return self._card if self._card in cards else cards[-1]

    @property
    def case(self) -> Case | None:
        """The chosen volume's case with the landmarks under review only; None where there are none."""
        case, card = self.whole, self.card
        if case is None:
            return None
        if self._part is None or self._part[0] is not case or self._part[1] != card:
            self._part = case, card, of_card(case, card)
        return self._part[2]

    @property
    def node(self) -> Any:
        """The markups under review; None where there are none."""
        volume_node = self.workspace.volume_node if self.whole else None
        return volume_node and node_of_card(self.workspace.scene, volume_node, self.card)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the landmarks under review as a whole."""
        return notes_of(self.case, self.card) if self.case else ()

    @property
    def cards(self) -> tuple[str, ...]:
        """Ids of all cards that placed landmarks in the chosen volume."""
        return cards_of(self.whole) if self.whole else ()

    @property
    def can_undo(self) -> bool:
        return self.case is not None and last_decision(self.case, second=self.is_blinded) is not None

    def entries(self) -> tuple[Entry, ...]:
        """The review queue, with what is implausible by points and masks as they are."""
        case = self.case
        if case is None:
            return ()
        masks = node_of(self.workspace.scene, self.workspace.volume_node, "segmentation")
        changed = masks and masks.GetSegmentation().GetMTime()
        if self._made_from is None or self._made_from[0] is not case or self._made_from[1] != changed:
            off_mask = off_masks(masks, case.regions) if masks else None
            self._made_from = (case, changed)
            self._queue = queue(case, plausibility(case, off_mask=off_mask))
        return self._queue

    def shown(self, name: str) -> Landmark | None:
        """A landmark as it was left: what the views show."""
        points = reviewed_points(self.case) if self.case else ()
        return next((each for each in points if each.id == name), None)

    # decisions

    def decide(self, verb: str) -> None:
        """Decide about the current landmark and go on: "accept", "reject", "move" or "undefine".

        A move goes to where the mouse points, else to where the slice views cross. A second reader can only
        move, which is to place, and undefine.
        """
        first = {"accept": accept, "reject": reject, "move": move, "undefine": undefine}
        changes = {"move": place_second, "undefine": undefine_second} if self.is_blinded else first
        if verb not in changes or self.case is None:
            return
        where = (pointed_at(self.workspace.scene),) if verb == "move" else ()
        self.workspace.change(changes[verb], self.current, *where)
        self.go(self.next_open() or self.current)

    def undo(self) -> None:
        """Take the last decision back and go to its landmark.

        Raises:
            InvalidRequest: if there is none.
        """
        action = last_decision(self.workspace.need_case(), second=self.is_blinded)
        self.workspace.change(undo, second=self.is_blinded)  # it may be about another card's landmark
        self.go(action.target.partition("/")[2])

    def next_open(self) -> str:
        """Id of the next landmark to decide about; "" where all are decided."""
        if self.case is None:
            return ""
        if self.is_blinded:
            return next_for_second(self.case, self.current)
        return next_open(self.entries(), self.current)

    def go(self, name: str) -> None:
        """Come to a landmark: jump and zoom to it, its region forward.

        For a second reader the views stay, but for a point they have placed themselves.
        """
        self.turn_to(name)
        if self.is_blinded:
            ras = review_of(self.case, name).second_ras
        else:
            self.workspace.select(f"landmark/{name}")
            point = self.shown(name)
            ras = point.position_ras if point else None
        if ras is not None and self.zooms:
            self.workspace.views.zoom(ras, ZOOM_MM)
        elif ras is not None:
            self.workspace.views.jump(ras)
        self.show_aids()

    def turn_to(self, name: str) -> None:
        """Have a landmark under review, and with it those of its card; the views stay."""
        entry = self.whole.entry(f"landmark/{name}") if self.whole else None
        self.current = name
        if isinstance(entry, Landmark) and self.whole:
            self._card = card_of(self.whole, entry)

    def choose(self, card: str) -> None:
        """Review another card's landmarks: come to its next open one."""
        self.take_in()
        self._card, self.current = card, ""
        self.update()
        self.go(self.current)

    # the scene

    def update(self) -> None:
        """Bring case and nodes together: drags become decisions, decisions show in the nodes.

        A scene that was saved while a second reader was at work is theirs again: they see nothing either.
        """
        scene, volume_node = self.workspace.scene, self.workspace.volume_node
        if self.whole is not None and is_blinded(scene, volume_node):
            self.is_blinded = True
        self.take_in()
        self._find_current()
        self._blind()
        for node in self._nodes():
            show_review(node, self.whole)
        case = self.case
        if case is not None and self.is_blinded:
            show_second(scene, volume_node, case)
        else:
            remove_second(scene)
        self._watch()
        self.show_aids()

    def _find_current(self) -> None:
        """Have a landmark under review: anew for another volume, and where a card has placed some since."""
        whole, volume_node = self.whole, self.workspace.volume_node
        latest = latest_card(whole) if whole else ""
        if (volume_node, latest) != (self._volume_node, self._latest):
            self._volume_node, self._latest, self._card, self.current = volume_node, latest, latest, ""
        case = self.case
        if case is None or case.entry(f"landmark/{self.current}") is None:
            self.current = ""
            self.current = self.next_open() or (case.landmarks[0].id if case else "")

    def _nodes(self) -> list[Any]:
        """The markups of all cards' landmarks."""
        volume_node = self.workspace.volume_node if self.whole else None
        return nodes_of(self.workspace.scene, volume_node, "landmarks") if volume_node else []

    def take_in(self) -> None:
        """What was dragged by hand becomes a decision, whenever it was dragged."""
        scene, volume_node, case = self.workspace.scene, self.workspace.volume_node, self.whole
        if case is None:
            return
        changed, second = with_drags(scene, volume_node, case), second_node(scene)
        if self.is_blinded and second is not None:
            changed = take_in_second(second, changed)
            show_second(scene, volume_node, of_card(changed, self.card))
        if changed is not case:
            self.workspace.change(lambda _case: changed)

    def show_aids(self) -> None:
        """The point that can be dragged and the sphere around it: only while a person reviews."""
        is_on = self.is_active and self.case is not None
        point = self.shown(self.current) if is_on and not self.is_blinded else None
        show_radius(self.workspace.scene, point and point.position_ras, point and point.radius_mm)
        for node, _tag in self._watched:
            if node.GetScene() is not None:
                unlock_only(node, self.current if is_on else "")

    def read_blinded(self, is_blinded: bool) -> None:
        """Become the second reader, or the first one again."""
        self.workspace.select("")  # nothing stays highlighted that could tell
        self.is_blinded = is_blinded
        self.current = ""
        self._blind()
        self.update()

    def close(self) -> None:
        """Lock all points, show what was hidden, stop listening."""
        self.is_active = self.is_blinded = False
        scene = self.workspace.scene
        self.show_aids()
        self._unwatch()
        self._blind()
        remove_second(scene)

    def _blind(self) -> None:
        """Hide the landmarks of the chosen volume from a second reader, and nobody else's from anybody."""
        scene, chosen = self.workspace.scene, self.workspace.volume_node
        for node in analysed_volumes(scene):
            blind(scene, node, self.is_blinded and node is chosen)

    def _watch(self) -> None:
        second = second_node(self.workspace.scene) if self.is_blinded else None
        nodes = [*self._nodes(), *([second] if second is not None else [])]
        if [node for node, _tag in self._watched] != nodes:
            self._unwatch()
            for node in nodes:
                self._watched.append((node, node.AddObserver(node.PointEndInteractionEvent, self._dragged)))

    def _unwatch(self) -> None:
        for node, tag in self._watched:
            node.RemoveObserver(tag)
        self._watched.clear()

    def _dragged(self, _node: Any, _event: str) -> None:
        with self._safely():
            self.take_in()
