"""Bi-level routing attention in three dimensions, and the transformer block around it.

The volume is cut into a fixed number of windows. Each window keeps the `topk` windows whose mean key answers
its mean query best, and its tokens attend to the tokens of those windows only.

Source: H3DE-Net (arXiv 2502.14221), after BiFormer (CVPR 2023), section 3.2; the behaviour is that of the
released code, ECNUACRush/H3DE-Net @ e61a57e.
Differs: a volume that the windows don't divide is padded with zeros at the end of each axis and cropped back
(the reference pads and crops the wrong axes, and fails); the attention is scaled_dot_product_attention;
window means and routing logits are at least single precision. Equal wherever the reference runs, see
Testing/parity.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Triple = tuple[int, int, int]
Pooling = Literal["identity", "avg", "max", "adaptive_avg", "adaptive_max"]
POOLINGS = {
    "avg": F.avg_pool3d,
    "max": F.max_pool3d,
    "adaptive_avg": F.adaptive_avg_pool3d,
    "adaptive_max": F.adaptive_max_pool3d,
}
FULL_HEADS = 8  # of full attention, whatever its width


@dataclass(frozen=True)
class AttentionConfig:
    """One attention layer; the defaults beyond the first four are those of the networks."""

    dim: int
    heads: int
    windows: Triple  # how many along D, H, W
    topk: int  # windows attended to; 0: convolutions instead, -1: all tokens, -2: those and a local term
    qk_dim: int | None = None  # width of queries and keys; None: dim
    scale: float | None = None  # of all logits; None: qk_dim^-0.5, the full width, not that of one head
    local_kernel: int = 5  # of the depth-wise convolution over the values; 0: without
    soft_routing: bool = False  # weigh gathered keys and values by the softmax of the kept routing logits
    differentiable_routing: bool = False  # let gradients through the window means
    projected_routing: bool = False  # one learned projection of both window means
    output_projection: bool = True
    kv_pool: Pooling = "identity"  # of keys and values within their window, before they are gathered
    kv_pool_size: int = 1  # factor per axis of avg and max; tokens per axis of the adaptive ones
    fused: bool = True  # fast attention; written out it is equal to the reference to the last bit, but slow
    swap_axes: bool = (
        False  # the convolutions see H and W swapped and aren't swapped back: the released code's slip
    )

    def __post_init__(self):
        object.__setattr__(self, "windows", tuple(self.windows))
        count = self.windows[0] * self.windows[1] * self.windows[2]
        if self.topk > count:
            raise ValueError(f"topk is {self.topk}, but there are only {count} windows {self.windows}.")
        if self.heads < 1 or self.dim % self.heads or self.key_dim % self.heads:
            raise ValueError(f"{self.heads} heads don't divide dim {self.dim} and qk_dim {self.key_dim}.")
        if self.kv_pool != "identity" and self.kv_pool not in POOLINGS:
            raise ValueError(f"kv_pool is {self.kv_pool!r}; use identity, {', '.join(POOLINGS)}.")
        if self.differentiable_routing and not self.soft_routing and self.topk > 0:
            raise ValueError("differentiable_routing needs soft_routing: a hard choice has no gradient.")

    @property
    def key_dim(self) -> int:
        """Width of queries and keys."""
        return self.qk_dim or self.dim

    @property
    def logit_scale(self) -> float:
        """Factor of the routing's and the attention's logits."""
        return self.scale or self.key_dim**-0.5


@dataclass(frozen=True)
class Routed:
    """What each window looks at: window p of volume n attends to index[n, p], best first.

    index and weight (N, windows, topk), windows counted x-major; attention (N·windows, heads, tokens, kept).
    """

    index: Tensor
    weight: Tensor
    attention: Tensor


def pad_to(x: Tensor, windows: Triple) -> Tensor:
    """(N, D, H, W, C), with zeros at the end of each axis until the windows divide it."""
    d, h, w = (-size % count for size, count in zip(x.shape[1:4], windows))
    return F.pad(x, (0, 0, 0, w, 0, h, 0, d)) if d or h or w else x


def to_windows(x: Tensor, windows: Triple) -> Tensor:
    """(N, D, H, W, C) → (N, windows, d, h, w, C): a window's own voxels; windows count x-major."""
    n, *size, c = x.shape
    (a, b, e), (d, h, w) = windows, (whole // count for whole, count in zip(size, windows))
    cut = x.reshape(n, a, d, b, h, e, w, c).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return cut.reshape(n, a * b * e, d, h, w, c)


def from_windows(x: Tensor, windows: Triple, size: tuple[int, ...]) -> Tensor:
    """(N·windows, tokens, C) → (N, *size, C), the way back of to_windows."""
    (a, b, e), (d, h, w) = windows, (whole // count for whole, count in zip(size, windows))
    return (
        x.reshape(-1, a, b, e, d, h, w, x.shape[-1])
        .permute(0, 1, 4, 2, 5, 3, 6, 7)
        .reshape(-1, *size, x.shape[-1])
    )


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(N, tokens, C) → (N, heads, tokens, C / heads), a view."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, *, scale: float, fused: bool) -> Tensor:
    """(N, heads, tokens, ·) each → (N, tokens, heads · head width)."""
    if fused:
        seen = F.scaled_dot_product_attention(query, key, value, scale=scale)
    else:
        seen = attention_map(query, key, scale=scale) @ value
    return seen.transpose(1, 2).flatten(2)


def attention_map(query: Tensor, key: Tensor, *, scale: float) -> Tensor:
    """How much each query heeds each key: (N, heads, queries, keys), rows sum to 1."""
    return ((query * scale) @ key.transpose(-2, -1)).softmax(-1)


def depthwise(dim: int, kernel: int) -> nn.Conv3d:
    """A convolution of each channel with itself, that keeps the size."""
    return nn.Conv3d(dim, dim, kernel, padding=kernel // 2, groups=dim)


def channels_first(x: Tensor) -> Tensor:
    """(N, D, H, W, C) → (N, C, D, H, W), a view."""
    return x.permute(0, 4, 1, 2, 3)


def channels_last(x: Tensor) -> Tensor:
    """(N, C, D, H, W) → (N, D, H, W, C), a view."""
    return x.permute(0, 2, 3, 4, 1)


class RoutingAttention(nn.Module):
    """(N, D, H, W, C) → the same shape, for any size.

    Padding zeros are tokens like others: they enter window means, keys and the local term, as if the volume
    itself had been padded before this layer.
    """

    def __init__(self, config: AttentionConfig):
        super().__init__()
        self.config = config
        dim, key_dim = config.dim, config.key_dim
        self.qkv = nn.Linear(dim, 2 * key_dim + dim)
        self.router = nn.Linear(key_dim, key_dim) if config.projected_routing else None
        self.local = depthwise(dim, config.local_kernel) if config.local_kernel > 0 else None
        self.output = nn.Linear(dim, dim) if config.output_projection else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        config, (d, h, w) = self.config, x.shape[1:4]
        qkv = self.qkv(pad_to(x, config.windows))
        query, key, value, _ = self.routed_tokens(qkv)
        seen = attend(query, key, value, scale=config.logit_scale, fused=config.fused)
        mixed = from_windows(seen, config.windows, qkv.shape[1:4])[:, :d, :h, :w]
        if self.local is not None:
            own = self.local(channels_first(qkv[..., 2 * config.key_dim :]))
            mixed = mixed + channels_last(own)[:, :d, :h, :w]
        return self.output(mixed)

    def routed(self, x: Tensor) -> Routed:
        """Where each window of (N, D, H, W, C) looks; costs the whole attention matrix."""
        query, key, _, (index, weight) = self.routed_tokens(self.qkv(pad_to(x, self.config.windows)))
        attention = attention_map(query, key, scale=self.config.logit_scale)
        return Routed(index=index, weight=weight, attention=attention)

    def routed_tokens(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Queries, gathered keys and values (N·windows, heads, tokens, ·); the routing."""
        config = self.config
        cut = to_windows(qkv, config.windows)
        query, kv = cut.split((config.key_dim, config.key_dim + config.dim), dim=-1)
        index, weight = self.route(query.flatten(2, 4), kv[..., : config.key_dim].flatten(2, 4))
        key, value = self.gather(self.pool(kv), index, weight).split((config.key_dim, config.dim), dim=-1)
        query = query.flatten(0, 1).flatten(1, 3)
        return (*(split_heads(each, config.heads) for each in (query, key, value)), (index, weight))

    def route(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """Best windows of each window, and the softmax of their logits, of (N, windows, tokens, key_dim)."""
        if not self.config.differentiable_routing:
            query, key = query.detach(), key.detach()
        precise = torch.promote_types(query.dtype, torch.float32)
        query, key = query.mean(2, dtype=precise), key.mean(2, dtype=precise)
        if self.router is not None:
            query, key = self.router(query), self.router(key)
        best = ((query * self.config.logit_scale) @ key.transpose(-2, -1)).topk(self.config.topk, dim=-1)
        return best.indices, best.values.softmax(-1)

    def pool(self, kv: Tensor) -> Tensor:
        """Keys and values (N, windows, d, h, w, C) → (N, windows, tokens, C), fewer where the layer pools."""
        if self.config.kv_pool == "identity":
            return kv.flatten(2, 4)
        pooled = POOLINGS[self.config.kv_pool](channels_first(kv.flatten(0, 1)), self.config.kv_pool_size)
        return pooled.flatten(2).transpose(1, 2).unflatten(0, kv.shape[:2])

    def gather(self, kv: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        """(N, windows, tokens, C) → (N·windows, topk·tokens, C): of each window, those it attends to."""
        n, windows, tokens, width = kv.shape
        flat = index + windows * torch.arange(n, device=index.device)[:, None, None]
        gathered = kv.reshape(n * windows, tokens, width).index_select(0, flat.flatten())
        if self.config.soft_routing:
            gathered = gathered * weight.to(kv.dtype).reshape(-1, 1, 1)
        return gathered.reshape(n * windows, -1, width)


class FullAttention(nn.Module):
    """(N, D, H, W, C) → the same shape: every token attends to every token, in eight heads.

    With a local term, which here, unlike in RoutingAttention, is over the layer's input (as in BiFormer).
    """

    def __init__(self, config: AttentionConfig):
        super().__init__()
        dim, local = config.dim, config.topk == -2 and config.local_kernel > 0
        self.fused = config.fused
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.local = depthwise(dim, config.local_kernel) if local else None
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            split_heads(each, FULL_HEADS) for each in self.qkv(x.flatten(1, 3)).chunk(3, dim=-1)
        )
        mixed = attend(query, key, value, scale=query.shape[-1] ** -0.5, fused=self.fused).reshape(x.shape)
        if self.local is not None:
            mixed = mixed + channels_last(self.local(channels_first(x)))
        return self.output(mixed)


class ConvolutionMixer(nn.Module):
    """(N, D, H, W, C) → the same shape, by convolutions in place of attention."""

    def __init__(self, config: AttentionConfig):
        super().__init__()
        dim, self.swap_axes = config.dim, config.swap_axes
        self.into, self.local, self.output = nn.Conv3d(dim, dim, 1), depthwise(dim, 5), nn.Conv3d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.swap_axes:
            x = x.transpose(2, 3)
        return channels_last(self.output(self.local(self.into(channels_first(x)))))


def mixer(config: AttentionConfig) -> nn.Module:
    """The layer that config.topk asks for."""
    if config.topk > 0:
        return RoutingAttention(config)
    kinds = {0: ConvolutionMixer, -1: FullAttention, -2: FullAttention}
    if config.topk not in kinds:
        raise ValueError(f"topk is {config.topk}; use a count of windows, 0, -1 or -2.")
    return kinds[config.topk](config)


class Mlp(nn.Module):
    """(N, D, H, W, C) → the same shape; with `local`, a depth-wise convolution before the activation."""

    def __init__(self, dim: int, hidden: int, local: bool):
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.local = depthwise(hidden, 3) if local else None
        self.contract = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(x)
        if self.local is not None:
            x = channels_last(self.local(channels_first(x)))
        return self.contract(F.gelu(x))


@dataclass(frozen=True)
class BlockConfig:
    """One transformer block; attention None: positions and MLP only."""

    dim: int
    attention: AttentionConfig | None
    mlp_ratio: float = 4.0
    mlp_convolution: bool = False
    position_kernel: int = 3  # of the depth-wise convolution that tells positions; 0: without
    pre_norm: bool = True  # norm before each branch; else after each sum
    layer_scale: float = 0.0  # first value of the learned factor on each branch; 0: without
    drop_path: float = 0.0  # share of samples that skip a branch in training


class Block(nn.Module):
    """(N, C, D, H, W) → the same shape: positions, attention, MLP, each added to its input."""

    def __init__(self, config: BlockConfig):
        super().__init__()
        self.config = config
        dim, kernel = config.dim, config.position_kernel
        self.position = depthwise(dim, kernel) if kernel > 0 else None
        self.mixer = mixer(config.attention) if config.attention else None
        self.norm1 = nn.LayerNorm(dim, eps=1e-6) if config.attention else None
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio), config.mlp_convolution)
        self.scale1, self.scale2 = self.branch_scale(config.attention is not None), self.branch_scale()

    def branch_scale(self, there: bool = True) -> nn.Parameter | None:
        """The learned factor of a branch, where the block has one."""
        start = self.config.layer_scale
        return nn.Parameter(torch.full((self.config.dim,), start)) if start > 0 and there else None

    def forward(self, x: Tensor) -> Tensor:
        if self.position is not None:
            x = x + self.position(x)
        x = channels_last(x)
        if self.mixer is not None:
            x = self.add(x, self.mixer, self.norm1, self.scale1)
        return channels_first(self.add(x, self.mlp, self.norm2, self.scale2))

    def add(self, x: Tensor, branch: nn.Module, norm: nn.Module, scale: Tensor | None) -> Tensor:
        """x and what a branch makes of it."""
        change = branch(norm(x) if self.config.pre_norm else x)
        change = self.dropped(change if scale is None else scale * change)
        return x + change if self.config.pre_norm else norm(x + change)

    def dropped(self, change: Tensor) -> Tensor:
        """Stochastic depth: whole samples of a branch left out in training, the others made up for."""
        share = self.config.drop_path
        if not self.training or share == 0:
            return change
        kept = change.new_empty(len(change), 1, 1, 1, 1).bernoulli_(1 - share)
        return change * kept / (1 - share)
