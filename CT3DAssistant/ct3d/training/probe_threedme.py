"""What the shared encoder's frozen features know: organs and places read off by one linear map.

    python -m ct3d.training.probe_threedme --data FOLDER --weights NAME=FILE … --out probe.json

Nothing of the encoder is trained. Patients that are scored were never seen, in pretraining or by the probe.
`random` is the same net with random weights, another draw each seed; for pretrained weights a seed draws the
cells that the linear map learns from, and the patients where not all are wanted.
"""

import argparse
import json
import zlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from scipy import stats
from torch import Tensor

from ct3d.imaging.resample import resample_onto
from ct3d.imaging.volume import Volume
from ct3d.models.threedme import LOW_HU, Encoder
from ct3d.pipeline.encoder_input import as_seen, body_view
from ct3d.training.build_corpus import with_air
from ct3d.training.openkbp import ORGANS, cases, open_case, organs_of
from ct3d.training.program import ended

SPACING_MM = 3.0
WINDOW_KJI = (64, 96, 96)
JITTER_MM = 40.0  # the most that a window is off its patient's organs, so that its own middle tells little
CELLS = 4000  # of a patient that a linear map of organs learns from
BACKGROUND = 0.4  # share of them
STEPS, BATCH, RATE = 1500, 8192, 3e-3
RIDGE = 1e-3  # of the mean square of a feature


@dataclass(frozen=True, eq=False)
class Patient:
    """A window about a patient's organs.

    Attributes:
        image: (1, 1, D, H, W) in [-1, 1].
        organs: (D/2, H/2, W/2) int64, 0 none, then ORGANS; an organ that was not drawn is told as none.
        drawn: (organs,) bool, which were contoured at all.
        middle_ras: mm, of the window.
        landmarks_ras: (L, 3) mm; NaN where not known.
    """

    image: Tensor
    organs: Tensor
    drawn: np.ndarray
    middle_ras: np.ndarray
    landmarks_ras: np.ndarray


def main(argv: list[str] | None = None) -> int:
    """Probe every kind of features; gives the exit code."""
    parser = argparse.ArgumentParser(description="Linear probes of frozen features.")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds openkbp/")
    parser.add_argument("--weights", nargs="*", default=[], help="NAME=FILE, of pretraining")
    parser.add_argument(
        "--train", type=int, default=30, help="patients with all organs drawn that a linear map learns from"
    )
    parser.add_argument("--held-out", type=int, default=33)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    return ended(lambda: _run(given))


def _run(given):
    paths = cases(given.data / "openkbp" / "train")
    shape = mean_shape([open_case(path).landmarks_ras for path in paths])
    own = [patient(path) for path in paths if organs_of(path)[1].all()]  # others say nothing of some organ
    held_out = [patient(path) for path in cases(given.data / "openkbp" / "validation")]
    held_out = held_out[: given.held_out]
    named = dict(each.split("=", 1) for each in given.weights)
    found = {}
    for name in ("random", *named):
        seeds = []
        for seed in range(given.seeds):
            net = encoder(named.get(name), seed)
            chosen = np.random.default_rng(seed).permutation(len(own))[: given.train]
            seeds.append(probe(net, [own[n] for n in chosen], held_out, shape, seed))
        found[name] = {key: spread([each[key] for each in seeds]) for key in seeds[0]}
        result = {
            "data": "OpenKBP, head and neck; expert contours",
            "patients": {"learned_from": given.train, "scored": len(held_out)},
            "seeds": given.seeds,
            "date": date.today().isoformat(),
            "window": {"kji": WINDOW_KJI, "spacing_mm": SPACING_MM},
            "features": found,
        }
        given.out.write_text(json.dumps(result, indent=1), encoding="utf-8")


def encoder(file: str | None, seed: int) -> Encoder:
    """The encoder of a pretraining run, or with random weights."""
    torch.manual_seed(seed)
    net = Encoder()
    if file:
        given = {k[8:]: v.float() for k, v in load_file(file).items() if k.startswith("encoder.")}
        net.load_state_dict(given)
    return net.eval()


def patient(path: Path) -> Patient:
    """Read one."""
    case = open_case(path)
    volume = case.volume
    view = body_view(with_air(case), (SPACING_MM,) * 3, case.known)
    labels, drawn = organs_of(path)
    chance = np.random.default_rng(zlib.crc32(case.id.encode()))
    middle = _middle(labels, volume) + chance.uniform(-JITTER_MM, JITTER_MM, 3)
    grid = np.diag([SPACING_MM] * 3 + [1.0])
    grid[:3, 3] = middle - SPACING_MM * (np.array(WINDOW_KJI[::-1]) - 1) / 2
    seen = resample_onto(view.seen, grid, WINDOW_KJI, fill=LOW_HU).array
    coarse = np.diag([2 * SPACING_MM] * 3 + [1.0])
    coarse[:3, 3] = grid[:3, 3] + SPACING_MM / 2
    half = tuple(side // 2 for side in WINDOW_KJI)
    there = resample_onto(Volume(labels, volume.ijk_to_ras), coarse, half, is_label=True).array
    image = torch.from_numpy(as_seen(seen))[None, None]
    return Patient(image, torch.from_numpy(there.astype(np.int64)), drawn, middle, case.landmarks_ras)


def _middle(labels, volume):
    """RAS mm, of the box around all organs."""
    inside = np.argwhere(labels > 0)
    k, j, i = (inside.min(0) + inside.max(0)) / 2
    return volume.ijk_to_ras[:3, :3] @ np.array([i, j, k]) + volume.ijk_to_ras[:3, 3]


@torch.inference_mode()
def features_of(net: Encoder, each: Patient, shape: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """What one look at a patient gives.

    Returns:
        (cells of f2, channels): the maps of all strides, each cell's own and those it lies in; and of the
        body's cells of f8 their features and where they lie, in mm among brought-together landmarks.
    """
    features = net.encode(each.image, torch.full((1, 3), SPACING_MM))
    size = features.f2.shape[1:4]
    parts = [features.f2.movedim(-1, 1), features.f4, features.f8, features.f16]
    finer = [F.interpolate(part, size=size, mode="trilinear", align_corners=False) for part in parts[1:]]
    maps = torch.cat([parts[0], *finer], 1)[0].flatten(1).T
    body = F.avg_pool3d((each.image > -0.99).float(), 8).flatten() > 0.5
    shift = each.middle_ras - shift_mm(each.landmarks_ras, shape)
    there = features.grid_mm(8)[0].flip(-1).reshape(-1, 3) + torch.tensor(shift, dtype=torch.float32)
    return maps, features.f8[0].flatten(1).T[body], there[body]


def probe(
    net: Encoder, own: list[Patient], held_out: list[Patient], shape: np.ndarray, seed: int
) -> dict[str, float]:
    """Scores of linear maps on held-out patients: Dice of each organ and on average; place in mm."""
    rng = np.random.default_rng((seed, 1))
    x, y, cells, places, counts = [], [], [], [], torch.zeros(len(ORGANS) + 1)
    for each in own:
        maps, *rest = features_of(net, each, shape)
        organs = each.organs.flatten()
        chosen = _chosen(organs.numpy(), rng)
        x.append(maps[chosen])
        y.append(organs[chosen])
        counts += torch.bincount(organs, minlength=len(counts))
        for kept, part in zip((cells, places), rest):
            kept.append(part)
    organ_map = _logistic(torch.cat(x), torch.cat(y), counts, seed)
    place_map, mean = _ridge(torch.cat(cells), torch.cat(places)), torch.cat(places).mean(0)
    dice: dict[str, list[float]] = {name: [] for name in ORGANS}
    errors, base = [], []
    for each in held_out:
        maps, here, there = features_of(net, each, shape)
        _add_dice(dice, organ_map(maps), each)
        errors.append((place_map(here) - there).norm(dim=-1).median().item())
        base.append((mean - there).norm(dim=-1).median().item())
    means = {f"dice_{name}": float(np.mean(values)) for name, values in dice.items()}
    whole = {"dice": float(np.mean(list(means.values())))}
    return means | whole | {"place_mm": float(np.mean(errors)), "place_mm_of_the_mean": float(np.mean(base))}


def _chosen(organs, rng):
    """Cells to learn from: organs, as evenly as they go, and some of the rest."""
    background = rng.permutation(np.flatnonzero(organs == 0))[: int(CELLS * BACKGROUND)]
    share = int(CELLS * (1 - BACKGROUND)) // len(ORGANS)
    own = [rng.permutation(np.flatnonzero(organs == n + 1))[:share] for n in range(len(ORGANS))]
    return np.concatenate([background, *own])


def mean_shape(landmarks: list[np.ndarray]) -> np.ndarray:
    """(L, 3) mm, landmarks of many patients brought together by shifts."""
    shape = np.nanmean([each - np.nanmean(each, 0) for each in landmarks], 0)
    for _ in range(5):
        shifted = [each - np.nanmean(each - shape, 0) for each in landmarks]
        shape = np.nanmean(shifted, 0)
    return shape - shape.mean(0)


def shift_mm(landmarks_ras: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """(3,) by which a patient's landmarks (L, 3) lie off the mean shape; unknown ones don't count."""
    known = np.isfinite(landmarks_ras[:, 0])
    return (landmarks_ras - shape)[known].mean(0)


def _scaled(x):
    mean, deviation = x.mean(0), x.std(0).clamp_min(1e-6)
    return lambda values: (values - mean) / deviation


def _whitened(x):
    """Features turned and scaled so that none goes with another; pretrained ones do, and slow Adam down."""
    scale = _scaled(x)
    square = scale(x).double()
    values, directions = torch.linalg.eigh(square.T @ square / len(x))
    turn = (directions / (values + RIDGE).sqrt()).float()
    return lambda values: scale(values) @ turn


def _logistic(x, y, counts, seed):
    """One linear map by Adam, cross-entropy and soft Dice; gives labels.

    Cells were drawn evenly; each counts by how often its class is there in truth (counts).
    """
    scale = _whitened(x)
    x = scale(x)
    torch.manual_seed(seed)
    linear = torch.nn.Linear(x.shape[1], len(ORGANS) + 1)
    optimizer = torch.optim.AdamW(linear.parameters(), RATE, weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    share = counts / counts.sum() / (torch.bincount(y, minlength=len(counts)) / len(y)).clamp_min(1e-6)
    for _ in range(STEPS):
        chosen = torch.randint(len(x), (BATCH,))
        logits, truth = linear(x[chosen]), y[chosen]
        loss = F.cross_entropy(logits, truth, share) + _dice_loss(logits, truth, share[truth][:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return lambda values: linear(scale(values)).argmax(-1)


def _dice_loss(logits, truth, weight):
    """1 less the mean soft Dice of the organs, over cells that count by their weight."""
    likely, wanted = logits.softmax(-1)[:, 1:], F.one_hot(truth, logits.shape[1])[:, 1:]
    both = (weight * likely * wanted).sum(0)
    return 1 - (2 * both / (weight * (likely + wanted)).sum(0).clamp_min(1e-6)).mean()


def _ridge(x, places):
    """Ridge regression; gives places."""
    scale = _scaled(x)
    x = scale(x).double()
    mean = places.mean(0).double()
    square = x.T @ x
    square += RIDGE * len(x) * torch.eye(len(square), dtype=torch.float64)
    linear = torch.linalg.solve(square, x.T @ (places.double() - mean))
    return lambda values: (scale(values).double() @ linear + mean).float()


@torch.inference_mode()
def _add_dice(scores: dict[str, list[float]], found: Tensor, each: Patient) -> None:
    """Note the Dice of a patient's organs that were drawn and lie in the window."""
    truth = each.organs.flatten()
    for n, name in enumerate(ORGANS):
        own, wanted = found == n + 1, truth == n + 1
        if each.drawn[n] and wanted.any():
            scores[name].append((2 * (own & wanted).sum() / (own.sum() + wanted.sum())).item())


def spread(values: list[float]) -> dict[str, float | list[float]]:
    """Mean and 95 % interval of the mean over seeds (Student's t)."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)) if len(values) > 1 else float("nan")
    return {"mean": round(mean, 4), "interval": [round(mean - half, 4), round(mean + half, 4)]}


if __name__ == "__main__":
    raise SystemExit(main())
