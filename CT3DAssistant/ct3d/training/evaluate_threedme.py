"""What the pretrained shared encoder can do on CTs it never saw, each beside what needs no learning.

    python -m ct3d.training.evaluate_threedme WHAT --data FOLDER --out FILE.json

WHAT is one of these. position: where a crop lies in the body, by the coordinate head, by its slice's index in
the scan, and by saying the mean place. places: where the card's anchors lie in whole scans. orientation:
scans as stored and mirrored on disk, through the product's own check. reconstruction: hidden voxels by the
decoder and by inpainting, by their distance to the nearest visible one.
"""

import argparse
import json
import math
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from ct3d.cards import load_card
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.models.spatial_ssl import UNIT_MM
from ct3d.models.threedme import PATCH
from ct3d.pipeline.encoder_input import as_seen, body_view
from ct3d.pipeline.job import build_model
from ct3d.pipeline.locate import placed, verdicts
from ct3d.pipeline.whereabouts import VIEW_KJI, VIEW_MM
from ct3d.pipeline.whole_scan import AXES, crops_of, encoded, margins, points_mm, whole_scan
from ct3d.training.build_corpus import HELD_OUT, read_scan, with_air
from ct3d.training.inpainting import linear
from ct3d.training.openkbp import LANDMARKS, cases, open_case
from ct3d.training.probe_threedme import mean_shape, shift_mm, spread
from ct3d.training.program import ended
from ct3d.training.progressive_masking import hidden
from ct3d.training.reconstruction_figure import draw

CROPS = 6  # a patient and seed
RATIO = 0.75  # of tokens hidden
HIDDEN = {"blocks_of_8": 1, "blocks_of_16": 2, "blocks_of_32": 4, "slabs_of_16": 0}  # voxels → tokens a side
BINS_MM = [0, 8, 16, 24, 32, 48, 64, 128]  # of the distance to the nearest visible voxel


def main(argv: list[str] | None = None) -> int:
    """Measure one thing; gives the exit code."""
    parser = argparse.ArgumentParser(description="Measure the shared encoder on held-out CTs.")
    parser.add_argument("what", choices=list(MEASURES))
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds openkbp/ and others")
    parser.add_argument("--samples", type=Path, default=Path.home() / ".cache" / "ct3d" / "samples")
    parser.add_argument("--card", default="threedme_tiny")
    parser.add_argument("--patients", type=int, default=33)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(argv)
    return ended(lambda: _run(given))


def _run(given):
    card = load_card(given.card)
    found = {"card": card.id, "weights_sha256": card.weights.sha256, "date": date.today().isoformat()}
    found |= MEASURES[given.what](build_model(card), card, given)
    given.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if given.what == "reconstruction":
        draw(found, given.out.with_suffix(".png"))


def held_out(given: argparse.Namespace) -> Iterator[tuple[str, Volume]]:
    """CTs that no training saw."""
    for path in cases(given.data / "openkbp" / "validation")[: given.patients]:
        case = open_case(path)
        yield f"openkbp/{case.id}", with_air(case)
    for name in HELD_OUT:
        yield name, read_scan(name, given.data, given.samples)


def position(model: Any, _card: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Error of a crop's place among brought-together landmarks, mm.

    Head and slice index each get the affine map to that frame which fits the training patients best.
    """
    paths = {part: cases(given.data / "openkbp" / part) for part in ("train", "validation")}
    shape = mean_shape([open_case(path).landmarks_ras for path in paths["train"]])
    own, other = (
        [_patient(path, shape) for path in some]
        for some in (paths["train"][: 2 * given.patients], paths["validation"][: given.patients])
    )
    found: dict[str, list[float]] = {name: [] for name in ("head", "slice_index", "mean")}
    for seed in range(given.seeds):
        rng = np.random.default_rng(seed)
        seen, wanted = ([_crops(each, model, rng) for each in some] for some in (own, other))
        learned = [np.concatenate(part) for part in zip(*seen)]
        for name, column in (("head", 0), ("slice_index", 1)):
            guess = _affine(learned[column], learned[2])
            errors = [np.median(np.linalg.norm(guess(each[column]) - each[2], axis=1)) for each in wanted]
            found[name].append(float(np.mean(errors)))
        mean = learned[2].mean(0)
        found["mean"].append(float(np.mean([np.median(np.linalg.norm(e[2] - mean, axis=1)) for e in wanted])))
    scored = {name: spread(values) for name, values in found.items()}
    counts = {"learned_from": len(own), "scored": len(other), "crops": CROPS, "seeds": given.seeds}
    return {"data": "OpenKBP, head and neck", "patients": counts, "median_error_mm": scored}


def _patient(path, shape):
    """The body at 4 mm, and what brings its places among the mean landmarks."""
    case = open_case(path)
    return body_view(with_air(case), (VIEW_MM,) * 3, case.known), shift_mm(case.landmarks_ras, shape)


@torch.inference_mode()
def _crops(patient, model, rng):
    """Of random crops: the head's points (mm), slice index as share of the scan, true places (mm)."""
    view, shift = patient
    inside = np.argwhere(view.body)
    middles = inside[rng.integers(len(inside), size=CROPS)]
    corners = middles - np.array(VIEW_KJI) // 2
    image = torch.from_numpy(as_seen(view.seen.array))
    crops = crops_of(image, corners, VIEW_KJI)
    features = model.encoder(crops, torch.full((len(crops), 3), VIEW_MM))
    points = UNIT_MM * model.spatial.points(model.spatial.views(features.f8)).flip(-1).numpy()
    places = ras_from_kji(corners + (np.array(VIEW_KJI) - 1) / 2, view.seen.ijk_to_ras) - shift
    return points, middles[:, :1] / len(view.body), places


def _affine(x, y):
    """Least squares."""
    linear_map, *_ = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)
    return lambda values: np.c_[values, np.ones(len(values))] @ linear_map


def places(model: Any, card: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Error of the card's anchors in whole scans, mm, and in what share their radii hold."""
    anchors = card.position.anchors
    wanted = np.array([anchors[name].place_mm for name in LANDMARKS])
    errors = []
    for path in cases(given.data / "openkbp" / "validation")[: given.patients]:
        case = open_case(path)
        scan = whole_scan(with_air(case))
        found = placed(points_mm(model, scan, encoded(model, scan)), scan.cells_ras, wanted)
        errors.append(np.linalg.norm(found - case.landmarks_ras, axis=1))
    off, radii = np.array(errors), np.array([anchors[name].radius_mm for name in LANDMARKS])
    known = np.isfinite(off)
    return {
        "patients": len(off),
        "places": int(known.sum()),
        "median_error_mm": round(float(np.median(off[known])), 1),
        "ninety_percent_mm": round(float(np.quantile(off[known], 0.9)), 1),
        "radii_hold": round(float((off <= radii)[known].mean()), 3),
        "median_by_place_mm": dict(zip(LANDMARKS, np.nanmedian(off, 0).round(1).tolist())),
    }


def orientation(model: Any, card: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Verdicts on held-out scans as stored, and on the same with one axis mirrored on disk."""
    rows = {}
    for name, volume in held_out(given):
        row = {"as_stored": _margins(model, volume)}
        for axis in AXES:
            row[axis] = _margins(model, mirrored(volume, axis))
        rows[name] = row
    told = {name: {key: _told(each, card) for key, each in row.items()} for name, row in rows.items()}
    counts = {
        axis: {
            "scans_that_show_it": sum(row["as_stored"][n] != 0 for row in rows.values()),
            "detected": sum(row[axis][axis] == "mirrored" for row in told.values()),
            "false_alarms": sum(row["as_stored"][axis] == "mirrored" for row in told.values()),
            "untold": sum(
                told[name]["as_stored"][axis] == "untold" and row["as_stored"][n] != 0
                for name, row in rows.items()
            ),
            "right_sign": sum(row["as_stored"][n] > 0 for row in rows.values()),
        }
        for n, axis in enumerate(AXES)
    }
    return {"scans": len(rows), "counts": counts, "margins": rows, "verdicts": told}


def mirrored(volume: Volume, axis: str) -> Volume:
    """The volume with the body mirrored along an axis and the header left as it is."""
    direction = list(AXES).index(axis)
    along = int(np.abs(volume.ijk_to_ras[direction, :3]).argmax())  # I, J or K
    return Volume(np.ascontiguousarray(np.flip(volume.array, 2 - along)), volume.ijk_to_ras)


def _margins(model, volume):
    scan = whole_scan(volume)
    points = points_mm(model, scan, encoded(model, scan))
    return [round(float(each), 4) for each in margins(model, scan, points)]


def _told(found, card):
    return {each.axis: each.verdict for each in verdicts(np.array(found), card.position)}


@torch.inference_mode()
def reconstruction(model: Any, _card: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Mean absolute error of hidden body voxels in HU, by what hides them and by how far visible ones are."""
    rng = np.random.default_rng(0)
    errors: dict[str, dict[str, list[np.ndarray]]] = {}
    for _, volume in held_out(given):
        scan = whole_scan(volume)
        image = scan.image[0, 0].numpy()
        for kind, side in HIDDEN.items():
            mask = _mask(side, image.shape, rng)
            guess = _guess(model, scan, mask)
            ways = {"decoder": guess, "inpainting": linear(image, mask)}
            far_mm = scan.spacing_mm * ndimage.distance_transform_edt(mask)
            counted = mask & scan.body
            for way, filled in ways.items():
                off = 1000 * np.abs(filled - image)[counted]
                errors.setdefault(kind, {}).setdefault(way, []).append(_binned(off, far_mm[counted]))
    curves = {kind: _curves(ways) for kind, ways in errors.items()}
    return {"ratio": RATIO, "bins_mm": BINS_MM, "mean_absolute_error_hu": curves}


def _mask(side, shape, rng):
    """(D, H, W) bool voxels, hidden in blocks of `side` tokens; 0: in slabs of two planes of tokens."""
    grid = tuple(voxels // PATCH for voxels in shape)
    block = (side,) * 3 if side else (2, *grid[1:])
    mask = hidden(grid, round(RATIO * math.prod(grid)), block, rng)
    for axis in range(3):
        mask = mask.repeat(PATCH, axis)
    return mask


def _guess(model, scan, mask):
    hidden_voxels = torch.from_numpy(mask)[None, None]
    features = model.encoder(scan.image, torch.full((1, 3), scan.spacing_mm), hidden_voxels)
    return model.decoder(features.f8)[0, 0].numpy()


def _binned(off, far_mm):
    """(2, bins): sums of the errors, and counts."""
    which = np.digitize(far_mm, BINS_MM[1:-1])  # the last bin has no end
    size = len(BINS_MM) - 1
    return np.stack([np.bincount(which, off, size), np.bincount(which, minlength=size)])


def _curves(ways):
    """Mean over scans of their errors, and by distance; in how many scans the decoder does better."""
    whole = {way: np.array([s[0].sum() / s[1].sum() for s in each]) for way, each in ways.items()}
    told = {way: {"whole": round(float(values.mean()), 1)} for way, values in whole.items()}
    for way, each in ways.items():
        sums, counts = np.sum(each, 0)
        told[way]["by_distance"] = [round(float(s / c), 1) if c else None for s, c in zip(sums, counts)]
    is_better = whole["decoder"] < whole["inpainting"]
    return told | {"scans": len(is_better), "decoder_better": int(is_better.sum())}


MEASURES = {
    "position": position,
    "places": places,
    "orientation": orientation,
    "reconstruction": reconstruction,
}


if __name__ == "__main__":
    raise SystemExit(main())
