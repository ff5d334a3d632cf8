"""Which of a chest and its mirror image is which. Ours: neither paper has it.

Points learn up from down and front from back, but of a body so nearly its own mirror image they learned no
sides; a logistic regression on the shared encoder's features told one chest in seven wrong. A small net,
shown each chest beside its mirror image, learns them in minutes.
"""

from torch import Tensor, nn

CHANNELS = (16, 32, 48, 64)
STRIDES = (2, (1, 2, 2), 2, 1)
GROUPS = 8


class SideNet(nn.Module):
    """Four convolutions and a mean over all cells."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for given, channels, stride in zip((1, *CHANNELS), CHANNELS, STRIDES):
            parts += [nn.Conv3d(given, channels, 3, stride, 1), nn.GroupNorm(GROUPS, channels), nn.GELU()]
        self.see = nn.Sequential(*parts)
        self.tell = nn.Linear(CHANNELS[-1], 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Looks (B, 1, D, H, W) in [-1, 1], see `pipeline.chest_look` → (B,), higher for a chest as it is."""
        return self.tell(self.see(image).mean((-3, -2, -1)))[:, 0]

    def margins(self, image: Tensor) -> Tensor:
        """(B,) logarithm of the odds that looks (B, 1, D, H, W) are no mirror images."""
        return self(image) - self(image.flip(-1))
