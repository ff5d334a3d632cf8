"""Progressive volumetric masking: ever more of a volume is hidden, in ever larger blocks, then in slabs.

Source: 3DME's abstract says that both the ratio and the block size change during training [A]. The schedule
is a reconstruction [R] after CurriMAE, SimMIM and AnatoMask; threedme.md section 4. All chance comes from the
generator that is given, so that a resumed run hides what it would have hidden.
"""

import math
from dataclasses import dataclass

import numpy as np

from ct3d.models.layers import Size3

BLOCKS = (1, 2, 4)  # tokens a side, one a third of training
EASE = 0.2  # last share of a third in which the next size comes up already
RATIO_FROM, RATIO_OVER = 0.05, 0.85  # shares of training between which the ratio rises


@dataclass(frozen=True)
class Masking:
    """How much is hidden, and in what pieces.

    Attributes:
        ratios: share of tokens hidden at the start and in the end.
        slabs: chance of a slab in place of blocks at the end of training; grows from 0.
        is_progressive: False: the last ratio in blocks of one token throughout, no slabs.
    """

    ratios: tuple[float, float] = (0.40, 0.75)
    slabs: float = 0.3
    is_progressive: bool = True

    def ratio(self, done: float) -> float:
        """Share of tokens that is hidden when a share `done` of training is over."""
        low, high = self.ratios
        if not self.is_progressive:
            return high
        passed = min(1.0, max(0.0, (done - RATIO_FROM) / RATIO_OVER))
        return low + (high - low) * (1 - math.cos(math.pi * passed)) / 2

    def block_chances(self, done: float) -> tuple[float, ...]:
        """Chance of each of BLOCKS."""
        if not self.is_progressive:
            return (1.0, *(0.0 for _ in BLOCKS[1:]))
        stage = min(len(BLOCKS) - 1, int(len(BLOCKS) * done))
        passed = len(BLOCKS) * done - stage
        onward = max(0.0, (passed - (1 - EASE)) / EASE) if stage + 1 < len(BLOCKS) else 0.0
        chances = [0.0] * len(BLOCKS)
        chances[stage] = 1 - onward
        if onward:
            chances[stage + 1] = onward
        return tuple(chances)

    def sample(self, grid: Size3, done: float, rng: np.random.Generator) -> np.ndarray:
        """Which tokens of a grid are hidden: (D, H, W) bool, round(ratio * tokens) of them."""
        side = int(rng.choice(BLOCKS, p=self.block_chances(done)))
        slab = self.is_progressive and rng.random() < self.slabs * done
        block = _slab(grid, side, rng) if slab else (side,) * 3
        return hidden(grid, round(self.ratio(done) * math.prod(grid)), block, rng)


def hidden(grid: Size3, count: int, block: Size3, rng: np.random.Generator) -> np.ndarray:
    """`count` tokens in blocks of a lattice with a random phase: (D, H, W) bool; one block is cut to fit.

    Along an axis that a block spans there is no phase: a slab hides whole planes.
    """
    phase = [int(rng.integers(size)) if size < side else 0 for size, side in zip(block, grid)]
    places = np.indices(grid)
    index = [(axis + shift) // size for axis, shift, size in zip(places, phase, block)]
    shape = [int(axis.max()) + 1 for axis in index]
    number = np.ravel_multi_index(index, shape).ravel()
    order = rng.permutation(math.prod(shape))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    chosen = np.lexsort((rng.random(number.size), rank[number]))[:count]
    mask = np.zeros(number.size, bool)
    mask[chosen] = True
    return mask.reshape(grid)


def _slab(grid, side, rng):
    """A block as wide as the grid but along one axis, where it is `side` thick."""
    axis = int(rng.integers(3))
    return tuple(side if n == axis else size for n, size in enumerate(grid))
