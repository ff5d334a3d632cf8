"""How far guessed voxels are from hidden ones: the loss that threedme.md section 5 rebuilds [R]."""

import torch
from torch import Tensor

OUTSIDE = 0.1  # weight of voxels outside the body: half of a chest CT is air
GRADIENT, CONTINUITY = 0.1, 0.1


def reconstruction_loss(guess: Tensor, image: Tensor, hidden: Tensor, body: Tensor) -> Tensor:
    """Weighted absolute error of hidden voxels, of their differences, and of their steps from slice to slice.

    Args:
        guess, image: (…, D, H, W) in [-1, 1].
        hidden: (…, D, H, W) bool.
        body: (…, D, H, W) in [0, 1].
    """
    weight = hidden * (OUTSIDE + (1 - OUTSIDE) * body)
    error = guess - image
    loss = _mean(error.abs(), weight)
    steps = [_difference(error, axis).abs() for axis in (-3, -2, -1)]
    pairs = [_both(weight, axis) for axis in (-3, -2, -1)]
    slopes = sum(_mean(step, pair) for step, pair in zip(steps, pairs)) / 3
    return loss + GRADIENT * slopes + CONTINUITY * _mean(steps[0], pairs[0])


def masked_error(guess: Tensor, image: Tensor, hidden: Tensor, body: Tensor) -> Tensor:
    """Mean absolute error of hidden voxels in the body, in HU."""
    return 1000 * _mean((guess - image).abs(), hidden * (body > 0.5))


def _difference(x, axis):
    return torch.diff(x, dim=axis)


def _both(weight, axis):
    """Weight of a step: both of its voxels count."""
    size = weight.shape[axis]
    return torch.minimum(weight.narrow(axis, 0, size - 1), weight.narrow(axis, 1, size - 1))


def _mean(values, weight):
    return (values * weight).sum() / weight.sum().clamp_min(1)
