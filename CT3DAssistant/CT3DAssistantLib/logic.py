"""What a person can ask for, one method per verb; headless, on any scene and any client.

Each verb returns at once with a job. Its callbacks, and the changes to the scene, happen while the caller
polls the client, in the caller's thread.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import slicer

from ct3d.cards import load_card
from ct3d.case import Case, Input, Scope
from ct3d.client.client import Client, Job
from ct3d.errors import AssistantError, InvalidRequest
from ct3d.imaging.check import check_ct
from ct3d.imaging.exchange import open_array, remove_arrays, storing_array
from ct3d.imaging.volume import Volume
from ct3d.protocol.messages import Progress
from ct3d.protocol.tasks import (
    AnswerParams,
    ArrayRef,
    CheckParams,
    EstimateParams,
    EstimateResult,
    FindingsParams,
    LandmarkParams,
    LocateParams,
    MaskLayer,
    MeasureParams,
    MeasureResult,
    ReportParams,
    SegmentParams,
    SegmentResult,
    Turn,
    VolumeRef,
    WarmUpParams,
)
from CT3DAssistantLib.archive import put_away
from CT3DAssistantLib.chain import Chain
from CT3DAssistantLib.errand import Errand
from CT3DAssistantLib.landmark_node import with_drags
from CT3DAssistantLib.landmark_review import reviewed
from CT3DAssistantLib.model_input import refuse_input, seeing
from CT3DAssistantLib.ownership import fingerprinting, node_of, note_measured
from CT3DAssistantLib.place import Place, Places
from CT3DAssistantLib.profiles import Profile, profile_of
from CT3DAssistantLib.results import Stage, failed, merge, show
from CT3DAssistantLib.scene import (
    add_report,
    case_of,
    in_segments,
    notes_of,
    reading_layers_of,
    save_case,
    volume_from_node,
)

VolumeNode = slicer.vtkMRMLScalarVolumeNode
OnProgress = Callable[[Progress], None]
OnText = Callable[[str], None]

WHOLE_SCAN = Scope()
SEES_VOXELS = ("segment", "locate", "landmarks", "measure")
SEES_MASKS = ("landmarks", "measure")
ANALYSIS = ("estimate", "segment", "locate", "landmarks", "measure", "findings", "report")
OPTIONAL = "locate"  # done where the profile has a card for it


def left_of(case: Case) -> tuple[str, ...]:
    """The steps of an analysis from the first that is missing or broken; none: all are there."""
    broken = {flag.id.removesuffix("_failed") for flag in case.flags if flag.id.endswith("_failed")}
    known = {OPTIONAL, *(step.task for step in case.provenance)} - broken
    steps = ANALYSIS[ANALYSIS.index("segment") :]
    first = next((n for n, task in enumerate(steps) if task not in known), len(steps))
    return steps[first:] if first else ()


class AssistantLogic:
    """The verbs of the assistant on the volumes of one scene.

    Args:
        scene: where volumes are and results go.
        client: runs the tasks; the caller polls it.
        exchange_dir: folder of the arrays beside the wire, the same as the client's.
        profile: the model cards to work with, and then the attribute to change them; None: the default ones.
    """

    def __init__(
        self,
        scene: slicer.vtkMRMLScene,
        client: Client,
        exchange_dir: Path,
        *,
        profile: Profile | None = None,
    ):
        self.scene = scene
        self.client = client
        self.exchange_dir = Path(exchange_dir)
        self.profile = profile or profile_of("")
        self._at_hand: frozenset[str] = frozenset()  # arrays of the volume that was worked on last

    def analyze(
        self, volume_node: VolumeNode, on_progress: OnProgress | None = None, on_text: OnText | None = None
    ) -> Chain:
        """Everything: memory check, regions, landmarks, measurements, findings, report.

        Raises:
            InvalidRequest: if the volume can't be a CT, see check_ct.
        """
        return self._chain(volume_node, self._wanted(ANALYSIS), on_progress, on_text, fresh=True)

    def resume(
        self, volume_node: VolumeNode, on_progress: OnProgress | None = None, on_text: OnText | None = None
    ) -> Chain:
        """The steps of an analysis that are missing, or broke, and those that build on them.

        Raises:
            InvalidRequest: if nothing is missing, or the volume has no regions to go on from.
        """
        case = self.case_of(volume_node)
        tasks = self._wanted(left_of(case)) if case else ()
        if not tasks:
            raise InvalidRequest("There is nothing to continue. Press Analyze to start anew.")
        return self._chain(volume_node, tasks, on_progress, on_text)

    def segment(self, volume_node: VolumeNode, on_progress: OnProgress | None = None) -> Chain:
        """Regions only; a new case that replaces the volume's earlier one."""
        return self._chain(volume_node, ("estimate", "segment"), on_progress, fresh=True)

    def locate(self, volume_node: VolumeNode, on_progress: OnProgress | None = None) -> Chain:
        """Orientation and range of the scan by the profile's shared encoder, beside what its header says.

        Raises:
            InvalidRequest: if the profile has no such encoder.
        """
        if not self.profile.encoder:
            raise InvalidRequest("No model here tells where a scan lies. Choose a profile that has one.")
        fresh = self.case_of(volume_node) is None
        return self._chain(volume_node, ("locate",), on_progress, fresh=fresh)

    def find_landmarks(self, volume_node: VolumeNode, on_progress: OnProgress | None = None) -> Chain:
        """Landmarks from the masks as the scene shows them now, or by a net from the voxels.

        A card that sees voxels only needs no analysis before. Landmarks of other cards stay.
        """
        fresh = self.sees_voxels_only("landmarks") and self.case_of(volume_node) is None
        return self._chain(volume_node, ("landmarks",), on_progress, fresh=fresh)

    def sees_voxels_only(self, task: str) -> bool:
        """Whether the profile's card for a task looks at the volume and at no mask."""
        return task == "landmarks" and load_card(self.profile.landmarks).heatmaps is not None

    def measure(self, volume_node: VolumeNode, on_progress: OnProgress | None = None) -> Chain:
        """Measurements from the masks as the scene shows them now, and what follows: findings, and a check of
        the report."""
        return self._chain(volume_node, ("measure", "findings", "check"), on_progress)

    def draft_report(
        self,
        volume_node: VolumeNode,
        sections: tuple[str, ...] = (),
        on_progress: OnProgress | None = None,
        on_text: OnText | None = None,
    ) -> Chain:
        """The report's sections (none named: all), worded anew from the case; what a person touched stays."""
        return self._chain(volume_node, ("report", "check"), on_progress, on_text, sections=sections)

    def check(self, volume_node: VolumeNode, sentences: tuple[str, ...] = ()) -> Chain:
        """Compare sentences (ids; none: all) with the measurements; their text stays as it is."""
        return self._chain(volume_node, ("check",), sentences=sentences)

    def ask(
        self,
        volume_node: VolumeNode,
        question: str,
        *,
        scope: Scope = WHOLE_SCAN,
        history: tuple[Turn, ...] = (),
        on_text: OnText | None = None,
    ) -> Chain:
        """Answer a question about the case; the answer is the last of the case's answers."""
        asked = {"question": question, "scope": scope, "history": history}
        return self._chain(volume_node, ("answer",), None, on_text, **asked)

    def warm_up(self) -> Job:
        """Get the worker and its language model ready, so that the next answer starts at once.

        Raises:
            InvalidRequest: if the profile has no language model.
        """
        card = self.profile.card_of("answer")
        if not card:
            raise InvalidRequest("There is no language model to warm up. Choose a profile that has one.")
        return self.client.submit("warm_up", WarmUpParams(card))

    def estimate(self, volume_node: VolumeNode, task: str = "segment", card: str | None = None) -> Job:
        """What a task would need on this machine; the job's result is an EstimateResult.

        Args:
            card: id of the model card; None: the profile's.
        """
        shape = volume_from_node(volume_node).array.shape
        card = self.profile.card_of(task) if card is None else card
        return self.client.submit("estimate", EstimateParams(task, card, shape))

    def case_of(self, volume_node: VolumeNode) -> Case | None:
        """The case of a volume, or None."""
        return case_of(self.scene, volume_node)

    def place(self, volume_node: VolumeNode, evidence: str) -> Place | None:
        """Where to look for an evidence string; None where there is nothing to see."""
        case, masks = self.case_of(volume_node), node_of(self.scene, volume_node, "segmentation")
        if case is None:
            return None
        return Places(case, in_segments(masks) if masks else lambda _region: None).of(evidence)

    def show_input(self, volume_node: VolumeNode, card: str) -> Errand:
        """What a card's model sees of a volume; the result is a volume node beside it, used again.

        Raises:
            InvalidRequest: if there is no such card.
        """
        load_card(card)
        return Errand(self.client, seeing(self.client, self.exchange_dir, volume_node, card))

    def write_report(self, volume_node: VolumeNode) -> None:
        """Bring the report's text node up to the case, after a person has changed a sentence."""
        add_report(self.scene, volume_node, case_of(self.scene, volume_node))

    def hold(self, arrays: Iterable[ArrayRef]) -> None:
        """Keep these arrays in the exchange folder for the next task on the same volume."""
        self._at_hand = frozenset(array.sha256 for array in arrays)

    def tidy(self) -> None:
        """Remove all other arrays from the exchange folder. Only while nothing runs."""
        remove_arrays(self.exchange_dir, keep=self._at_hand)

    def _wanted(self, tasks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(filter(self.profile.does, tasks))

    def _chain(self, volume_node, tasks, on_progress=None, on_text=None, *, fresh=False, **asked) -> Chain:
        refuse_input(volume_node)
        work = _Work(self, volume_node, asked, fresh=fresh)
        return Chain(self.client, work, tasks, on_progress=on_progress, on_text=on_text)


class _Work:
    """One volume on its way through a chain: makes each task's parameters, takes in each result."""

    def __init__(
        self, logic: AssistantLogic, volume_node: VolumeNode, asked: Mapping[str, Any], *, fresh: bool
    ):
        self.logic, self.volume_node, self.asked = logic, volume_node, asked
        self._masks: tuple[MaskLayer, ...] | None = None  # None: as the scene shows them
        self._measured = ""  # fingerprint of those masks; "": of the scene's own
        self._ref: VolumeRef | None = None
        known = None if fresh else logic.case_of(volume_node)
        if known is None and not fresh:
            raise InvalidRequest("There is no analysis of this volume yet. Analyse it first.")
        self._started = known or self._new_case()
        self._is_kept = known is not None

    @property
    def case(self) -> Case:
        """As the scene holds it now: a person may have changed it since the last task."""
        kept = self.logic.case_of(self.volume_node) if self._is_kept else None
        return kept or self._started

    def _new_case(self) -> Case:
        volume = self.volume
        warnings = check_ct(volume)
        notes = tuple(dict.fromkeys((*notes_of(self.volume_node), *warnings)))
        return Case(Input("", volume.geometry, notes=notes))  # a node may be named after a patient

    @property
    def volume(self) -> Volume:
        return volume_from_node(self.volume_node)

    def ready(self, task: str) -> Iterator[None]:
        """Volume and masks beside the wire; written once per chain, and never twice with the same content."""
        if (task in SEES_VOXELS or self.logic.profile.reads_scan(task)) and self._ref is None:
            volume = self.volume
            array = yield from storing_array(volume.array, self.logic.exchange_dir)
            self._ref = VolumeRef(array, volume.geometry.ijk_to_ras)
            self._started = replace(self._started, input=replace(self._started.input, sha256=array.sha256))
        if self._needs_masks(task) and self._masks is None:
            node = node_of(self.logic.scene, self.volume_node, "segmentation")
            self._measured = (yield from fingerprinting(node)) if node else ""
            layers, masks = (yield from reading_layers_of(self.logic.scene, self.volume_node)), []
            for name, layer in layers.items():
                array = yield from storing_array(layer, self.logic.exchange_dir)
                masks.append(MaskLayer(name, array))
            self._masks = tuple(masks)
        self._hold()

    def _needs_masks(self, task: str) -> bool:
        if task == "answer":
            scope = self.asked.get("scope", WHOLE_SCAN)
            return scope.kind == "region" and self.logic.profile.reads_scan(task)
        return task in SEES_MASKS and not self.logic.sees_voxels_only(task)

    def _hold(self) -> None:
        volume = (self._ref.array,) if self._ref else ()
        masks = (layer.array for layer in self._masks or ())
        if volume:
            self.logic.hold((*volume, *masks))

    def params(self, task: str) -> Any:
        card = self.logic.profile.card_of("segment" if task == "estimate" else task)
        seen = reviewed(self.case)  # what builds on landmarks goes by where people put them
        makers = {
            "estimate": lambda: EstimateParams("segment", card, self.volume.array.shape),
            "segment": lambda: SegmentParams(self._ref, card),
            "locate": lambda: LocateParams(self._ref, card),
            "landmarks": lambda: LandmarkParams(
                self._ref, self._masks or (), self.case.regions, card, seen.qc.places if seen.qc else ()
            ),
            "measure": lambda: MeasureParams(self._ref, self._masks, seen.regions, seen.landmarks),
            "findings": lambda: FindingsParams(seen, card),
            "report": lambda: ReportParams(seen, card, volume=self._read_by(task), **self.asked),
            "check": lambda: CheckParams(seen, self.asked.get("sentences", ())),
            "answer": lambda: AnswerParams(
                seen, card=card, volume=self._read_by(task), layers=self._layers_of(task), **self.asked
            ),
        }
        return makers[task]()

    def _read_by(self, task: str) -> VolumeRef | None:
        """The volume, for a card whose model reads it."""
        return self._ref if self.logic.profile.reads_scan(task) else None

    def _layers_of(self, task: str) -> tuple[MaskLayer, ...]:
        return (self._masks or ()) if self._needs_masks(task) else ()

    def absorb(self, result: Any) -> Iterator[None]:
        """Merge at once; show in bites."""
        if isinstance(result, EstimateResult):
            return
        self._check_volume()
        if isinstance(result, SegmentResult):
            self._masks = result.layers
            self._hold()
        self._keep(merge(result, with_drags(self.logic.scene, self.volume_node, self.case)))
        node = node_of(self.logic.scene, self.volume_node, "segmentation")
        if isinstance(result, MeasureResult) and node is not None:
            note_measured(node, self._measured)
        folder = self.logic.exchange_dir
        layers = {layer.name: open_array(layer.array, folder) for layer in self._masks or ()}
        for _ in show(result, self.case, Stage(self.logic.scene, self.volume_node, layers)):
            yield
            self._check_volume()

    def note_failure(self, task: str, error: AssistantError) -> None:
        """In the case that the scene holds: an earlier one stays until something was found anew."""
        if self.volume_node.GetScene() is None:
            return
        self._started = failed(self._started, task, str(error))
        if self._is_kept or (known := self.logic.case_of(self.volume_node)) is None:
            self._keep(failed(self.case, task, str(error)))
        else:
            save_case(self.logic.scene, self.volume_node, failed(known, task, str(error)))

    def _check_volume(self) -> None:
        if self.volume_node.GetScene() is None:
            raise InvalidRequest("The volume was removed from the scene. Load it again to go on.")

    def _keep(self, case: Case) -> None:
        if not self._is_kept:
            earlier = self.logic.case_of(self.volume_node)
            case = put_away(self.logic.scene, self.volume_node, earlier, case)
        save_case(self.logic.scene, self.volume_node, case)
        self._is_kept = True
