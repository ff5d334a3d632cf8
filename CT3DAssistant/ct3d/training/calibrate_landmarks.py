"""Calibrate a landmark card and write what was measured into it; prints the validation's JSON object.

    python -m ct3d.training.calibrate_landmarks --train FOLDER --validation FOLDER --card ID

Presence is fitted on the training cases: on whole scans, on random fields of view of them, and on scans of
other body parts. So it knows peaks only of scans that the net was trained on, which may stand higher than
those of new ones; what the validation measures is free of that. Radii are conformal over validation errors
of supported landmarks, with each landmark's scale from the training errors. The radius' coverage on
validation is therefore told twice: by the card's own radii, and leaving out one case at a time: the fair one.
"""

import argparse
import logging
import math
import sys
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ct3d.cards import LandmarkShape, ModelCard, cards_folder
from ct3d.errors import InvalidRequest
from ct3d.pipeline.landmark_shape import SIGNS, fitted_shape
from ct3d.training.calibration import fit_presence, left_one_out
from ct3d.training.card_file import with_landmark_values, with_table
from ct3d.training.conformal import conformal_radii, landmark_scales
from ct3d.training.evaluate_landmarks import (
    MEAN_POSITION,
    add_model_options,
    cropped_views,
    evaluate,
    mean_offsets,
    model_of,
    whole_views,
)
from ct3d.training.fields_of_view import FieldOfView
from ct3d.training.openkbp import LANDMARKS, LandmarkCase, cases
from ct3d.training.program import ended
from ct3d.training.scores import Finder, product, score
from ct3d.training.train_h3denet import find_scan, read_negative, read_recipe

log = logging.getLogger("calibrate_landmarks")


@dataclass(frozen=True)
class Calibration:
    """What was fitted.

    Attributes:
        presence: landmark id → slope and offset.
        shape: of the training cases, with the weights of its signs.
        radius_mm: landmark id → mm.
        left_one_out: coverage of the radii, leaving out one validation case at a time.
        fitted_on: counts of the scans.
    """

    presence: dict[str, list[float]]
    shape: LandmarkShape
    radius_mm: dict[str, float]
    left_one_out: dict[str, Any]
    fitted_on: dict[str, int]

    def of(self, card: ModelCard) -> ModelCard:
        """The card with this calibration."""
        landmarks = (
            replace(each, presence=tuple(self.presence[each.id]), radius_mm=self.radius_mm[each.id])
            for each in card.landmarks
        )
        return replace(card, landmarks=tuple(landmarks), shape=self.shape)


def main(argv: list[str] | None = None) -> int:
    """Calibrate and write; gives the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    given = _parser().parse_args(argv)
    return ended(lambda: _run(given))


def _run(given):
    if given.recipe and not given.card.endswith(".toml"):
        raise InvalidRequest(
            "A recipe's calibration is not the shipped card's. Copy the card and give that file as --card."
        )
    card, net, weights = model_of(given)
    train, validation = cases(given.train), cases(given.validation)
    recipe = read_recipe(given.negatives_of)
    paths = [find_scan(name, given.data, given.samples) for name in recipe.negatives]
    negatives = [absent(read_negative(path, recipe)) for path in paths]
    card = replace(card, shape=shape_of(train))
    fitted = calibrate(
        card, product(net, card), train, validation, negatives, crops=given.crops, seed=given.seed
    )
    mean = {name: _rounded(each, 2) for name, each in zip(LANDMARKS, mean_offsets(whole_views(train)))}
    card = replace(fitted.of(card), measured={MEAN_POSITION: mean})
    found = evaluate(validation, card, product(net, card), seed=given.seed, crops=given.crops)
    found |= {"card_id": card.id, "weights_sha256": weights, "calibration": asdict(fitted)}
    path = Path(given.card) if given.card.endswith(".toml") else cards_folder() / f"{given.card}.toml"
    path.write_text(calibrated(path.read_text(encoding="utf-8"), fitted, found, mean), encoding="utf-8")
    return found


def calibrate(
    card: ModelCard,
    find: Finder,
    train: list[Path],
    validation: list[Path],
    negatives: list[FieldOfView],
    *,
    crops: int,
    seed: int,
) -> Calibration:
    """Presence from training cases and scans of other body parts, radii from validation cases.

    Args:
        card: whose landmarks are found; its shape is kept, its weights are fitted.
        find: the product path of its net; its presence isn't asked.
        train: cases that the net was trained on.
        validation: cases that it wasn't.
        negatives: scans without any of the landmarks.
        crops: random fields of view of each training case.
        seed: of them.
    """
    log.info("%d training cases, whole; %d scans of other body parts", len(train), len(negatives))
    scans = score(whole_views(train), find, log.info)
    parts = score(chain(cropped_views(train, seed, crops), negatives), find, log.info)
    held_out = score(whole_views(validation), find, log.info)
    scales = landmark_scales(np.where(scans.supported, scans.errors_mm, np.nan))
    errors = np.where(held_out.supported, held_out.errors_mm, np.nan)
    pairs = ((getattr(scans, name), getattr(parts, name)) for name in ("peaks", "signs", "states"))
    presence = fit_presence(*map(np.concatenate, pairs))
    return Calibration(
        presence={each.id: _rounded((presence.slope, presence.offset), 3) for each in card.landmarks},
        shape=replace(card.shape, weights=tuple(_rounded(presence.weights, 3))),
        radius_mm={each.id: r for each, r in zip(card.landmarks, _radii(errors, scales))},
        left_one_out=left_one_out(errors, scales),
        fitted_on={
            "scans": len(scans),
            "fields_of_view": len(parts) - len(negatives),
            "others": len(negatives),
        },
    )


def shape_of(train: list[Path]) -> LandmarkShape:
    """How the landmarks of these cases lie; its signs have no weight yet."""
    points = np.stack([view.case.landmarks_ras for view in whole_views(train)])
    points = points[np.isfinite(points).any(axis=(1, 2))]
    basis = f"{len(points)} training cases of OpenKBP: a normal distribution, each case moved to fit best"
    places, covariance = fitted_shape(points)
    rows = tuple(tuple(tuple(_rounded(row, 1)) for row in matrix) for matrix in covariance)
    return LandmarkShape(basis, (0.0,) * len(SIGNS), tuple(tuple(_rounded(each, 1)) for each in places), rows)


def absent(case: LandmarkCase) -> FieldOfView:
    """A scan that shows none of the landmarks."""
    none = np.zeros(len(case.landmarks_ras), bool)
    return FieldOfView(case, "", none, ~none, np.full(none.shape, np.inf))


def calibrated(text: str, fitted: Calibration, found: dict[str, Any], mean: dict[str, list[float]]) -> str:
    """The card's text with its calibration, and what the validation measured.

    Args:
        text: of the card.
        fitted: the calibration.
        found: what `evaluate` gave.
        mean: landmark id → mean position in training.
    """
    values = {
        name: {"radius_mm": fitted.radius_mm[name], "presence": fitted.presence[name]} for name in LANDMARKS
    }
    text = with_table(with_landmark_values(text, values), "shape", asdict(fitted.shape))
    return with_table(text, "measured", _measured(found, fitted) | {MEAN_POSITION: mean})


def _radii(errors, scales):
    """Rounded up to a tenth of a mm, so that none holds less than was measured."""
    return [math.ceil(float(each) * 10) / 10 for each in conformal_radii(errors, scales)]


def _measured(found, fitted):
    """What a person reads in the card: headlines first, each with its count, then a line a landmark."""
    errors, presence = found["errors"], found["presence"]
    main, left_out = errors["supported"]["pooled"], fitted.left_one_out
    headlines = {
        "date": found["date"],
        "data": f"OpenKBP validation, {found['cases']['count']} patients, never trained on",
        "cases_sha256": found["cases"]["sha256"],
        "weights_sha256": found["weights_sha256"],
        "truth": "points computed from contours drawn for radiotherapy; supported: CT shown all around them",
        "supported": main["n"],
        "mre_mm": main["mre_mm"],
        "sd_mm": main["sd_mm"],
        **{f"sdr_{d}_mm": each["share"] for d, each in main["sdr"].items()},
        "mean_position_mre_mm": found["mean_position"]["supported"]["mre_mm"],
        "presence_auroc": presence["pooled"]["auroc"],
        "presence_f1": presence["pooled"]["f1"],
        "presence_fields_of_view": presence["fields_of_view"],
        "presence_seed": presence["seed"],
        "radius_holds": left_out["share"],
        "radius_holds_interval": left_out["wilson95"],
        "seconds_per_case": found["seconds_per_case"]["mean"],
    }
    subsets = {
        "not_supported": errors["not_supported"]["pooled"],
        "all": errors["all"]["pooled"],
        "complete": errors["supported"]["complete"],
        "incomplete": errors["supported"]["incomplete"],
    }
    tables = {name: _short(each) for name, each in subsets.items()}
    tables["landmarks"] = {name: _short(each) for name, each in errors["supported"]["landmarks"].items()}
    return _known({key.replace(".", "_"): value for key, value in headlines.items()}) | tables


def _short(summary):
    sdr = {f"sdr_{d}_mm": summary["sdr"][d]["share"] for d in ("4", "8")}
    return _known({name: summary[name] for name in ("n", "mre_mm", "sd_mm")} | sdr)


def _known(values):
    """Without what isn't known; millimetres to a hundredth."""
    is_length = {"mre_mm", "sd_mm", "mean_position_mre_mm"}
    known = {key: value for key, value in values.items() if value is not None}
    return {key: round(value, 2) if key in is_length else value for key, value in known.items()}


def _rounded(values, digits):
    return [round(float(each), digits) for each in values]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True, help="folder of the cases that were trained on")
    parser.add_argument("--validation", type=Path, required=True, help="folder of cases that were not")
    add_model_options(parser)
    recipe = Path(__file__).with_name("recipes") / "h3denet_headneck.toml"
    parser.add_argument("--negatives-of", type=Path, default=recipe, help="recipe that names other scans")
    parser.add_argument("--data", type=Path, required=True, help="folder that these lie in, as in training")
    parser.add_argument("--samples", type=Path, default=Path.home() / ".cache" / "ct3d" / "samples")
    parser.add_argument("--seed", type=int, default=0, help="of the random fields of view")
    parser.add_argument("--crops", type=int, default=4, help="random fields of view a case")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
