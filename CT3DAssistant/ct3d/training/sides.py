"""Teach the net for sides which of a chest and its mirror image is which; no labels but headers are needed.

    python -m ct3d.training.sides --corpus corpus.npz > sides.json

measures it on the training set's chests: a fifth is left out at a time and told by a net that learned from
the others. For chests held out from all training see evaluate_threedme.
"""

import argparse
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ct3d.models.side_net import SideNet
from ct3d.pipeline.chest_look import LOOK_KJI, LOOK_MM
from ct3d.training.corpus import Corpus, Study, load
from ct3d.training.program import ended
from ct3d.training.progressive_masking import Masking
from ct3d.training.views import Layout, Variety, ViewSampler

STEPS, RATE, WARM_UP = 300, 2e-3, 0.2
LAYOUT = Layout(LOOK_KJI, views=1, studies=6, rare=0.15, is_chest=True)
VARIETY = Variety(spacing_mm=(LOOK_MM, LOOK_MM), rotation_deg=8.0, stretch=0.08, gain=0.07)
FOLDS, LOOKS = 5, 4
SURE = 2.2  # odds of nine to one


def main(argv: list[str] | None = None) -> int:
    """Measure; gives the exit code."""
    parser = argparse.ArgumentParser(description="Sides of chests left out of training.")
    parser.add_argument("--corpus", type=Path, required=True, help="made by ct3d.training.build_corpus")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(argv)
    return ended(lambda: _run(given))


def _run(given):
    torch.set_num_threads(given.threads)
    own = [each for each in load(given.corpus) if not each.is_held_out]
    own = [each for each, points in zip(own, Corpus(own).chest_points) if len(points)]
    margins: dict[str, float] = {}
    for fold in range(FOLDS):
        net = train_sides(Corpus([each for n, each in enumerate(own) if n % FOLDS != fold]), given.steps)
        margins |= told(net, own[fold::FOLDS])
    return {"date": date.today().isoformat(), "folds": FOLDS} | _scores(margins)


def train_sides(corpus: Corpus, steps: int = STEPS, seed: int = 0, layout: Layout = LAYOUT) -> SideNet:
    """A net that learned from the chests of a corpus.

    Raises:
        InvalidRequest: there is none.
    """
    torch.manual_seed(seed)
    net = SideNet().to(corpus.voxels.device)
    sampler = ViewSampler(corpus, variety=VARIETY, masking=Masking(), masked_views=0, seed=seed)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.05)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=WARM_UP)
    for step in range(steps):
        image = sampler.sample(step, layout, 1.0).image[:, 0]
        optimizer.zero_grad()
        F.softplus(-net.margins(image)).mean().backward()
        optimizer.step()
        rates.step()
    return net.eval()


@torch.inference_mode()
def told(net: SideNet, studies: list[Study]) -> dict[str, float]:
    """Of every study that shows a chest the margin, on average over a few looks; above 0 is right."""
    still = Variety((LOOK_MM, LOOK_MM), rotation_deg=0, stretch=0, offset_hu=0, gain=0, noise_hu=0)
    one, found = replace(LAYOUT, studies=1), {}
    for study in studies:
        sampler = ViewSampler(Corpus([study]), variety=still, masking=Masking(), masked_views=0, seed=0)
        looks = torch.cat([sampler.sample(n, one, 1.0).image[:, 0] for n in range(LOOKS)])
        found[study.id] = round(float(net.margins(looks).mean()), 2)
    return found


def _scores(margins: dict[str, float]) -> dict[str, Any]:
    values = np.array(list(margins.values()))
    return {
        "chests": len(values),
        "right": int((values > 0).sum()),
        "right_and_sure": int((values > SURE).sum()),
        "wrong_and_sure": int((values < -SURE).sum()),
        "margins": margins,
    }


if __name__ == "__main__":
    raise SystemExit(main())
