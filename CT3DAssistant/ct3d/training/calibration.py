"""From peaks and signs to a probability of presence; how radii do on cases that they don't come from."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from ct3d.errors import InvalidRequest
from ct3d.training import State
from ct3d.training.conformal import SHARE, conformal_radii, coverage

EXACT = 1e-8  # gradient at which a fit ends; the loss is a mean, so gradients are small from the start


class Presence(NamedTuple):
    """Logit of a landmark's presence: slope · peak + offset + weights · signs, at even odds of presence."""

    slope: float
    offset: float
    weights: np.ndarray  # (F,)


def fit_presence(peaks: np.ndarray, signs: np.ndarray, states: np.ndarray) -> Presence:
    """One slope, one offset and the weights of the signs for all landmarks together: few numbers last.

    Source: Platt, "Probabilistic outputs for support vector machines" (1999), with his softened targets, so
    that the fit stays finite where the peak tells the two apart without an error. Differs: several signs
    beside the peak, and for each landmark present and absent weigh the same in sum, whatever their counts;
    so 0.5 is where both are as likely, not where most of the fitted scans happen to lie.

    Args:
        peaks: (N, L).
        signs: (N, L, F) what else there is to go by; a sign that never changes gets the weight 0.
        states: (N, L) of State, the truth. UNKNOWN takes no part.

    Raises:
        InvalidRequest: a landmark that is never present or never absent, or peaks no higher where present.
    """
    is_present, known = states == State.PRESENT, states != State.UNKNOWN
    present, absent = (is_present & known).sum(axis=0), (~is_present & known).sum(axis=0)
    if (np.minimum(present, absent) == 0).any():
        n = int(np.minimum(present, absent).argmin())
        raise InvalidRequest(
            f"{present[n]} of {present[n] + absent[n]} scans show landmark {n + 1}. "
            "Give scans with it and without."
        )
    sure, small = (present.sum() + 1) / (present.sum() + 2), 1 / (absent.sum() + 2)
    target = np.where(is_present, sure, small)[known]
    weight = np.where(is_present, 0.5 / present, 0.5 / absent)[known] / states.shape[1]
    told = np.concatenate([peaks[..., None], signs], axis=-1)[known]
    middle, spread = told.mean(axis=0), told.std(axis=0)
    scaled = (told - middle) / np.where(spread > 0, spread, 1)
    columns = np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)

    def loss(found):
        logit = columns @ found
        value = -(weight * (target * log_expit(logit) + (1 - target) * log_expit(-logit))).sum()
        return value, columns.T @ (weight * (expit(logit) - target))

    found = minimize(loss, np.zeros(columns.shape[1]), jac=True, method="BFGS", options={"gtol": EXACT}).x
    slopes = found[: len(middle)] / np.where(spread > 0, spread, 1)
    if slopes[0] <= 0:
        raise InvalidRequest("The peak is no higher where a landmark is present. Train the net first.")
    return Presence(float(slopes[0]), float(found[-1] - slopes @ middle), slopes[1:])


def left_one_out(errors: np.ndarray, scales: np.ndarray, share: float = SHARE) -> dict:
    """Coverage of each case's errors by radii that the other cases gave; the scales come from elsewhere.

    Args:
        errors: (N, L) mm; NaN: no truth.
        scales: (L,) mm, of cases that aren't among these.
        share: to be held.
    """
    radii = [conformal_radii(np.delete(errors, n, axis=0), scales, share) for n in range(len(errors))]
    return coverage(errors, np.stack(radii))
