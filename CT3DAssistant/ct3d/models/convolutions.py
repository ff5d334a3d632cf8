"""Convolution, instance norm and leaky ReLU in 3D, as H3DE-Net's encoder and decoder are made of.

`fused` layers are quick on a processor where no gradient is wanted: channels innermost in memory, sums in
place. They add in another order, and so differ from plain ones by single-precision rounding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Maps = Tensor | tuple[Tensor, ...]


def is_lean(x: Tensor) -> bool:
    """Whether only the result of x is wanted, on a processor."""
    return x.is_cpu and not torch.is_grad_enabled()


def laid_out(x: Tensor) -> Tensor:
    """x with its channels innermost in memory where that is quicker."""
    return x.contiguous(memory_format=torch.channels_last_3d) if is_lean(x) else x


class Convolution(nn.Conv3d):
    """A convolution of kernel 3 over (B, C, D, H, W); of several maps as if they were joined along C."""

    def __init__(self, into: int, out: int, *, stride: int = 1, bias: bool = True, fused: bool = True):
        super().__init__(into, out, 3, stride=stride, padding=1, bias=bias)
        self.fused = fused

    def forward(self, maps: Maps) -> Tensor:
        maps = maps if isinstance(maps, tuple) else (maps,)
        return self.added(maps) if self.fused else super().forward(torch.cat(maps, dim=1))

    def added(self, maps: tuple[Tensor, ...]) -> Tensor:
        """The sum of each map's own convolution: the joined map, the largest of a decoder, is never made."""
        weights = self.weight.split([each.shape[1] for each in maps], dim=1)
        total = self.one(maps[0], weights[0], self.bias)
        for each, weight in zip(maps[1:], weights[1:]):
            total += self.one(each, weight, None)
        return total

    def one(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution of one map; PyTorch gives some results in the other layout, small maps' for one."""
        if is_lean(x) and x.shape[1] == 1:  # with a second channel, of zeros, PyTorch takes its quick way
            x, weight = (F.pad(each, (0, 0, 0, 0, 0, 0, 0, 1)) for each in (x, weight))
        return laid_out(self._conv_forward(laid_out(x), weight, bias))


class Mix(nn.Conv3d):
    """A convolution of kernel 1: a matrix product, for which no layout has to be changed."""

    def __init__(self, into: int, out: int, *, fused: bool = True):
        super().__init__(into, out, 1)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        if not self.fused:
            return super().forward(x)
        weight = self.weight.flatten(1).expand(len(x), -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, x.flatten(2)).unflatten(2, x.shape[2:])


class InstanceNorm(nn.InstanceNorm3d):
    """Instance norm without weights; a map of one voxel becomes 0, where PyTorch's own refuses.

    Fused: a convolution's result of which no gradient is wanted is overwritten.
    """

    def __init__(self, channels: int, *, fused: bool = True):
        super().__init__(channels)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:].numel() == 1:
            return x - x
        in_place = self.fused and is_lean(x) and x.dtype == torch.float32
        return self.overwrite(x) if in_place else super().forward(x)

    def overwrite(self, x: Tensor) -> Tensor:
        """The same in x's own memory. PyTorch's takes new memory twice, first for the other layout."""
        x -= x.mean((2, 3, 4), keepdim=True)
        rows = x.permute(0, 2, 3, 4, 1).flatten(2, 3)  # (B, D, H·W, C)
        squares = (rows.mT @ rows).diagonal(dim1=-2, dim2=-1).sum(1)  # quicker than sums of C columns
        x *= (squares / x.shape[2:].numel() + self.eps).rsqrt()[..., None, None, None]
        return x


class LeakyReLU(nn.LeakyReLU):
    """In place where no gradient is wanted; else that would cost a copy, as an instance norm gives a view."""

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope, inplace=not x.requires_grad)


def halve(into: int, out: int, *, fused: bool = True) -> tuple[Convolution, InstanceNorm]:
    """Convolution to half the size, rounded up, and instance norm."""
    return Convolution(into, out, stride=2, fused=fused), InstanceNorm(out, fused=fused)


def convolve(into: int, out: int, *, fused: bool = True) -> nn.Sequential:
    """Convolution, instance norm, leaky ReLU; keeps the size."""
    convolution = Convolution(into, out, bias=False, fused=fused)
    return nn.Sequential(convolution, InstanceNorm(out, fused=fused), LeakyReLU(0.01))
