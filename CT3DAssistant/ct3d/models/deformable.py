"""Multi-level deformable attention in 3D: each query reads a few places of several maps, between their cells.

Source: Deformable-DETR, in 3D as CoTr uses it; threedme.md section 3.3. Cross-planar start, a reconstruction:
the heads look toward +z, -z, +y, -y, +x, -x, so that pairs of heads sweep the three orthogonal planes.
Differs from CoTr: a place is given to grid_sample as (x, y, z), the order in which it reads; CoTr stacks
(d, x, y), which reads wrong places on a grid that is no cube. Offsets are in steps of equal mm on all axes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ct3d.models.layers import Size3

DIRECTIONS = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))  # along D, H, W


class DeformableAttention(nn.Module):
    """Queries (B, N, dim) at known places read maps (B, D, H, W, C of the level).

    Args:
        dim: of queries and result; heads divide it.
        channels: of each level's map.
        points: places that a head reads on a level.
    """

    def __init__(self, dim: int, channels: tuple[int, ...], *, heads: int = 6, points: int = 4):
        super().__init__()
        self.heads, self.points, self.levels = heads, points, len(channels)
        self.values = nn.ModuleList(nn.Linear(each, dim) for each in channels)
        self.offsets = nn.Linear(dim, heads * self.levels * points * 3)
        self.weights = nn.Linear(dim, heads * self.levels * points)
        self.out = nn.Linear(dim, dim)
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Head h starts by reading 1, 2, … steps along its direction, all places alike."""
        for linear in (self.offsets, self.weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        toward = torch.tensor([DIRECTIONS[h % len(DIRECTIONS)] for h in range(self.heads)]).float()
        steps = torch.arange(1, self.points + 1).float()
        start = toward[:, None, None, :] * steps[None, None, :, None]
        self.offsets.bias.copy_(start.expand(-1, self.levels, -1, -1).reshape(-1))

    def forward(self, queries: Tensor, places: Tensor, maps: list[Tensor], cell_mm: list[Tensor]) -> Tensor:
        """Read the maps.

        Args:
            queries: (B, N, dim).
            places: (N, 3) in [0, 1] along D, H, W; a grid's cell i of n lies at (i + 0.5) / n.
            maps: one a level, (B, D, H, W, C).
            cell_mm: one a level, (B, 3) mm of a cell along D, H, W.

        Returns:
            (B, N, dim)
        """
        shape = (*queries.shape[:2], self.heads, self.levels, self.points)
        weights = self.weights(queries).view(*shape[:3], -1).softmax(-1).view(shape)
        offsets = self.offsets(queries).view(*shape, 3)
        read = 0
        for level, (given, cell) in enumerate(zip(maps, cell_mm)):
            steps = offsets[..., level, :, :] * _equal_steps(cell)
            size = steps.new_tensor(given.shape[1:4])
            at = places[:, None, None, :] + steps / size
            read = read + self._read(self.values[level](given), at, weights[..., level, :])
        return self.out(read)

    def _read(self, value: Tensor, at: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of a level's values at places (B, N, heads, points, 3)."""
        batch, *grid, dim = value.shape
        split = value.view(batch, *grid, self.heads, dim // self.heads)
        split = split.permute(0, 4, 5, 1, 2, 3).flatten(0, 1)
        where = (2 * at - 1).flip(-1).transpose(1, 2).flatten(0, 1)[..., None, :].to(split.dtype)
        found = F.grid_sample(split, where, padding_mode="zeros", align_corners=False)[..., 0]
        found = (found * weights.transpose(1, 2).flatten(0, 1)[:, None]).sum(-1)
        return found.view(batch, dim, -1).transpose(1, 2)


def cell_places(grid: Size3, device: torch.device | str = "cpu") -> Tensor:
    """(N, 3) in [0, 1] along D, H, W: the centres of a grid's cells in reading order."""
    axes = [(torch.arange(n, device=device) + 0.5) / n for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, 3)


def _equal_steps(cell_mm: Tensor) -> Tensor:
    """(B, 1, 1, 1, 3) cells of one step: as many mm along each axis, one cell where cells are cubes."""
    step_mm = cell_mm.prod(-1, keepdim=True) ** (1 / 3)
    return (step_mm / cell_mm)[:, None, None, None]
