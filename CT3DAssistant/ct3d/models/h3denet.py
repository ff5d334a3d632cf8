"""H3DE-Net: landmarks of a CT, by an encoder of bi-level routing attention and one of two heads.

`HeatmapNet` gives a map of the full size for each landmark ("anchor-free"); `AnchorNet` gives offsets and
logits of anchor balls on a grid four times coarser ("anchor-based").

Source: arXiv 2502.14221; behaviour of ECNUACRush/H3DE-Net @ e61a57e (BiFormer_Unet, PBiFormer_Unet).
Differs: any input size (see routing_attention; a decoder step crops what it doubled to the size of its skip),
any number of input channels; AnchorNet has no branches whose result nobody reads; the paper's fusion head,
super-resolution block and pyramid pooling, which the released code defines or mentions only, are options.
"""

import re
from dataclasses import dataclass
from itertools import count
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ct3d.models.convolutions import Mix, convolve, halve
from ct3d.models.routing_attention import (
    AttentionConfig,
    Block,
    BlockConfig,
    Pooling,
    Triple,
    channels_first,
    channels_last,
)

Quad = tuple[int, int, int, int]
Attention = Literal["routing", "none"]
Upsampling = Literal["trilinear", "super_resolution"]
ATTENTIONS, UPSAMPLINGS = get_args(Attention), get_args(Upsampling)


@dataclass(frozen=True)
class Config:
    """Both networks; one value per encoder stage where there are four. The defaults are the released ones."""

    landmarks: int = 14
    in_channels: int = 1
    dims: Quad = (64, 128, 256, 512)
    depths: Quad = (2, 2, 4, 2)
    qk_dims: Quad | None = None  # None: dims
    head_dim: int = 8  # of queries and keys
    windows: Triple = (4, 4, 2)  # how many along D, H, W of every stage
    topks: Quad = (1, 4, 16, 16)  # as AttentionConfig.topk
    mlp_ratios: tuple[float, float, float, float] = (4, 4, 4, 4)
    decoder_dims: tuple[int, int] | None = None  # at half and full size; None: (dims[0] // 2, 16)
    attention: Attention = "routing"  # "none": blocks of positions and MLP only
    position_kernel: int = 3
    local_kernel: int = 5
    attention_scale: float | None = None
    soft_routing: bool = False
    differentiable_routing: bool = False
    projected_routing: bool = False
    output_projection: bool = True
    kv_pool: Pooling = "identity"
    kv_pool_sizes: Quad = (1, 1, 1, 1)
    fused: bool = True  # quick forms; without, equal to the reference to the last bit
    swap_axes: bool = False
    mlp_convolution: bool = False
    pre_norm: bool = True
    layer_scale: float = 0.0
    drop_path: float = 0.0  # of the last block; from 0 at the first it grows evenly
    upsampling: Upsampling = "trilinear"  # of every decoder step
    pyramid_scales: tuple[int, ...] = ()  # grids of the pyramid pooling over the deepest map; (): without
    anchors: int = 4  # per cell, AnchorNet only
    fusion: bool = False  # AnchorNet's head also sees the input at full and half size

    def __post_init__(self):
        for name, value in vars(self).items():
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        per_stage = (self.dims, self.depths, self.query_dims, self.topks, self.mlp_ratios, self.kv_pool_sizes)
        if {len(each) for each in per_stage} != {4}:
            raise ValueError("dims, depths, qk_dims, topks, mlp_ratios, kv_pool_sizes: four values each.")
        if self.attention not in ATTENTIONS:
            raise ValueError(f"attention is {self.attention!r}; use {' or '.join(ATTENTIONS)}.")
        if self.upsampling not in UPSAMPLINGS:
            raise ValueError(f"upsampling is {self.upsampling!r}; use {' or '.join(UPSAMPLINGS)}.")

    @property
    def query_dims(self) -> Quad:
        """Width of queries and keys per stage."""
        return self.qk_dims or self.dims

    @property
    def fine_dims(self) -> tuple[int, int]:
        """Channels of the decoder at half and at full size."""
        return self.decoder_dims or (self.dims[0] // 2, 16)

    def block(self, stage: int, drop_path: float) -> BlockConfig:
        """What a block of that stage is."""
        return BlockConfig(
            dim=self.dims[stage],
            attention=self.attention_of(stage) if self.attention == "routing" else None,
            mlp_ratio=self.mlp_ratios[stage],
            mlp_convolution=self.mlp_convolution,
            position_kernel=self.position_kernel,
            pre_norm=self.pre_norm,
            layer_scale=self.layer_scale,
            drop_path=drop_path,
        )

    def attention_of(self, stage: int) -> AttentionConfig:
        """What the attention of that stage is."""
        return AttentionConfig(
            dim=self.dims[stage],
            heads=self.query_dims[stage] // self.head_dim,
            windows=self.windows,
            topk=self.topks[stage],
            qk_dim=self.query_dims[stage],
            scale=self.attention_scale,
            local_kernel=self.local_kernel,
            soft_routing=self.soft_routing,
            differentiable_routing=self.differentiable_routing,
            projected_routing=self.projected_routing,
            output_projection=self.output_projection,
            kv_pool=self.kv_pool,
            kv_pool_size=self.kv_pool_sizes[stage],
            fused=self.fused,
            swap_axes=self.swap_axes,
        )


class Encoder(nn.Module):
    """(B, in_channels, D, H, W) → four maps, at 1/4 to 1/32 of the size rounded up, fine to coarse."""

    def __init__(self, config: Config):
        super().__init__()
        dims, stem = config.dims, config.dims[0] // 2
        self.downs = nn.ModuleList(
            nn.Sequential(*halve(into, out, fused=config.fused)) for into, out in zip(dims[:-1], dims[1:])
        )
        first = (*halve(config.in_channels, stem, fused=config.fused), nn.GELU())
        self.downs.insert(0, nn.Sequential(*first, *halve(stem, dims[0], fused=config.fused)))
        blocks = count()  # from the first to the last of all stages
        last = max(1, sum(config.depths) - 1)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(Block(config.block(stage, config.drop_path * next(blocks) / last)) for _ in range(depth))
            )
            for stage, depth in enumerate(config.depths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for dim in dims)
        self.apply(self.start)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for down, stage, norm in zip(self.downs, self.stages, self.norms):
            x = channels_first(norm(channels_last(stage(down(x)))))
            maps.append(x)
        return maps

    @staticmethod
    def start(module: nn.Module) -> None:
        """First values of linear layers; all others start as PyTorch starts them."""
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class SuperResolution(nn.Module):
    """(B, C, D, H, W) → (B, C, f·D, f·H, f·W): a convolution writes the new voxels as channels."""

    def __init__(self, channels: int, factor: int = 2):
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv3d(channels, channels * factor**3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(channels * factor**3)

    def forward(self, x: Tensor) -> Tensor:
        x, f = F.relu(self.norm(self.conv(x))), self.factor
        b, c, d, h, w = x.shape
        fine = x.reshape(b, c // f**3, f, f, f, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return fine.reshape(b, c // f**3, d * f, h * f, w * f)


class PyramidPooling(nn.Module):
    """(B, in, D, H, W) → (B, out, D, H, W): each voxel sees the averages over coarser and coarser grids.

    Batch norm: in training, a grid of one cell needs a batch of two or more.
    """

    def __init__(self, in_channels: int, out_channels: int, scales: tuple[int, ...] = (1, 2, 3, 6)):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool3d(scale), *self.layer(in_channels, out_channels, 1))
            for scale in scales
        )
        self.merge = nn.Sequential(*self.layer(in_channels + len(scales) * out_channels, out_channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        coarse = [F.interpolate(branch(x), size=size, mode="trilinear") for branch in self.branches]
        return self.merge(torch.cat([x, *coarse], dim=1))

    @staticmethod
    def layer(into: int, out: int, kernel: int) -> tuple[nn.Module, ...]:
        """Convolution, batch norm, ReLU."""
        return nn.Conv3d(into, out, kernel, padding=kernel // 2, bias=False), nn.BatchNorm3d(out), nn.ReLU()


class Up(nn.Module):
    """A decoder step: doubles x, crops it to its skip's size, joins both, convolves twice."""

    def __init__(self, config: Config, into: int, skip: int, out: int):
        super().__init__()
        self.enlarge = SuperResolution(into) if config.upsampling == "super_resolution" else Double()
        self.conv1 = convolve(into + skip, out, fused=config.fused)
        self.conv2 = convolve(out, out, fused=config.fused)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        d, h, w = skip.shape[2:]
        return self.conv2(self.conv1((self.enlarge(x)[:, :, :d, :h, :w], skip)))


class Double(nn.Module):
    """Trilinear, to twice the size."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="trilinear")


class Backbone(nn.Module):
    """(B, in_channels, D, H, W) → (B, dims[0], D/4, H/4, W/4): encoder and three decoder steps."""

    def __init__(self, config: Config):
        super().__init__()
        dims = config.dims
        self.encoder = Encoder(config)
        self.pyramid = (
            PyramidPooling(dims[3], dims[3], config.pyramid_scales) if config.pyramid_scales else None
        )
        self.ups = nn.ModuleList(Up(config, dims[i + 1], dims[i], dims[i]) for i in (2, 1, 0))

    def forward(self, x: Tensor) -> Tensor:
        *skips, x = self.encoder(x)
        if self.pyramid is not None:
            x = self.pyramid(x)
        for up, skip in zip(self.ups, reversed(skips)):
            x = up(x, skip)
        return x


class InputMaps(nn.Module):
    """(B, in_channels, D, H, W) → what the input itself gives at half and full size."""

    def __init__(self, config: Config):
        super().__init__()
        self.at_half, self.at_full = (
            convolve(config.in_channels, width, fused=config.fused) for width in config.fine_dims
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.at_half(F.avg_pool3d(F.pad(x, (1, 1, 1, 1, 1, 1)), 3, stride=2)), self.at_full(x)


class HeatmapNet(nn.Module):
    """(B, in_channels, D, H, W) → (B, landmarks, D, H, W), raw: 2 at a landmark, -1 far from it."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        half, full = config.fine_dims
        self.backbone = Backbone(config)
        self.input_maps = InputMaps(config)
        self.up_half, self.up_full = Up(config, config.dims[0], half, half), Up(config, half, full, full)
        self.head = Mix(full, config.landmarks, fused=config.fused)

    def forward(self, x: Tensor) -> Tensor:
        half, full = self.input_maps(x)
        return self.head(self.up_full(self.up_half(self.backbone(x), half), full))


class FusionHead(nn.Module):
    """Joins the backbone's map with the input's own at full and half size, read at every 4th and 2nd voxel.

    The paper's feature fusion, as the released code keeps it in comments; each part has dims[0] channels.
    """

    def __init__(self, config: Config):
        super().__init__()
        half, full = config.fine_dims
        self.input_maps = InputMaps(config)
        self.from_full = nn.Conv3d(full, config.dims[0], 1, stride=4)
        self.from_half = nn.Conv3d(half, config.dims[0], 1, stride=2)

    def forward(self, x: Tensor, deep: Tensor) -> Tensor:
        half, full = self.input_maps(x)
        return torch.cat([self.from_full(full), self.from_half(half), deep], dim=1)


class AnchorNet(nn.Module):
    """(B, in_channels, D, H, W) → (B, D/4, H/4, W/4, anchors, 3 + landmarks), raw, sizes rounded up.

    The first three of the last axis are offsets before tanh, the others one logit per landmark.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.fusion = FusionHead(config) if config.fusion else None
        width = config.dims[0] * (3 if config.fusion else 1)
        self.head = Mix(width, config.anchors * (3 + config.landmarks), fused=config.fused)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.backbone(x)
        maps = self.head(deep if self.fusion is None else self.fusion(x, deep))
        return maps.unflatten(1, (self.config.anchors, -1)).permute(0, 3, 4, 5, 1, 2)


NEVER_USED = r"norm\.(weight|bias|running_mean|running_var|num_batches_tracked)|head\.(weight|bias)"
ANCHOR_NEVER_USED = NEVER_USED + r"|up[34]\.conv[12]\.0\.weight|final_conv\.(weight|bias)"
PLAIN_ANCHOR_NEVER_USED = ANCHOR_NEVER_USED + r"|c[12]\.0\.weight|early_down[12]\.(weight|bias)"
RENAMES = (
    (r"(^|\.)attn\.", r"\1mixer."),
    (r"qkv\.qkv\.", "qkv."),
    (r"router\.emb\.", "router."),
    (r"(^|\.)lepe\.", r"\1local."),
    (r"(^|\.)(wo|proj)\.", r"\1output."),
    (r"mixer\.1\.", "mixer.into."),
    (r"mixer\.2\.", "mixer.local."),
    (r"mixer\.3\.", "mixer.output."),
    (r"mlp\.0\.", "mlp.expand."),
    (r"mlp\.1\.dwconv\.", "mlp.local."),
    (r"mlp\.3\.", "mlp.contract."),
    (r"pos_embed\.", "position."),
    (r"gamma([12])$", r"scale\1"),
    (r"^downsample_layers\.", "backbone.encoder.downs."),
    (r"^stages\.", "backbone.encoder.stages."),
    (r"^up([012])\.", r"backbone.ups.\1."),
    (r"^up3\.", "up_half."),
    (r"^up4\.", "up_full."),
    (r"^(final_conv|pre_layer)\.(?=weight|bias)", "head."),
    (r"^bn\.", "norm."),  # super-resolution block
    (r"^ppb_layers\.", "branches."),  # pyramid pooling
    (r"^final_conv\.", "merge."),
)
NET_RENAMES = ((r"^norm([0-3])\.", r"backbone.encoder.norms.\1."),)  # a block has norm1 and norm2 too
HEATMAP_RENAMES = ((r"^c1\.", "input_maps.at_half."), (r"^c2\.", "input_maps.at_full."))
FUSION_RENAMES = (
    (r"^c1\.", "fusion.input_maps.at_half."),
    (r"^c2\.", "fusion.input_maps.at_full."),
    (r"^early_down1\.", "fusion.from_full."),
    (r"^early_down2\.", "fusion.from_half."),
)


def convert(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Reference weights under our names, of a whole net or of one of its parts; for a strict load_state_dict.

    The parameters that a reference net carries but never uses are left out, each by its name; a name that is
    none of the reference's stays as it is, so that the strict load names it.
    """
    if "downsample_layers.0.0.weight" not in state_dict:
        return {renamed(name, RENAMES): value for name, value in state_dict.items()}
    unused, renames = rules_of_net(state_dict)
    kept = {name: value for name, value in state_dict.items() if not re.fullmatch(unused, name)}
    return {renamed(name, renames): value for name, value in kept.items()}


def rules_of_net(state_dict: dict[str, Tensor]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Which names of that reference net are never used, and how the others are renamed."""
    if "pre_layer.weight" not in state_dict:
        return NEVER_USED, RENAMES + NET_RENAMES + HEATMAP_RENAMES
    if state_dict["pre_layer.weight"].shape[1] == state_dict["up2.conv2.0.weight"].shape[0]:
        return PLAIN_ANCHOR_NEVER_USED, RENAMES + NET_RENAMES
    return ANCHOR_NEVER_USED, RENAMES + NET_RENAMES + FUSION_RENAMES


def renamed(name: str, renames: tuple[tuple[str, str], ...]) -> str:
    """A name after all renames, in their order."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name
