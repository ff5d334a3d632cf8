"""The tasks of `benchmark_threedme`: what small heads make of the shared encoder's frozen features.

Every task learns from some patients and is scored on others. Which tasks there are, and how each is learned,
is a reconstruction [R]: 3DME's own twelve tasks are not known but for two names. Heads: `models.adaptation`.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ct3d.models.adaptation import (
    AttentionPool,
    LandmarkHead,
    PyramidHead,
    nearest_prototype,
    prototypes,
)
from ct3d.models.heatmaps import peaks
from ct3d.models.threedme import STRIDES, Features
from ct3d.training import State
from ct3d.training.benchmark_data import STRUCTURES, Kept, Subject
from ct3d.training.losses import heatmap_loss, place_loss
from ct3d.training.metrics import auroc
from ct3d.training.openkbp import LANDMARKS, ORGANS
from ct3d.training.probe_threedme import SPACING_MM, Patient

SUPPORT = 5  # patients that organs are learned from
PLACED = 20  # patients that landmarks are learned from
POOLED = 30  # patients whose crops an attention pool learns from
LEVELS_MM = (28.0, -23.0, -98.0)  # the jaw's upper corners, chin and upper end of the oesophagus
SLAB, GAP = 2, 2  # cells of stride 4 that are learned from or scored, and that lie between
BOX = (2, 3, 3)  # cells of stride 16 that a pyramid head learns from at once
PYRAMID_STEPS, PYRAMID_BATCH = 400, 2
LANDMARK_STEPS, LANDMARK_BATCH, RADIUS = 200, 4, 4.0  # RADIUS in cells of stride 4
POOL_STEPS, POOL_BATCH = 300, 64
LINEAR_STEPS = 300
RATE, DECAY = 3e-3, 0.05

Head = TypeVar("Head", bound=nn.Module)


def organs_by_pyramid(kept: Kept, seed: int) -> dict[str, float]:
    """OpenKBP organs, a pyramid head learned from 5 patients; Dice of 6 mm cells."""
    own = _support(kept, seed)
    maps, truth = [kept.features(each.window.image) for each in own], [each.window.organs for each in own]
    head = _pyramid(kept, maps, truth, 1 + len(ORGANS), seed)
    found = _by_organ(kept, lambda features: head(features).argmax(1)[0], dice)[1:]
    return {f"dice_{name}": each for name, each in zip(ORGANS, found)} | {"dice": float(np.nanmean(found))}


def organs_by_prototypes(kept: Kept, seed: int) -> dict[str, float]:
    """OpenKBP organs, nearest mean feature of 5 patients, nothing trained; balanced accuracy."""
    own = _support(kept, seed)
    maps = torch.cat([_fine(kept.features(each.window.image)) for each in own])
    mean, deviation = maps.mean((0, 2, 3, 4), keepdim=True), maps.std((0, 2, 3, 4), keepdim=True)
    scaled = (maps - mean) / deviation.clamp_min(1e-6)
    means = prototypes(scaled, torch.stack([each.window.organs for each in own]), 1 + len(ORGANS))

    def told(features: Features) -> Tensor:
        return nearest_prototype((_fine(features) - mean) / deviation.clamp_min(1e-6), means)[0]

    found = _by_organ(kept, told, recall)
    return {"balanced_accuracy": float(np.nanmean(found)), "background": found[0]}


def landmark_positions(kept: Kept, seed: int) -> dict[str, float]:
    """OpenKBP landmarks, a heat-map head learned from 20 patients; mean error over all landmarks, mm."""
    own = _drawn(kept.material.own, PLACED, seed)
    maps = [kept.features(each.window.image) for each in own]
    points, states = (torch.stack(each) for each in zip(*(landmark_places(each.window) for each in own)))
    rng = np.random.default_rng((seed, 3))
    torch.manual_seed(seed)
    head = _scaled(LandmarkHead(kept.net.config, len(LANDMARKS)), maps)

    def loss() -> Tensor:
        chosen = rng.integers(len(own), size=LANDMARK_BATCH)
        found, _ = head(_joined([maps[n] for n in chosen]))
        target = (points[chosen], states[chosen], RADIUS)
        return heatmap_loss(found, *target) + place_loss(found, *target)

    _learn(head, loss, LANDMARK_STEPS)
    mean = torch.where(states == State.PRESENT, 1.0, torch.nan)[..., None] * points
    return _landmark_errors(kept, head, mean.nanmean(0))


def landmark_presence(kept: Kept, seed: int) -> dict[str, float]:
    """Which OpenKBP landmarks lie in a crop of 144 x 192 x 192 mm, an attention pool; mean AUROC."""
    own, other = _drawn(kept.material.own, POOLED, seed), kept.material.held_out
    states = torch.cat([each.states for each in own])

    def loss(logits: Tensor, rows: Tensor) -> Tensor:
        known = states[rows] != State.UNKNOWN
        return F.binary_cross_entropy_with_logits(logits[known], states[rows][known].float())

    head = _pool(kept, _tokens(kept, own), loss, len(LANDMARKS), seed)
    score, truth = _read(head, _tokens(kept, other)), torch.cat([each.states for each in other])
    known = (truth != State.UNKNOWN).numpy()
    found = [
        auroc(truth[rows, n].numpy() == State.PRESENT, score[rows, n].numpy())
        for n, rows in enumerate(known.T)
    ]
    return {"auroc": float(np.nanmean(found))}


def body_level(kept: Kept, seed: int) -> dict[str, float]:
    """Whether a crop's middle is in head, face, neck or shoulders, an attention pool; balanced accuracy."""
    own, other = _drawn(kept.material.own, POOLED, seed), kept.material.held_out
    levels, truth = _levels(own), _levels(other)

    def loss(logits: Tensor, rows: Tensor) -> Tensor:
        return F.cross_entropy(logits, levels[rows])

    head = _pool(kept, _tokens(kept, own), loss, len(LEVELS_MM) + 1, seed)
    told = _read(head, _tokens(kept, other)).argmax(-1)
    return {"balanced_accuracy": float(np.mean([recall(told == n, truth == n) for n in truth.unique()]))}


def upside_down(kept: Kept, seed: int) -> dict[str, float]:
    """Whether a crop is mirrored along its first axis, an attention pool; AUROC."""
    own, other = (
        torch.cat([_tokens(kept, part), _tokens(kept, part, upside_down=True)])
        for part in (_drawn(kept.material.own, POOLED, seed), kept.material.held_out)
    )

    def loss(logits: Tensor, rows: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits[:, 0], (rows >= len(own) // 2).float())

    score = _read(_pool(kept, own, loss, 1, seed), other)[:, 0].numpy()
    return {"auroc": auroc(np.arange(len(other)) >= len(other) // 2, score)}


def chest_structures(kept: Kept, seed: int) -> dict[str, float]:
    """Ten structures of LIDC-IDRI-0001 (TotalSegmentator's pseudo-labels), a linear map from slab to slab.

    Slabs of 24 mm are learned from and scored in turn, 24 mm apart; where they begin goes by the seed. One
    scan, so this tells what its features hold, not how they go over to another patient. Dice at 12 mm cells.
    """
    scan, labels = kept.material.demo, kept.material.structures
    cells = _cells(kept.features(scan.image))[0].flatten(1).T
    is_body = F.avg_pool3d((scan.image > -0.99).float(), STRIDES[0])[0, 0] > 0.5
    own, other = (is_body.flatten() & slab for slab in slabs(labels.shape, seed))
    truth = labels.flatten()
    told = _linear(cells[own], truth[own], 1 + len(STRUCTURES), seed)(cells[other])
    scores = {
        f"dice_{name}": dice(told == n, truth[other] == n)
        for n, name in enumerate(STRUCTURES, 1)
        if (truth[own] == n).any() and (truth[other] == n).any()
    }
    return scores | {"dice": float(np.mean(list(scores.values())))}


def lungs_and_airways(kept: Kept, seed: int) -> dict[str, float]:
    """Lungs and airways of LIDC-IDRI-0001 (pseudo-labels), a pyramid head learned from two other chests.

    Both were seen in pretraining, without labels. Airways are drawn in one of them alone. Dice at 6 mm cells.
    """
    chests, demo = kept.material.chests, kept.material.demo
    maps = [kept.features(each.image) for each in chests]
    head = _pyramid(kept, maps, [each.labels for each in chests], 3, seed)
    with torch.no_grad():
        told = head(kept.features(demo.image)).argmax(1)[0]
    found = {f"dice_{name}": dice(told == n, demo.labels == n) for n, name in ((1, "lungs"), (2, "airways"))}
    return found | {"dice": float(np.mean(list(found.values())))}


TASKS: dict[str, Callable[[Kept, int], dict[str, float]]] = {
    each.__name__: each
    for each in (
        organs_by_pyramid,
        organs_by_prototypes,
        landmark_positions,
        landmark_presence,
        body_level,
        upside_down,
        chest_structures,
        lungs_and_airways,
    )
}


def dice(found: Tensor, truth: Tensor) -> float:
    """Of two masks; NaN where both are empty."""
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def recall(found: Tensor, truth: Tensor) -> float:
    """Share of a mask that was found; NaN of an empty one."""
    return float((found & truth).sum() / truth.sum())


def slabs(grid: tuple[int, int, int], seed: int) -> tuple[Tensor, Tensor]:
    """(D · H · W) bool each: cells to learn from and cells to score, in slabs across D with gaps between."""
    period = 2 * (SLAB + GAP)
    place = (torch.arange(grid[0]) + int(np.random.default_rng((seed, 4)).integers(period))) % period
    own, other = place < SLAB, (place >= SLAB + GAP) & (place < 2 * SLAB + GAP)
    return tuple(each[:, None, None].expand(grid).flatten() for each in (own, other))


def _drawn(subjects: list[Subject], count: int, seed: int) -> list[Subject]:
    order = np.random.default_rng((seed, 1)).permutation(len(subjects))
    return [subjects[n] for n in order[:count]]


def _support(kept: Kept, seed: int) -> list[Subject]:
    """Patients whose organs were all drawn; one that wasn't would be taught as background."""
    return _drawn([each for each in kept.material.own if each.window.drawn.all()], SUPPORT, seed)


@torch.no_grad()
def _by_organ(
    kept: Kept, told: Callable[[Features], Tensor], score: Callable[[Tensor, Tensor], float]
) -> list[float]:
    """Of background and each organ, the mean score over held-out patients in whom it was drawn, or NaN."""
    scores: list[list[float]] = [[] for _ in range(1 + len(ORGANS))]
    for each in kept.material.held_out:
        found, truth = told(kept.features(each.window.image)), each.window.organs
        for n, is_drawn in enumerate([True, *each.window.drawn]):
            if is_drawn and (truth == n).any():
                scores[n].append(score(found == n, truth == n))
    return [float(np.mean(each)) if each else float("nan") for each in scores]


def _pyramid(kept: Kept, maps: list[Features], labels: list[Tensor], classes: int, seed: int) -> PyramidHead:
    """A pyramid head taught by boxes about cells of each class, every class as often."""
    rng = np.random.default_rng((seed, 2))
    torch.manual_seed(seed)
    head = _scaled(PyramidHead(kept.net.config, classes), maps)
    places = [(n, c, (each == c).nonzero().numpy()) for n, each in enumerate(labels) for c in range(classes)]
    by_class = [[(n, at) for n, c, at in places if c == wanted and len(at)] for wanted in range(classes)]

    def box() -> tuple[Features, Tensor]:
        group = by_class[rng.integers(classes)]
        n, at = group[rng.integers(len(group))]
        last = np.array(maps[n].f16.shape[2:]) - BOX
        corner = np.clip(at[rng.integers(len(at))] // 8 - rng.integers(BOX), 0, last)
        return cut(maps[n], corner), labels[n][_window(corner, 8)]

    def loss() -> Tensor:
        features, truth = zip(*(box() for _ in range(PYRAMID_BATCH)))
        return dice_and_entropy(head(_joined(features)), torch.stack(truth))

    return _learn(head, loss, PYRAMID_STEPS)


def dice_and_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, plus one less the mean soft Dice of those classes but the first that the labels show.

    Args:
        logits: (B, classes, D, H, W).
        labels: (B, D, H, W) int64; -1 takes no part.
    """
    known = (labels >= 0)[:, None]
    truth = F.one_hot(labels.clamp_min(0), logits.shape[1]).movedim(-1, 1) * known
    found = logits.softmax(1) * known
    both, told, there = (each.sum((0, 2, 3, 4))[1:] for each in (found * truth, found, truth))
    missed = (there > 0) * (1 - 2 * both / (told + there).clamp_min(1e-6))
    return F.cross_entropy(logits, labels, ignore_index=-1) + missed.sum() / (there > 0).sum().clamp_min(1)


def cut(features: Features, corner: np.ndarray) -> Features:
    """The maps of a box of BOX cells of stride 16; no tokens."""
    f4, f8, f16 = (features.map(s)[:, :, *_window(corner, 16 // s)] for s in STRIDES)
    f2 = features.f2[:, *_window(corner, 8)]
    return Features(f2, f4, f8, f16, features.tokens[:, :0], features.z, features.spacing_mm)


def _window(corner, cells):
    return tuple(slice(int(c) * cells, (int(c) + n) * cells) for c, n in zip(corner, BOX))


def _joined(parts: list[Features]) -> Features:
    return Features(*(torch.cat(each) for each in zip(*(vars(part).values() for part in parts))))


def _finer(maps: list[Tensor], size: torch.Size) -> Tensor:
    return torch.cat(
        [F.interpolate(each, size=size, mode="trilinear", align_corners=False) for each in maps], 1
    )


def _fine(features: Features) -> Tensor:
    """(B, C, D/2, H/2, W/2) f4 and f8."""
    return _finer([features.f4, features.f8], features.f2.shape[1:4])


def _cells(features: Features) -> Tensor:
    """(B, C, D/4, H/4, W/4) of all strides."""
    f2 = F.avg_pool3d(features.f2.movedim(-1, 1), 2)
    return torch.cat([f2, features.f4, _finer([features.f8, features.f16], features.f4.shape[2:])], 1)


def landmark_places(window: Patient) -> tuple[Tensor, Tensor]:
    """Landmarks (L, 3) in cells of stride 4, 0 where not known; (L,) of State."""
    grid = torch.tensor(window.image.shape[2:]) / STRIDES[0]
    offsets_mm = torch.tensor((window.landmarks_ras - window.middle_ras)[:, ::-1].copy(), dtype=torch.float32)
    points = offsets_mm / (SPACING_MM * STRIDES[0]) + (grid - 1) / 2
    is_in = ((points >= -0.5) & (points < grid - 0.5)).all(-1)
    states = torch.where(is_in, State.PRESENT, State.MISSING)
    states[points.isnan().any(-1)] = State.UNKNOWN
    return points.nan_to_num(), states


@torch.no_grad()
def _landmark_errors(kept: Kept, head: LandmarkHead, mean: Tensor) -> dict[str, float]:
    """Mean error in mm over landmarks in held-out windows, and that of always saying the mean place."""
    errors, base = [], []
    for each in kept.material.held_out:
        points, states = landmark_places(each.window)
        found = peaks(head(kept.features(each.window.image))[0]).points_kji[0]
        there = states == State.PRESENT
        errors.append((found - points)[there].norm(dim=-1))
        base.append((mean - points)[there].norm(dim=-1))
    cell_mm = SPACING_MM * STRIDES[0]
    whole = {"mre_mm": cell_mm * torch.cat(errors), "mre_mm_of_the_mean": cell_mm * torch.cat(base)}
    return {name: each.nanmean().item() for name, each in whole.items()}


def _tokens(kept: Kept, subjects: list[Subject], *, upside_down: bool = False) -> Tensor:
    return torch.cat([kept.tokens(each.crops, upside_down=upside_down) for each in subjects])


def _levels(subjects: list[Subject]) -> Tensor:
    heights_mm = torch.cat([each.heights_mm for each in subjects])
    return (heights_mm[:, None] < torch.tensor(LEVELS_MM)).sum(1)


def _pool(
    kept: Kept, tokens: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor], classes: int, seed: int
) -> AttentionPool:
    torch.manual_seed(seed)
    head = AttentionPool(kept.net.config.dim, classes)

    def loss() -> Tensor:
        rows = torch.randint(len(tokens), (POOL_BATCH,))
        return loss_of(head(tokens[rows]), rows)

    return _learn(head, loss, POOL_STEPS)


@torch.no_grad()
def _read(head: AttentionPool, tokens: Tensor) -> Tensor:
    return torch.cat([head(each) for each in tokens.split(POOL_BATCH)])


def _linear(x: Tensor, y: Tensor, classes: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Multinomial logistic regression on scaled features; gives labels."""
    torch.manual_seed(seed)
    scale, linear = nn.BatchNorm1d(x.shape[1], affine=False, momentum=None), nn.Linear(x.shape[1], classes)
    head = _scaled(nn.Sequential(scale, linear), [x])
    _learn(head, lambda: F.cross_entropy(head(x), y), LINEAR_STEPS)
    return lambda values: head(values).argmax(-1)


@torch.no_grad()
def _scaled(head: Head, given: Sequence[Features | Tensor]) -> Head:
    """A head whose batch norms know the features that it will learn from, and keep to that."""
    for each in given:
        head(each)
    return head.eval()


def _learn(head: Head, loss_of: Callable[[], Tensor], steps: int) -> Head:
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return head
