"""3DME: the shared encoder; a ViT and a graph branch over one volume, and the features both give together.

Source: "3DME: Dual-Branch Encoder with Progressive Masking for 3D Medical Foundation Encoding Model", ICRA
2026, of which only the abstract could be had. Stated there [A]: a ViT for global context, a 3D graph network
for local structure, multi-level deformable attention between them, pretraining by progressive masking.
Everything else is a reconstruction [R] after published methods (ViG, CoTr, SimMIM, ViG3D-UNet): widths, order
of fusion, decoder. No number here is the paper's.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ct3d.models.deformable import DeformableAttention, cell_places
from ct3d.models.graph3d import GraphBlock, Stem
from ct3d.models.layers import Block, Size3

LOW_HU, HIGH_HU = -1000, 1000  # what the encoder sees as -1 and 1
PATCH = 8  # voxels of a token along each axis
STRIDES = (4, 8, 16)  # of the pyramid
MULTIPLE = 16  # of a volume's sides
LONGEST_MM = 4000.0  # wave of the position code; the shortest is SHORTEST_MM
SHORTEST_MM = 20.0


@dataclass(frozen=True)
class Config:
    """Sizes; the defaults are the profile "tiny", BASE is the other one [R]."""

    dim: int = 192
    depth: int = 6
    heads: int = 6
    stem: Size3 = (24, 48, 96)  # channels at strides 2, 4, 8
    graph_depth: tuple[int, int] = (2, 2)  # blocks at strides 4 and 8
    neighbours: int = 9
    window: Size3 = (5, 7, 7)  # cells in which neighbours are looked for
    points: int = 4
    decoder_dim: int = 96
    decoder_depth: int = 1

    def __post_init__(self):
        for name in ("stem", "graph_depth", "window"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


BASE = Config(dim=384, depth=12, stem=(48, 96, 192), graph_depth=(2, 4), decoder_dim=192, decoder_depth=2)


@dataclass(frozen=True)
class Features:
    """What the encoder gives of a volume.

    Attributes:
        f2: (B, D/2, H/2, W/2, C) of the stem, for masks with fine rims.
        f4, f8, f16: (B, C, D/stride, H/stride, W/stride), both branches together.
        tokens: (B, N, dim) of the ViT branch after fusion, in reading order of f8's cells.
        z: (B, dim) of the whole volume.
        spacing_mm: (B, 3) of the volume's voxels along D, H, W.
    """

    f2: Tensor
    f4: Tensor
    f8: Tensor
    f16: Tensor
    tokens: Tensor
    z: Tensor
    spacing_mm: Tensor

    def map(self, stride: int) -> Tensor:
        """f4, f8 or f16."""
        return {4: self.f4, 8: self.f8, 16: self.f16}[stride]

    def grid_mm(self, stride: int) -> Tensor:
        """(B, D, H, W, 3) cell centres in mm along D, H, W from the volume's middle."""
        grid = tuple(self.map(stride).shape[2:])
        return centers_mm(grid, self.spacing_mm * stride).unflatten(1, grid)


class Encoder(nn.Module):
    """Both branches and their fusion."""

    def __init__(self, config: Config = Config()):
        super().__init__()
        self.config = config
        c2, c4, c8 = config.stem
        dim = config.dim
        self.stem = Stem((1, c2, c4, c8))
        self.graph4 = nn.ModuleList(GraphBlock(c4) for _ in range(config.graph_depth[0]))
        self.graph8 = nn.ModuleList(
            GraphBlock(c8, k=config.neighbours, dilation=n + 1, window=config.window)
            for n in range(config.graph_depth[1])
        )
        self.patches = nn.Conv3d(1, dim, PATCH, PATCH)
        self.blocks = nn.ModuleList(
            Block(dim, config.heads, 4 * dim, qkv_bias=True) for _ in range(config.depth)
        )
        self.norm_tokens, self.norm_graph = nn.LayerNorm(dim), nn.LayerNorm(c8)
        self.read = DeformableAttention(dim, (c4, c8, dim), heads=config.heads, points=config.points)
        self.to_graph = nn.Linear(dim, c8)
        self.gate = nn.Sequential(nn.Linear(dim + c8, dim), nn.GELU(), nn.Linear(dim, dim + c8))
        self.join, self.norm_join = nn.Linear(dim + c8, dim), nn.LayerNorm(dim)
        self.down = nn.Linear(dim, c4)
        self.mask_voxel = nn.Parameter(torch.zeros(()))
        self.mask_token = nn.Parameter(torch.zeros(dim))
        self.mask_node4, self.mask_node8 = nn.Parameter(torch.zeros(c4)), nn.Parameter(torch.zeros(c8))
        for part in (self.mask_token, self.mask_node4, self.mask_node8):
            nn.init.trunc_normal_(part, std=0.02)

    def forward(self, volume: Tensor, spacing_mm: Tensor, mask: Tensor | None = None) -> Features:
        """See `encode`."""
        return self.encode(volume, spacing_mm, mask)

    def encode(self, volume: Tensor, spacing_mm: Tensor, mask: Tensor | None = None) -> Features:
        """The features of a volume.

        Args:
            volume: (B, 1, D, H, W) in [-1, 1] for -1000 to 1000 HU; sides are multiples of 16.
            spacing_mm: (B, 3) along D, H, W.
            mask: (B, 1, D, H, W) bool, voxels that the encoder must not see; None: it sees all.

        Raises:
            ValueError: sides that are no multiples of 16.
        """
        if any(side % MULTIPLE for side in volume.shape[2:]):
            raise ValueError(
                f"Sides of {tuple(volume.shape[2:])} voxels are no multiples of {MULTIPLE}. Pad the volume."
            )
        if mask is not None:
            volume = torch.where(mask, self.mask_voxel.to(volume.dtype), volume)
        f2, g4, g8 = self.local(volume, mask)
        tokens = self.wide(volume, spacing_mm, mask)
        return self.fuse(f2, g4, g8, tokens, spacing_mm)

    def local(self, volume: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The graph branch: maps (B, D, H, W, C) at strides 2, 4 and 8, before fusion."""
        f2 = self.stem.step(0, volume.movedim(1, -1))
        g4 = _overwritten(self.stem.step(1, f2), mask, self.mask_node4)
        for block in self.graph4:
            g4 = block(g4)
        g8 = _overwritten(self.stem.step(2, g4), mask, self.mask_node8)
        for block in self.graph8:
            g8 = block(g8)
        return f2, g4, g8

    def wide(self, volume: Tensor, spacing_mm: Tensor, mask: Tensor | None = None) -> Tensor:
        """The ViT branch: (B, D, H, W, dim) at stride 8, before fusion."""
        x = _overwritten(self.patches(volume).movedim(1, -1), mask, self.mask_token)
        grid = tuple(x.shape[1:4])
        x = x.flatten(1, 3)
        x = x + position_code(centers_mm(grid, PATCH * spacing_mm), self.config.dim).to(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.norm_tokens(x).unflatten(1, grid)

    def fuse(self, f2: Tensor, g4: Tensor, g8: Tensor, tokens: Tensor, spacing_mm: Tensor) -> Features:
        """Each branch reads the other, as far as its gates let it."""
        grid = tuple(tokens.shape[1:4])
        g8 = self.norm_graph(g8)
        wide = F.avg_pool3d(tokens.movedim(-1, 1), 2).movedim(1, -1)
        gates = self.gate(torch.cat([tokens.mean((1, 2, 3)), g8.mean((1, 2, 3))], -1)).sigmoid()
        gate_tokens, gate_graph = gates[:, None, None, None].split((self.config.dim, g8.shape[-1]), -1)
        cells = [spacing_mm * stride for stride in STRIDES]
        places = cell_places(grid, tokens.device)
        read = self.read(tokens.flatten(1, 3), places, [g4, g8, wide], cells).unflatten(1, grid)
        graph = g8 + gate_graph * self.to_graph(tokens)
        tokens = tokens + gate_tokens * read
        f8 = self.norm_join(self.join(torch.cat([tokens, graph], -1)))
        finer = F.interpolate(
            self.down(f8).movedim(-1, 1), scale_factor=2, mode="trilinear", align_corners=False
        )
        f8 = f8.movedim(-1, 1)
        return Features(
            f2=f2,
            f4=g4.movedim(-1, 1) + finer,
            f8=f8,
            f16=F.avg_pool3d(f8, 2),
            tokens=tokens.flatten(1, 3),
            z=f8.mean((2, 3, 4)),
            spacing_mm=spacing_mm,
        )


class Decoder(nn.Module):
    """f8 → voxels (B, 1, D, H, W): for pretraining alone. Sees features only, never the volume."""

    def __init__(self, config: Config = Config()):
        super().__init__()
        dim = config.decoder_dim
        self.narrow = nn.Linear(config.dim, dim)
        self.blocks = nn.ModuleList(
            Block(dim, max(1, dim // 32), 4 * dim, qkv_bias=True) for _ in range(config.decoder_depth)
        )
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, PATCH**3)

    def forward(self, f8: Tensor) -> Tensor:
        batch, _, d, h, w = f8.shape
        x = self.narrow(f8.flatten(2).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        x = self.out(self.norm(x)).view(batch, d, h, w, PATCH, PATCH, PATCH)
        return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, 1, d * PATCH, h * PATCH, w * PATCH)


def centers_mm(grid: Size3, cell_mm: Tensor) -> Tensor:
    """(B, N, 3) centres of a grid's cells in mm along D, H, W from the grid's middle; cell_mm: (B, 3)."""
    size = cell_mm.new_tensor(grid)
    return (cell_places(grid, cell_mm.device) - 0.5) * size * cell_mm[:, None]


def position_code(places_mm: Tensor, dim: int) -> Tensor:
    """(…, 3) mm → (…, dim): sines and cosines of each coordinate, waves from 20 mm to 4 m.

    In mm, so that crops and spacings can be compared [R].
    """
    count = dim // 6
    waves_mm = SHORTEST_MM * (LONGEST_MM / SHORTEST_MM) ** (
        torch.arange(count, device=places_mm.device) / max(1, count - 1)
    )
    angle = 2 * torch.pi * places_mm[..., None] / waves_mm
    code = torch.cat([angle.sin(), angle.cos()], -1).flatten(-2)
    return F.pad(code, (0, dim - code.shape[-1]))


def _overwritten(x: Tensor, mask: Tensor | None, by: Tensor) -> Tensor:
    """A map with the cells replaced of which more than half the voxels are masked."""
    if mask is None:
        return x
    stride = mask.shape[2] // x.shape[1]
    is_masked = F.avg_pool3d(mask.to(x.dtype), stride).movedim(1, -1) > 0.5
    return torch.where(is_masked, by.to(x.dtype), x)
