"""How well volumes and reports find one another, and volumes others of the same findings.

Source: HSENet (arXiv 2506.09634), retrieval script of YanzhaoShi/HSENet @ c7198f3. "compat" prints what that
prints, its two flaws included: a volume finds itself, and an average over k goes on from the one before.
"clean" leaves the query out and averages each k by itself.
"""

from typing import Literal

import numpy as np

PAIRED_KS, ALIKE_KS = (5, 10, 50, 100), (1, 5, 10, 50)
Mode = Literal["compat", "clean"]


def recall(queries: np.ndarray, pool: np.ndarray, ks: tuple[int, ...] = PAIRED_KS) -> dict[str, float]:
    """R@k in percent: how often query n finds item n among the k of the largest cosine.

    Args:
        queries, pool: (N, dim), any length.
    """
    cosines = _unit(queries) @ _unit(pool).T
    own = np.diag(cosines)[:, None]
    ranks = (cosines > own).sum(axis=1)
    return {str(k): float(100 * (ranks < k).mean()) for k in ks}


def likeness(
    features: np.ndarray, labels: np.ndarray, *, mode: Mode = "clean", ks: tuple[int, ...] = ALIKE_KS
) -> dict[str, float]:
    """Mean Jaccard index, in percent, of a volume's findings and those of the k volumes nearest to it.

    Args:
        features: (N, dim).
        labels: (N, F) of 0 and 1, the findings.
        mode: see the module.
    """
    labels = labels.astype(bool)
    pool = np.flatnonzero(labels.any(axis=1))
    cosines = _unit(features) @ _unit(features).T
    if mode == "clean":
        np.fill_diagonal(cosines, -np.inf)
    order = pool[np.argsort(-cosines[:, pool], axis=1, kind="stable")]
    both, either = ((labels[:, None] & labels).sum(axis=2), (labels[:, None] | labels).sum(axis=2))
    jaccard = both / np.maximum(either, 1)
    ranked = np.take_along_axis(jaccard, order, axis=1)
    if mode == "clean":
        ranked = ranked[pool]
    means: list[np.ndarray] = []
    found = {}
    for k in ks:
        means = [*means, ranked[:, :k].mean(axis=1)] if mode == "compat" else [ranked[:, :k].mean(axis=1)]
        found[str(k)] = float(100 * np.concatenate(means).mean())
    return found


def _unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)
