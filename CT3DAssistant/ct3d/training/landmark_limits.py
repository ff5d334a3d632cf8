"""Limits of plausibility of the head-and-neck landmarks, measured on the training cases, as a card's TOML.

python -m ct3d.training.landmark_limits FOLDER

A distance's range is its 1st to 99th percentile over the cases in which both points are known, the lower end
less and the upper end more by a tenth: so one badly drawn organ in a hundred doesn't set a limit, and few
true points are flagged. An order is kept where the difference's 1st percentile is above 5 mm.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np

from ct3d.training.openkbp import LANDMARKS, cases, open_case

PERCENT, WIDER, ORDER_MM, FEWEST = 1.0, 0.1, 5.0, 40  # fewer cases than that give no limit
ANTERIOR, SUPERIOR = 1, 2
MIDLINE = "cord_superior_end"
PAIRS = (  # right, left
    ("right_parotid_centroid", "left_parotid_centroid"),
    ("mandible_right_posterior", "mandible_left_posterior"),
)
ORDERED = {  # whose order is looked at; of several in one place one is enough
    SUPERIOR: (
        *("brainstem_superior_end", "brainstem_centroid", "cord_superior_end"),
        *("right_parotid_centroid", "left_parotid_centroid"),
        *("mandible_anterior", "larynx_centroid", "esophagus_superior_end"),
    ),
    ANTERIOR: (
        *("mandible_anterior", "mandible_right_posterior", "mandible_left_posterior"),
        *("right_parotid_centroid", "left_parotid_centroid"),
        *("larynx_centroid", "cord_superior_end"),
    ),
}
NEAR = (  # points that bones or one organ hold together, and what lies next on the way down
    *PAIRS,
    ("brainstem_superior_end", "brainstem_inferior_end"),
    ("brainstem_centroid", "right_parotid_centroid"),
    ("brainstem_centroid", "left_parotid_centroid"),
    ("right_parotid_centroid", "mandible_right_posterior"),
    ("left_parotid_centroid", "mandible_left_posterior"),
    ("mandible_anterior", "mandible_right_posterior"),
    ("mandible_anterior", "mandible_left_posterior"),
    ("brainstem_inferior_end", "larynx_centroid"),
    ("mandible_anterior", "larynx_centroid"),
    ("larynx_centroid", "esophagus_superior_end"),
)


def toml_of_limits(points_ras: np.ndarray, ids: tuple[str, ...], basis: str) -> str:
    """The table [limits] of a card.

    Args:
        points_ras: (cases, landmarks, 3) mm; NaN where a point is not known.
        ids: of the landmarks, in that order.
        basis: what the limits were measured on.
    """
    by_id = {name: points_ras[:, n] for n, name in enumerate(ids)}
    lines = ["[limits]", f'basis = "{basis}"', *_list("pairs", PAIRS), f'midline = "{MIDLINE}"']
    lines += _list("above", in_order(by_id, SUPERIOR)) + _list("in_front", in_order(by_id, ANTERIOR))
    lines += ["", "[limits.distances_mm] # in space: least and most"]
    lines += [_row(one, other, _range(_apart(by_id, one, other))) for one, other in NEAR]
    lines += ["", "[limits.height_difference_mm] # between right and left, at most"]
    lines += [_row(*pair, _most(np.abs(by_id[pair[0]] - by_id[pair[1]])[:, SUPERIOR])) for pair in PAIRS]
    lines += ["", "[limits.width_difference_mm] # between their distances from the midline, at most"]
    lines += [_row(*pair, _most(_asymmetry(by_id, *pair))) for pair in PAIRS]
    return "\n".join(lines) + "\n"


def in_order(by_id: dict[str, np.ndarray], axis: int) -> list[tuple[str, str]]:
    """Pairs (further along the RAS axis, less far) in nearly every case; none that follows from others."""
    ahead = {
        (one, other)
        for one, other in itertools.permutations(ORDERED[axis], 2)
        if _is_ahead((by_id[one] - by_id[other])[:, axis])
    }
    follows = {(a, d) for (a, b), (c, d) in itertools.product(ahead, ahead) if b == c}
    return sorted(ahead - follows, key=lambda pair: [ORDERED[axis].index(name) for name in pair])


def _is_ahead(differences: np.ndarray) -> bool:
    known = differences[np.isfinite(differences)]
    return len(known) >= FEWEST and bool(np.percentile(known, PERCENT) > ORDER_MM)


def _apart(by_id, one, other):
    return np.linalg.norm(by_id[one] - by_id[other], axis=1)


def _asymmetry(by_id, right, left):
    middle = by_id[MIDLINE][:, 0]
    return np.abs(np.abs(by_id[right][:, 0] - middle) - np.abs(by_id[left][:, 0] - middle))


def _range(values: np.ndarray) -> str:
    low, high = np.nanpercentile(values, (PERCENT, 100 - PERCENT))
    return f"[{np.floor(low * (1 - WIDER)):.0f}, {np.ceil(high * (1 + WIDER)):.0f}]"


def _most(values: np.ndarray) -> str:
    return f"{np.ceil(np.nanpercentile(values, 100 - PERCENT) * (1 + WIDER)):.0f}"


def _list(name: str, pairs) -> list[str]:
    return [f"{name} = [", *(f'  ["{one}", "{other}"],' for one, other in pairs), "]"]


def _row(one: str, other: str, value: str) -> str:
    return f'"{one} {other}" = {value}'


def main(arguments: list[str] | None = None) -> None:
    """Write the table for a folder of cases to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    paths = cases(parser.parse_args(arguments).folder)
    points = np.stack([open_case(path).landmarks_ras for path in paths])
    basis = (
        f"{len(paths)} training cases of OpenKBP, points from drawn contours: 1st to 99th percentile, a "
        "tenth wider; an order that holds by 5 mm in 99 of 100 cases. No reference values."
    )
    sys.stdout.write(toml_of_limits(points, LANDMARKS, basis))


if __name__ == "__main__":
    main()
