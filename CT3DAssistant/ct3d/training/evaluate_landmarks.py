"""Measure a landmark card on a folder of OpenKBP cases, through the product path; prints one JSON object.

    python -m ct3d.training.evaluate_landmarks --data FOLDER --card ID

Whole scans give the errors, the radius' coverage and the time. Smaller fields of view of the same scans, cut
at random from a seed, give presence: there some landmarks are truly not in the scan. The main figure is that
of supported landmarks: the data set withheld CT around the others. "complete" cases have all landmarks drawn.
A baseline that a recipe trained is measured alike: --recipe FILE --weights FILE.
"""

import argparse
import hashlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ct3d.cards import ModelCard, find_weights, load_card
from ct3d.errors import InvalidRequest, WeightsMissing
from ct3d.pipeline.landmark_net import build_net, load_weights
from ct3d.training import State
from ct3d.training.fields_of_view import FieldOfView, random_views, whole
from ct3d.training.metrics import Scored, landmark_metrics, pooled_metrics, presence_metrics
from ct3d.training.openkbp import LANDMARKS, cases, open_case
from ct3d.training.program import ended
from ct3d.training.scores import Finder, Scores, mean_position, middle, product, score

CLEAR_MM = 10.0  # a landmark farther than this from the cut lies plainly inside or outside
MEAN_POSITION = "mean_position_mm"  # in a card's measured section: landmark id → RAS mm from the middle
Note = Callable[[str], None]

log = logging.getLogger("evaluate_landmarks")


def main(argv: list[str] | None = None) -> int:
    """Run one evaluation; gives the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    given = _parser().parse_args(argv)
    return ended(lambda: _run(given))


def _run(given):
    card, net, weights = model_of(given)
    found = evaluate(cases(given.data), card, product(net, card), seed=given.seed, crops=given.crops)
    return found | {
        "card_id": card.id,
        "weights_sha256": weights,
        "recipe": given.recipe and given.recipe.stem,
    }


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The words that say which net is measured; see `model_of`."""
    parser.add_argument("--card", default="h3denet_headneck", help="id of a card, or its TOML file")
    parser.add_argument("--weights-folder", type=Path, help="where the card's weights lie, if not as ever")
    parser.add_argument("--recipe", type=Path, help="measure the net of this recipe in place of the card's")
    parser.add_argument("--weights", type=Path, help="the weights that the recipe gave")


def model_of(given: argparse.Namespace) -> tuple[ModelCard, nn.Module, str]:
    """The card, its net ready to run, and the checksum of its weights; of a recipe, if one is given.

    A recipe's net sees what the card's net sees. Nothing of the card's calibration is true of it.

    Raises:
        InvalidRequest: a card that isn't there, or that describes no net of these landmarks.
        WeightsMissing: nowhere to be found.
    """
    is_file = given.card.endswith(".toml")
    path = Path(given.card)
    card = load_card(path.stem, path.parent) if is_file else load_card(given.card)
    if card.heatmaps is None or tuple(each.id for each in card.landmarks) != LANDMARKS:
        raise InvalidRequest(
            f"The card {card.id} is no net of these landmarks: {', '.join(LANDMARKS)}. Choose another."
        )
    if given.recipe is None:
        weights = find_weights(card, (given.weights_folder,) if given.weights_folder else ())
        net = build_net(card)
    else:
        from ct3d.training.train_h3denet import build, read_recipe  # needs more than an evaluation does

        weights = given.weights
        net = build(read_recipe(given.recipe), card)
        plain = tuple(replace(each, presence=None, radius_mm=None) for each in card.landmarks)
        card = replace(card, landmarks=plain)
    if weights is None or not weights.is_file():
        raise WeightsMissing(
            f"There are no weights for {card.id} at {weights}. Train it, or give their file."
        )
    return card, load_weights(net, weights).eval(), hashlib.sha256(weights.read_bytes()).hexdigest()


def evaluate(
    paths: list[Path], card: ModelCard, find: Finder, *, seed: int, crops: int, note: Note = log.info
) -> dict[str, Any]:
    """Everything that is measured, ready for JSON.

    Args:
        paths: of the cases.
        card: holds the radii and, maybe, the training cases' mean positions.
        find: the product path of that card's net.
        seed: of the fields of view.
        crops: fields of view a case.
        note: called with each scan that is done, and how many there are.
    """
    counted = _counting(note, len(paths) * (1 + crops))
    scans = score(whole_views(paths), find, counted)
    cropped = score(cropped_views(paths, seed, crops), find, counted) if crops else None
    return {
        "card_sha256": card.sha256,
        "cases": {"count": len(paths), "names": [path.stem for path in paths], "sha256": fingerprint(paths)},
        "by_case": case_table(scans),
        "date": datetime.now(UTC).date().isoformat(),
        "errors": error_tables(scans, card),
        "mean_position": _baseline(paths, scans, card),
        "presence": presence_tables(scans, cropped, seed=seed, crops=crops),
        "seconds_per_case": {
            "mean": round(float(scans.seconds.mean()), 3),
            "largest": round(float(scans.seconds.max()), 3),
        },
    }


def whole_views(paths: list[Path]) -> Iterator[FieldOfView]:
    """Each case as it is."""
    return (whole(open_case(path)) for path in paths)


def cropped_views(paths: list[Path], seed: int, count: int) -> Iterator[FieldOfView]:
    """Random smaller fields of view of each case."""
    for path in paths:
        yield from random_views(open_case(path), seed=seed, count=count)


def error_tables(scans: Scores, card: ModelCard) -> dict[str, Any]:
    """Errors and radii of supported landmarks, of the others, and of all: pooled, by landmark, by case.

    "told" are the supported ones that a person is shown; the main figure counts the others' best guess, too.
    """
    radii = np.array([each.radius_mm if each.radius_mm is not None else np.nan for each in card.landmarks])
    of = {
        "supported": scans.supported,
        "not_supported": scans.inside & ~scans.supported,
        "all": scans.inside,
        "told": scans.supported & scans.told,
    }
    drawn = np.where(scans.inside, State.PRESENT, State.UNKNOWN)
    return {
        name: landmark_metrics(
            Scored(
                LANDMARKS,
                np.where(mask, scans.errors_mm, np.nan),
                states=drawn,
                radii=None if np.isnan(radii).all() else radii,
            )
        )
        for name, mask in of.items()
    }


def case_table(scans: Scores) -> dict[str, dict[str, Any]]:
    """Of each case: how many supported landmarks, their mean error, and which is the worst."""
    rows = {}
    for name, row, shown in zip(scans.cases, scans.errors_mm, scans.supported):
        rows[str(name)] = {"supported": int(shown.sum())}
        if shown.any():
            worst = int(np.where(shown, row, -1).argmax())
            rows[str(name)] |= {"mre_mm": round(float(row[shown].mean()), 2), "worst": LANDMARKS[worst]}
            rows[str(name)]["worst_mm"] = round(float(row[worst]), 2)
    return rows


def presence_tables(scans: Scores, cropped: Scores | None, *, seed: int, crops: int) -> dict[str, Any]:
    """How well what is in the scan is told from what isn't, under cropping.

    Present are supported landmarks inside the field of view, absent those known to lie beyond it; "clear"
    leaves out what lies near the cut, "told" is the product's whole decision. On whole scans nothing is
    absent: `whole_scans_told_present` is the share of supported landmarks that a person would be shown.
    """
    result: dict[str, Any] = {"crops_per_case": crops, "seed": seed, "clear_mm": CLEAR_MM}
    result["whole_scans_told_present"] = _share(scans.told[scans.supported])
    if cropped is None or not len(cropped):
        return result
    known = cropped.states != State.UNKNOWN
    clear = known & (np.abs(cropped.beyond_mm) > CLEAR_MM)
    present = cropped.states == State.PRESENT
    result |= {
        "fields_of_view": len(cropped),
        "absent_share": round(float(cropped.absent_share.mean()), 4),
        "pooled": presence_metrics(present[known], cropped.presence[known]),
        "clear": presence_metrics(present[clear], cropped.presence[clear]),
        "told": presence_metrics(present[known], cropped.told[known].astype(float)) | {"auroc": None},
        "errors_inside": pooled_metrics(np.where(cropped.supported, cropped.errors_mm, np.nan)),
    }
    columns = ((n, name, known[:, n]) for n, name in enumerate(LANDMARKS))
    result["landmarks"] = {
        name: presence_metrics(present[rows, n], cropped.presence[rows, n]) for n, name, rows in columns
    }
    return result


def mean_offsets(views: Iterator[FieldOfView]) -> np.ndarray:
    """(L, 3) RAS mm: where each landmark lies on average, from the middle of the scan."""
    offsets = np.array([view.case.landmarks_ras - middle(view.case.volume) for view in views])
    drawn = np.isfinite(offsets).sum(axis=0)
    return np.where(drawn, np.nansum(offsets, axis=0) / np.maximum(drawn, 1), np.nan)


def fingerprint(paths: list[Path]) -> str:
    """Checksum of the cases: their names and their files' checksums."""
    lines = (f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in sorted(paths))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _baseline(paths, scans, card):
    """The same errors of a finder that always answers the mean position, learnt on the training cases."""
    given = card.measured.get(MEAN_POSITION)
    offsets = np.array([given[name] for name in LANDMARKS]) if given else mean_offsets(whole_views(paths))
    always = score(whole_views(paths), mean_position(offsets), lambda _text: None)
    of = {"supported": scans.supported, "all": scans.inside}
    tables = {name: pooled_metrics(np.where(mask, always.errors_mm, np.nan)) for name, mask in of.items()}
    return {"learnt_on": "training cases" if given else "these cases", **tables}


def _counting(note: Note, count: int) -> Note:
    done = iter(range(1, count + 1))
    return lambda name: note(f"{next(done)} of {count}: {name}")


def _share(values):
    return round(float(values.mean()), 4) if values.size else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of pt_N.npz")
    add_model_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the random fields of view")
    parser.add_argument("--crops", type=int, default=4, help="random fields of view a case")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
