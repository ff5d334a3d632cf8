"""Parts that several transformers share: patches of a volume as tokens, attention, a block of both.

Source: the ViT of MONAI 1.3 as HSENet uses it (arXiv 2506.09634; spec read at YanzhaoShi/HSENet @ c7198f3).
Differs: scaled_dot_product_attention in place of an explicit softmax, and any size of grid; equal to 2e-5 of
the largest value, see Testing/parity.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size3 = tuple[int, int, int]  # along D, H, W


class Patches(nn.Module):
    """(B, C, D, H, W) → (B, N, dim): each patch's voxels through one linear map, plus a learned position.

    Patches run along D, then H, then W; a patch's values in the order depth, height, width, channel. On
    another grid than the learned one the positions are interpolated.

    Args:
        channels: of the volume.
        patch_size: voxels; a volume's sides are multiples of it.
        grid: patches along D, H, W that positions are learned for.
        dim: of a token.
    """

    def __init__(self, channels: int, patch_size: Size3, grid: Size3, dim: int):
        super().__init__()
        self.patch_size, self.grid = patch_size, grid
        d, h, w = patch_size
        self.linear = nn.Linear(channels * d * h * w, dim)
        self.position = nn.Parameter(torch.zeros(1, grid[0] * grid[1] * grid[2], dim))
        nn.init.trunc_normal_(self.position, std=0.02, a=-2.0, b=2.0)

    def grid_of(self, volume: Tensor) -> Size3:
        """Patches along D, H, W of a volume; raises as the function of this name."""
        return grid_of(volume, self.patch_size)

    def forward(self, volume: Tensor) -> Tensor:
        batch, channels = volume.shape[:2]
        grid, (d, h, w) = self.grid_of(volume), self.patch_size
        split = volume.reshape(batch, channels, grid[0], d, grid[1], h, grid[2], w)
        tokens = split.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(batch, -1, d * h * w * channels)
        return self.linear(tokens) + self.position_on(grid)

    def position_on(self, grid: Size3) -> Tensor:
        """(1, N, dim) positions on a grid."""
        if grid == self.grid:
            return self.position
        table = self.position.reshape(1, *self.grid, -1).permute(0, 4, 1, 2, 3)
        there = F.interpolate(table, size=grid, mode="trilinear", align_corners=False)
        return there.flatten(2).transpose(1, 2)


def grid_of(volume: Tensor, patch_size: Size3) -> Size3:
    """Patches along D, H, W of a volume.

    Raises:
        ValueError: its sides are no multiples of the patch.
    """
    sides = tuple(volume.shape[2:])
    if any(side % size for side, size in zip(sides, patch_size)):
        raise ValueError(f"A volume of {sides} has no whole patches of {patch_size}. Resize or pad it.")
    d, h, w = (side // size for side, size in zip(sides, patch_size))
    return d, h, w


class Attention(nn.Module):
    """Self-attention of (B, N, dim)."""

    def __init__(self, dim: int, heads: int, *, qkv_bias: bool = False):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, dim = x.shape
        q, k, v = self.qkv(x).view(batch, count, 3, self.heads, dim // self.heads).unbind(2)
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, count, dim))


class Block(nn.Module):
    """Pre-norm transformer block: attention, then two linear maps with an exact GELU between."""

    def __init__(self, dim: int, heads: int, mlp_dim: int, *, qkv_bias: bool = False, eps: float = 1e-5):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.attention = Attention(dim, heads, qkv_bias=qkv_bias)
        self.widen, self.narrow = nn.Linear(dim, mlp_dim), nn.Linear(mlp_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(F.gelu(self.widen(self.norm2(x))))


Renames = tuple[tuple[str, str], ...]  # (a piece of the reference's key, ours)


def renamed(name: str, renames: Renames) -> str:
    """The reference's key of a state dict with these pieces of it replaced, one after the other."""
    for theirs, ours in renames:
        name = name.replace(theirs, ours)
    return name


def original(name: str, renames: Renames) -> str:
    """The reference's key of ours: the way back of `renamed`."""
    for theirs, ours in reversed(renames):
        name = name.replace(ours, theirs)
    return name
