"""Targets and losses of H3DE-Net's heat maps, with true hard negatives and three states of a landmark.

Source: H3DE-Net (arXiv 2502.14221), heat-map branch; reference ECNUACRush/H3DE-Net @ e61a57e, re-derived from
its behaviour. Differences from the reference, all in the default and none in `reference_heatmap_loss`:

* Hard negatives are the background voxels with the largest predictions, held against -1. The reference looks
  these up in the list of background voxels and then uses the places in that list as places in the volume, so
  that it punishes arbitrary voxels.
* A missing landmark has no positive term and R³/8 hard negatives (the rule of mmld_code, which the reference
  was made from); the reference takes one arbitrary voxel as positive and one as negative.
* An unknown landmark takes no part: no term, no gradient, and it doesn't count in the mean.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ct3d.training import State

PEAK = 2.0  # of the target, at the landmark
BACKGROUND = -1.0  # of the target, farther than R from it
SHARP = 6.0  # what `place_loss` multiplies maps by
SHARPNESS = 0.2  # target = 2·exp(-d² / (0.2·R²)): a Gaussian of sigma = R·sqrt(0.1)


def heatmap_target(points_kji: Tensor, shape: tuple[int, int, int], radius: float) -> Tensor:
    """The maps that a perfect net would answer.

    2·exp(-d² / (0.2·R²)) at a distance d <= R from the landmark, -1 elsewhere.

    Args:
        points_kji: (B, L, 3), voxels along D, H, W of the maps; NaN or far away: all is -1.
        shape: of the maps, D, H, W.
        radius: R in voxels.

    Returns:
        (B, L, D, H, W) of the points' type.
    """
    axes = [torch.arange(size, device=points_kji.device, dtype=points_kji.dtype) for size in shape]
    along = [(axis - points_kji[..., n, None]) ** 2 for n, axis in enumerate(axes)]
    squared = along[0][..., :, None, None] + along[1][..., None, :, None] + along[2][..., None, None, :]
    return _profile(squared, radius)


def heatmap_loss(maps: Tensor, points_kji: Tensor, states: Tensor, radius: float) -> Tensor:
    """The mean over all landmarks that are known of their two terms, each a mean SmoothL1 (beta 1).

    present: the k voxels within R of the landmark against the target, and the k background voxels with the
    largest predictions against -1. missing: R³/8 such voxels alone. unknown: nothing. A present landmark
    none of whose target lies in the volume is treated as missing.

    Args:
        maps: (B, L, D, H, W), raw output of the net.
        points_kji: (B, L, 3) voxels along D, H, W; read only where present.
        states: (B, L) of `State` numbers, an integer type.
        radius: R in voxels.

    Returns:
        A float32 scalar; 0 with a gradient of zeros if nothing is known.

    Raises:
        ValueError: states of another shape, type or value; a present landmark without a finite place.
    """
    _check(maps, points_kji, states)
    voxels = maps.float().flatten()
    known = (states != State.UNKNOWN).flatten().nonzero().flatten().tolist()
    if not known:
        return 0.0 * voxels[:1].sum()
    with torch.no_grad():
        chosen = [_choose(n, maps, points_kji, states, radius) for n in known]
        places, targets, weights = (torch.cat(each) for each in zip(*chosen))
    errors = F.smooth_l1_loss(voxels.index_select(0, places), targets, reduction="none")
    return (weights * errors).sum() / len(known)


def place_loss(maps: Tensor, points_kji: Tensor, states: Tensor, radius: float) -> Tensor:
    """How surprising the true places are: cross-entropy of the maps as distributions over all voxels.

    Not of the paper. `heatmap_loss` alone has a plateau (every map the same everywhere) that a net leaves
    only after many epochs; here every voxel competes with every other from the first step. The maps are
    multiplied by SHARP before the softmax, and the true place is a Gaussian as narrow as a perfect map is
    after that, so both losses have the same minimum.

    Args:
        maps: (B, L, D, H, W), raw output of the net.
        points_kji: (B, L, 3) voxels along D, H, W; read only where present.
        states: (B, L) of `State` numbers. Missing and unknown landmarks take no part.
        radius: R in voxels, as in `heatmap_target`.

    Returns:
        A float32 scalar, the mean in nats over the present landmarks; 0 with a gradient of zeros without one.
    """
    _check(maps, points_kji, states)
    there = states == State.PRESENT
    if not there.any():
        return 0.0 * maps.sum()
    scores, points = SHARP * maps[there].float(), points_kji[there].float()
    sigma = radius * (SHARPNESS / (2 * PEAK * SHARP)) ** 0.5
    weights = [
        torch.softmax(
            -((torch.arange(size, device=maps.device) - points[:, n, None]) ** 2) / (2 * sigma**2), 1
        )
        for n, size in enumerate(maps.shape[2:])
    ]
    expected = torch.einsum("ndhw,nd,nh,nw->n", scores, *weights)
    return (scores.flatten(1).logsumexp(1) - expected).mean()


def reference_heatmap_loss(
    maps: Tensor, target: Tensor, background: dict[tuple[int, int], Tensor], *, is_intended: bool = False
) -> Tensor:
    """The reference's loss with its two defects (section 2.2), for parity alone.

    Its value depends on the order in which the reference's sort happened to put background voxels of equal
    target, so that order is an argument.

    Args:
        maps: (B, L, D, H, W).
        target: of `heatmap_target`, same shape.
        background: per (sample, landmark) the flat indices of all voxels of target < 0, in that order.
        is_intended: mend the mixed-up places, and nothing else.
    """
    terms = [
        _reference_terms(maps[b, c].flatten(), target[b, c].flatten(), order, is_intended)
        for (b, c), order in background.items()
    ]
    return torch.stack(terms).sum() / (maps.shape[0] * maps.shape[1])


def _profile(squared: Tensor, radius: float) -> Tensor:
    bell = PEAK * torch.exp(squared / (-SHARPNESS * radius**2))
    return torch.where(squared <= radius**2, bell, BACKGROUND)


def _check(maps: Tensor, points_kji: Tensor, states: Tensor) -> None:
    if states.shape != maps.shape[:2] or points_kji.shape != (*maps.shape[:2], 3):
        raise ValueError(
            f"Maps {tuple(maps.shape)}, points {tuple(points_kji.shape)} and states {tuple(states.shape)} "
            "must agree in samples and landmarks."
        )
    if states.dtype == torch.bool or states.is_floating_point():
        raise ValueError(f"States are {states.dtype}; give the integers of State, which tell three apart.")
    if not torch.isin(states, states.new_tensor(list(State))).all():
        raise ValueError(f"States must be among {[int(each) for each in State]}.")
    if not points_kji[states == State.PRESENT].isfinite().all():
        raise ValueError("A present landmark has no finite place. Mark it unknown or missing.")


def _choose(n: int, maps: Tensor, points_kji: Tensor, states: Tensor, radius: float) -> tuple[Tensor, ...]:
    """Of the voxels that the n-th map is held to: flat places in all maps, targets and weights."""
    shape = tuple(maps.shape[2:])
    size = shape[0] * shape[1] * shape[2]
    positives, targets = maps.new_empty(0, dtype=torch.long), maps.new_empty(0, dtype=torch.float32)
    if states.flatten()[n] == State.PRESENT:
        positives, targets = _ball(points_kji.reshape(-1, 3)[n].float(), shape, radius)
    scores = maps.detach().reshape(-1, size)[n].float()
    if len(positives):
        scores = scores.index_fill(0, positives, -torch.inf)
    count = min(len(positives) or max(round(radius**3 / 8), 1), size - len(positives))
    negatives = scores.topk(count, sorted=False).indices
    weights = torch.cat([_equal_parts(positives), _equal_parts(negatives)])
    targets = torch.cat([targets, torch.full_like(negatives, BACKGROUND, dtype=torch.float32)])
    return torch.cat([positives, negatives]) + n * size, targets, weights


def _ball(point: Tensor, shape: tuple[int, int, int], radius: float) -> tuple[Tensor, Tensor]:
    """Flat places of the voxels within the radius of a point, and their targets."""
    centre = point.tolist()
    first = [min(max(int(c - radius), 0), size) for c, size in zip(centre, shape)]
    last = [min(max(int(c + radius) + 2, 0), size) for c, size in zip(centre, shape)]
    axes = [torch.arange(a, max(a, b), device=point.device) for a, b in zip(first, last)]
    k, j, i = torch.meshgrid(*axes, indexing="ij")
    squared = (k - point[0]) ** 2 + (j - point[1]) ** 2 + (i - point[2]) ** 2
    inside = squared <= radius**2
    places = (k * shape[1] + j) * shape[2] + i
    return places[inside], _profile(squared[inside], radius)


def _equal_parts(places: Tensor) -> Tensor:
    return torch.full_like(places, 1 / max(len(places), 1), dtype=torch.float32)


def _reference_terms(values: Tensor, target: Tensor, order: Tensor, is_intended: bool) -> Tensor:
    count = max(int((target >= 0).sum()), 1)
    positive = target.topk(count).indices
    hardest = values.detach()[order].topk(count).indices  # places in the list, used as places in the volume
    hardest = order[hardest] if is_intended else hardest
    terms = [F.smooth_l1_loss(values[each], target[each]) for each in (positive, hardest)]
    return terms[0] + terms[1]
