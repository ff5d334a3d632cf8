"""Anchor proposals and the loss of H3DE-Net's anchor net, as the reference has it and mended.

An anchor net answers, per cell of a coarse grid and per anchor, three offsets and one logit a landmark.
Source: H3DE-Net (arXiv 2502.14221), anchor branch; reference ECNUACRush/H3DE-Net @ e61a57e, re-derived from
its behaviour. `anchor_loss` differs from the reference, whose form is `reference_anchor_loss`:

* The three states are told apart: an unknown landmark's logits get no term and no gradient.
* Hard negatives of a missing landmark are mined in its own sample. The reference mines them in the whole
  batch and so may punish the very cells at which another sample shows that landmark.
* A cell in reach of two landmarks is pushed to "no" for neither of them; in the reference for both.
* The regulariser acts on logits away from positives, not on offsets, which it would drive to -1.
* A batch without a present landmark has a loss; the reference fails.
"""

from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ct3d.training import State

ANCHORS = (0.5, 0.75, 1.0, 1.25)  # radii in cells
STRIDE = 4.0  # voxels a cell
HARD_NUMBER = 256  # hardest logits per missing landmark and anchor
HARD_WEIGHT, REGULAR_WEIGHT = 0.2, 0.001
MISSING_BELOW = -100.0  # mean place in cells
NO_ROW = -100.0  # class of the reference's padding


class Positives(NamedTuple):
    """Cells that are near a landmark, N of them."""

    index: tuple[Tensor, ...]  # sample, cell along D, H, W, anchor: N each; indexes the net's output
    offset: Tensor  # (N, 3) from the cell to the landmark, in radii of the anchor: -1 to 1
    landmark: Tensor  # (N,)


def near_cells(point: Tensor, shape: tuple[int, int, int], anchor: float) -> Tensor:
    """(N, 3) whole cells less than `anchor` from a point along each axis, D slowest (section 2.3; a cube).

    Args:
        point: (3,) in cells.
        shape: of the grid.
        anchor: radius in cells.
    """
    axes = [torch.arange(size, device=point.device) for size in shape]
    return torch.cartesian_prod(*(axis[(point[n] - axis).abs() < anchor] for n, axis in enumerate(axes)))


def reference_proposals(
    points: Tensor,
    shape: tuple[int, int, int],
    *,
    anchors: tuple[float, ...] = ANCHORS,
    stride: float = STRIDE,
    rows: int = 400,
) -> Tensor:
    """The reference's table of positives of one sample (section 2.3).

    Args:
        points: (L, 3) voxels; a mean below -400 marks a missing landmark.
        shape: of the grid, in cells.
        anchors: radii in cells.
        stride: voxels a cell.
        rows: that each anchor has.

    Returns:
        (anchors, rows, 7) float64: cell, offset, landmark, which is -1 - l if missing, -100 for no row.

    Raises:
        ValueError: more positives than rows.
    """
    table = torch.zeros((len(anchors), rows, 7), dtype=torch.float64, device=points.device)
    table[..., 6] = NO_ROW
    for a, anchor in enumerate(anchors):
        found = torch.cat(
            [_rows(n, point / stride, shape, anchor) for n, point in enumerate(points.double())]
        )
        if len(found) > rows:
            raise ValueError(f"{len(found)} positives of an anchor don't fit {rows} rows. Ask for more rows.")
        table[a, : len(found)] = found
    return table


def reference_anchor_loss(
    grid: Tensor,
    proposals: Tensor,
    *,
    hard_number: int = HARD_NUMBER,
    hard_weight: float = HARD_WEIGHT,
    regular_weight: float = REGULAR_WEIGHT,
) -> dict[str, Tensor]:
    """The reference's loss with its quirks (section 2.4), for parity: weighted terms, whose sum it is.

    Args:
        grid: (B, D, H, W, anchors, 3 + L), raw.
        proposals: (B, anchors, rows, 7) of `reference_proposals`; at least one landmark is present.
        hard_number: logits mined per missing row.
        hard_weight: of the mean over them.
        regular_weight: of the mean over the whole raw map, which is pushed to "no".
    """
    sample, anchor, row = torch.nonzero(proposals[..., 6] >= 0, as_tuple=True)
    rows = proposals[sample, anchor, row]
    d, h, w = rows[:, :3].long().unbind(1)
    at = Positives((sample, d, h, w, anchor), rows[:, 3:6], rows[:, 6].long())
    is_own = F.one_hot(at.landmark, grid.shape[-1] - 3).bool()
    missing = [(proposals[..., 6] == -1 - n).sum() for n in range(grid.shape[-1] - 3)]
    pools = [(grid[..., 3 + n], hard_number * int(count)) for n, count in enumerate(missing) if count]
    terms = _terms(grid, at, is_own, ~is_own) | {"hard_negative": hard_weight * _to_no(_hardest(grid, pools))}
    return terms | {"regularisation": regular_weight * _to_no(grid)}


def anchor_positives(
    points_kji: Tensor,
    states: Tensor,
    shape: tuple[int, int, int],
    *,
    anchors: tuple[float, ...] = ANCHORS,
    stride: float = STRIDE,
) -> Positives:
    """All cells in reach of the present landmarks of a batch.

    Args:
        points_kji: (B, L, 3) voxels.
        states: (B, L) of `State` numbers.
        shape: of the grid, in cells.
        anchors: radii in cells.
        stride: voxels a cell.
    """
    found = [torch.zeros((0, 9), dtype=torch.float64, device=points_kji.device)]
    for (b, n), (a, anchor) in product((states == State.PRESENT).nonzero().tolist(), enumerate(anchors)):
        rows = _rows(n, points_kji[b, n].double() / stride, shape, anchor)
        found.append(torch.cat([rows.new_tensor([[b, a]]).expand(len(rows), 2), rows], dim=1))
    table = torch.cat(found)
    b, a, d, h, w, n = table[:, [0, 1, 2, 3, 4, 8]].long().unbind(1)
    return Positives((b, d, h, w, a), table[:, 5:8].float(), n)


def anchor_loss(
    grid: Tensor,
    points_kji: Tensor,
    states: Tensor,
    *,
    anchors: tuple[float, ...] = ANCHORS,
    stride: float = STRIDE,
    hard_number: int = HARD_NUMBER,
) -> dict[str, Tensor]:
    """The mended anchor loss: weighted terms, whose sum it is.

    Args:
        grid: (B, D, H, W, anchors, 3 + L), raw output of an anchor net.
        points_kji: (B, L, 3) voxels; read only where present.
        states: (B, L) of `State` numbers.
        anchors: radii in cells.
        stride: voxels a cell.
        hard_number: logits mined per missing landmark and anchor, in its own sample.
    """
    shape = tuple(grid.shape[1:4])
    at = anchor_positives(points_kji, states, shape, anchors=anchors, stride=stride)
    is_positive = torch.zeros_like(grid[..., 3:], dtype=torch.bool)
    is_positive[(*at.index, at.landmark)] = True
    is_known = (states != State.UNKNOWN)[at.index[0]]
    missing = (states == State.MISSING).nonzero().tolist()
    pools = [(grid[b, ..., 3 + n], hard_number * len(anchors)) for b, n in missing]
    is_own = F.one_hot(at.landmark, states.shape[1]).bool()
    terms = _terms(grid, at, is_own, is_known & ~is_positive[at.index])
    terms["hard_negative"] = HARD_WEIGHT * _to_no(_hardest(grid, pools))
    is_free = ~is_positive & (states != State.UNKNOWN)[:, None, None, None, None]
    return terms | {"regularisation": REGULAR_WEIGHT * _to_no(grid[..., 3:][is_free])}


def _rows(n: int, point: Tensor, shape: tuple[int, int, int], anchor: float) -> Tensor:
    if point.mean() < MISSING_BELOW:
        return point.new_tensor([[0, 0, 0, 0, 0, 0, -1 - n]])
    cells = near_cells(point, shape, anchor)
    return torch.cat([cells, (point - cells) / anchor, point.new_full((len(cells), 1), n)], dim=1)


def _terms(grid: Tensor, at: Positives, is_own: Tensor, is_other: Tensor) -> dict[str, Tensor]:
    """The three terms at positive cells; masks (N, L) say which logits there are to be "yes" and "no"."""
    answers = grid[at.index]
    offsets, logits = answers[:, :3].tanh(), answers[:, 3:]
    return {
        "positive": _to_no(-logits[is_own]),
        "negative": _to_no(logits[is_other]) / max(logits.shape[1] - 1, 1),
        "regression": F.smooth_l1_loss(offsets, at.offset) if len(offsets) else offsets.sum(),
    }


def _hardest(grid: Tensor, pools: list[tuple[Tensor, int]]) -> Tensor:
    """The highest logits of each pool, of each as many as it says; none, but on the graph, without pools."""
    hardest = [pool.flatten().topk(min(count, pool.numel())).values for pool, count in pools]
    return torch.cat([grid.flatten()[:0], *hardest])


def _to_no(logits: Tensor) -> Tensor:
    """Mean cross-entropy of logits against "no", and of their negatives against "yes"; 0 of none."""
    return F.softplus(logits).mean() if logits.numel() else logits.sum()
