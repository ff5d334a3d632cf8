"""How well the findings that a report names are those of the scan.

Source of CRG: Hamamci et al., arXiv 2505.17167. With T = volumes x labels and A positives among them, a hit
is worth w = (T - A) / 2A, a miss costs w, a false alarm 1; the sum s is scaled as A w / (2 A w - s). A report
that names nothing scores 1/3, and so does one that names everything: both stand beside every CRG here.
"""

from typing import Any

import numpy as np

CT_RATE = (  # the order of the data set's columns
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)


def label_scores(named: np.ndarray, truth: np.ndarray, names: tuple[str, ...] = CT_RATE) -> dict[str, Any]:
    """Precision, recall and F1 in percent, of each finding, pooled, and averaged; and CRG.

    A finding that no scan has and no report names has no scores, and takes no part in the average.

    Args:
        named: (N, F) of 0 and 1, what each report names.
        truth: (N, F), what each scan has.
        names: of the F findings.
    """
    named, truth = np.asarray(named, bool), np.asarray(truth, bool)
    by_label = {name: _scores(named[:, n], truth[:, n]) for n, name in enumerate(names)}
    told = [row for row in by_label.values() if row["f1"] is not None]
    mean = {key: float(np.mean([row[key] for row in told])) for key in ("precision", "recall", "f1")}
    return {
        "pooled": _scores(named, truth),
        "mean_of_labels": mean if told else None,
        "labels": by_label,
        "crg": {
            "reports": crg(named, truth),
            "naming_nothing": crg(np.zeros_like(truth), truth),
            "naming_everything": crg(np.ones_like(truth), truth),
        },
    }


def crg(named: np.ndarray, truth: np.ndarray) -> float | None:
    """CRG, 0 to 1; see the module. None where no scan has any of the findings, or every scan all."""
    hits, misses = int((named & truth).sum()), int((~named & truth).sum())
    alarms, positives = int((named & ~truth).sum()), int(truth.sum())
    if positives in (0, truth.size):
        return None
    weight = (truth.size - positives) / (2 * positives)
    best = positives * weight
    return best / (2 * best - (hits * weight - misses * weight - alarms))


def _scores(named, truth):
    hits = int((named & truth).sum())
    told, there = int(named.sum()), int(truth.sum())
    if not told and not there:
        return {"count": 0, "precision": None, "recall": None, "f1": None}
    return {
        "count": there,
        "precision": 100 * hits / told if told else 0.0,
        "recall": 100 * hits / there if there else 0.0,
        "f1": 200 * hits / (told + there),
    }
