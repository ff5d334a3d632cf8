"""Where crops of a scan lie from one another, as a task to learn from that a person can watch.

Source: arXiv 2509.05967 (abstract only) and the behaviour of the author's public FastSlow.py, described in
spatial_ssl.md, never copied: gap between crops [C], vector and route [C], likeness of near against far parts
of two crops [C].
Ours [R], each named in that note: millimetres in place of shares of the field of view; d_ij = p_j - p_i; no
bias in a gap; an edge head whose cycles need not close, which gives routes something to learn (over points
every route telescopes: its loss is V / (V - 1) times the vectors'); margin ranking in place of raw cosines;
all views train the encoder, as targets come from outside and nothing can collapse (`Follower` is the author's
EMA network, for whoever wants it); bands, which ask the same of the fine map, cell by cell.
Points, gaps and centres are along D, H, W; losses in units of 100 mm.
"""

import copy
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ct3d.models.layers import Size3

UNIT_MM = 100.0
MARGIN = 0.2  # of likeness, for each 100 mm that far parts lie farther apart than near ones
LEAST_MOVE = 0.05  # of the way to the other view's middle; parts moved less are not told apart
CHUNK = 4  # cells of f4 a side
LEAST_MOMENTUM = 1e-4
BANDS = 24  # along each axis of the body's frame
BAND_MM = 32.0  # from the middle of a band to that of the next; the middle of all lies at 0


@dataclass(frozen=True)
class HeadConfig:
    """Widths."""

    dim: int = 192  # of f8
    chunk_dim: int = 48  # of f4
    hidden: int = 96
    view_dim: int = 48
    edge_dim: int = 64


class SpatialHead(nn.Module):
    """Points, bands, edges and likeness from the shared encoder's maps."""

    def __init__(self, config: HeadConfig = HeadConfig()):
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(config.dim, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.view_dim),
            nn.GELU(),
        )
        self.point = nn.Linear(config.view_dim, 3)
        self.gap = nn.Linear(config.view_dim, 3, bias=False)
        self.edge = nn.Sequential(
            nn.Linear(3 * config.view_dim, config.edge_dim), nn.GELU(), nn.Linear(config.edge_dim, 3)
        )
        self.chunk = nn.Sequential(
            nn.Conv3d(config.chunk_dim, config.hidden, CHUNK),
            nn.GELU(),
            nn.Conv3d(config.hidden, config.view_dim, 1),
        )
        self.band = nn.Linear(config.chunk_dim, 3 * BANDS)

    def views(self, f8: Tensor) -> Tensor:
        """(…, C, D, H, W) → (…, view_dim), one vector a view."""
        return self.project(f8.mean((-3, -2, -1)))

    def points(self, views: Tensor) -> Tensor:
        """(…, view_dim) → (…, 3), in 100 mm of the body's frame, wherever its origin lies."""
        return self.point(views)

    def cells(self, f8: Tensor) -> Tensor:
        """(B, C, D, H, W) → (B, D, H, W, 3): the point of every cell."""
        return self.point(self.project(f8.movedim(1, -1)))

    def bands(self, f4: Tensor) -> Tensor:
        """(B, C, D, H, W) → (B, D, H, W, 3, BANDS): logits of the band of every cell along each axis."""
        return self.band(f4.movedim(1, -1)).unflatten(-1, (3, BANDS))

    def gaps(self, views: Tensor) -> Tensor:
        """(B, V, view_dim) → (B, V, V, 3): axis gaps; antisymmetric."""
        return self.gap(views[:, None] - views[:, :, None])

    def edges(self, views: Tensor) -> Tensor:
        """(B, V, view_dim) → (B, V, V, 3): from i to j, bound to no point; 0 on the diagonal."""
        count = views.shape[1]
        here = views[:, :, None].expand(-1, -1, count, -1)
        there = views[:, None].expand(-1, count, -1, -1)
        edges = self.edge(torch.cat([here, there, here * there], -1))
        return edges * (1 - torch.eye(count, device=views.device))[None, :, :, None]


class Follower(nn.Module):
    """A running mean of a net [C]: gives what the net gives, without a gradient.

    Its numbers are buffers: no optimizer moves them, and they are kept with the net that they are part of.
    """

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = copy.deepcopy(net)
        for part in self.net.modules():
            for name, each in list(part.named_parameters(recurse=False)):
                delattr(part, name)
                part.register_buffer(name, each.detach())

    @torch.no_grad()
    def forward(self, *given: Tensor) -> Any:
        return self.net(*given)

    @torch.no_grad()
    def follow(self, net: nn.Module, step: int) -> None:
        """Go `momentum` of the way toward the net; buffers become its."""
        own = dict(self.net.named_buffers())
        for name, each in net.named_parameters():
            own[name].lerp_(each, momentum(step))
        for name, each in net.named_buffers():
            own[name].copy_(each)


def momentum(step: int) -> float:
    """The share of the way at a step: all of it at the first."""
    return max(LEAST_MOMENTUM, 100 / (100 + step))


def gap_matrix(points: Tensor) -> Tensor:
    """(…, V, 3) → (…, V, V, 3): G[i, j] = c_j - c_i."""
    return points[..., None, :, :] - points[..., :, None, :]


def gap_loss(axis_gaps: Tensor, truth: Tensor) -> Tensor:
    """G1: squared error of the axis gaps, and of their lengths.

    Lengths pull a gap beyond its truth along the axes that are known where another can't be (measured on a
    ramp); so points, which the product reads, are held to vectors alone.
    """
    lengths = (_length(axis_gaps) - _length(truth)).square().mean()
    return (axis_gaps - truth).square().mean() + lengths


def vector_loss(edges: Tensor, truth: Tensor) -> Tensor:
    """G2: smooth L1 of the vectors between views."""
    return F.smooth_l1_loss(_off_diagonal(edges), _off_diagonal(truth))


def band_shares(places: Tensor) -> Tensor:
    """(…) in 100 mm → (…, BANDS): how much a place along an axis belongs to each band; they add up to 1.

    A Gaussian of half a band's width, so that a place between two belongs to both. Beyond the outermost bands
    all belongs to the nearest.
    """
    middles = (torch.arange(BANDS, device=places.device) - (BANDS - 1) / 2) * BAND_MM / UNIT_MM
    apart = (places[..., None].clamp(middles[0], middles[-1]) - middles) / (BAND_MM / UNIT_MM)
    return (-2 * apart.square()).softmax(-1)


def routes(count: int) -> list[tuple[int, ...]]:
    """Every way through all views, each once: count! of them."""
    return list(permutations(range(count)))


def route_loss(edges: Tensor, truth: Tensor) -> Tensor:
    """G2: smooth L1 between the sums of vectors along every open route."""
    return F.smooth_l1_loss(_along_routes(edges), _along_routes(truth))


def cycle_loss(edges: Tensor) -> Tensor:
    """G2: what is left over on the way i, j, i and on every way i, j, k, i; 0 where edges are differences."""
    count = edges.shape[1]
    there_and_back = _off_diagonal(edges + edges.transpose(1, 2)).abs().mean()
    round_trips = [
        edges[:, i, j] + edges[:, j, k] + edges[:, k, i] for i, j, k in permutations(range(count), 3)
    ]
    return there_and_back + (torch.stack(round_trips).abs().mean() if round_trips else 0.0)


def layout(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Where the views lie about their middle (B, V, 3), and how badly the edges agree on it (B,).

    Least squares: c_i - mean = -mean over j of e_ij. What doesn't agree is a measure of doubt.
    """
    count = edges.shape[1]
    places = -edges.sum(2) / count
    apart = (edges - gap_matrix(places)).norm(dim=-1)
    return places, apart.sum((1, 2)) / max(1, count * (count - 1))


def watched(edges: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a person can watch of edges (N, V, V, 3) beside true gaps.

    Returns:
        Of every pair of views how far its length is off and by how many degrees its direction; of every three
        views how far from its start their round trip ends. The lengths are in the edges' own unit.
    """
    count = edges.shape[1]
    upper = torch.triu(torch.ones(count, count, dtype=torch.bool), 1)
    found, true = edges[:, upper], gaps[:, upper]
    cosine = F.cosine_similarity(found, true, dim=-1).clamp(-1, 1)
    trips = [edges[:, i, j] + edges[:, j, k] + edges[:, k, i] for i, j, k in combinations(range(count), 3)]
    ends = torch.stack(trips, 1).norm(dim=-1) if trips else edges.new_zeros((len(edges), 0))
    return (found.norm(dim=-1) - true.norm(dim=-1)).abs(), torch.rad2deg(cosine.acos()), ends


def chunk_offset(toward: Tensor, view: Size3, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """Cells (…, 3) by which a chunk in the view's middle can move `toward` (…, 3) and stay inside; and k.

    k is the share of the way that this is: the chunks that face each other lie |1 - 2k| of the gap apart,
    those that look away 1 + 2k of it.
    """
    room = toward.new_tensor([(side - chunk) / 2 for side in view])
    k = (room / toward.abs().clamp_min(1e-6)).amin(-1)
    return (k[..., None] * toward).round(), k


def likeness_loss(head: SpatialHead, f4: Tensor, centers: Tensor, cell_mm: Tensor) -> tuple[Tensor, Tensor]:
    """G3: parts of two views that face each other are more alike than those that look away.

    Pairs that overlap, and those whose parts can hardly move, are left out.

    Args:
        f4: (B, V, C, D, H, W).
        centers: (B, V, 3) mm, along the axes of the maps; on the CPU, so that nothing waits for a GPU.
        cell_mm: (B, 3) of a cell of f4; on the CPU.

    Returns:
        The loss, and the share of pairs in the right order; both 0 where no pair can be judged.
    """
    starts, margins = chunk_starts(centers, cell_mm, tuple(f4.shape[-3:]))
    if not len(margins):
        return f4.sum() * 0, f4.new_zeros(())
    near, far = chunk_alike(head, f4, starts)
    return F.relu(margins.to(f4.device) - near + far).mean(), (near > far).float().mean()


def chunk_alike(head: SpatialHead, f4: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """(P,) cosine of every pair's near chunks, and of its far ones; `starts` as of `chunk_starts`."""
    chunks = _gathered(f4, starts.to(f4.device))
    found = head.chunk(chunks).flatten(1).unflatten(0, (2, -1, 2))  # near or far, pair, view
    near, far = F.cosine_similarity(found[:, :, 0], found[:, :, 1], dim=-1)
    return near, far


def chunk_starts(centers: Tensor, cell_mm: Tensor, view: Size3) -> tuple[Tensor, Tensor]:
    """First cells of the chunks of every pair that can be judged.

    Returns:
        (2 · P · 2, 5): near then far, pair by pair, both views: row b, view v, first cell along D, H, W; and
        the margins (P,) of the pairs.
    """
    middle = torch.tensor([(side - CHUNK) // 2 for side in view])
    near, far, margins = [], [], []
    for i, j in combinations(range(centers.shape[1]), 2):
        toward = (centers[:, j] - centers[:, i]) / cell_mm
        offsets, shares = chunk_offset(toward, view)
        is_apart = (toward.abs() >= toward.new_tensor(view)).any(-1) & (shares >= LEAST_MOVE)
        for b in torch.nonzero(is_apart)[:, 0].tolist():
            move = offsets[b].long()
            near += [[b, i, *(middle + move)], [b, j, *(middle - move)]]
            far += [[b, i, *(middle - move)], [b, j, *(middle + move)]]
            gap_mm = (toward[b] * cell_mm[b]).norm()
            farther = (1 + 2 * shares[b] - (1 - 2 * shares[b]).abs()) * gap_mm
            margins.append(MARGIN * farther / UNIT_MM)
    return torch.tensor(near + far, dtype=torch.long).view(-1, 5), torch.tensor(margins)


def _gathered(f4, starts):
    """(N, C, CHUNK, CHUNK, CHUNK) of the maps, in one look-up."""
    steps = torch.arange(CHUNK, device=f4.device)
    k, j, i = (starts[:, n, None] + steps for n in (2, 3, 4))
    b, v = (starts[:, n, None, None, None] for n in (0, 1))
    chunks = f4.movedim(2, -1)[b, v, k[:, :, None, None], j[:, None, :, None], i[:, None, None, :]]
    return chunks.movedim(-1, 1)


def _length(vectors):
    return (vectors.square().sum(-1) + 1e-12).sqrt()


def _off_diagonal(matrix):
    count = matrix.shape[1]
    return matrix[:, ~torch.eye(count, dtype=torch.bool, device=matrix.device)]


def _along_routes(edges):
    """(B, routes, 3)."""
    return torch.stack([edges[:, route[:-1], route[1:]].sum(1) for route in routes(edges.shape[1])], 1)
