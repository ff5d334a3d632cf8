"""What all panels look at together: the chosen volume, its case, and the evidence that is selected.

No Qt: a panel, a script and a test without a screen use the same one. Whoever changes the case goes through
`change`; whoever shows it registers a callback. The callbacks run later, from the event loop, many changes
as one call.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import slicer

from ct3d.case import Case
from ct3d.errors import DiskFull, InvalidRequest
from CT3DAssistantLib.logic import AssistantLogic
from CT3DAssistantLib.ownership import MODULE, VOLUME, parameter_node, parameter_nodes
from CT3DAssistantLib.profiles import Profile, profile_of, profiles
from CT3DAssistantLib.recovery import Recovery
from CT3DAssistantLib.scene import case_of, save_case
from CT3DAssistantLib.views import Views

Node = slicer.vtkMRMLNode

LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
TURN_S = 0.02  # for telling of a change, at a time
SELECTED = f"{MODULE}.selected"  # attribute of the node that holds a case
GONE = "The volume was removed from the scene. Load it again to go on."


class State(Protocol):
    """What is saved with the scene: in the application a wrapped parameter node, else any object."""

    inputVolume: slicer.vtkMRMLScalarVolumeNode | None
    segmentation: slicer.vtkMRMLSegmentationNode | None
    landmarks: slicer.vtkMRMLMarkupsFiducialNode | None
    caseNode: slicer.vtkMRMLScriptedModuleNode | None
    profile: str


class Workspace:
    """The chosen volume with its case, the selected evidence, and who wants to hear of changes.

    Args:
        logic: the verbs, over the scene.
        state: what is saved with the scene.
        later: calls a function soon, from the event loop; tests may call at once.
        recovery: keeps what a person changes beside the scene; None: nothing is kept there.

    Attributes:
        views: moves slices and brings segments forward.
        on_change: called without arguments after volume or case have changed.
        on_select: called with the evidence after the selection has changed.
        on_open: called with the name of a panel that should unfold, e.g. "models".
        on_tell: called with (text, severity) for what the person should read; severity is that of a Flag.
        jobs: chains and jobs that run, newest last.
    """

    def __init__(
        self,
        logic: AssistantLogic,
        state: State,
        later: Callable[[Callable[[], None]], Any],
        *,
        recovery: Recovery | None = None,
    ):
        self.recovery = recovery
        self.logic = logic
        self.scene = logic.scene
        self.state = state
        self.views = Views(self.scene)
        self.on_change: list[Callable[[], None]] = []
        self.on_select: list[Callable[[str], None]] = []
        self.on_open: list[Callable[[str], None]] = []
        self.on_tell: list[Callable[[str, str], None]] = []
        self.on_start: list[Callable[[Any], None]] = []
        self.jobs: list[Any] = []
        self._later = later
        self._is_due = False
        self._observed: list[tuple[Any, int]] = []
        self._observe(self.scene, self.scene.NodeRemovedEvent, self._end_orphans)
        for event in (self.scene.EndImportEvent, self.scene.EndCloseEvent):
            self._observe(self.scene, event, self.touch)

    @property
    def volume_node(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The chosen volume; None once it has been removed from the scene."""
        node = self.state.inputVolume
        return node if node is not None and node.GetScene() is self.scene else None

    @volume_node.setter
    def volume_node(self, node: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        if node is not self.volume_node:
            self.state.inputVolume = node
        self.touch()

    @property
    def profile(self) -> Profile:
        """The model profile that the scene names; the default where it names none that is known."""
        return profiles().get(self.state.profile) or profile_of("")

    @profile.setter
    def profile(self, profile: Profile) -> None:
        self.state.profile = profile.id
        self.logic.profile = profile
        self.touch()

    @property
    def case(self) -> Case | None:
        """The chosen volume's case; None where it has none."""
        node = self.volume_node
        return case_of(self.scene, node) if node else None

    @property
    def selected(self) -> str:
        """Evidence string that all panels highlight; "" for none. Saved with the scene, as the views are."""
        parameters = self.volume_node and parameter_node(self.scene, self.volume_node)
        return (parameters.GetAttribute(SELECTED) or "") if parameters else ""

    @selected.setter
    def selected(self, evidence: str) -> None:
        for parameters in parameter_nodes(self.scene):  # the views show one selection, whichever the volume
            is_chosen = parameters.GetNodeReference(VOLUME) is self.volume_node
            if evidence and is_chosen:
                parameters.SetAttribute(SELECTED, evidence)
            else:
                parameters.RemoveAttribute(SELECTED)

    def need_case(self) -> Case:
        """The chosen volume's case.

        Raises:
            InvalidRequest: if there is none.
        """
        if self.case is None:
            raise InvalidRequest("There is no analysis of this volume yet. Choose a CT and press Analyze.")
        return self.case

    def change(self, change: Callable[..., Case], *args: Any, **named: Any) -> Case:
        """Replace the case by `change(case, *args, **named)`, keep it in the scene and tell everybody."""
        case = change(self.need_case(), *args, **named)
        save_case(self.scene, self.volume_node, case)
        self._keep_beside(case)
        self.touch()
        return case

    def select(self, evidence: str) -> None:
        """Show a piece of evidence in the views and tell everybody; "" shows everything again."""
        self.selected = evidence
        place = self.logic.place(self.volume_node, evidence) if evidence and self.volume_node else None
        self.views.show(self.volume_node, place)
        for callback in self.on_select:
            callback(evidence)

    def open(self, panel: str) -> None:
        """Have a panel unfolded, by name."""
        for callback in self.on_open:
            callback(panel)

    def tell(self, text: str, severity: str = "info") -> None:
        """Say something to the person; severity is "info", "warning" or "error"."""
        if not self.on_tell:  # a script at work, without the window
            logging.log(LEVELS[severity], text)
        for callback in self.on_tell:
            callback(text, severity)

    def start(self, job: Any) -> Any:
        """Take note of a job that runs, until it is done; gives it back."""
        self.jobs.append(job)
        job.add_done_callback(self._ended)
        for callback in self.on_start:
            callback(job)
        return job

    def cancel_all(self) -> None:
        """Stop everything that runs or waits."""
        for job in tuple(self.jobs):
            job.cancel()

    def touch(self, *_: Any) -> None:
        """Have everybody told soon that something has changed."""
        if not self._is_due:
            self._is_due = True
            self._later(self._tell_all)

    def close(self) -> None:
        """Stop listening to the scene, and let go of everybody who listens here."""
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed.clear()
        for callbacks in (self.on_change, self.on_select, self.on_open, self.on_tell, self.on_start):
            callbacks.clear()

    def _keep_beside(self, case: Case) -> None:
        if self.recovery is None:
            return
        try:
            self.recovery.keep(case)
        except DiskFull as error:  # the change itself stands: the scene holds it
            self.tell(f"Your change is in the scene, but not kept beside it. {error}", "warning")

    def _ended(self, job: Any) -> None:
        if job in self.jobs:
            self.jobs.remove(job)
        self._later(self._tidy)
        self.touch()

    def _tidy(self) -> None:
        """Give back the disk space of what no task needs; who waits for a result has taken it by now."""
        if not self.jobs:
            self.logic.tidy()

    def _tell_all(self) -> None:
        self._is_due = False
        self.logic.profile = self.profile  # a scene that was read may name another
        self._note_nodes()
        self._tell_rest(tuple(self.on_change))

    def _tell_rest(self, callbacks: tuple[Callable[[], None], ...]) -> None:
        """As many as fit into one turn of the event loop, then the others in the next."""
        end = time.perf_counter() + TURN_S
        for told, callback in enumerate(callbacks):
            if told and time.perf_counter() > end:
                self._later(partial(self._tell_rest, callbacks[told:]))
                return
            if callback in self.on_change:
                callback()

    def _note_nodes(self) -> None:
        """Have the state refer to what the chosen volume has."""
        volume, case_node = self.volume_node, None
        if volume is not None:
            case_node = parameter_node(self.scene, volume)
        has = {"inputVolume": volume, "caseNode": case_node}
        has |= {
            role: case_node and case_node.GetNodeReference(role) for role in ("segmentation", "landmarks")
        }
        for name, node in has.items():
            if getattr(self.state, name) is not node:
                setattr(self.state, name, node)

    def _end_orphans(self, *_: Any) -> None:
        """End what works on a volume that is no more."""
        for job in tuple(self.jobs):
            node = getattr(job, "volume_node", None)
            if node is not None and node.GetScene() is None:
                job.cancel(InvalidRequest(GONE))
        self.touch()

    def _observe(self, node: Any, event: int, callback: Callable[..., None]) -> None:
        self._observed.append((node, node.AddObserver(event, callback)))
