"""Crops of a CT to learn from: several views of one study, turned and scaled alike, each knowing its place.

All chance comes from (seed, step): a resumed run sees what it would have seen. Voxels are looked up in one
interpolation on the corpus's device. A study may be mirrored; a view's place in the body is then mirrored
back (spatial_ssl.md section 6.5), so that who knows left from right can tell.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from ct3d.errors import InvalidRequest
from ct3d.models.layers import Size3
from ct3d.models.threedme import PATCH
from ct3d.training.corpus import Corpus, from_bytes
from ct3d.training.progressive_masking import Masking

TRIES = 32  # places from which one is chosen that lies apart from the other views


@dataclass(frozen=True)
class Layout:
    """How many views of what size are taken in a step."""

    shape_kji: Size3 = (32, 48, 48)
    views: int = 3
    studies: int = 4
    share: float = 1.0  # of the steps, beside the recipe's other layouts
    mirror_kji: tuple[float, float, float] = (0.0, 0.0, 0.0)  # chances; a small view can't tell its sides
    rare: float = 0.4  # share of studies that don't belong to the largest data set
    is_chest: bool = False  # whether views lie in the middle of a chest, at any level of the lungs

    def __post_init__(self):
        object.__setattr__(self, "shape_kji", tuple(self.shape_kji))


@dataclass(frozen=True)
class Variety:
    """How far a view may differ from the CT: standard deviations, unless said otherwise."""

    spacing_mm: tuple[float, float] = (2.5, 5.0)  # least and most
    rotation_deg: float = 5.0
    stretch: float = 0.05
    offset_hu: float = 20.0
    gain: float = 0.05
    noise_hu: float = 20.0  # the most


@dataclass(frozen=True)
class Views:
    """What a step sees.

    Attributes:
        image: (B, V, 1, D, H, W) in [-1, 1].
        body: (B, V, 1, D, H, W) in [0, 1], how much of a voxel is body.
        hidden: (B, V, 1, D, H, W) bool, voxels that the encoder must not see.
        spacing_mm: (B, 3) of the views' voxels; on the CPU, as are the next two.
        centers_mm: (B, V, 3) along the views' own axes.
        signs: (B, 3): -1 where an axis runs against S, A or R.
    """

    image: Tensor
    body: Tensor
    hidden: Tensor
    spacing_mm: Tensor
    centers_mm: Tensor
    signs: Tensor

    @property
    def places_mm(self) -> Tensor:
        """(B, V, 3) where the views lie along S, A, R, whichever way the study was mirrored; on the CPU."""
        return self.centers_mm * self.signs[:, None]

    def cut(self, studies: slice = slice(None), views: slice = slice(None)) -> "Views":
        """Some of the studies, some of their views."""
        both = (self.image, self.body, self.hidden, self.centers_mm)
        image, body, hidden, centers = (each[studies, views] for each in both)
        return Views(image, body, hidden, self.spacing_mm[studies], centers, self.signs[studies])


class ViewSampler:
    """Views of random studies of a corpus."""

    def __init__(self, corpus: Corpus, *, variety: Variety, masking: Masking, masked_views: int, seed: int):
        self.corpus, self.variety, self.masking = corpus, variety, masking
        self.masked_views, self.seed = masked_views, seed
        families = [name.split("/")[0] for name in corpus.ids]
        largest = max(set(families), key=families.count)
        self.common = [n for n, family in enumerate(families) if family == largest]
        self.rare = [n for n, family in enumerate(families) if family != largest]

    @cached_property
    def chests(self) -> set[int]:
        """Studies that show a chest."""
        return {n for n, points in enumerate(self.corpus.chest_points) if len(points)}

    def sample(self, step: int, layout: Layout, done: float) -> Views:
        """The views of a step.

        Args:
            step: tells the chance.
            layout: how many, how large.
            done: share of training that is over, for the masking.

        Raises:
            InvalidRequest: chests are asked for, and no study shows one.
        """
        if layout.is_chest and not self.chests:
            raise InvalidRequest("No study shows a chest. Take others, or a recipe without chests.")
        rng = np.random.default_rng((self.seed, step))
        looks = [self._look(self._study(layout, rng), layout, rng) for _ in range(layout.studies)]
        image, body = self._voxels([each[0] for each in looks], [each[1] for each in looks], layout)
        image = self._shaded(image, rng)
        spacing, centers, signs = (
            torch.tensor(np.stack(part), dtype=torch.float32) for part in list(zip(*looks))[2:]
        )
        return Views(image, body, self._hidden(layout, done, rng), spacing, centers, signs)

    def _study(self, layout, rng):
        others = self.rare and (not self.common or rng.random() < layout.rare)
        among = self.rare if others else self.common
        if layout.is_chest:
            among = [n for n in among if n in self.chests] or sorted(self.chests)
        return int(among[rng.integers(len(among))])

    def _look(self, study, layout, rng):
        """Study, the views' affines from their voxels to the study's (V, 3, 4), spacing, centres, signs."""
        variety, shape = self.variety, np.array(layout.shape_kji)
        spacing = np.exp(rng.uniform(*np.log(variety.spacing_mm))) * np.exp(rng.normal(0, 0.05, 3))
        turn = Rotation.from_rotvec(rng.normal(0, np.radians(variety.rotation_deg), 3)).as_matrix()
        signs = np.where(rng.random(3) < layout.mirror_kji, -1.0, 1.0)
        scale = np.exp(rng.normal(0, variety.stretch))  # the body seems that much larger
        to_mm = turn @ np.diag(signs) / scale  # mm of the view's axes → mm of the study's
        among = (self.corpus.chest_points if layout.is_chest else self.corpus.body_points)[study]
        points = among[rng.integers(len(among), size=TRIES * layout.views)]
        if layout.is_chest:
            points = np.column_stack([points[:, 0], np.tile(among[:, 1:].mean(0), (len(points), 1))])
        points_mm = points * self.corpus.spacing_mm[study] @ np.linalg.inv(to_mm).T
        centers = _apart(points_mm, layout.views, shape * spacing / 2)
        steps = np.diag(1 / self.corpus.spacing_mm[study]) @ to_mm
        affines = []
        for center in centers:
            affine = np.empty((3, 4))
            affine[:, :3] = steps * spacing
            affine[:, 3] = steps @ (center - spacing * (shape - 1) / 2)
            affines.append(affine)
        return study, np.stack(affines), spacing, centers, signs

    def _voxels(self, studies, affines, layout):
        """Image and body (B, V, 1, D, H, W), each voxel where its view's affine says."""
        device = self.corpus.voxels.device
        given = self.corpus.voxels[torch.tensor(studies, device=device)]
        side = given.shape[-1]
        affine = torch.tensor(np.stack(affines), dtype=torch.float32, device=device)  # (B, V, 3, 4)
        axes = [torch.arange(n, dtype=torch.float32, device=device) for n in layout.shape_kji]
        cells = torch.stack(
            [*torch.meshgrid(*axes, indexing="ij"), torch.ones(layout.shape_kji, device=device)]
        )
        where = torch.einsum("bvrc,cdhw->bvdhwr", affine, cells)
        where = (2 * where + 1) / side - 1  # align_corners=False
        where = where.flip(-1).flatten(1, 2)  # views along the depth
        both = torch.cat([from_bytes(given) + 1, (given > 0).float()], 1)  # air beyond the grid: 0, then -1
        found = F.grid_sample(both, where, padding_mode="zeros", align_corners=False)
        found = found.unflatten(2, (layout.views, layout.shape_kji[0])).transpose(1, 2)
        return found[:, :, :1] - 1, found[:, :, 1:]

    def _shaded(self, image, rng):
        """Another scanner's gain, offset and noise, in HU / 1000; air stays air."""
        variety, count = self.variety, len(image)
        gain, offset, noise = (
            torch.tensor(each, dtype=torch.float32, device=image.device).view(-1, 1, 1, 1, 1, 1)
            for each in (
                1 + rng.normal(0, variety.gain, count),
                rng.normal(0, variety.offset_hu / 1000, count),
                rng.uniform(0, variety.noise_hu / 1000, count),
            )
        )
        chance = torch.Generator(image.device).manual_seed(int(rng.integers(2**62)))
        grain = torch.randn(image.shape, generator=chance, device=image.device)
        return ((image + 1) * gain - 1 + torch.where(image > -1, offset + noise * grain, 0)).clamp(-1, 1)

    def _hidden(self, layout, done, rng):
        grid = tuple(side // PATCH for side in layout.shape_kji)
        tokens = np.zeros((layout.studies, layout.views, *grid), bool)
        for study in tokens:
            for view in study[: self.masked_views]:
                view[:] = self.masking.sample(grid, done, rng)
        voxels = torch.from_numpy(tokens).to(self.corpus.voxels.device)
        for axis in (2, 3, 4):
            voxels = voxels.repeat_interleave(PATCH, axis)
        return voxels[:, :, None]


def _apart(points_mm, count, half_view_mm):
    """Places (count, 3) of the body, each half a view from the others along some axis where it can be."""
    chosen = [points_mm[0]]
    for n in range(1, count):
        tries = points_mm[n * TRIES : (n + 1) * TRIES]
        gaps = np.abs(tries[:, None] - np.array(chosen)[None]) / half_view_mm
        nearest = gaps.max(-1).min(-1)
        clear = nearest >= 1
        chosen.append(tries[int(clear.argmax()) if clear.any() else int(nearest.argmax())])
    return np.stack(chosen)
