"""What each task's result adds to the case and to the scene: two functions per result type.

`merge` gives the case with the result in it; `show` writes the nodes that present it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np
import slicer

from ct3d.case import Case, Flag, InputReport, Step
from ct3d.protocol.tasks import (
    AnswerResult,
    CheckResult,
    FindingsResult,
    LandmarkResult,
    LocateResult,
    MeasureResult,
    ReportResult,
    SegmentResult,
)
from CT3DAssistantLib.landmark_node import show_landmarks
from CT3DAssistantLib.landmark_review import found_anew
from CT3DAssistantLib.landmark_sets import cards_of, flags_of, named
from CT3DAssistantLib.redraft import with_checked, with_drafted
from CT3DAssistantLib.review import still_signed
from CT3DAssistantLib.scene import add_attributes, add_report, adding_segmentation

OF_POSITION = "position_orientation"
OF_REPORT = ("report_empty", "report_unsupported", "report_cut")  # flags of a model that reads scans


@dataclass(frozen=True, eq=False)
class Stage:
    """Where results are shown: a scene, and one volume of it with its mask layers, (K, J, I) by name."""

    scene: slicer.vtkMRMLScene
    volume_node: slicer.vtkMRMLScalarVolumeNode
    layers: Mapping[str, np.ndarray]


@singledispatch
def merge(result: Any, _case: Case) -> Case:
    """The case with this result in it."""
    raise TypeError(f"{type(result).__name__} has no place in a case")


@singledispatch
def show(result: Any, _case: Case, _stage: Stage) -> Iterable[None]:
    """Write the nodes that present a result; `case` holds it already. What takes long comes in bites."""
    raise TypeError(f"{type(result).__name__} has no place in a scene")


@merge.register
def _(result: SegmentResult, case: Case) -> Case:
    fresh = Case(
        case.input, regions=result.regions, saw=(result.saw,)
    )  # what was said of earlier masks is void
    return _noted(fresh, result.step, result.flags)


@show.register
def _(result: SegmentResult, _case: Case, stage: Stage) -> Iterable[None]:
    return adding_segmentation(stage.scene, stage.volume_node, stage.layers, result.regions)


@merge.register
def _(result: LandmarkResult, case: Case) -> Case:
    """Landmarks, flags and what was seen, in place of those of the same card; other cards' stay."""
    card, case = result.step.card, named(case)
    found = found_anew(case, tuple(replace(each, card=each.card or card) for each in result.landmarks))
    saw = (*(each for each in case.saw if each.card != card), *((result.saw,) if result.saw else ()))
    every = tuple(f"landmark/{each.id}" for each in result.landmarks)  # what a flag without evidence is about
    flags = tuple(replace(flag, evidence=flag.evidence or every) for flag in result.flags)
    return _noted(replace(found, saw=saw), result.step, flags, stale=flags_of(case, card))


@show.register
def _(_result: LandmarkResult, case: Case, stage: Stage) -> Iterable[None]:
    show_landmarks(stage.scene, stage.volume_node, case)
    return ()


@merge.register
def _(result: LocateResult, case: Case) -> Case:
    stale = [flag for flag in case.flags if flag.id == OF_POSITION]
    return _noted(replace(case, qc=result.check), result.step, result.flags, stale=stale)


@show.register
def _(_result: LocateResult, _case: Case, _stage: Stage) -> Iterable[None]:
    """A check has no node of its own: panels and reports read it from the case."""
    return ()


@merge.register
def _(result: MeasureResult, case: Case) -> Case:
    return _noted(replace(case, attributes=result.attributes), result.step, result.flags)


@show.register
def _(result: MeasureResult, _case: Case, stage: Stage) -> Iterable[None]:
    add_attributes(stage.scene, stage.volume_node, result.attributes)
    return ()


@merge.register
def _(result: FindingsResult, case: Case) -> Case:
    return _noted(replace(case, findings=result.findings), result.step, result.flags)


@show.register
def _(_result: FindingsResult, _case: Case, _stage: Stage) -> Iterable[None]:
    """Findings have no node of their own: the case in the parameter node holds them."""
    return ()


@merge.register
def _(result: ReportResult, case: Case) -> Case:
    drafted = with_drafted(case, result.sentences, result.sections)
    ids = {*OF_REPORT, *(flag.id for flag in result.flags)}
    stale = [flag for flag in case.flags if flag.id in ids]
    return _noted(_with_saw(drafted, result.saw), result.step, result.flags, stale=stale)


@show.register
def _(_result: ReportResult, case: Case, stage: Stage) -> Iterable[None]:
    add_report(stage.scene, stage.volume_node, case)
    return ()


@merge.register
def _(result: CheckResult, case: Case) -> Case:
    return _noted(with_checked(case, result.sentences), result.step, ())


@show.register
def _(_result: CheckResult, _case: Case, _stage: Stage) -> Iterable[None]:
    """A check changes no text."""
    return ()


@merge.register
def _(result: AnswerResult, case: Case) -> Case:
    answer = replace(result.answer, id=f"answer_{len(case.answers) + 1}")
    provenance = (*case.provenance, result.step)
    return replace(_with_saw(case, result.saw), answers=(*case.answers, answer), provenance=provenance)


@show.register
def _(_result: AnswerResult, _case: Case, _stage: Stage) -> Iterable[None]:
    """Answers have no node of their own: the case in the parameter node holds them."""
    return ()


def _with_saw(case: Case, saw: InputReport | None) -> Case:
    """The case with what a model saw, in place of what the same card's saw before; None: it saw no voxels."""
    if saw is None:
        return case
    return replace(case, saw=(*(each for each in case.saw if each.card != saw.card), saw))


def failed(case: Case, task: str, message: str) -> Case:
    """The case with a note that a task broke; what was found before stays."""
    flag = Flag(f"{task}_failed", "error", f"The step {task!r} failed: {message}")
    return replace(case, flags=(*_without(case.flags, {flag.id}), flag))


def _noted(case: Case, step: Step, flags: tuple[Flag, ...], stale: Collection[Flag] | None = None) -> Case:
    """The case with a task's provenance and flags in place of those of its earlier run.

    A signed report that no longer is what was signed is open again. Landmarks of another card keep their
    step.

    Args:
        stale: the earlier run's flags; None: those of the same ids.
    """
    case = still_signed(case, f"{step.task} ran again")
    ids = {flag.id for flag in flags}
    stale = [flag for flag in case.flags if flag.id in ids] if stale is None else stale
    left = tuple(flag for flag in _without(case.flags, {f"{step.task}_failed"}) if flag not in stale)
    others = set(cards_of(case)) - {step.card} if step.task == "landmarks" else set()
    provenance = tuple(each for each in case.provenance if each.task != step.task or each.card in others)
    return replace(case, flags=(*left, *flags), provenance=(*provenance, step))


def _without(flags: tuple[Flag, ...], ids: set[str]) -> tuple[Flag, ...]:
    return tuple(flag for flag in flags if flag.id not in ids)
