"""Many CTs in one file, to learn from without labels: each the body alone, on a coarse straight grid.

A voxel is a byte: 0 outside the body, 1 to 255 for -1000 to 1000 HU. `build_corpus` makes such a file.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from ct3d.errors import InvalidRequest
from ct3d.models.threedme import HIGH_HU, LOW_HU
from ct3d.pipeline.chest_look import chest_levels

SIDE = 128  # the most voxels along an axis
BODY_POINTS = 4096  # places in the body that are kept of each CT, to look from


@dataclass(frozen=True, eq=False)
class Study:
    """One CT of a corpus.

    Attributes:
        voxels: (K, J, I) uint8, see above; I, J, K grow toward R, A, S.
        spacing_kji_mm: (3,) float32.
    """

    id: str
    voxels: np.ndarray
    spacing_kji_mm: np.ndarray
    is_held_out: bool


class Corpus:
    """Studies on one common grid, in the memory of a device.

    Attributes:
        voxels: (N, 1, S, S, S) uint8, each study in the corner of index 0, 0, 0.
        spacing_mm: (N, 3) along K, J, I.
        body_points: (N, BODY_POINTS, 3) voxel indices k, j, i in the body, on the CPU.
    """

    def __init__(self, studies: list[Study], device: torch.device | str = "cpu"):
        side = max(max(each.voxels.shape) for each in studies)
        self.ids = [each.id for each in studies]
        self.voxels = torch.zeros((len(studies), 1, side, side, side), dtype=torch.uint8, device=device)
        for room, study in zip(self.voxels, studies):
            k, j, i = study.voxels.shape
            room[0, :k, :j, :i] = torch.from_numpy(study.voxels).to(device)
        self.spacing_mm = np.stack([each.spacing_kji_mm for each in studies])
        self.body_points = np.stack([_body_points(each.voxels) for each in studies])

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def chest_points(self) -> list[np.ndarray]:
        """Of each study those body points (n, 3) that lie at levels of the lungs; none without a chest."""
        return [_chest_points(*each) for each in zip(self.body_points, self.voxels[:, 0], self.spacing_mm)]


def as_bytes(hu: np.ndarray, body: np.ndarray) -> np.ndarray:
    """HU (K, J, I) as bytes; 0 outside the body."""
    scaled = (hu.astype(np.float32) - LOW_HU) / (HIGH_HU - LOW_HU)
    return np.where(body, np.rint(1 + 254 * np.clip(scaled, 0, 1)), 0).astype(np.uint8)


def from_bytes(voxels: Tensor) -> Tensor:
    """Bytes as what the encoder sees: -1 to 1 for -1000 to 1000 HU, and -1 outside the body."""
    return ((voxels.float() - 1) / 127 - 1).clamp(-1, 1)


def save(studies: list[Study], path: Path) -> None:
    """Write a corpus."""
    parts: dict[str, np.ndarray] = {"ids": np.array([each.id for each in studies])}
    for name in ("spacing_kji_mm", "is_held_out"):
        parts[name] = np.array([getattr(each, name) for each in studies])
    parts |= {f"voxels_{n}": each.voxels for n, each in enumerate(studies)}
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, **parts)
    part.replace(path)


def load(path: Path) -> list[Study]:
    """Read a corpus.

    Raises:
        InvalidRequest: no such file, or it is none.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns = [stored[name] for name in ("ids", "spacing_kji_mm", "is_held_out")]
            return [
                Study(str(name), stored[f"voxels_{n}"], spacing, bool(is_held_out))
                for n, (name, spacing, is_held_out) in enumerate(zip(*columns))
            ]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InvalidRequest(
            f"{path} is no corpus ({error}). Make one with python -m ct3d.training.build_corpus."
        ) from error


def _chest_points(points, voxels, spacing_kji_mm):
    seen, body = from_bytes(voxels).cpu().numpy(), (voxels > 0).cpu().numpy()
    return points[chest_levels(seen, body, spacing_kji_mm)[points[:, 0]]]


def _body_points(voxels):
    inside = np.argwhere(voxels[::2, ::2, ::2] > 0) * 2
    return inside[np.linspace(0, len(inside) - 1, BODY_POINTS).round().astype(int)]
