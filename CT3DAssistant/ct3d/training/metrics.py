"""How well landmarks are placed and told present: one plain dict, ready for JSON.

Source: H3DE-Net (arXiv 2502.14221): mean radial error (MRE), its standard deviation (SD) and the share of
hits within a distance (SDR); the released evaluation's conventions (ECNUACRush/H3DE-Net @ e61a57e) re-derived
from its behaviour. Differences:

* A landmark's SD divides by the errors that there are, less one. The reference divides by the number of
  volumes less one, also for landmarks that many volumes lack; that stands beside it as `sd_mm_compat`.
* An error of exactly 0 counts; the reference takes it for "no truth", which it writes as -1 and we as NaN.
* A landmark that is there but was not placed is a miss at every distance; it has no part in the MRE and is
  counted in `not_placed`. The reference always places.
* Millimetres come of the grid that the points are on. The reference uses the original spacing also for
  volumes it has shrunk.
"""

from dataclasses import dataclass

import numpy as np

from ct3d.training import State
from ct3d.training.conformal import coverage, proportion

DISTANCES_MM = (2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 10.0)
REFERENCE_DISTANCES_MM = (2.0, 2.5, 3.0, 4.0)
RESAMPLED = 2000  # times that the cases are drawn anew for the interval of the MRE


@dataclass(frozen=True, eq=False)
class Scored:
    """What a detector answered on N volumes, held against the truth.

    Attributes:
        names: of the L landmarks.
        errors: (N, L) mm; NaN: no truth, or not to be counted; inf: there, but not placed.
        states: (N, L) of `State` numbers; None: present where there's an error, else unknown.
        probabilities: (N, L) of presence; None: the detector doesn't tell.
        radii: (N, L) or (L,) mm, said to hold the true place in 90 %; None: it doesn't tell.
    """

    names: tuple[str, ...]
    errors: np.ndarray
    states: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    radii: np.ndarray | None = None


def radial_errors(truth: np.ndarray, placed: np.ndarray, spacing_mm: np.ndarray | None = None) -> np.ndarray:
    """(N, L) mm between true and placed points; NaN without a true point, inf without a placed one.

    Args:
        truth: (N, L, 3), RAS mm, or voxels if `spacing_mm` is given; NaN: no truth.
        placed: same shape and frame; NaN: not placed.
        spacing_mm: (N, 3) or (3,) along the points' axes.
    """
    steps = np.asarray(truth, float) - np.asarray(placed, float)
    if spacing_mm is not None:
        steps = steps * np.asarray(spacing_mm, float).reshape(-1, 1, 3)
    errors = np.linalg.norm(steps, axis=-1)
    errors[np.isnan(placed).any(axis=-1)] = np.inf
    errors[np.isnan(truth).any(axis=-1)] = np.nan
    return errors


def landmark_metrics(
    scored: Scored, *, distances_mm: tuple[float, ...] = DISTANCES_MM, presence_threshold: float = 0.5
) -> dict:
    """Everything that is measured, as a plain dict; None where there's nothing to measure.

    `pooled` is over all volumes; `complete` over those in which every landmark is present, `incomplete` over
    the others.
    """
    states = _states(scored)
    is_complete = (states == State.PRESENT).all(axis=1)
    result = {
        "volumes": len(states),
        "pooled": pooled_metrics(scored.errors, distances_mm),
        "complete": pooled_metrics(scored.errors[is_complete], distances_mm),
        "incomplete": pooled_metrics(scored.errors[~is_complete], distances_mm),
        "landmarks": {
            name: _errors_summary(scored.errors[:, n], distances_mm) for n, name in enumerate(scored.names)
        },
    }
    if scored.probabilities is not None:
        known = states != State.UNKNOWN
        is_present = states[known] == State.PRESENT
        result["presence"] = presence_metrics(is_present, scored.probabilities[known], presence_threshold)
        result["error_by_presence"] = _error_by(scored.probabilities, scored.errors)
    if scored.radii is not None:
        result["radius"] = _radius_summary(scored)
    return result


def pooled_metrics(errors: np.ndarray, distances_mm: tuple[float, ...] = DISTANCES_MM) -> dict:
    """MRE, SD and SDR over all landmarks of all volumes, and as the reference pools them: volume by volume.

    `per_volume` is the mean and SD over volumes of a volume's mean error: the reference's overall MRE and SD.
    `mre_ci95_mm` is a percentile interval from volumes drawn anew (seed 0).
    """
    means = np.array([row[np.isfinite(row)].mean() for row in errors if np.isfinite(row).any()])
    summary = _errors_summary(errors.ravel(), distances_mm)
    summary.pop("sd_mm_compat")
    return {
        "volumes": len(errors),
        **summary,
        "mre_ci95_mm": _interval_of_mean(errors),
        "per_volume": {"n": means.size, "mre_mm": _number(_mean(means)), "sd_mm": _number(_sd(means))},
    }


def presence_metrics(is_present: np.ndarray, probability: np.ndarray, threshold: float = 0.5) -> dict:
    """AUROC of presence and, at the threshold, F1 of presence and of absence, accuracy and the four counts.

    Args:
        is_present: (M,) bool.
        probability: (M,) of presence; present is answered at or above the threshold.
        threshold: as said.
    """
    answer = probability >= threshold
    hit, right_no = int((is_present & answer).sum()), int((~is_present & ~answer).sum())
    alarm, miss = int((~is_present & answer).sum()), int((is_present & ~answer).sum())
    return {
        "n": int(is_present.size),
        "auroc": _number(auroc(is_present, probability)),
        "threshold": threshold,
        "f1": _ratio(2 * hit, 2 * hit + alarm + miss),
        "f1_of_absence": _ratio(2 * right_no, 2 * right_no + alarm + miss),
        "accuracy": _ratio(hit + right_no, is_present.size),
        "counts": {
            "true_present": hit,
            "false_present": alarm,
            "true_absent": right_no,
            "false_absent": miss,
        },
    }


def auroc(is_positive: np.ndarray, score: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties half (Mann and Whitney); NaN without both."""
    positives, negatives = np.asarray(score)[is_positive], np.sort(np.asarray(score)[~is_positive])
    if not positives.size or not negatives.size:
        return float("nan")
    below = np.searchsorted(negatives, positives, side="left")
    up_to = np.searchsorted(negatives, positives, side="right")
    return float((below + up_to).sum() / (2 * positives.size * negatives.size))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, ties by mean ranks; NaN of fewer than three pairs or of a constant."""
    if a.size < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def reference_errors(truth: np.ndarray, placed: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """(N, L) mm as the reference stores them: -1 where the mean true coordinate isn't above 0 (voxels)."""
    errors = radial_errors(truth, placed, spacing_mm)
    return np.where(np.asarray(truth).mean(axis=-1) > 0, errors, -1.0)


def reference_hits(
    errors: np.ndarray, distances_mm: tuple[float, ...] = REFERENCE_DISTANCES_MM
) -> np.ndarray:
    """(2·distances, L): hits within each distance, then as many rows of how many are there."""
    is_there = errors >= 0
    hits = [((errors <= distance) & is_there).sum(axis=0) for distance in distances_mm]
    return np.array(hits + [is_there.sum(axis=0)] * len(distances_mm), float)


def _states(scored):
    if scored.states is not None:
        return np.asarray(scored.states)
    return np.where(np.isnan(scored.errors), State.UNKNOWN, State.PRESENT)


def _errors_summary(errors, distances_mm):
    """Of one landmark's errors, one a volume."""
    there = errors[~np.isnan(errors)]
    placed = there[np.isfinite(there)]
    counted = placed[placed > 0]
    return {
        "n": int(there.size),
        "not_placed": int(there.size - placed.size),
        "mre_mm": _number(_mean(placed)),
        "sd_mm": _number(_sd(placed)),
        "sd_mm_compat": _number(_sd(counted, among=errors.size)),
        "median_mm": _number(np.median(placed) if placed.size else np.nan),
        "p95_mm": _number(np.quantile(placed, 0.95) if placed.size else np.nan),
        "sdr": {f"{d:g}": proportion(int((there <= d).sum()), there.size) for d in distances_mm},
    }


def _radius_summary(scored):
    """How often the radii hold the truth, and whether larger ones go with larger errors."""
    radii = np.broadcast_to(scored.radii, scored.errors.shape)
    is_counted = np.isfinite(scored.errors) & np.isfinite(radii)
    return {
        **coverage(scored.errors, radii),
        "mean_mm": _number(_mean(radii[is_counted])),
        "rank_correlation_with_error": _number(
            rank_correlation(radii[is_counted], scored.errors[is_counted])
        ),
        "landmarks": {
            name: coverage(scored.errors[:, n], radii[:, n]) for n, name in enumerate(scored.names)
        },
    }


def _error_by(probabilities, errors):
    """Whether a surer answer is a better placed one: rank correlation, and the mean error of either half."""
    is_counted = np.isfinite(errors) & np.isfinite(probabilities)
    sure, error = probabilities[is_counted], errors[is_counted]
    is_surer = sure > np.median(sure) if sure.size else np.zeros(0, bool)
    return {
        "rank_correlation": _number(rank_correlation(sure, error)),
        "surer_half_mre_mm": _number(_mean(error[is_surer])),
        "other_half_mre_mm": _number(_mean(error[~is_surer])),
    }


def _interval_of_mean(errors):
    """Percentile interval of the pooled mean from whole volumes drawn anew: a volume's errors go together."""
    is_finite = np.isfinite(errors)
    sums, counts = np.where(is_finite, errors, 0.0).sum(axis=1), is_finite.sum(axis=1)
    if counts.sum() == 0:
        return None
    drawn = np.random.default_rng(0).integers(len(errors), size=(RESAMPLED, len(errors)))
    totals = counts[drawn].sum(axis=1)
    means = sums[drawn].sum(axis=1)[totals > 0] / totals[totals > 0]
    return [_number(each) for each in np.quantile(means, (0.025, 0.975))]


def _ranks(values):
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _mean(values):
    return values.mean() if values.size else np.nan


def _sd(values, among=None):
    """Root of the squared deviations' sum over one less than `among`, by default than there are values."""
    among = values.size if among is None else among
    return (
        np.sqrt(((values - values.mean()) ** 2).sum() / (among - 1)) if values.size and among > 1 else np.nan
    )


def _ratio(part, whole):
    return round(part / whole, 4) if whole else None


def _number(value):
    return round(float(value), 4) if np.isfinite(value) else None
