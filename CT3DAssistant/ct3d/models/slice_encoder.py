"""The 2D encoder of slices that guides HSENet: the image trunk of BiomedCLIP, a ViT-B/16.

Source: the layer names and sizes of timm's vit_base_patch16_224 as BiomedCLIP (MIT) uses it; HSENet takes the
class token after the last norm, before the 512-wide projection. State-dict names are timm's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ct3d.models.layers import Block, renamed

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's images
PRECISION = 22  # bits behind the point of Pillow's fixed-point weights


@dataclass(frozen=True)
class Config:
    """Sizes; images are squares of `image_size` pixels."""

    image_size: int = 224
    patch_size: int = 16
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_dim: int = 3072


class SliceEncoder(nn.Module):
    """(B, 3, S, S) normalised images → (B, dim), their class tokens."""

    def __init__(self, config: Config = Config()):
        super().__init__()
        self.config = config
        self.patches = nn.Conv2d(3, config.dim, config.patch_size, config.patch_size)
        self.cls = nn.Parameter(torch.zeros(1, 1, config.dim))
        tokens = 1 + (config.image_size // config.patch_size) ** 2
        self.position = nn.Parameter(torch.zeros(1, tokens, config.dim))
        sizes = config.dim, config.heads, config.mlp_dim
        self.blocks = nn.ModuleList(Block(*sizes, qkv_bias=True, eps=1e-6) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])


def normalised(grey: Tensor, size: int = 224) -> Tensor:
    """(B, H, W) uint8 grey slices → (B, 3, size, size) as BiomedCLIP's evaluation transform makes them.

    Shortest side to `size` (bicubic, as Pillow does it on uint8), centre crop, CLIP's mean and deviation.
    """
    height, width = grey.shape[-2:]
    to = (size, int(size * width / height)) if height <= width else (int(size * height / width), size)
    square = _resized(_resized(grey.double(), to[1]).transpose(1, 2), to[0]).transpose(1, 2)
    top, left = (round((side - size) / 2) for side in to)
    square = square[:, None, top : top + size, left : left + size].float().expand(-1, 3, -1, -1) / 255
    mean, std = (torch.tensor(each, device=grey.device).view(1, 3, 1, 1) for each in (MEAN, STD))
    return (square - mean) / std


def _resized(rows: Tensor, size: int) -> Tensor:
    """(B, H, W) float64 whole numbers from 0 to 255 → (B, H, size), of the same kind."""
    weights = _pillow_weights(rows.shape[-1], size).to(rows.device)
    return ((rows @ weights.T + 2 ** (PRECISION - 1)) / 2**PRECISION).floor().clamp(0, 255)


def _pillow_weights(given: int, size: int) -> Tensor:
    """(size, given) float64 whole numbers: Pillow's bicubic weights of each new pixel, times 2**PRECISION.

    The kernel (a = -0.5) is widened where pixels become fewer. Sums of these products stay below 2**53, so
    float64 holds them exactly, and Pillow's fixed-point result is had bit for bit.
    """
    step = given / size
    wide = max(step, 1.0)
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * step
    pixels = torch.arange(given, dtype=torch.float64)
    first = (centres - 2 * wide + 0.5).long().clamp(min=0)[:, None]
    last = (centres + 2 * wide + 0.5).long().clamp(max=given)[:, None]
    x = ((pixels - centres[:, None] + 0.5) / wide).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    weights = torch.where((pixels >= first) & (pixels < last), weights, 0.0)
    weights = weights / weights.sum(dim=1, keepdim=True) * 2**PRECISION
    return (weights + weights.sign() / 2).trunc()


NAMES = (
    ("patch_embed.proj.", "patches."),
    ("pos_embed", "position"),
    ("cls_token", "cls"),
    ("attn.proj.", "attention.out."),
    ("attn.qkv.", "attention.qkv."),
    ("mlp.fc1.", "widen."),
    ("mlp.fc2.", "narrow."),
)


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """timm's keys under the names of ours."""
    return {renamed(name, NAMES): value for name, value in state.items()}
