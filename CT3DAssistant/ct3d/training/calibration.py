"""From a heat map's peak to a probability of presence; how radii do on cases that they don't come from."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from ct3d.errors import InvalidRequest
from ct3d.training.conformal import SHARE, conformal_radii, coverage


def fit_presence(peaks: np.ndarray, is_present: np.ndarray) -> tuple[float, float]:
    """Slope and offset of probability = sigmoid(slope · peak + offset), at even odds of presence.

    Source: Platt, "Probabilistic outputs for support vector machines" (1999), with his softened targets, so
    that the fit stays finite where the peak tells the two apart without an error. Differs: present and absent
    weigh the same in sum, whatever their counts; so 0.5 is where both are as likely, not where most of the
    fitted scans happen to lie.

    Args:
        peaks: (N,).
        is_present: (N,) bool, the truth.

    Raises:
        InvalidRequest: one of the two is not among them, or the peak isn't higher where present.
    """
    count, present = len(is_present), int(is_present.sum())
    if not 0 < present < count:
        raise InvalidRequest(
            f"{present} of {count} scans show this landmark. Give scans with it and without."
        )
    absent = count - present
    target = np.where(is_present, (present + 1) / (present + 2), 1 / (absent + 2))
    weight = np.where(is_present, 0.5 / present, 0.5 / absent)
    middle, spread = peaks.mean(), max(float(peaks.std()), 1e-6)
    scaled = (peaks - middle) / spread

    def loss(found):
        logit = found[0] * scaled + found[1]
        value = -(weight * (target * log_expit(logit) + (1 - target) * log_expit(-logit))).sum()
        error = weight * (expit(logit) - target)
        return value, np.array([(error * scaled).sum(), error.sum()])

    slope, offset = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    if slope <= 0:
        raise InvalidRequest("The peak is no higher where the landmark is present. Train the net first.")
    return float(slope / spread), float(offset - slope * middle / spread)


def left_one_out(errors: np.ndarray, scales: np.ndarray, share: float = SHARE) -> dict:
    """Coverage of each case's errors by radii that the other cases gave; the scales come from elsewhere.

    Args:
        errors: (N, L) mm; NaN: no truth.
        scales: (L,) mm, of cases that aren't among these.
        share: to be held.
    """
    radii = [conformal_radii(np.delete(errors, n, axis=0), scales, share) for n in range(len(errors))]
    return coverage(errors, np.stack(radii))
