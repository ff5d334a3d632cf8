"""HSENet's vision side: a global 3D encoder, one that 2D slices guide, and packers of their tokens.

Source: arXiv 2506.09634; re-derived from the behaviour of YanzhaoShi/HSENet @ c7198f3 (class names there:
ViT_stage1, ViT_stage2, VisualPacker_3d_phi_v3 and the projectors of its ablations).
Kept, because the published weights depend on it: what attention adds to is the *projected* query (`Reader`);
slices carry no position; a patch is scaled by its score and never dropped.
Differs: any grid, number of slices, width and window; fused attention. Equal to 2e-5 of the largest value,
see Testing/parity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ct3d.models.layers import Block, Patches, Size3, renamed

DROPOUT = 0.1  # of a Reader's weights and output, in training


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of an encoder; voxels and patches along D, H, W."""

    image_size: Size3 = (32, 256, 256)
    patch_size: Size3 = (4, 16, 16)
    channels: int = 1
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_dim: int = 3072

    def __post_init__(self):
        object.__setattr__(self, "image_size", tuple(self.image_size))
        object.__setattr__(self, "patch_size", tuple(self.patch_size))

    @property
    def grid(self) -> Size3:
        """Patches along D, H, W."""
        d, h, w = (side // size for side, size in zip(self.image_size, self.patch_size))
        return d, h, w


@dataclass(frozen=True)
class PackerConfig:
    """Sizes of a packer. `sequence` pools tokens in reading order, as many as the window holds.

    `layers` are the linear maps of a pooling one; a spatial one has two.
    """

    kind: Literal["spatial", "pool_mlp", "pool_linear", "sequence"] = "spatial"
    window: Size3 = (1, 4, 4)  # tokens along D, H, W that become one
    dim: int = 768
    out_dim: int = 3072
    layers: int = 2

    def __post_init__(self):
        object.__setattr__(self, "window", tuple(self.window))


class Encoder(nn.Module):
    """Global 3D ViT: (B, C, D, H, W) in [0, 1] → (B, 1 + N, dim) after the last norm, class token first."""

    def __init__(self, config: EncoderConfig = EncoderConfig()):
        super().__init__()
        self.config = config
        self.patches = Patches(config.channels, config.patch_size, config.grid, config.dim)
        self.cls = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, config.mlp_dim) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, volume: Tensor, slices: Tensor | None = None) -> Tensor:
        """`slices` are for the guided encoder; this one ignores them, so that both are called alike."""
        return self.norm(self.hidden(self.embed(volume, slices))[-1])

    def embed(self, volume: Tensor, slices: Tensor | None = None) -> Tensor:
        """(B, N, dim) patches with their position."""
        del slices
        return self.patches(volume)

    def hidden(self, patches: Tensor, *, all_of_them: bool = False) -> list[Tensor]:
        """(B, 1 + N, dim) after each block, before the last norm; the last one alone unless all are asked."""
        x = torch.cat([self.cls.expand(len(patches), -1, -1), patches], dim=1)
        kept = []
        for block in self.blocks:
            x = block(x)
            kept = [*kept, x] if all_of_them else [x]
        return kept


class GuidedEncoder(Encoder):
    """2D-enhanced 3D ViT ("2E3"): a score for each patch, from the slices' features, scales it.

    Args of forward: volume (B, C, D, H, W), slices (B, S, dim) features of the axial slices, any number.
    """

    def __init__(self, config: EncoderConfig = EncoderConfig()):
        super().__init__(config)
        self.guide = Reader(config.dim)
        self.score = nn.Linear(config.dim, 1)

    def embed(self, volume: Tensor, slices: Tensor | None = None) -> Tensor:
        """(B, N, dim) patches with their position, each scaled by its score."""
        if slices is None:
            raise ValueError("This encoder is guided by slices. Give their features.")
        patches = self.patches(volume)
        return patches * self.scores(patches, slices)[..., None]

    def scores(self, patches: Tensor, slices: Tensor) -> Tensor:
        """(B, N) in (0, 1)."""
        return self.score(self.guide(patches, slices)[0])[..., 0].sigmoid()


class Reader(nn.Module):
    """Queries (…, Q, dim) read values (…, V, dim) by single-head attention.

    Quirk of the reference, kept: the projected query, not the query itself, is added to what was read.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """(…, Q, dim) after the norm, and the attention (…, Q, V)."""
        asked = self.query(queries)
        is_few = queries.shape[-2] < values.shape[-2]
        logits = self._few_logits(asked, values) if is_few else asked @ self.key(values).transpose(-1, -2)
        weights = (logits * asked.shape[-1] ** -0.5).softmax(-1)
        kept = F.dropout(weights, DROPOUT, self.training)
        read = self._few_read(kept, values) if is_few else kept @ self.value(values)
        return self.norm(asked + F.dropout(self.output(read), DROPOUT, self.training)), weights

    def _few_logits(self, asked: Tensor, values: Tensor) -> Tensor:
        """asked · key(values) for few queries: these go through the key's map, not the many values."""
        return asked @ self.key.weight @ values.transpose(-1, -2) + (asked @ self.key.bias)[..., None]

    def _few_read(self, kept: Tensor, values: Tensor) -> Tensor:
        """kept · value(values) for few queries: their sums of values go through the value's map."""
        return (kept @ values) @ self.value.weight.T + kept.sum(-1, keepdim=True) * self.value.bias


class SpatialPacker(nn.Module):
    """(B, N, dim) on a grid → (B, windows, out_dim): a window's mean reads the window's tokens.

    Windows lie side by side; they run along D, then H, then W, as the tokens do.
    """

    def __init__(self, config: PackerConfig = PackerConfig()):
        super().__init__()
        self.config = config
        self.reader = Reader(config.dim)
        self.mlp = nn.Sequential(
            nn.Linear(config.dim, config.out_dim), nn.GELU(), nn.Linear(config.out_dim, config.out_dim)
        )

    def forward(self, tokens: Tensor, grid: Size3) -> Tensor:
        windows = windowed(tokens, grid, self.config.window)
        return self.mlp(self.packed(windows)[0])

    def packed(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """(B, windows, n, dim) → (B, windows, dim) and the attention (B, windows, 1, n)."""
        packed, weights = self.reader(windows.mean(dim=2, keepdim=True), windows)
        return packed[:, :, 0], weights


class PoolingPacker(nn.Module):
    """A baseline: (B, N, dim) → (B, N / n, out_dim), means of n tokens through linear maps.

    The means are of windows, or of n neighbours in reading order ("sequence"); GELU between the maps unless
    the kind is "pool_linear".
    """

    def __init__(self, config: PackerConfig):
        super().__init__()
        self.config = config
        between = [] if config.kind == "pool_linear" else [nn.GELU()]
        layers = [nn.Linear(config.dim, config.out_dim)]
        for _ in range(config.layers - 1):
            layers += [*between, nn.Linear(config.out_dim, config.out_dim)]
        self.mlp = nn.Sequential(*layers)

    def forward(self, tokens: Tensor, grid: Size3) -> Tensor:
        if self.config.kind == "sequence":
            d, h, w = self.config.window
            windows = tokens.unflatten(1, (-1, d * h * w))
        else:
            windows = windowed(tokens, grid, self.config.window)
        return self.mlp(windows.mean(dim=2))


def build_packer(config: PackerConfig) -> SpatialPacker | PoolingPacker:
    """The packer of a config, with random weights."""
    return SpatialPacker(config) if config.kind == "spatial" else PoolingPacker(config)


def windowed(tokens: Tensor, grid: Size3, window: Size3) -> Tensor:
    """(B, N, dim) on a grid → (B, windows, n, dim), both in the order D, H, W.

    Raises:
        ValueError: the tokens are not those of the grid, or the window doesn't divide it.
    """
    if tokens.shape[1] != grid[0] * grid[1] * grid[2] or any(g % w for g, w in zip(grid, window)):
        raise ValueError(f"{tokens.shape[1]} tokens on {grid} have no whole windows of {window}.")
    (D, H, W), (d, h, w) = ((g // n for g, n in zip(grid, window)), window)
    split = tokens.reshape(len(tokens), D, d, H, h, W, w, tokens.shape[-1])
    return split.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(len(tokens), D * H * W, d * h * w, -1)


READER_NAMES = (("Wq.", "query."), ("Wk.", "key."), ("Wv.", "value."), ("output_linear.", "output."))
ENCODER_NAMES = (
    ("patch_embedding.patch_embeddings.1.", "patches.linear."),
    ("patch_embedding.position_embeddings", "patches.position"),
    ("cls_token", "cls"),
    ("attn.out_proj.", "attention.out."),
    ("attn.qkv.", "attention.qkv."),
    ("mlp.linear1.", "widen."),
    ("mlp.linear2.", "narrow."),
    ("slice_guided_attention.", "guide."),
    ("patch_score_proj.", "score."),
    *READER_NAMES,
)
PACKER_NAMES = (("resolution_attention.", "reader."), ("proj_mpls.", "mlp."), *READER_NAMES)
POOLING_NAMES = (("projector.", "mlp."),)


def convert_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reference's keys of either encoder under the names of ours."""
    return {renamed(name, ENCODER_NAMES): value for name, value in state.items()}


def convert_packer(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reference's keys of any packer under the names of ours."""
    return {renamed(name, (*PACKER_NAMES, *POOLING_NAMES)): value for name, value in state.items()}


def under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The part of a state dict whose keys begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
