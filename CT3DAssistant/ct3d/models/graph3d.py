"""Graph convolution over the cells of a 3D grid: each cell against its neighbours' largest, per channel.

Source: max-relative graph convolution of DeepGCN and ViG, as threedme.md section 3.1 has it; its use in 3D
and both sets of edges are a reconstruction. Maps are (B, D, H, W, C) here, channels last.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ct3d.models.layers import Size3

TILE: Size3 = (4, 6, 6)  # cells whose candidates are compared in one matrix product


def grid_difference(x: Tensor) -> Tensor:
    """max over the 26 neighbours and the cell itself of (x_j - x_i): never negative.

    The largest is taken per channel, so it is a max pool, and no neighbour is ever gathered.
    """
    return F.max_pool3d(x.movedim(-1, 1), 3, 1, 1).movedim(1, -1) - x


def window_difference(x: Tensor, k: int, dilation: int, window: Size3) -> Tensor:
    """max over a cell's k nearest cells by feature of (x_j - x_i), itself included.

    Nearest: by the distance of L2-normalised features, among the cells of a window about it. Of the
    k * dilation nearest, every dilation-th counts. Fewer where a corner of the grid has no more. The choice
    carries no gradient. Cells are compared tile by tile, so the cost grows with their number.
    """
    tile = tuple(min(t, n) for t, n in zip(TILE, x.shape[1:4]))
    reach = tuple(side // 2 for side in window)
    with torch.no_grad():
        nearest = _nearest(F.normalize(x, dim=-1), k, dilation, tile, reach)
    own, others = _tiles(x, tile), _candidates(x, tile, reach)
    count, k = nearest.shape[-2:]
    chosen = nearest.flatten(-2)[..., None].expand(*nearest.shape[:-2], count * k, x.shape[-1])
    found = torch.gather(others, -2, chosen).unflatten(-2, (count, k))
    return _untiled(found.amax(-2) - own, x.shape[1:4], tile)


def _nearest(x, k, dilation, tile, reach):
    """(B, tiles, cells, k) places among a tile's candidates."""
    likeness = _tiles(x, tile) @ _candidates(x, tile, reach).transpose(-1, -2)
    is_there = _candidates(torch.ones_like(x[:1, ..., :1]), tile, reach)[..., 0] > 0
    in_window, is_self = _window(tile, reach, x.device)
    allowed = in_window & is_there[..., None, :]
    likeness = likeness.masked_fill(~allowed, -math.inf).masked_fill(is_self, 2.0)  # before any other's 1
    fewest = math.prod(min(n, r + 1) for n, r in zip(x.shape[1:4], reach))
    k = min(k, fewest)
    dilation = min(dilation, fewest // k)
    return likeness.topk(k * dilation, dim=-1).indices[..., ::dilation]


def _window(tile, reach, device):
    """(cells, candidates) bool each: which candidates lie in a cell's window; which one is the cell."""
    axes = []
    for size, r in zip(tile, reach):
        apart = torch.arange(size + 2 * r, device=device) - r - torch.arange(size, device=device)[:, None]
        axes.append((apart.abs() <= r, apart == 0))
    (a, sa), (b, sb), (c, sc) = axes

    def joined(x, y, z):
        whole = x[:, None, None, :, None, None] & y[None, :, None, None, :, None] & z[:, None, None, :]
        return whole.flatten(3).flatten(0, 2)

    return joined(a, b, c), joined(sa, sb, sc)


def _padded(x, tile, reach):
    """Zeros around the grid, so that every tile is whole and has its candidates."""
    short = [-n % t for n, t in zip(x.shape[1:4], tile)]
    sides = [(r, r + s) for r, s in zip(reach, short)]
    return F.pad(x, (0, 0, *sides[2], *sides[1], *sides[0]))


def _tiles(x, tile):
    """(B, tiles, cells, C)."""
    return _windows(_padded(x, tile, (0, 0, 0)), tile, tile)


def _candidates(x, tile, reach):
    """(B, tiles, cells about the tile, C)."""
    sizes = tuple(t + 2 * r for t, r in zip(tile, reach))
    return _windows(_padded(x, tile, reach), sizes, tile)


def _windows(x, sizes, steps):
    for axis, (size, step) in enumerate(zip(sizes, steps)):
        x = x.unfold(1 + axis, size, step)
    return x.movedim(4, -1).flatten(4, 6).flatten(1, 3)


def _untiled(x, grid, tile):
    counts = [-(-n // t) for n, t in zip(grid, tile)]
    whole = x.reshape(len(x), *counts, *tile, -1).permute(0, 1, 4, 2, 5, 3, 6, 7)
    whole = whole.reshape(len(x), *(n * t for n, t in zip(counts, tile)), -1)
    return whole[:, : grid[0], : grid[1], : grid[2]]


class GraphBlock(nn.Module):
    """Grapher, then two linear maps, each with a way around it: (B, D, H, W, dim) → the same.

    Args:
        k: neighbours by feature; 0: the 26 of the grid.
        dilation: see `window_difference`.
        window: cells along D, H, W.
    """

    def __init__(self, dim: int, *, k: int = 0, dilation: int = 1, window: Size3 = (5, 7, 7)):
        super().__init__()
        self.k, self.dilation, self.window = k, dilation, window
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.into, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.join = nn.Linear(2 * dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.convolve(self.into(self.norm1(x))))
        return x + self.narrow(F.gelu(self.widen(self.norm3(x))))

    def convolve(self, x: Tensor) -> Tensor:
        """act(norm(W [x; m])), m the max-relative message."""
        message = window_difference(x, self.k, self.dilation, self.window) if self.k else grid_difference(x)
        return F.gelu(self.norm2(self.join(torch.cat([x, message], dim=-1))))


class Stem(nn.Module):
    """Convolutions 3x3x3 of stride 2, each with a norm over the channels of a voxel and GELU.

    Differs from threedme.md section 3.1 (GroupNorm): a group's statistics reach over the whole volume, and
    section 8.5 asks that this branch be local.
    """

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv3d(a, b, 3, 2, 1) for a, b in pairwise(channels))
        self.norms = nn.ModuleList(nn.LayerNorm(each) for each in channels[1:])

    def step(self, level: int, x: Tensor) -> Tensor:
        """(B, D, H, W, C) → half the sides, the next number of channels."""
        x = self.convolutions[level](x.movedim(-1, 1)).movedim(1, -1)
        return F.gelu(self.norms[level](x))
