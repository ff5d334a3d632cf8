"""What the product answers on scans whose truth is known: one row a scan, one column a landmark.

The product path is run as it is: a volume and what is known of it go in, places and presence come out. No
truth is in reach of it.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from ct3d.cards import ModelCard
from ct3d.imaging.volume import Volume, ras_from_kji
from ct3d.pipeline.job import LocalJob
from ct3d.pipeline.landmark_net import decided, search
from ct3d.pipeline.landmark_shape import SIGNS
from ct3d.training import State
from ct3d.training.fields_of_view import FieldOfView


class Answer(NamedTuple):
    """An answer for one scan.

    Attributes:
        points_ras: (L, 3) mm, the best place of each landmark, whether it is told present or not.
        peaks: (L,) height of each landmark's map.
        presence: (L,) probability that the landmark lies in the scan.
        told: (L,) bool, a person is shown this landmark as present.
        signs: (L, 2) what the other landmarks say of each, see `pipeline.landmark_shape`; None: nothing.
    """

    points_ras: np.ndarray
    peaks: np.ndarray
    presence: np.ndarray
    told: np.ndarray
    signs: np.ndarray | None = None


Finder = Callable[[Volume, np.ndarray], Answer]  # a volume, and what is known of it: (K, J, I) bool


@dataclass(frozen=True, eq=False)
class Scores:
    """Answers beside the truth; N scans, L landmarks.

    Attributes:
        cases: (N,) names.
        errors_mm: (N, L); NaN where the place isn't known or lies outside the scan.
        inside, outside: (N, L) bool, the landmark is known to lie in the scan, or beyond it; see FieldOfView.
        supported: (N, L) bool, inside, and the data set shows enough around it.
        beyond_mm: (N, L) distance past the cut of the field of view.
        peaks, presence, told: (N, L), see Answer.
        signs: (N, L, 2), see Answer; 0 where it has none.
        absent_share: (N,) of the known landmarks.
        seconds: (N,) wall time of the product path.
    """

    cases: np.ndarray
    errors_mm: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    supported: np.ndarray
    beyond_mm: np.ndarray
    peaks: np.ndarray
    presence: np.ndarray
    told: np.ndarray
    signs: np.ndarray
    absent_share: np.ndarray
    seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def states(self) -> np.ndarray:
        """(N, L) of State: whether a landmark lies in the scan; UNKNOWN where too little is shown."""
        states = np.where(self.supported, State.PRESENT, State.UNKNOWN)
        return np.where(self.outside, State.MISSING, states)

    def of(self, rows: np.ndarray) -> "Scores":
        """Some of the scans, by their numbers or a mask."""
        return Scores(*(getattr(self, each.name)[rows] for each in fields(self)))


def product(net: nn.Module, card: ModelCard) -> Finder:
    """The product path of a card's net, or of another net of its shape."""

    def find(volume: Volume, known: np.ndarray) -> Answer:
        found = search(net, card, volume, LocalJob(Path()), known)
        told = [each.presence == "present" for each in decided(card, found)[0]]
        return Answer(found.points_ras, found.peaks, found.presence, np.array(told), found.signs)

    return find


def mean_position(offsets_mm: np.ndarray) -> Finder:
    """A finder that looks at nothing: it always answers the same places, (L, 3) RAS mm from the middle."""
    nothing = np.full(len(offsets_mm), np.nan)

    def find(volume: Volume, _known: np.ndarray) -> Answer:
        return Answer(offsets_mm + middle(volume), nothing, nothing, np.ones(len(offsets_mm), bool))

    return find


def middle(volume: Volume) -> np.ndarray:
    """(3,) RAS mm, the middle of the grid."""
    return ras_from_kji((np.array(volume.array.shape) - 1)[None] / 2, volume.ijk_to_ras)[0]


def score(views: Iterable[FieldOfView], find: Finder, note: Callable[[str], None]) -> Scores:
    """Ask about each scan, and set the answer beside the truth.

    Args:
        views: whole cases or parts of them; read one at a time.
        find: the product path, or a baseline.
        note: called with a scan's name once it is done.
    """
    rows = []
    for view in views:
        rows.append(_row(view, find))
        note(f"{view.case.id} {view.side}".strip())
    return Scores(*(np.array([row[each.name] for row in rows]) for each in fields(Scores)))


def _row(view, find):
    case = view.case
    started = time.perf_counter()
    answer = find(case.volume, case.known)
    seconds = time.perf_counter() - started
    errors = np.linalg.norm(answer.points_ras - case.landmarks_ras, axis=1)
    return {
        "cases": case.id,
        "errors_mm": np.where(view.inside, errors, np.nan),
        "inside": view.inside,
        "outside": view.outside,
        "supported": view.inside & case.supported,
        "beyond_mm": view.beyond_mm,
        "peaks": answer.peaks,
        "presence": answer.presence,
        "told": answer.told,
        "signs": np.zeros((len(errors), len(SIGNS))) if answer.signs is None else answer.signs,
        "absent_share": view.absent_share,
        "seconds": seconds,
    }
