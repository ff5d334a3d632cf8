"""Radii around placed landmarks that hold the true place in nine cases of ten, and how often they do.

Split conformal prediction (Vovk et al. 2005; Lei et al., JASA 2018) over the errors of cases never trained
on: an error is divided by its landmark's scale, the scores of all landmarks are pooled, and the quantile of
rank ceil((n + 1)·share) is multiplied by the scales. The guarantee is for a new error drawn like these, over
all landmarks together, not for each landmark. Here the scales come from the same errors and a case gives
several errors, so the guarantee is not strict: `left_out_coverage` says how the procedure does on cases that
it hasn't seen.
"""

import math

import numpy as np

SHARE = 0.9
PRIOR = 5.0  # errors' worth of the pooled median in every landmark's scale: few errors make no wild scale
Z95 = 1.959964


def landmark_scales(errors: np.ndarray) -> np.ndarray:
    """(L,) mm: the typical error of each landmark, drawn toward that of all the less there is of it.

    Args:
        errors: (N, L) mm; NaN: no truth.
    """
    pooled = float(np.median(errors[np.isfinite(errors)]))
    columns = [column[np.isfinite(column)] for column in errors.T]
    medians = [float(np.median(each)) if each.size else pooled for each in columns]
    scales = [(each.size * m + PRIOR * pooled) / (each.size + PRIOR) for each, m in zip(columns, medians)]
    return np.maximum(scales, 1e-6)


def conformal_radii(errors: np.ndarray, scales: np.ndarray | None = None, share: float = SHARE) -> np.ndarray:
    """(L,) mm: radii that hold the true place with probability `share`, over all landmarks together.

    Args:
        errors: (N, L) mm of cases never trained on; NaN: no truth; inf: not placed, never held.
        scales: (L,) mm; by default those of `landmark_scales`.
        share: to be held.

    Raises:
        ValueError: too few errors for this share, or too many landmarks not placed.
    """
    scales = landmark_scales(errors) if scales is None else np.asarray(scales, float)
    scores = np.sort((errors / scales)[~np.isnan(errors)])
    rank = math.ceil((scores.size + 1) * share)
    if rank > scores.size or not np.isfinite(scores[rank - 1]):
        raise ValueError(f"{scores.size} errors give no radius that holds {share:.0%}. Take more cases.")
    return scores[rank - 1] * scales


def coverage(errors: np.ndarray, radii: np.ndarray) -> dict:
    """How many errors are within their radius: n, inside, share, and the 95 % Wilson interval of the share.

    Args:
        errors: (N, L) mm; NaN: no truth, not counted.
        radii: (L,) or (N, L) mm; NaN: no radius, not counted.
    """
    radii = np.broadcast_to(radii, errors.shape)
    is_counted = ~np.isnan(errors) & ~np.isnan(radii)
    return proportion(int((errors[is_counted] <= radii[is_counted]).sum()), int(is_counted.sum()))


def left_out_coverage(errors: np.ndarray, share: float = SHARE) -> dict:
    """`coverage` of each case's errors by radii, scales included, that come from all the other cases."""
    radii = [conformal_radii(np.delete(errors, case, axis=0), share=share) for case in range(len(errors))]
    return coverage(errors, np.stack(radii))


def proportion(count: int, n: int) -> dict:
    """A share as a plain dict: n, inside, share and its 95 % interval (Wilson 1927); None of nothing."""
    if n == 0:
        return {"n": 0, "inside": 0, "share": None, "wilson95": None}
    share, square = count / n, Z95**2 / n
    middle = (share + square / 2) / (1 + square)
    half = Z95 / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    interval = [round(max(middle - half, 0.0), 4), round(min(middle + half, 1.0), 4)]
    return {"n": n, "inside": count, "share": round(share, 4), "wilson95": interval}
