"""Two experiments with a landmark card on cases never trained on, through the product path; prints JSON.

    python -m ct3d.training.experiments_landmarks missing --data FOLDER --card ID
    python -m ct3d.training.experiments_landmarks outline --data FOLDER --card ID

"missing": fields of view that end so that 0 to 60 % of the known landmarks lie beyond them. What becomes of
the error of those that are still there, and of telling which are?
"outline": the outline in which the CT was released, altered or emptied. Does the detector live on it?
"""

import argparse
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ct3d.training import State
from ct3d.training.evaluate_landmarks import (
    add_model_options,
    fingerprint,
    mean_offsets,
    model_of,
    whole_views,
)
from ct3d.training.fields_of_view import SIDES, FieldOfView, crop, generator, whole
from ct3d.training.metrics import pooled_metrics, presence_metrics
from ct3d.training.openkbp import cases, open_case
from ct3d.training.outlines import ALTERATIONS, altered
from ct3d.training.program import ended
from ct3d.training.scores import Finder, Scores, mean_position, product, score

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)  # of a case's known landmarks, to be cut off

log = logging.getLogger("experiments_landmarks")


def main(argv: list[str] | None = None) -> int:
    """Run one experiment; gives the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    given = _parser().parse_args(argv)
    return ended(lambda: _run(given))


def _run(given):
    card, net, weights = model_of(given)
    paths = cases(given.data)
    found = given.run(paths, product(net, card), given)
    found |= {"card_id": card.id, "weights_sha256": weights, "date": datetime.now(UTC).date().isoformat()}
    return found | {"cases": {"count": len(paths), "sha256": fingerprint(paths)}, "seed": given.seed}


def missing(paths: list[Path], find: Finder, *, seed: int, repeats: int) -> dict[str, Any]:
    """Error and presence by the share of the landmarks that a field of view has lost.

    Args:
        paths: of the cases.
        find: the product path.
        seed: of sides and heights of the cuts.
        repeats: fields of view a case and share, each with another random side cut off.
    """
    views = _views(paths, seed, repeats)
    scores = score(views, find, log.info)
    nearest = np.array([_tenth(share) for share in scores.absent_share])
    return {
        "experiment": "missing",
        "fields_of_view": len(scores),
        "rows": [_missing_row(scores.of(nearest == n), n * 10) for n in range(len(SHARES))],
    }


def outline(paths: list[Path], find: Finder, *, seed: int) -> dict[str, Any]:
    """Errors with the outline altered, beside those of the same landmarks as they were released.

    Landmarks that are supported before and after are counted.
    """
    by_name = {name: score(_altered_views(paths, name, seed), find, log.info) for name in ALTERATIONS}
    released = by_name["as_released"]
    always = score(whole_views(paths), mean_position(mean_offsets(whole_views(paths))), lambda _text: None)
    rows = [_outline_row(name, scores, released) for name, scores in by_name.items()]
    baseline = pooled_metrics(np.where(released.supported, always.errors_mm, np.nan))
    return {"experiment": "outline", "mean_position_mre_mm": baseline["mre_mm"], "rows": rows}


def _views(paths: list[Path], seed: int, repeats: int) -> Iterator[FieldOfView]:
    for path in paths:
        case = open_case(path)
        if not np.isfinite(case.landmarks_ras).any():
            continue
        for share in SHARES:
            rng = generator(seed, case.id, f"{share:g}")
            for side in rng.permutation(list(SIDES))[:repeats]:
                view = crop(case, side=str(side), share=share, rng=rng)
                if _tenth(view.absent_share) <= _tenth(SHARES[-1]):  # few landmarks make large steps
                    yield view


def _tenth(share: float) -> int:
    return round(10 * share)


def _missing_row(scores: Scores, percent: int) -> dict[str, Any]:
    known = scores.states != State.UNKNOWN
    present = scores.states == State.PRESENT
    errors = pooled_metrics(np.where(scores.supported, scores.errors_mm, np.nan))
    presence = presence_metrics(present[known], scores.presence[known])
    told = presence_metrics(present[known], scores.told[known].astype(float))
    return {
        "absent_percent": percent,
        "fields_of_view": len(scores),
        "present": errors["n"],
        "absent": int((scores.states == State.MISSING).sum()),
        "mre_mm": errors["mre_mm"],
        "mre_ci95_mm": errors["mre_ci95_mm"],
        "sdr_8_mm": errors["sdr"]["8"]["share"],
        "auroc": presence["auroc"],
        "f1": presence["f1"],
        "f1_of_absence": presence["f1_of_absence"],
        "told_f1": told["f1"],
    }


def _altered_views(paths: list[Path], name: str, seed: int) -> Iterator[FieldOfView]:
    """Each case with its outline altered; the next case lends its outline."""
    for path, next_path in zip(paths, [*paths[1:], paths[0]]):
        case = open_case(path)
        view = whole(altered(case, name, other=open_case(next_path), seed=seed))
        yield replace(view, side=name)


def _outline_row(name: str, scores: Scores, released: Scores) -> dict[str, Any]:
    counted = scores.supported & released.supported
    now = pooled_metrics(np.where(counted, scores.errors_mm, np.nan))
    before = pooled_metrics(np.where(counted, released.errors_mm, np.nan))
    return {
        "alteration": name,
        "what": (ALTERATIONS[name].__doc__ or "").split("\n")[0],
        "landmarks": now["n"],
        "mre_mm": now["mre_mm"],
        "mre_ci95_mm": now["mre_ci95_mm"],
        "sdr_8_mm": now["sdr"]["8"]["share"],
        "mre_as_released_mm": before["mre_mm"],
        "told_present": round(float(scores.told[counted].mean()), 4) if counted.any() else None,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="EXPERIMENT")
    command = commands.add_parser("missing", help=missing.__doc__.splitlines()[0])
    command.add_argument("--repeats", type=int, default=2, help="fields of view a case and share")
    command.set_defaults(run=lambda paths, find, o: missing(paths, find, seed=o.seed, repeats=o.repeats))
    _add_options(command)
    command = commands.add_parser("outline", help=outline.__doc__.splitlines()[0])
    command.set_defaults(run=lambda paths, find, o: outline(paths, find, seed=o.seed))
    _add_options(command)
    return parser


def _add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, required=True, help="folder of pt_N.npz")
    command.add_argument("--seed", type=int, default=0)
    add_model_options(command)


if __name__ == "__main__":
    raise SystemExit(main())
