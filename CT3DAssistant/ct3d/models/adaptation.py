"""Lightweight adaptation of the shared encoder: its weights stay as they are, small parts beside it learn.

Source: 3DME's abstract states the principle alone [A]; every part is a reconstruction [R] after published
methods: LoRA (arXiv 2106.09685), bottleneck adapters (1902.00751), attention pooling (2205.01917), feature
pyramids (1612.03144), H3DE-Net's heat maps (2502.14221), prototypes (1703.05175). Heads scale what they read
by batch norm without weights, as MAE's linear probe does (2111.06377), so that one learning rate suits
features of any size.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ct3d.models.convolutions import Mix, convolve
from ct3d.models.layers import Attention, Block
from ct3d.models.threedme import Config, Encoder, Features

BUDGET = 0.05  # the most of encoder and added parts that may be trained [R]
RANK = 8
NARROWER = 8  # times that a bottleneck is narrower than its tokens
PYRAMID_WIDTH = 48
LANDMARK_WIDTH = 32
SHARP = 6.0  # maps times this are a distribution over places, as in training's `place_loss`


class LoraLinear(nn.Module):
    """A frozen linear map plus a trained one of low rank for each part of its output; equal to it at first.

    (…, in) → (…, out): W x + [B_1 A_1 x; …; B_parts A_parts x]. A is (rank, in); B is (out / parts, rank), 0
    at first. LoRA's alpha is the rank, so that nothing else scales.

    Args:
        base: the map.
        parts: of equal size that the output falls into; 3 for queries, keys and values.
        rank: of each part.
    """

    def __init__(self, base: nn.Linear, parts: int, rank: int = RANK):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(parts, rank, base.in_features) / base.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(parts, base.out_features // parts, rank))

    def forward(self, x: Tensor) -> Tensor:
        narrow = torch.einsum("...i,pri->...pr", x, self.a)
        return self.base(x) + torch.einsum("...pr,por->...po", narrow, self.b).flatten(-2)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One plain linear map that gives the same."""
        plain = copy.deepcopy(self.base)
        plain.weight += (self.b @ self.a).flatten(0, 1)
        return plain


class AdaptedLinear(nn.Module):
    """A frozen linear map followed by a trained bottleneck that adds to its output; equal to it at first."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.out_features, base.out_features // NARROWER)
        self.up = nn.Linear(base.out_features // NARROWER, base.out_features)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.base(x)
        return x + self.up(F.gelu(self.down(x)))


def freeze(encoder: Encoder) -> Encoder:
    """The encoder itself, in eval mode; none of its numbers learns any more."""
    return encoder.requires_grad_(False).eval()


def add_lora(encoder: Encoder, rank: int = RANK) -> Encoder:
    """Freeze an encoder and put LoRA on queries, keys and values of its ViT blocks, in place [R]."""
    for attention in _attentions(freeze(encoder)):
        attention.qkv = LoraLinear(attention.qkv, 3, rank)
    return encoder


def merge_lora(encoder: Encoder) -> Encoder:
    """Fold LoRA into plain linear maps, in place; equal to 1e-5, and loads where any encoder's weights do."""
    for attention in _attentions(encoder):
        attention.qkv = attention.qkv.merged()
    return encoder


def add_adapters(encoder: Encoder) -> Encoder:
    """Freeze an encoder and put a bottleneck of dim/8 after the second linear map of each ViT block [R]."""
    for block in freeze(encoder).modules():
        if isinstance(block, Block):
            block.narrow = AdaptedLinear(block.narrow)
    return encoder


def trained_share(*parts: nn.Module) -> float:
    """Numbers that learn, as a share of all numbers of an encoder and what was added to it; see BUDGET."""
    numbers = [each for part in parts for each in part.parameters()]
    return sum(each.numel() for each in numbers if each.requires_grad) / sum(each.numel() for each in numbers)


class AttentionPool(nn.Module):
    """(B, N, dim) tokens → (B, classes) logits: a learned query reads the tokens, a linear map its answer.

    The query stands in the tokens' own space and values are the tokens themselves: with one query, maps to
    keys and values would only be multiplied into the query and the linear map.

    Args:
        dim: of a token.
        classes: how many logits.
        heads: of the attention; each sees the whole token.
    """

    def __init__(self, dim: int, classes: int, heads: int = 6):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Parameter(torch.randn(heads, dim) / dim)
        self.out = nn.Linear(heads * dim, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = self.norm(tokens)
        weights = (tokens @ self.query.T).softmax(1)  # (B, N, heads)
        return self.out((weights.mT @ tokens).flatten(1))


class PyramidHead(nn.Module):
    """Features → (B, classes, D/2, H/2, W/2) logits: maps of strides 16 to 2 brought to one width and added.

    Args:
        config: of the encoder.
        classes: how many logits a cell.
        width: channels of the pyramid.
    """

    def __init__(self, config: Config, classes: int, width: int = PYRAMID_WIDTH):
        super().__init__()
        channels = (config.dim, config.dim, config.stem[1], config.stem[0])
        self.laterals = nn.ModuleList(_lateral(each, width) for each in channels)
        self.smooth = nn.Conv3d(width, width, 3, padding=1)
        self.logits = Mix(width, classes)

    def forward(self, features: Features) -> Tensor:
        maps = (features.f16, features.f8, features.f4, features.f2.movedim(-1, 1))
        x, *finer = (lateral(each) for lateral, each in zip(self.laterals, maps))
        for each in finer:
            x = each + _enlarged(x, each)
        return self.logits(F.gelu(self.smooth(F.gelu(x))))


class LandmarkHead(nn.Module):
    """Features → (B, landmarks, D/4, H/4, W/4) maps and (B, landmarks) logits of presence.

    Maps are raw, in the manner of H3DE-Net's heat-map head: 2 at a landmark, -1 far from it; `heatmaps.peaks`
    reads places off them. Presence is judged by the map's peak and by the features at it [R], and reaches the
    maps through these features alone.

    Args:
        config: of the encoder.
        landmarks: how many.
        width: channels.
    """

    def __init__(self, config: Config, landmarks: int, width: int = LANDMARK_WIDTH):
        super().__init__()
        self.fine, self.coarse = _lateral(config.stem[1], width), _lateral(config.dim, width)
        self.join, self.smooth = convolve(2 * width, width), convolve(width, width)
        self.maps = Mix(width, landmarks)
        self.judge = nn.Parameter(torch.zeros(landmarks, width + 1))
        self.bias = nn.Parameter(torch.zeros(landmarks))

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        fine, coarse = self.fine(features.f4), self.coarse(features.f8)
        x = self.smooth(self.join((fine, _enlarged(coarse, fine))))
        maps = self.maps(x)
        return maps, self.presence(x, maps.detach())

    def presence(self, x: Tensor, maps: Tensor) -> Tensor:
        """(B, landmarks) logits, of the map that the heat maps were read from and of these."""
        at_peak = (SHARP * maps).flatten(2).softmax(-1) @ x.flatten(2).mT
        seen = torch.cat([at_peak, maps.flatten(2).amax(-1, keepdim=True)], -1)
        return (seen * self.judge).sum(-1) + self.bias


def prototypes(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(classes, C) mean feature of each class over k support cases [R]; NaN for a class that none shows.

    Args:
        features: (k, C, D, H, W).
        labels: (k, D, H, W) integers on the same grid; -1: not known.
        classes: how many.
    """
    cells, truth = features.movedim(1, -1).flatten(0, -2), labels.flatten()
    return torch.stack([cells[truth == n].mean(0) for n in range(classes)])


def nearest_prototype(features: Tensor, prototypes: Tensor) -> Tensor:
    """(B, D, H, W) class of the prototype most alike each cell, by cosine; never one that is NaN.

    Args:
        features: (B, C, D, H, W), centred as the prototypes are.
        prototypes: (classes, C).
    """
    alike = torch.einsum("bcdhw,nc->bndhw", F.normalize(features, dim=1), F.normalize(prototypes, dim=1))
    return alike.nan_to_num(nan=-2.0).argmax(1)


def _attentions(encoder: Encoder) -> list[Attention]:
    return [each for each in encoder.modules() if isinstance(each, Attention)]


def _lateral(channels: int, width: int) -> nn.Sequential:
    """Scales each channel by what all training batches showed of it, then a convolution of kernel 1."""
    return nn.Sequential(nn.BatchNorm3d(channels, affine=False, momentum=None), Mix(channels, width))


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="trilinear", align_corners=False)
