"""Landmarks of a case as people left them: Slicer's markups file, tables, and labels for training.

Positions are RAS in the case and LPS in the markups file and the training labels; the tables name both.
"""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ct3d.case import Case, Landmark, Point
from ct3d.imaging.volume import ijk_from_ras
from CT3DAssistantLib.exports.files import write_file, write_with
from CT3DAssistantLib.landmark_node import marks_of
from CT3DAssistantLib.landmark_review import review_of, reviewed_points
from CT3DAssistantLib.landmark_sets import card_of
from CT3DAssistantLib.plausibility import plausibility
from CT3DAssistantLib.readers import PAIRS, SDR_MM, agreement, distances
from CT3DAssistantLib.scene import write_points

FRAMES = ("r_ras_mm", "a_ras_mm", "s_ras_mm", "l_lps_mm", "p_lps_mm", "s_lps_mm")
REVIEW_COLUMNS = (
    *("landmark", "title", "state", "decided_utc", "found", "confidence", "radius_90_mm"),
    *FRAMES,
    *(f"program_{name}" for name in FRAMES),
    *("second_state", "second_utc"),
    *(f"second_{name}" for name in FRAMES),
    *("flags", "definition", "card", "input_sha256", "notice"),
)
READERS_COLUMNS = ("landmark", *(f"{pair}_mm" for pair in PAIRS), "readers_disagree")


def write_landmarks(path: Path, case: Case) -> Path:
    """Write one control point per landmark, in the card's order, as .mrk.json: LPS inside, missing ones too.

    Raises:
        DiskFull: if the file can't be written.
    """
    node = slicer.vtkMRMLMarkupsFiducialNode()
    node.SetName("landmarks")
    write_points(node, reviewed_points(case))
    for n, mark in enumerate(marks_of(case)):
        node.SetNthControlPointDescription(n, f"{mark.description}; {case.notice}")
        node.SetNthControlPointSelected(n, mark.is_open)
    storage = slicer.vtkMRMLMarkupsJsonStorageNode()

    def write(part: Path) -> None:
        storage.SetFileName(str(part))
        storage.WriteData(node)

    return write_with(path, write)


def write_review(path: Path, case: Case) -> Path:
    """Write one row per landmark: what the program found, what was decided and when, and both places.

    Raises:
        DiskFull: if the file can't be written.
    """
    flags = plausibility(case)
    points = zip(case.landmarks, reviewed_points(case), strict=True)
    return write_file(path, _csv(REVIEW_COLUMNS, (_review_row(case, *both, flags) for both in points)))


def _review_row(case: Case, found: Landmark, left: Landmark, flags: dict[str, tuple[str, ...]]) -> list[Any]:
    review = review_of(case, found.id)
    return [
        *(found.id, found.title, review.verdict, review.decided_utc),
        *(found.presence, found.confidence, "" if left.radius_mm is None else left.radius_mm),
        *_both_frames(left.position_ras),
        *_both_frames(found.position_ras),
        *(review.second, review.second_utc),
        *_both_frames(review.second_ras),
        *(" ".join(flags.get(found.id, ())), found.definition, card_of(case, found)),
        *(case.input.sha256, case.notice),
    ]


def write_readers(path: Path, case: Case) -> Path:
    """Write the distances between first reader, second reader and program, then their summary.

    Raises:
        DiskFull: if the file can't be written.
    """
    rows = distances(case)
    lines = [
        [row.landmark.id, *(_number(row.mm[pair]) for pair in PAIRS), "yes" if row.disagree else "no"]
        for row in rows
    ]
    every = [agreement(rows, pair) for pair in PAIRS]
    for name in ("count", "mean", "median", "largest"):
        lines.append([name, *(_number(getattr(each, name)) for each in every), ""])
    for limit in SDR_MM:
        lines.append([f"share up to {limit:g} mm", *(_number(each.success[limit]) for each in every), ""])
    lines.append([case.notice, *("" for _ in READERS_COLUMNS[1:])])
    return write_file(path, _csv(READERS_COLUMNS, lines))


def write_training(path: Path, case: Case) -> Path:
    """Write decided landmarks as labels to train on: name → LPS mm, or null where it is not to be seen.

    Open landmarks are left out, so that no guess of the program becomes truth; so are rejected ones, whose
    true place nobody gave. The voxels are what nnLandmark's all_landmarks_voxel.json holds for a case.

    Raises:
        DiskFull: if the file can't be written.
    """
    verdicts = {each.id: review_of(case, each.id).verdict for each in case.landmarks}
    known = [each for each in reviewed_points(case) if verdicts[each.id] not in ("open", "rejected")]
    matrix = np.array(case.input.geometry.ijk_to_ras)
    value = {
        "notice": case.notice,
        "case": case.input.sha256[:12],
        "frame": "LPS",
        "unit": "mm",
        "landmarks": {each.id: _lps(each.position_ras) for each in known},
        "voxels_ijk": {each.id: _voxel(each.position_ras, matrix) for each in known},
        "spacing_ijk_mm": list(reversed(case.input.geometry.spacing_kji_mm)),
        "left_out": {name: verdict for name, verdict in verdicts.items() if verdict in ("open", "rejected")},
    }
    return write_file(path, json.dumps(value, indent=1))


def _csv(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _both_frames(ras: Point | None) -> list[Any]:
    return [""] * 6 if ras is None else [*ras, *(_lps(ras) or ())]


def _lps(ras: Point | None) -> list[float] | None:
    return None if ras is None else [0.0 - ras[0], 0.0 - ras[1], ras[2]]


def _voxel(ras: Point | None, ijk_to_ras: np.ndarray) -> list[float] | None:
    if ras is None:
        return None
    return [round(float(x), 2) for x in ijk_from_ras(np.array([ras]), ijk_to_ras)[0]]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")
