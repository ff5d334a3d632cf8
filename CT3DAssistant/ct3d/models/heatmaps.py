"""From maps to points: the product's sub-voxel decoder, and the two of the H3DE-Net reference.

Source: H3DE-Net (arXiv 2502.14221), reference ECNUACRush/H3DE-Net @ e61a57e, re-derived from its behaviour.
`peaks` differs from the reference's decoder, which takes the unweighted mean of the 500 or more highest
voxels: that is drawn inward at the border of a volume and mixes two blobs into a point between them.
"""

from typing import NamedTuple

import torch
from torch import Tensor

BACKGROUND = -1.0  # what a perfect map answers far from its landmark
REACH = 3  # voxels around the maximum that the fit sees, along each axis
SHARE_FITTED = 0.25  # of the maximum: lower voxels take no part in the fit
ROUNDS = 2  # fits; each is centred on the voxel nearest to the last one's answer
AT_LEAST, FIRST_SHARE, STEP = 500, 0.999, 0.1  # of the reference's decoder
BELOW_ZERO = 1.5


class Peaks(NamedTuple):
    """The one highest place of each map."""

    points_kji: Tensor  # (B, L, 3) float64, voxels along D, H, W, with fractions
    peak: Tensor  # (B, L) float64, the highest voxel's value
    spread: Tensor  # (B, L) float64, voxels: how far, rms, the map's upper half lies from the point


def peaks(maps: Tensor, reach: int = REACH) -> Peaks:
    """The place of each map's maximum to a fraction of a voxel, its height, and how spread the map is.

    The logarithm of the map is fitted by a parabola with a curvature per axis, by least squares weighted
    with the map's square, within `reach` voxels of the maximum: exact for a Gaussian of any height and
    widths, also where a border cuts it. A map without a positive maximum answers its highest voxel, the
    first of equals.

    Args:
        maps: (B, L, D, H, W), raw output of a heat-map net.
        reach: half the width of the fitted cube; the larger, the calmer where maps are broad and noisy.
    """
    shape = tuple(maps.shape[2:])
    flat = maps.flatten(0, 1).double()
    highest, place = flat.flatten(1).max(dim=1)
    points = _indices(place, shape).double()
    for _ in range(ROUNDS):
        points = _fitted(flat, points.round().long(), highest, reach)
    spread = _spread(flat, points, highest)
    batch = maps.shape[:2]
    return Peaks(points.reshape(*batch, 3), highest.reshape(batch), spread.reshape(batch))


def reference_heatmap_points(maps: Tensor) -> Tensor:
    """The reference's decoder of heat maps (section 5): the mean index of all voxels above a threshold.

    With a maximum m > 0 the threshold is 0.999·m, lowered by 0.1·m until 500 voxels reach it; else 1.5·m.
    Differs: a map of fewer than 500 voxels ends with all of them instead of looping for ever.

    Args:
        maps: (B, L, D, H, W).

    Returns:
        (B, L, 3) float64 voxels.
    """
    points = [_mean_of_highest(one) for one in maps.flatten(0, 1)]
    return torch.stack(points).reshape(*maps.shape[:2], 3)


def anchor_candidates(grid: Tensor, anchors: tuple[float, ...], stride: float = 4, count: int = 15) -> Tensor:
    """The places that the best anchors vote for (section 5).

    (cell + tanh(offset)·anchor)·stride for the `count` best logits of each class, by cell, then anchor.
    Differs: each sample of a batch is decoded by itself; the reference mixes them.

    Args:
        grid: (B, X, Y, Z, anchors, 3 + L), raw output of an anchor net.
        anchors: their radii in cells.
        stride: voxels a cell.
        count: how many.

    Returns:
        (B, L, count, 3) float64 voxels.
    """
    shape = tuple(grid.shape[1:5])
    logits = grid[..., 3:].flatten(1, 4).transpose(1, 2)
    best = logits.topk(count).indices.sort().values
    offsets = grid[..., :3].flatten(1, 4).tanh()
    offsets = torch.stack([each[places] for each, places in zip(offsets, best)])
    where = _indices(best, shape)
    radii = torch.as_tensor(anchors, dtype=grid.dtype, device=grid.device)[where[..., 3]]
    return (where[..., :3].double() + offsets * radii[..., None]) * stride


def anchor_points(candidates: Tensor) -> Tensor:
    """The candidate with the least sum of distances to the others, the first one on ties (section 5).

    Args:
        candidates: (B, L, N, 3).

    Returns:
        (B, L, 3).
    """
    apart = (candidates[..., :, None, :] - candidates[..., None, :, :]).norm(dim=-1).sum(dim=-1)
    winner = apart.argmin(dim=-1)[..., None, None].expand(*candidates.shape[:2], 1, 3)
    return candidates.gather(2, winner).squeeze(2)


def _indices(flat: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.stack(torch.unravel_index(flat, shape), dim=-1)


def _fitted(maps: Tensor, centers: Tensor, highest: Tensor, reach: int) -> Tensor:
    """(N, 3) maxima of the parabolas around the voxels `centers`; a centre itself where none is near it."""
    values, is_inside, steps = _patches(maps, centers, reach)
    is_used = is_inside & (values > SHARE_FITTED * highest[:, None]) & (highest[:, None] > 0)
    values = torch.where(is_used, values, 1.0)
    weights = torch.where(is_used, values / highest.clamp_min(1e-12)[:, None], 0.0) ** 2
    terms = torch.cat([torch.ones_like(steps[:, :1]), steps, steps**2], dim=1)
    left = torch.einsum("nv,va,vb->nab", weights, terms, terms)
    right = torch.einsum("nv,va,nv->na", weights, terms, values.log())
    found = torch.einsum("nab,nb->na", torch.linalg.pinv(left, hermitian=True), right)
    slope, bend = found[:, 1:4], found[:, 4:]
    shift = -slope / (2 * torch.where(bend < 0, bend, -1.0))
    is_near = ((bend < 0) & (shift.abs() <= 1)).all(dim=1, keepdim=True)
    points = centers + torch.where(is_near, shift * reach, 0.0)
    last = points.new_tensor(maps.shape[1:]) - 1
    return torch.minimum(points.clamp_min(0.0), last)


def _patches(maps: Tensor, centers: Tensor, reach: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of cubes around centres: values and whether inside the maps (N, V), and steps (V, 3) per reach."""
    line = torch.arange(-reach, reach + 1, device=maps.device)
    steps = torch.cartesian_prod(line, line, line)
    where = centers[:, None] + steps
    size = torch.tensor(maps.shape[1:], device=maps.device)
    is_inside = ((where >= 0) & (where < size)).all(dim=-1)
    where = torch.minimum(where.clamp_min(0), size - 1)
    flat = (where[..., 0] * size[1] + where[..., 1]) * size[2] + where[..., 2]
    return maps.flatten(1).gather(1, flat), is_inside, steps.double() / reach


def _spread(maps: Tensor, points: Tensor, highest: Tensor) -> Tensor:
    """Rms distance from the point of what rises above half the height over the background."""
    half = highest - (highest - BACKGROUND).clamp_min(1e-6) / 2
    weights = (maps - half[:, None, None, None]).clamp_min(0.0)
    total = weights.sum(dim=(1, 2, 3))
    squared = torch.zeros_like(total)
    for axis, others in ((1, (2, 3)), (2, (1, 3)), (3, (1, 2))):
        places = torch.arange(maps.shape[axis], device=maps.device, dtype=maps.dtype)
        squared += (weights.sum(dim=others) * (places - points[:, axis - 1, None]) ** 2).sum(dim=1)
    return (squared / total).sqrt()


def _mean_of_highest(values: Tensor) -> Tensor:
    highest = float(values.max())
    share = FIRST_SHARE
    is_high = values >= (share if highest > 0 else BELOW_ZERO) * highest
    while highest > 0 and is_high.sum() < min(AT_LEAST, values.numel()):
        share -= STEP
        is_high = values >= share * highest
    return is_high.nonzero().double().mean(dim=0)
