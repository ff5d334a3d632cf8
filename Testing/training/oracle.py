"""A finder that knows the truth, in place of a net: its errors are those of the measuring."""

import numpy as np

from ct3d.imaging.volume import Volume, ijk_from_ras
from ct3d.training.openkbp import cases, open_case
from ct3d.training.scores import Answer


class Oracle:
    """Knows every case of a folder; answers the truth, moved by `off_mm`, and never in doubt of presence."""

    def __init__(self, folder, off_mm=0.0):
        found = [open_case(path) for path in cases(folder)]
        self.truth = {self.key(case.volume): case.landmarks_ras for case in found}
        self.off_mm = off_mm

    @staticmethod
    def key(volume: Volume) -> tuple[float, ...]:
        return tuple(np.round(volume.spacing_kji_mm, 4))

    def __call__(self, volume: Volume, known: np.ndarray) -> Answer:
        assert known.shape == volume.array.shape
        points = np.nan_to_num(self.truth[self.key(volume)]) + (self.off_mm, 0, 0)
        ijk = ijk_from_ras(points - (self.off_mm, 0, 0), volume.ijk_to_ras)
        inside = ((ijk >= -0.5) & (ijk <= np.array(volume.array.shape[::-1]) - 0.5)).all(axis=1)
        return Answer(points, inside * 2.0, np.where(inside, 0.9, 0.1), inside)
